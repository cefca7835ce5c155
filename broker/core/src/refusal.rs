//! The one error type: what was refused, by which rule, and what to do about it.

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
    /// A refusal of `object`.`field`.
    pub fn new(
        code: Code,
        object: impl Into<String>,
        field: impl Into<String>,
        rule: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { code, object: object.into(), field: field.into(), rule: rule.into(), remedy: remedy.into() }
    }
}
