//! What a lane does by the clock: sessions, probes, verdicts, and telling the others. When is `hawser_datapath::paths::Clock`'s
//! to say, as in the real lane; `handshakes` are apart.

use hawser_datapath::PathEvent;
use hawser_datapath::paths::Job;
use hawser_datapath::probe::{Kind, Probe};
use hawser_liveness::{State, Time};

use super::{Around, Lane};
use crate::board::Published;
use crate::underlay::Inner;

/// Probes sent in one turn.
const AT_ONCE: u32 = 16;

impl Lane {
    pub(super) fn run_timers(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        let epoch = around.board.epoch;
        let news = self.epoch != Some(epoch);
        let Some(turn) = self.clock.turn(self.next_of_paths(), news, now) else { return };
        if turn.job == Job::Change {
            return;
        }
        self.paths.handle_lag(now, turn.lag);
        if news {
            self.epoch = Some(epoch);
            self.read_board(around);
        }
        let more = match turn.job {
            Job::Sessions => {
                self.tick_sessions(around);
                true
            }
            Job::Publish => {
                self.publish(around);
                true
            }
            Job::Ask | Job::Change => self.ask(around),
        };
        while let Some(event) = self.paths.poll_event() {
            self.path_event(event, around);
        }
        self.clock.rest(self.next_of_paths(), more, now);
    }

    fn next_of_paths(&self) -> Option<Time> {
        self.paths.poll_timeout().map(|(at, _)| at)
    }

    /// Judges paths, begins handshakes and sends probes, as many as are due; true when some are left.
    fn ask(&mut self, around: &mut Around<'_>) -> bool {
        let now = around.now;
        if self.clock.seeks(now) {
            self.handshakes(around);
        }
        self.paths.handle_timeout(now);
        let mut left = AT_ONCE;
        while left > 0
            && let Some((path, probe)) = self.paths.poll_probe(now)
        {
            left -= 1;
            if let Some(sender) = self.ready_sender(path) {
                self.send_probe(sender, &probe, around);
            }
        }
        left == 0
    }

    /// Sessions' own timers.
    fn tick_sessions(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        for index in 0..self.pairs.len() {
            let was_ready = self.pairs[index].session.ready();
            if self.pairs[index].session.tick(now) {
                self.initiate(index, !was_ready || self.is_lost(index, now), around);
            }
            match (was_ready, self.pairs[index].session.ready()) {
                (false, true) => self.established(index, now),
                (true, false) => {
                    self.session_changed(index, now);
                    self.clock.seek();
                }
                _ => {}
            }
        }
    }

    /// A session came to be.
    pub(super) fn established(&mut self, pair: usize, now: Time) {
        self.pairs[pair].attempts.succeeded();
        self.session_changed(pair, now);
    }

    /// A session came or went.
    fn session_changed(&mut self, pair: usize, now: Time) {
        let pair = &self.pairs[pair];
        if pair.sends {
            let alive = pair.session.ready();
            self.paths.handle(pair.path, now, |life| life.handle_session(alive, now));
            self.clock.request();
        }
    }

    /// What other lanes found.
    fn read_board(&mut self, around: &Around<'_>) {
        let now = around.now;
        self.paths.set_own(around.board.draining, true);
        for (path, link) in (0..).zip(&mut self.links) {
            let Some(link) = link else { continue };
            let Some(notes) = around.board.notes.get(&link.to) else { continue };
            if std::mem::replace(&mut link.hints, notes.hints) != notes.hints {
                self.paths.handle(path, now, |life| life.handle_hint(now));
            }
            if let Some(at) = notes.refused(self.index) {
                self.paths.handle(path, now, |life| life.handle_sibling_refusal(at, now));
            }
        }
    }

    fn path_event(&mut self, event: PathEvent, around: &mut Around<'_>) {
        self.clock.changed();
        match &event {
            PathEvent::State { path, to, .. } => {
                if let Some(link) = self.links.get(usize::from(*path)).copied().flatten() {
                    around.board.of(link.to).set(self.index, *to);
                    self.announce(around);
                }
                if *to == State::Down {
                    self.clock.seek();
                }
            }
            PathEvent::Hint { cluster, gateway } => {
                let path = self.paths.find(cluster, gateway).map(usize::from);
                if let Some(Some(link)) = path.and_then(|p| self.links.get_mut(p)) {
                    let notes = around.board.of(link.to);
                    notes.hints += 1;
                    link.hints = notes.hints;
                    self.announce(around);
                }
            }
            PathEvent::Draining { cluster, gateway, draining } => {
                let path = self.paths.find(cluster, gateway).map(usize::from);
                if let Some(Some(link)) = path.and_then(|p| self.links.get_mut(p)) {
                    link.draining = *draining;
                }
            }
            _ => {}
        }
        around.fx.events.push(event);
    }

    /// Tells the other lanes that the board changed.
    fn announce(&mut self, around: &mut Around<'_>) {
        let before = around.board.announce();
        if self.epoch == Some(before) {
            self.epoch = Some(before + 1);
        }
    }

    /// Lets the gateway and the other lanes see this lane's figures.
    fn publish(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        for (path, link) in (0..).zip(&self.links) {
            let (Some(link), Some(state)) = (link, self.paths.state(path)) else { continue };
            let (since, proof) = (self.paths.since(path).unwrap_or(now), self.paths.last_proof(path));
            around.board.of(link.to).publish(self.index, Published { state, since, proof });
        }
        around.fx.published |= self.clock.published(self.links.len() as u32, now);
    }

    fn send_probe(&mut self, pair: usize, probe: &Probe, around: &mut Around<'_>) {
        let inner = probe.encode(self.probe_address, self.pairs[pair].probe_address);
        self.seal(pair, Inner::Probe(inner), around);
    }

    pub(super) fn probed(&mut self, index: usize, probe: &Probe, at: Time, around: &mut Around<'_>) {
        let pair = &self.pairs[index];
        let answer = if pair.sends {
            self.clock.request();
            self.paths.handle_probe(pair.path, probe, at)
        } else {
            (probe.kind == Kind::Ask).then(|| self.paths.answer(None, probe))
        };
        if let Some(answer) = answer {
            self.send_probe(index, &answer, around);
        }
    }
}
