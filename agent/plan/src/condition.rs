//! Conditions as Kubernetes has them: a transition time moves only when the status does.

use hawser_api::core::{Condition, Time};
use jiff::Timestamp;

/// A condition as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) type_: &'static str,
    pub(crate) status: Status,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// A condition's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    True,
    False,
    Unknown,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Wanted {
    pub(crate) fn new(type_: &'static str, status: Status, reason: &str, message: impl Into<String>) -> Self {
        Self { type_, status, reason: reason.to_owned(), message: shorten(message.into()) }
    }
}

/// The API's limit for messages.
const MESSAGE_LIMIT: usize = 32_768;

fn shorten(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT {
        let mut end = MESSAGE_LIMIT - '…'.len_utf8();
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}

/// `wanted` as conditions, each with the transition time it had where its status is unchanged.
pub(crate) fn settle(
    existing: &[Condition],
    wanted: Vec<Wanted>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    wanted
        .into_iter()
        .map(|w| {
            let before = existing.iter().find(|c| c.type_ == w.type_);
            let since = before.filter(|c| c.status == w.status.as_str()).map(|c| c.last_transition_time.clone());
            Condition {
                type_: w.type_.to_owned(),
                status: w.status.as_str().to_owned(),
                reason: w.reason,
                message: w.message,
                observed_generation: generation,
                last_transition_time: since.unwrap_or_else(|| Time(whole_seconds(now))),
            }
        })
        .collect()
}

/// A condition kept as it is, since nothing is known that would change it.
pub(crate) fn keep(existing: &[Condition], type_: &str) -> Option<Condition> {
    existing.iter().find(|c| c.type_ == type_).cloned()
}

/// API times have whole seconds: anything finer would not survive a round trip and look like a change.
pub(crate) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
