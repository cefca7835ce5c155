//! Conditions as a pass wants them. How they are kept (a time moves only with its status) is `hawser_api::convert::condition`.

use hawser_api::convert::condition::{State, get, set};
use hawser_api::core::{Condition, Time};
use jiff::Timestamp;

/// A condition as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    type_: &'static str,
    state: State,
    reason: String,
    message: String,
}

impl Wanted {
    pub(crate) fn new(type_: &'static str, state: State, reason: &str, message: impl Into<String>) -> Self {
        Self { type_, state, reason: reason.to_owned(), message: message.into() }
    }
}

/// `wanted` as conditions, each with the transition time it had where its status is unchanged.
pub(crate) fn settle(
    existing: &[Condition],
    wanted: Vec<Wanted>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let now = Time(whole_seconds(now));
    let mut conditions = Vec::with_capacity(wanted.len());
    for w in wanted {
        conditions.extend(keep(existing, w.type_));
        set(&mut conditions, w.type_, w.state, &w.reason, &w.message, generation, &now);
    }
    conditions
}

/// A condition as it is, since nothing is known that would change it.
pub(crate) fn keep(existing: &[Condition], type_: &str) -> Option<Condition> {
    get(existing, type_).cloned()
}

/// API times have whole seconds: anything finer would not survive a round trip and look like a change.
pub(crate) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
