//! What happened lately, to be told when something is wrong.

use std::collections::VecDeque;
use std::fmt;

use hawser_liveness::{Reason, State, Time};

use crate::faults::Change;
use crate::topology::HostId;

/// Entries kept.
const KEPT: usize = 50;

#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// The world changed.
    Change(Change),
    /// A lane's path changed its state.
    Path { host: HostId, lane: u8, to: HostId, was: State, is: State, why: Reason },
}

#[derive(Debug, Default)]
pub(crate) struct Story {
    entries: VecDeque<(Time, Entry)>,
}

impl Story {
    pub(crate) fn tell(&mut self, now: Time, entry: Entry) {
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back((now, entry));
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|(at, entry)| writeln!(f, "  {:>16.6}  {entry}", seconds(*at)))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(change) => write!(f, "{change:?}"),
            Self::Path { host, lane, to, was, is, why } => {
                write!(f, "g{host} lane {lane} -> g{to}: {was} -> {is}, {why}")
            }
        }
    }
}

/// A time in seconds.
pub(crate) fn seconds(at: Time) -> f64 {
    at.as_nanos() as f64 / 1e9
}
