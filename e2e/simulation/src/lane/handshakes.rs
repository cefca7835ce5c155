//! When a lane starts handshakes, and with which addresses of a peer. Called by `timers`.

use std::time::Duration;

use hawser_liveness::{State, Time};

use super::{Around, Lane};
use crate::underlay::{Addr, Datagram};

/// A session is renewed at this age at the latest.
const RENEW_AFTER: Duration = Duration::from_secs(150);
/// Silence of a path with a session before handshakes are tried everywhere again.
pub(crate) const SEEK_AFTER: Duration = Duration::from_millis(500);
/// Between looks at who needs one, while somebody does
const TICK: Duration = Duration::from_millis(100);
/// and while all paths answer.
const SETTLED: Duration = Duration::from_secs(1);
/// Handshakes begun in one turn.
const HANDSHAKES_AT_ONCE: u32 = 1;

impl Lane {
    /// Whether the pair's path is silent for so long that the peer may have moved, or begun anew without the session.
    pub(super) fn is_lost(&self, pair: usize, now: Time) -> bool {
        let pair = &self.pairs[pair];
        let silent = match self.paths.state(pair.path) {
            Some(State::Down) => self.paths.since(pair.path).map(|at| now.since(at)),
            Some(State::Unknown) => pair.session.age(now),
            _ => None,
        };
        pair.sends && silent.is_some_and(|silent| silent >= SEEK_AFTER)
    }

    /// Starts handshakes: where there is no session, where the path has fallen silent, in time before a session ends.
    pub(super) fn handshakes(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        let (mut left, mut settled) = (HANDSHAKES_AT_ONCE, true);
        for index in 0..self.pairs.len() {
            let pair = &self.pairs[index];
            let silent = matches!(self.paths.state(pair.path), Some(State::Down | State::Unknown));
            settled &= pair.session.ready() && !silent;
            let everywhere = !pair.session.ready() || self.is_lost(index, now);
            let old = pair.session.age(now).is_some_and(|age| age >= RENEW_AFTER);
            if !pair.attempts.due(now) || !(everywhere || old) {
                continue;
            }
            if self.targets(index, everywhere, around) == [None, None] {
                self.pairs[index].attempts.made(now);
                continue;
            }
            if left == 0 {
                // Its turn comes after waiting packets.
                return self.clock.seek();
            }
            left -= 1;
            self.pairs[index].attempts.made(now);
            self.initiate(index, everywhere, around);
        }
        self.clock.seek_after(if settled { SETTLED } else { TICK }, now);
    }

    /// The endpoint while it works, else all candidates.
    fn targets(&self, pair: usize, everywhere: bool, around: &Around<'_>) -> [Option<Addr>; 2] {
        let pair = &self.pairs[pair];
        let candidate = around.candidates[pair.remote.0].map(|a| Addr { port: pair.remote.1, ..a });
        match pair.endpoint {
            Some(endpoint) if !everywhere || candidate == Some(endpoint) => [Some(endpoint), None],
            endpoint => [candidate, endpoint],
        }
    }

    /// One message to all of a peer's addresses that are to be tried.
    pub(super) fn initiate(&mut self, pair: usize, everywhere: bool, around: &mut Around<'_>) {
        let targets = self.targets(pair, everywhere, around);
        if targets == [None, None] {
            return;
        }
        let (from, now) = ((around.host, self.index), around.now);
        let stamp = self.pairs[pair].session.initiate(now.as_nanos(), now);
        let message = |to| (to, Datagram::Initiation { from, stamp });
        around.fx.datagrams.extend(targets.into_iter().flatten().map(message));
    }
}
