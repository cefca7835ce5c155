//! What the lanes of one gateway tell each other: suspicions and how each stands with each path.

use std::collections::BTreeMap;

use hawser_liveness::{State, Time};

use crate::topology::HostId;

/// What the lanes know of the paths to one remote gateway.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    pub(crate) hints: u64,
    /// Each lane's state, since when, and its last proof.
    pub(crate) lanes: BTreeMap<u8, (State, Time, Option<Time>)>,
}

impl Notes {
    /// A lane other than `lane` that can carry packets, proven later than `after`.
    pub(crate) fn stand_in(&self, lane: u8, after: Time) -> Option<u8> {
        let fit = |(state, _, proof): &(State, Time, Option<Time>)| {
            matches!(state, State::Up | State::Suspect | State::Held) && proof.is_some_and(|p| p > after)
        };
        self.lanes.iter().find(|(other, note)| **other != lane && fit(note)).map(|(other, _)| *other)
    }

    /// How the gateway as a whole stands: a lane that says it lives is believed unless another found it dead later.
    pub(crate) fn sum_up(&self) -> State {
        let fell = self.lanes.values().filter(|n| n.0 == State::Down).map(|n| n.1).max();
        let believed = |want: &[State]| {
            let mut fit = self.lanes.values().filter(|n| want.contains(&n.0));
            fit.find(|n| fell.is_none_or(|fell| n.2.is_some_and(|proof| proof > fell))).map(|n| n.0)
        };
        let live = believed(&[State::Up, State::Suspect]).or_else(|| believed(&[State::Held]));
        live.unwrap_or(if fell.is_some() { State::Down } else { State::Unknown })
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Board {
    pub(crate) notes: BTreeMap<HostId, Notes>,
    /// Grows whenever some lane's opinion of some path changes.
    pub(crate) epoch: u64,
}

impl Board {
    pub(crate) fn post(&mut self, to: HostId, lane: u8, state: State, since: Time, proof: Option<Time>) {
        self.notes.entry(to).or_default().lanes.insert(lane, (state, since, proof));
        self.epoch += 1;
    }
}
