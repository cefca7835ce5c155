//! States of paths and clusters, why they changed, and the events that say so.

use std::fmt;

use crate::Time;

/// How a path stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No answer yet since the start.
    Unknown,
    /// Answers: carries traffic.
    Up,
    /// Missed an answer or was hinted at: carries traffic still, probed fast.
    Suspect,
    /// Answers again, in hold-down: carries traffic only where nothing better is.
    Held,
    /// Silent: probes only.
    Down,
}

impl State {
    /// Whether a path in this state carries traffic, be it only where nothing better is.
    #[must_use]
    pub fn carries(self) -> bool {
        matches!(self, Self::Up | Self::Suspect | Self::Held)
    }

    /// As reports write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Up => "Up",
            Self::Suspect => "Suspect",
            Self::Held => "Held",
            Self::Down => "Down",
        }
    }

    /// Whether it carries traffic without being a last resort.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::Up | Self::Suspect)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a remote cluster is reached through one gateway. Ordered from worst to best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusterState {
    /// No path answers any more.
    Dark,
    /// No path has answered yet since the start.
    Unknown,
    /// Only paths in hold-down answer.
    Held,
    /// A path is up or suspect.
    Live,
}

impl ClusterState {
    /// As reports and statuses write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "Live",
            Self::Held => "Held",
            Self::Unknown => "Unknown",
            Self::Dark => "Dark",
        }
    }

    /// The state of a cluster with paths in these states; dark where there are none.
    pub fn of_paths(states: impl IntoIterator<Item = State>) -> Self {
        let (mut total, mut unknown, mut held) = (0_u32, 0_u32, false);
        for state in states {
            total += 1;
            match state {
                State::Up | State::Suspect => return Self::Live,
                State::Held => held = true,
                State::Unknown => unknown += 1,
                State::Down => {}
            }
        }
        match (held, total > 0 && unknown == total) {
            (true, _) => Self::Held,
            (false, true) => Self::Unknown,
            (false, false) => Self::Dark,
        }
    }
}

impl fmt::Display for ClusterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a path is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing was heard since the start.
    Started,
    /// A probe was answered.
    Answered,
    /// A probe was not answered in time.
    AnswerMissed,
    /// The network reported an error, or a link went down.
    Hint,
    /// Nothing is heard from the peer any more.
    Silent,
    /// The peer is heard, but does not hear us.
    OneWay,
    /// The peer's host refuses our packets: nothing listens there.
    Refused,
    /// Its host says that it is gone.
    Gone,
    /// There is a session.
    Session,
    /// There is no session any more.
    NoSession,
    /// It answers again, and has to prove itself.
    HoldDown,
    /// It proved itself.
    HoldOver,
    /// Its hold-down was cut short, as nothing else lives.
    Released,
}

impl Reason {
    /// In words, for reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "no answer yet",
            Self::Answered => "answers probes",
            Self::AnswerMissed => "a probe was not answered in time",
            Self::Hint => "the network reported an error",
            Self::Silent => "nothing is heard from the peer",
            Self::OneWay => "the peer is heard but does not hear us",
            Self::Refused => "the peer's host refuses our packets",
            Self::Gone => "its host says that it is gone",
            Self::Session => "has a session",
            Self::NoSession => "has no session",
            Self::HoldDown => "answers again, in hold-down",
            Self::HoldOver => "answered throughout its hold-down",
            Self::Released => "answers, and no other path lives",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its state changed.
    State {
        /// The state before.
        from: State,
        /// The state since `at`.
        to: State,
        /// Why.
        reason: Reason,
        /// When.
        at: Time,
        /// When both directions were last proven, if ever: a failover took `at` minus this.
        last_proof: Option<Time>,
    },
    /// The peer began or ended its drain.
    PeerDraining(bool),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_as_good_as_its_best_path_and_unknown_only_while_all_are() {
        use State::{Down, Held, Suspect, Unknown, Up};
        let cases: [(&[State], ClusterState); 8] = [
            (&[], ClusterState::Dark),
            (&[Unknown, Unknown], ClusterState::Unknown),
            (&[Unknown, Down], ClusterState::Dark),
            (&[Down], ClusterState::Dark),
            (&[Down, Held, Unknown], ClusterState::Held),
            (&[Held, Suspect], ClusterState::Live),
            (&[Down, Up], ClusterState::Live),
            (&[Unknown, Up], ClusterState::Live),
        ];
        for (paths, expected) in cases {
            assert_eq!(ClusterState::of_paths(paths.iter().copied()), expected, "{paths:?}");
        }
    }
}
