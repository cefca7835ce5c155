//! Sessions' own timers, and what follows when one comes to be or goes. Called by `timers`.

use hawser_liveness::Time;

use super::Lane;
use super::handshakes::ANSWERS;
use crate::session::{MESSAGE_MAX, Session as _, is_initiation};

/// What may be sent in one turn, in keepalives,
const AT_ONCE: u32 = 8;
/// and what a handshake's beginning counts for: its key agreements take as long.
const HANDSHAKE: u32 = 8;

impl Lane {
    /// Lets sessions look at their clocks, so many at a time.
    pub(super) fn tick_sessions(&mut self, now: Time) {
        let part = self.ticked.part(self.peers.pairs.len());
        let (mut pair, mut left) = (part.start, AT_ONCE);
        let mut ended = false;
        while pair < part.end && left > 0 {
            left = left.saturating_sub(self.tick(pair, now));
            ended |= self.peers.pairs[pair].has_ended(now);
            pair += 1;
        }
        if self.ticked.stop(pair, self.peers.pairs.len()) {
            self.timers.go_on(now);
        }
        if ended {
            self.drop_ended(now);
        }
    }

    /// One session's timers; what was sent for them, in keepalives.
    fn tick(&mut self, pair: usize, now: Time) -> u32 {
        let mut message = [0u8; MESSAGE_MAX];
        let was_ready = self.peers.pairs[pair].session.ready();
        let due = self.peers.pairs[pair].session.tick(&mut message);
        self.peers.pairs[pair].sent.tidy();
        match (was_ready, self.peers.pairs[pair].session.ready()) {
            (false, true) => self.established(pair, now),
            (true, false) => {
                self.session_changed(pair, now);
                self.timers.seek();
            }
            _ => {}
        }
        let Some(len) = due else { return 0 };
        // A session of a replaced key runs out.
        if self.peers.pairs[pair].ends.is_none() {
            self.peers.pairs[pair].answers = ANSWERS;
            let everywhere = !was_ready || self.is_lost(pair, now);
            for to in self.peers.targets(pair, everywhere) {
                self.send_now(to, &message[..len]);
            }
        }
        if is_initiation(&message[..len]) { HANDSHAKE } else { 1 }
    }

    /// A session came to be.
    pub(super) fn established(&mut self, pair: usize, now: Time) {
        let state = &mut self.peers.pairs[pair];
        state.attempts.succeeded();
        state.seek.reached(now);
        let key = &self.peers.snapshot.paths[state.spec].key;
        tracing::debug!(
            lane = self.index, cluster = %key.cluster, gateway = %key.gateway,
            remote_lane = state.remote_lane, endpoint = ?state.endpoint, "session established"
        );
        self.session_changed(pair, now);
    }

    /// A session came or went: its path goes by the best that there is.
    fn session_changed(&mut self, pair: usize, now: Time) {
        let state = &self.peers.pairs[pair];
        if state.sends {
            let path = state.path;
            let alive = self.peers.choose(path);
            self.paths.handle(path, now, |life| life.handle_session(alive, now));
            self.timers.request();
        }
    }
}
