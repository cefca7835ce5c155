//! The one error type: what was refused, by which rule, and what to do about it.

/// The longest text in a refusal, bytes: refusals go into logs, statuses and HTTP headers.
pub const MAX_TEXT: usize = 1_000;

/// What sort of refusal it is; the process maps it to a gRPC code and a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The value breaks a rule of its own.
    Invalid,
    /// It names something that does not exist.
    NotFound,
    /// It contradicts what another holds.
    Conflict,
    /// The caller may not do this.
    Denied,
    /// The caller is not who it must be: no member, revoked, expired, an unknown token.
    Unauthenticated,
    /// A limit of the caller's own is used up.
    Quota,
    /// A newer stream holds the shard.
    Fenced,
    /// Clocks differ too much.
    Clock,
}

impl Code {
    /// A metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Unauthenticated => "unauthenticated",
            Self::Quota => "quota",
            Self::Fenced => "fenced",
            Self::Clock => "clock",
        }
    }
}

/// Why something was refused, in words for the object's owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {rule}; {remedy}")]
pub struct Refusal {
    /// The sort.
    pub code: Code,
    /// The object, e.g. `export shop/web`.
    pub object: String,
    /// Its field.
    pub field: String,
    /// The rule it breaks, with the values that break it.
    pub rule: String,
    /// What to do.
    pub remedy: String,
}

impl Refusal {
    /// A refusal of `object`.`field`. What a caller sent may be part of it: each text is cut to [`MAX_TEXT`] bytes and
    /// kept on one line.
    pub fn new(
        code: Code,
        object: impl Into<String>,
        field: impl Into<String>,
        rule: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (object, field) = (line(object.into()), line(field.into()));
        Self { code, object, field, rule: line(rule.into()), remedy: line(remedy.into()) }
    }
}

/// Text without control characters, and not too much of it.
fn line(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.push('…');
    }
    if text.contains(char::is_control) { text.replace(char::is_control, "\u{fffd}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_sent_is_cut_and_stays_on_one_line() {
        let sent = format!("cluster x\n2026-01-01T00:00:00Z INFO admin logged in\u{1b}[2J{}", "ü".repeat(1 << 20));
        let refusal = Refusal::new(Code::Invalid, &sent, &sent, &sent, &sent);
        let said = refusal.to_string();
        assert!(said.len() < 4 * (MAX_TEXT + 16), "{} bytes", said.len());
        assert!(!said.contains(char::is_control) && said.starts_with("cluster x"), "{said:.200}");
    }
}
