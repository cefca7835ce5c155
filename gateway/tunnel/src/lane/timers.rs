//! What a lane does by the clock, and its probes. When is `hawser_datapath::paths::Clock`'s to say; `sessions`, `handshakes` and
//! `tell` are apart.

use std::sync::atomic::Ordering;

use hawser_datapath::DropReason;
use hawser_datapath::paths::Job;
use hawser_datapath::probe::{self, Probe};
use hawser_liveness::Time;

use super::Lane;
use super::load::Work;
use crate::session::{MESSAGE_MAX, SEAL_OVERHEAD, Session as _};

/// Probes sent in one turn.
const AT_ONCE: u32 = 8;

impl Lane {
    /// Does what is due.
    pub(super) fn run_timers(&mut self) {
        let now = self.shared.now();
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        let news = self.epoch != Some(epoch);
        let Some(turn) = self.timers.turn(self.next_of_paths(), news, now) else { return };
        let work = Work::begin();
        if turn.job == Job::Change {
            return self.load.timers_ran(&work);
        }
        self.paths.handle_lag(now, turn.lag);
        let mut more = turn.job != Job::Ask;
        if news {
            let all = self.read_boards(now);
            self.epoch = if all { Some(epoch) } else { self.epoch };
            more |= !all;
        }
        // What takes long with many peers has turns of its own, and is done in parts: packets that wait go between.
        match turn.job {
            Job::Sessions => self.tick_sessions(now),
            Job::Publish => self.publish(now),
            Job::Ask | Job::Change => more |= self.ask(now),
        }
        more |= self.tell_events();
        self.timers.rest(self.next_of_paths(), more, now);
        self.load.timers_ran(&work);
    }

    fn next_of_paths(&self) -> Option<Time> {
        self.paths.poll_timeout().map(|(at, _)| at)
    }

    /// Judges paths, begins handshakes and sends probes, as many as are due; true when some are left.
    fn ask(&mut self, now: Time) -> bool {
        if self.looks.is_under_way() || self.timers.seeks(now) {
            self.handshakes(now);
        }
        self.paths.handle_timeout(now);
        let mut left = AT_ONCE;
        while left > 0
            && let Some((path, probe)) = self.paths.poll_probe(now)
        {
            left -= 1;
            if let Some((pair, _)) = self.peers.ready_sender(path) {
                self.send_probe(pair, &probe, now);
            }
        }
        while left > 0
            && let Some((path, probe, size)) = self.paths.poll_size_probe(now)
        {
            left -= 1;
            if let Some((pair, _)) = self.peers.ready_sender(path) {
                self.send_size_probe(pair, &probe, size, now);
            }
        }
        left == 0
    }

    fn send_probe(&mut self, pair: usize, probe: &Probe, now: Time) {
        let state = &mut self.peers.pairs[pair];
        let Some(to) = state.endpoint else { return };
        let inner = probe.encode(state.addresses.0, state.addresses.1);
        let mut sealed = [0u8; probe::LEN + SEAL_OVERHEAD + MESSAGE_MAX];
        match state.session.seal(&inner, &mut sealed) {
            Some(len) => {
                state.sent.note(&sealed[..len], now);
                self.send_now(to, &sealed[..len]);
            }
            None => self.counters.dropped(DropReason::NoSession),
        }
    }

    /// Sends a probe padded to `size` bytes.
    fn send_size_probe(&mut self, pair: usize, probe: &Probe, size: u16, now: Time) {
        let state = &mut self.peers.pairs[pair];
        let Some(to) = state.endpoint else { return };
        let inner = probe.encode_padded(state.addresses.0, state.addresses.1, size);
        let mut sealed = vec![0u8; inner.len() + SEAL_OVERHEAD + MESSAGE_MAX];
        if let Some(len) = state.session.seal(&inner, &mut sealed) {
            state.sent.note(&sealed[..len], now);
            self.send_now(to, &sealed[..len]);
        }
    }

    /// A probe or an answer arrived at `at`.
    pub(super) fn probed(&mut self, pair: usize, probe: &Probe, at: Time) {
        let state = &self.peers.pairs[pair];
        let answer = if state.sends {
            self.timers.request();
            self.paths.handle_probe(state.path, probe, at)
        } else {
            probe.kind.answer().map(|_| self.paths.answer(None, probe))
        };
        if let Some(answer) = answer {
            self.send_probe(pair, &answer, at);
        }
    }
}
