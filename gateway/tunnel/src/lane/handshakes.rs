//! When a lane starts handshakes, and with which addresses of a peer. Called by `timers`.

use std::net::SocketAddr;
use std::time::Duration;

use hawser_liveness::{State, Time};

use super::Lane;
use super::pair::is_wanted;
use super::round::Round;
use crate::session::{MESSAGE_MAX, Session as _};

/// A session is renewed at this age at the latest; it ends at 180 s.
const RENEW_AFTER: Duration = Duration::from_secs(150);
/// Silence of a path with a session before handshakes are tried everywhere again.
const SEEK_AFTER: Duration = Duration::from_millis(500);
/// Between looks at who needs one, while somebody does
const TICK: Duration = Duration::from_millis(100);
/// and while all paths answer: what is due then can wait.
const SETTLED: Duration = Duration::from_secs(1);
/// Handshakes begun or sessions made for them in one turn: a few key agreements each.
const HANDSHAKES_AT_ONCE: u32 = 1;

/// Answers to one initiation that are looked at past the guard against floods: whoever floods a lane with handshakes shall not
/// keep it from making its own.
pub(super) const ANSWERS: u8 = 3;

/// Why a handshake is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// There is no session, or nothing comes back: everywhere.
    Unreached,
    /// There is none, but one by other keys works: the peer is where that one has it.
    Beside(SocketAddr),
    /// The session ends soon.
    Old,
    /// Another candidate may be better.
    Better,
}

/// What was done for a session in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    None,
    /// It was made, which takes as long as a handshake's beginning: that is for the next turn.
    Woken,
    /// Its handshake has begun.
    Begun,
}

/// A look through all sessions for handshakes to begin.
#[derive(Debug, Default)]
pub(super) struct Looks {
    round: Round,
    /// All that were looked at have a session that answers.
    settled: bool,
}

impl Looks {
    /// Whether one has begun and is not over.
    pub(super) fn is_under_way(&self) -> bool {
        self.round.is_under_way()
    }
}

impl Lane {
    /// Whether the pair's path is silent for so long that the peer may have moved, or begun anew without the session.
    pub(super) fn is_lost(&self, pair: usize, now: Time) -> bool {
        let state = &self.peers.pairs[pair];
        let silent = match self.paths.state(state.path) {
            Some(State::Down) => self.paths.since(state.path).map(|at| now.since(at)),
            // Nothing was ever heard by this session.
            Some(State::Unknown) => state.session.age(),
            _ => None,
        };
        state.sends && silent.is_some_and(|silent| silent >= SEEK_AFTER)
    }

    /// Starts handshakes: where there is no session, where the path has fallen silent, in time before a session ends, and now
    /// and then to see whether another candidate is better. Looks at so many sessions at a time.
    pub(super) fn handshakes(&mut self, now: Time) {
        if !self.looks.is_under_way() {
            self.looks.settled = true;
            self.timers.late = None;
            self.timers.seek_after(TICK, now);
        }
        let part = self.looks.round.part(self.peers.pairs.len());
        let (mut pair, mut left) = (part.start, HANDSHAKES_AT_ONCE);
        while pair < part.end && left > 0 {
            let step = self.handshake(pair, now);
            left -= u32::from(step != Step::None);
            pair += usize::from(step != Step::Woken);
        }
        if self.looks.round.stop(pair, self.peers.pairs.len()) {
            self.timers.go_on(now);
        } else if self.looks.settled {
            self.timers.seek_no_sooner(SETTLED, now);
        }
    }

    /// Starts a handshake if one is due.
    fn handshake(&mut self, pair: usize, now: Time) -> Step {
        self.finish_look(pair, now);
        let state = &self.peers.pairs[pair];
        let silent = matches!(self.paths.state(state.path), Some(State::Down | State::Unknown));
        self.looks.settled &= state.session.ready() && !silent;
        let Some(why) = self.handshake_due(pair, now) else { return Step::None };
        let targets = match why {
            Why::Beside(endpoint) => vec![endpoint],
            _ => self.peers.targets(pair, why == Why::Unreached),
        };
        if targets.is_empty() {
            self.peers.pairs[pair].attempts.made(now);
            return Step::None;
        }
        if self.peers.wake(pair) {
            return Step::Woken;
        }
        let state = &mut self.peers.pairs[pair];
        if why != Why::Better {
            state.attempts.made(now);
        }
        // One message to all candidates: the peer answers the first that arrives and takes the others for replays.
        let mut message = [0u8; MESSAGE_MAX];
        let Some(len) = state.session.initiate(&mut message) else { return Step::Begun };
        state.answers = ANSWERS;
        if why == Why::Better {
            let rtt = self.paths.path_row(state.path, now).and_then(|row| row.rtt);
            state.seek.begun(&message[..len], rtt, now);
            self.timers.late = self.timers.late.into_iter().chain(state.seek.late_at()).min();
        }
        for to in targets {
            self.send_now(to, &message[..len]);
        }
        Step::Begun
    }

    /// Whether a pair wants a handshake, and why.
    fn handshake_due(&self, pair: usize, now: Time) -> Option<Why> {
        let state = &self.peers.pairs[pair];
        let (attempt, ready, lost) = (state.attempts.due(now), state.session.ready(), self.is_lost(pair, now));
        let why = if !ready || lost {
            attempt.then_some(Why::Unreached)
        } else if attempt && state.session.age().is_some_and(|age| age >= RENEW_AFTER) {
            Some(Why::Old)
        } else {
            (state.seek.due(now) && self.peers.others(pair).next().is_some()).then_some(Why::Better)
        }?;
        let best = self.peers.usable_like(pair).filter(|_| !lost);
        let wanted = is_wanted(state.standing, best.map(|best| best.standing));
        let beside = best.filter(|_| !ready).and_then(|best| best.endpoint);
        wanted.then_some(beside.map_or(why, Why::Beside))
    }

    /// Asks the other candidates too, where the one in use had its start.
    fn finish_look(&mut self, pair: usize, now: Time) {
        if let Some(message) = self.peers.pairs[pair].seek.take_late(now) {
            let others: Vec<_> = self.peers.others(pair).collect();
            for to in others {
                self.send_now(to, &message);
            }
        }
        self.timers.late = self.timers.late.into_iter().chain(self.peers.pairs[pair].seek.late_at()).min();
    }
}
