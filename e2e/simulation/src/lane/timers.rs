//! What a lane does by the clock: sessions, handshakes, probes, verdicts, and telling the others.

use std::time::Duration;

use hawser_datapath::PathEvent;
use hawser_datapath::probe::{Kind, Probe};
use hawser_liveness::{State, Time};

use super::{Around, Lane};
use crate::topology::HostId;
use crate::underlay::{Addr, Datagram, Inner};

const TICK: Duration = Duration::from_millis(100);
const PUBLISH: Duration = Duration::from_millis(250);
const RENEW_AFTER: Duration = Duration::from_secs(150);
/// Silence of a path with a session before handshakes are tried everywhere again.
pub(crate) const SEEK_AFTER: Duration = Duration::from_secs(1);

impl Lane {
    pub(super) fn run_timers(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        let news = around.board.epoch != self.epoch;
        if now < self.next && !self.requested && !news {
            return;
        }
        self.paths.handle_lag(now, now.since(self.next));
        self.requested = false;
        if news {
            self.epoch = around.board.epoch;
            self.read_board(around);
        }
        if now >= self.tick {
            self.tick = now + TICK;
            self.tick_sessions(around);
        }
        self.handshakes(around);
        self.paths.handle_timeout(now);
        while let Some((path, probe)) = self.paths.poll_probe(now) {
            if let Some(link) = self.links.get(usize::from(path)).copied().flatten() {
                self.send_probe(link.sender, &probe, around);
            }
        }
        while let Some(event) = self.paths.poll_event() {
            self.path_event(event, around);
        }
        if now >= self.publish {
            self.publish(around);
        }
        let probes = self.paths.poll_timeout().map_or(self.tick, |(at, _)| at);
        self.next = probes.min(self.tick).min(self.publish);
    }

    fn tick_sessions(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        for index in 0..self.pairs.len() {
            let was_ready = self.pairs[index].session.ready();
            if self.pairs[index].session.tick(now) {
                self.initiate(index, !was_ready || self.is_lost(index, now), around);
            }
            match (was_ready, self.pairs[index].session.ready()) {
                (false, true) => self.established(index, now),
                (true, false) => self.session_changed(index, false, now),
                _ => {}
            }
        }
    }

    /// A session came to be.
    pub(super) fn established(&mut self, pair: usize, now: Time) {
        self.pairs[pair].attempts.succeeded();
        self.session_changed(pair, true, now);
    }

    fn session_changed(&mut self, pair: usize, alive: bool, now: Time) {
        let pair = &self.pairs[pair];
        if pair.sends {
            self.paths.handle(pair.path, now, |life| life.handle_session(alive, now));
            self.requested = true;
        }
    }

    fn is_lost(&self, pair: usize, now: Time) -> bool {
        let pair = &self.pairs[pair];
        let silent = match self.paths.state(pair.path) {
            Some(State::Down) => self.paths.since(pair.path).map(|at| now.since(at)),
            Some(State::Unknown) => pair.session.age(now),
            _ => None,
        };
        pair.sends && silent.is_some_and(|silent| silent >= SEEK_AFTER)
    }

    fn handshakes(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        for index in 0..self.pairs.len() {
            let pair = &mut self.pairs[index];
            if !pair.attempts.due(now) {
                continue;
            }
            let (ready, age) = (pair.session.ready(), pair.session.age(now));
            let everywhere = !ready || self.is_lost(index, now);
            if everywhere || age.is_some_and(|age| age >= RENEW_AFTER) {
                self.pairs[index].attempts.made(now);
                self.initiate(index, everywhere, around);
            }
        }
    }

    /// One message to the endpoint while it works, else to all candidates.
    fn initiate(&mut self, pair: usize, everywhere: bool, around: &mut Around<'_>) {
        let from = (around.host, self.index);
        let pair = &mut self.pairs[pair];
        let candidate = around.candidates[pair.remote.0].map(|a| Addr { port: pair.remote.1, ..a });
        let targets = match pair.endpoint {
            Some(endpoint) if !everywhere || candidate == Some(endpoint) => [Some(endpoint), None],
            endpoint => [candidate, endpoint],
        };
        if targets == [None, None] {
            return;
        }
        let stamp = pair.session.initiate(around.now.as_nanos(), around.now);
        let message = |to| (to, Datagram::Initiation { from, stamp });
        around.fx.datagrams.extend(targets.into_iter().flatten().map(message));
    }

    /// What other lanes found.
    fn read_board(&mut self, around: &Around<'_>) {
        for path in 0..self.links.len() {
            let Some(link) = &mut self.links[path] else { continue };
            let hints = around.board.notes.get(&link.to).map_or(0, |n| n.hints);
            if std::mem::replace(&mut link.hints, hints) != hints {
                self.paths.handle(path as u16, around.now, |life| life.handle_hint(around.now));
            }
        }
    }

    fn path_event(&mut self, event: PathEvent, around: &mut Around<'_>) {
        match &event {
            PathEvent::State { path, to, .. } => {
                if let Some(link) = self.links.get(usize::from(*path)).copied().flatten() {
                    self.post(link.to, *path, *to, around);
                }
            }
            PathEvent::Hint { cluster, gateway } => {
                let path = self.paths.find(cluster, gateway).map(usize::from);
                if let Some(Some(link)) = path.and_then(|p| self.links.get_mut(p)) {
                    let notes = around.board.notes.entry(link.to).or_default();
                    notes.hints += 1;
                    link.hints = notes.hints;
                    around.board.epoch += 1;
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

    fn post(&self, to: HostId, path: u16, state: State, around: &mut Around<'_>) {
        let now = around.now;
        let proof = self.paths.path_row(path, now).and_then(|row| row.proof).map(|age| now.before(age));
        around.board.post(to, self.index, state, self.paths.since(path).unwrap_or(now), proof);
    }

    /// Lets the other lanes see this lane's proofs.
    fn publish(&mut self, around: &mut Around<'_>) {
        self.publish = around.now + PUBLISH;
        if self.lanes == 1 {
            return;
        }
        let epoch = around.board.epoch;
        for path in 0..self.links.len() as u16 {
            let (Some(link), Some(state)) = (self.links[usize::from(path)], self.paths.state(path)) else { continue };
            self.post(link.to, path, state, around);
        }
        around.board.epoch = epoch;
    }

    fn send_probe(&mut self, pair: usize, probe: &Probe, around: &mut Around<'_>) {
        let inner = probe.encode(self.probe_address, self.pairs[pair].probe_address);
        self.seal(pair, Inner::Probe(inner), around);
    }

    pub(super) fn probed(&mut self, index: usize, probe: &Probe, at: Time, around: &mut Around<'_>) {
        let pair = &self.pairs[index];
        let answer = if pair.sends {
            self.requested = true;
            self.paths.handle_probe(pair.path, probe, at)
        } else {
            (probe.kind == Kind::Ask).then(|| self.paths.answer(None, probe))
        };
        if let Some(answer) = answer {
            self.send_probe(index, &answer, around);
        }
    }
}
