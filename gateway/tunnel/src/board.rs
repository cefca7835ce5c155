//! What each lane found about one path, for the other lanes to read: without locks, also for every packet.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};

use hawser_liveness::{State, Time};

use crate::config::LANES_MAX;

/// How each lane sees one path, for the others to read.
#[derive(Default)]
pub(crate) struct Board {
    slots: [AtomicU8; LANES_MAX],
    /// When each lane last had proof of both directions; 0 for never.
    proofs: [AtomicU64; LANES_MAX],
    /// The largest inner packet that passes from each lane; 0 where the lane does not know.
    mtus: [AtomicU16; LANES_MAX],
    /// The smallest of them, 0 where none is known: read for every packet.
    mtu: AtomicU16,
    /// When packets of each lane were last refused by the peer's host; 0 for never.
    refusals: [AtomicU64; LANES_MAX],
    /// Grows when a lane wants the others to look at the path.
    hints: AtomicU64,
    /// Grows with all of this but proofs: who has seen it need not read the rest.
    news: AtomicU64,
}

impl Board {
    pub(crate) fn set(&self, lane: usize, state: Option<State>) {
        let code = match state {
            None => 0,
            Some(State::Unknown) => 1,
            Some(State::Up) => 2,
            Some(State::Suspect) => 3,
            Some(State::Held) => 4,
            Some(State::Down) => 5,
        };
        if self.slots[lane].swap(code, Ordering::AcqRel) != code {
            self.stir();
        }
    }

    /// Something changed; after the change, so that whoever sees this sees that.
    fn stir(&self) {
        self.news.fetch_add(1, Ordering::AcqRel);
    }

    /// Another figure than when it was read last: there is something to read.
    pub(crate) fn news(&self) -> u64 {
        self.news.load(Ordering::Acquire)
    }

    pub(crate) fn get(&self, lane: usize) -> Option<State> {
        match self.slots[lane].load(Ordering::Acquire) {
            1 => Some(State::Unknown),
            2 => Some(State::Up),
            3 => Some(State::Suspect),
            4 => Some(State::Held),
            5 => Some(State::Down),
            _ => None,
        }
    }

    pub(crate) fn prove(&self, lane: usize, at: Option<Time>) {
        self.proofs[lane].store(at.map_or(0, Time::as_nanos), Ordering::Relaxed);
    }

    pub(crate) fn refuse(&self, lane: usize, at: Time) {
        self.refusals[lane].store(at.as_nanos(), Ordering::Release);
        self.stir();
    }

    /// When packets of a lane other than `lane` were last refused.
    pub(crate) fn refused(&self, lane: usize) -> Option<Time> {
        let others = self.refusals.iter().enumerate().filter(|(other, _)| *other != lane);
        let latest = others.map(|(_, at)| at.load(Ordering::Acquire)).max();
        latest.filter(|at| *at > 0).map(Time::from_nanos)
    }

    /// A lane other than `lane` whose path can carry packets, proven later than `after`.
    pub(crate) fn helper(&self, lane: usize, lanes: usize, after: Time) -> Option<usize> {
        (0..lanes).filter(|&other| other != lane).find(|&other| {
            let usable = self.get(other).is_some_and(State::carries);
            usable && Time::from_nanos(self.proofs[other].load(Ordering::Relaxed)) > after
        })
    }

    /// What passes from `lane`; `None` while its path is not in use.
    pub(crate) fn set_mtu(&self, lane: usize, mtu: Option<u16>) {
        let mtu = mtu.unwrap_or(0);
        if self.mtus[lane].swap(mtu, Ordering::SeqCst) == mtu {
            return;
        }
        let smallest = || self.mtus.iter().map(|m| m.load(Ordering::SeqCst)).filter(|&m| m > 0).min().unwrap_or(0);
        // Two lanes may do so at once: whoever is last has looked after the other wrote.
        loop {
            let found = smallest();
            self.mtu.store(found, Ordering::SeqCst);
            if smallest() == found {
                break;
            }
        }
        self.stir();
    }

    /// What passes from every lane that knows: lanes share the smaller result, as any may carry any packet of the path.
    #[inline]
    pub(crate) fn mtu(&self) -> Option<u16> {
        Some(self.mtu.load(Ordering::Relaxed)).filter(|&mtu| mtu > 0)
    }

    /// Whether some lane's path carries packets.
    pub(crate) fn carries(&self) -> bool {
        (0..LANES_MAX).any(|lane| self.get(lane).is_some_and(State::carries))
    }

    /// Asks the other lanes to look; the count including this one.
    pub(crate) fn hint(&self) -> u64 {
        let hints = self.hints.fetch_add(1, Ordering::AcqRel) + 1;
        self.stir();
        hints
    }

    pub(crate) fn hints(&self) -> u64 {
        self.hints.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_hear_of_others_refusals_only() {
        let board = Board::default();
        assert_eq!(board.refused(0), None);
        board.refuse(1, Time::from_nanos(5));
        board.refuse(2, Time::from_nanos(9));
        assert_eq!([0, 1, 2].map(|lane| board.refused(lane).map(Time::as_nanos)), [Some(9), Some(9), Some(5)]);
    }

    #[test]
    fn the_board_keeps_every_state() {
        let board = Board::default();
        assert_eq!(board.get(7), None);
        for state in [State::Unknown, State::Up, State::Suspect, State::Held, State::Down] {
            board.set(7, Some(state));
            assert_eq!((board.get(7), board.get(6)), (Some(state), None));
        }
    }

    #[test]
    fn lanes_share_the_smallest_mtu_that_is_known() {
        let board = Board::default();
        assert_eq!(board.mtu(), None);
        board.set_mtu(0, Some(1420));
        board.set_mtu(3, Some(1320));
        assert_eq!(board.mtu(), Some(1320));
        board.set_mtu(3, None);
        assert_eq!(board.mtu(), Some(1420));
    }

    #[test]
    fn a_board_has_news_when_something_changed_and_not_when_it_was_said_again() {
        let board = Board::default();
        let mut seen = board.news();
        let mut stirred = || std::mem::replace(&mut seen, board.news()) != board.news();
        assert!(!stirred());
        for _ in 0..2 {
            board.set(1, Some(State::Up));
            board.set_mtu(1, Some(1420));
        }
        assert!(stirred() && !stirred());
        board.set(1, Some(State::Up));
        board.set_mtu(1, Some(1420));
        board.prove(1, Some(Time::from_millis(5)));
        assert!(!stirred(), "said again");
        board.set(1, Some(State::Suspect));
        assert!(stirred());
        board.set_mtu(1, Some(1320));
        assert!(stirred());
        board.refuse(1, Time::from_millis(6));
        assert!(stirred());
        assert!(board.hint() == 1 && stirred());
    }

    #[test]
    fn only_a_lane_with_newer_proof_helps() {
        let (board, fell) = (Board::default(), Time::from_millis(500));
        board.set(1, Some(State::Up));
        assert_eq!(board.helper(0, 2, Time::START), None, "never proven");
        board.prove(1, Some(Time::from_millis(400)));
        assert_eq!(board.helper(0, 2, fell), None, "it has not noticed yet");
        board.prove(1, Some(Time::from_millis(501)));
        assert_eq!(board.helper(0, 2, fell), Some(1));
        assert_eq!(board.helper(1, 2, fell), None, "not itself");
        board.set(1, Some(State::Down));
        assert_eq!(board.helper(0, 2, fell), None);
    }
}
