//! What the lanes of one gateway tell each other: suspicions, refusals, and how each stands with each path; and what they
//! publish for the gateway as a whole.

use std::collections::BTreeMap;

use hawser_liveness::{State, Time};

use crate::topology::HostId;

/// Lanes of a gateway at most.
const LANES: usize = 8;

/// How a lane says that a path stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) state: State,
    pub(crate) since: Time,
    pub(crate) proof: Option<Time>,
}

/// What the lanes know of the paths to one remote gateway.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    pub(crate) hints: u64,
    states: [Option<State>; LANES],
    proofs: [Option<Time>; LANES],
    refusals: [Option<Time>; LANES],
    published: [Option<Published>; LANES],
}

impl Notes {
    pub(crate) fn set(&mut self, lane: u8, state: State) {
        self.states[usize::from(lane)] = Some(state);
    }

    pub(crate) fn publish(&mut self, lane: u8, published: Published) {
        self.set(lane, published.state);
        self.proofs[usize::from(lane)] = published.proof;
        self.published[usize::from(lane)] = Some(published);
    }

    pub(crate) fn refuse(&mut self, lane: u8, at: Time) {
        self.refusals[usize::from(lane)] = Some(at);
    }

    /// When packets of a lane other than `lane` were last refused.
    pub(crate) fn refused(&self, lane: u8) -> Option<Time> {
        let others = self.refusals.iter().enumerate().filter(|(other, _)| *other != usize::from(lane));
        others.filter_map(|(_, at)| *at).max()
    }

    /// A lane other than `lane` that can carry packets, proven later than `after`.
    pub(crate) fn helper(&self, lane: u8, after: Time) -> Option<u8> {
        let fit = |other: &usize| {
            self.states[*other].is_some_and(State::carries) && self.proofs[*other].is_some_and(|proof| proof > after)
        };
        // Below LANES.
        (0..LANES).filter(|other| *other != usize::from(lane)).find(fit).map(|other| other as u8)
    }

    /// How the gateway as a whole stands: a lane that says it lives is believed unless another found it dead later.
    pub(crate) fn sum_up(&self) -> State {
        let lanes = || self.published.iter().flatten();
        let fell = lanes().filter(|n| n.state == State::Down).map(|n| n.since).max();
        let believed = |want: &[State]| {
            let mut fit = lanes().filter(|n| want.contains(&n.state));
            fit.find(|n| fell.is_none_or(|fell| n.proof.is_some_and(|proof| proof > fell))).map(|n| n.state)
        };
        let live = believed(&[State::Up, State::Suspect]).or_else(|| believed(&[State::Held]));
        live.unwrap_or(if fell.is_some() { State::Down } else { State::Unknown })
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Board {
    pub(crate) notes: BTreeMap<HostId, Notes>,
    /// The gateway asks to be left alone.
    pub(crate) draining: bool,
    /// Grows whenever some lane's opinion of some path changes.
    pub(crate) epoch: u64,
}

impl Board {
    pub(crate) fn of(&mut self, to: HostId) -> &mut Notes {
        self.notes.entry(to).or_default()
    }

    /// Tells all lanes that something changed; the epoch before.
    pub(crate) fn announce(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch - 1
    }
}
