//! What a lane does by the clock: sessions, probes, verdicts, and telling the others. When is `hawser_datapath::paths::Clock`'s
//! to say; `handshakes` are apart.

use std::sync::atomic::Ordering;

use hawser_datapath::paths::Job;
use hawser_datapath::probe::{self, Probe};
use hawser_datapath::{DropReason, PathEvent, PathIndex, pmtu};
use hawser_liveness::{State, Time};

use super::Lane;
use super::handshakes::ANSWERS;
use super::load::Work;
use crate::session::{MESSAGE_MAX, SEAL_OVERHEAD, Session as _};
use crate::status::{LanePath, NextKey};

/// Probes sent in one turn.
const AT_ONCE: u32 = 16;

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
        if news {
            self.epoch = Some(epoch);
            self.read_boards(now);
        }
        // What takes long with many peers has a turn of its own: packets that wait go between.
        let more = match turn.job {
            Job::Sessions => {
                self.tick_sessions(now);
                true
            }
            Job::Publish => {
                self.publish(now);
                true
            }
            Job::Ask | Job::Change => self.ask(now),
        };
        while let Some(event) = self.paths.poll_event() {
            self.path_event(event);
        }
        self.timers.rest(self.next_of_paths(), more, now);
        self.load.timers_ran(&work);
    }

    fn next_of_paths(&self) -> Option<Time> {
        self.paths.poll_timeout().map(|(at, _)| at)
    }

    /// Judges paths, begins handshakes and sends probes, as many as are due; true when some are left.
    fn ask(&mut self, now: Time) -> bool {
        if self.timers.seeks(now) {
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

    /// Sessions' own timers.
    fn tick_sessions(&mut self, now: Time) {
        let mut message = [0u8; MESSAGE_MAX];
        for pair in 0..self.peers.pairs.len() {
            let was_ready = self.peers.pairs[pair].session.ready();
            let due = self.peers.pairs[pair].session.tick(&mut message);
            self.peers.pairs[pair].sent.tidy();
            // A session of a replaced key runs out.
            if let Some(len) = due.filter(|_| self.peers.pairs[pair].ends.is_none()) {
                self.peers.pairs[pair].answers = ANSWERS;
                let everywhere = !was_ready || self.is_lost(pair, now);
                for to in self.peers.targets(pair, everywhere) {
                    self.send_now(to, &message[..len]);
                }
            }
            match (was_ready, self.peers.pairs[pair].session.ready()) {
                (false, true) => self.established(pair, now),
                (true, false) => {
                    self.session_changed(pair, now);
                    self.timers.seek();
                }
                _ => {}
            }
        }
        if self.peers.pairs.iter().any(|pair| pair.has_ended(now)) {
            self.drop_ended(now);
        }
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

    /// What other lanes found.
    fn read_boards(&mut self, now: Time) {
        self.paths.set_own(self.shared.draining.load(Ordering::Relaxed), true);
        let links: Vec<_> = self.peers.links().collect();
        for (path, link) in links {
            let spec = &self.peers.snapshot.paths[link.spec];
            let (hints, mirror, refused) = (spec.board.hints(), spec.board.get(0), spec.board.refused(self.index));
            // Another lane found less: the same may be true here.
            if spec.board.mtu() < self.paths.mtu(path) && self.paths.mtu(path) > Some(pmtu::BASE) {
                self.paths.handle_mtu_hint(path, now);
            }
            if hints != link.hints {
                self.peers.saw_hints(path, hints);
                self.paths.handle(path, now, |life| life.handle_hint(now));
            }
            if let Some(at) = refused {
                self.paths.handle(path, now, |life| life.handle_sibling_refusal(at, now));
            }
            if link.sender.is_none() {
                self.paths.handle_mirror(path, mirror.unwrap_or(State::Unknown), now);
            }
        }
    }

    fn path_event(&mut self, event: PathEvent) {
        self.timers.changed();
        match event {
            PathEvent::State { path, cluster, gateway, from, to, reason, .. } => {
                let brief = to == State::Suspect || (from == State::Suspect && to == State::Up);
                if brief || self.index > 0 {
                    tracing::debug!(lane = self.index, %cluster, %gateway, %from, %to, %reason, "path changed");
                } else {
                    tracing::info!(%cluster, %gateway, %from, %to, %reason, "path changed");
                }
                self.post(path, to);
                if to == State::Down {
                    self.timers.seek();
                }
            }
            PathEvent::Hint { cluster, gateway } => {
                let Some(path) = self.paths.find(&cluster, &gateway) else { return };
                let Some(spec) = self.peers.link(path).map(|link| link.spec) else { return };
                let hints = self.peers.snapshot.paths[spec].board.hint();
                self.peers.saw_hints(path, hints);
                self.announce();
            }
            PathEvent::Failover { cluster, gateway, took, .. } => {
                tracing::info!(lane = self.index, %cluster, %gateway, ?took, "flows moved off a dead path");
            }
            PathEvent::Draining { cluster, gateway, draining } => {
                tracing::info!(lane = self.index, %cluster, %gateway, draining, "remote gateway's drain");
            }
            PathEvent::Mtu { path, cluster, gateway, from, to } => {
                tracing::info!(lane = self.index, %cluster, %gateway, from, to, "path MTU");
                self.post_mtu(path);
                self.announce();
            }
            PathEvent::Cluster { .. } => {}
        }
    }

    /// Tells the other lanes that a board changed.
    fn announce(&mut self) {
        let before = self.shared.announce(Some(self.index));
        // What a lane says itself is no news to it.
        if self.epoch == Some(before) {
            self.epoch = Some(before.wrapping_add(1));
        }
    }

    /// Shows a path's state to the other lanes.
    fn post(&mut self, path: PathIndex, state: State) {
        let Some(link) = self.peers.link(path).filter(|l| l.sender.is_some()) else { return };
        self.peers.snapshot.paths[link.spec].board.set(self.index, Some(state));
        self.post_mtu(path);
        self.announce();
    }

    /// Shows what a path takes from here, while it is in use.
    fn post_mtu(&self, path: PathIndex) {
        let Some(link) = self.peers.link(path).filter(|l| l.sender.is_some()) else { return };
        let in_use = self.paths.state(path).is_some_and(State::carries);
        let mtu = self.paths.mtu(path).filter(|_| in_use);
        self.peers.snapshot.paths[link.spec].board.set_mtu(self.index, mtu);
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

    /// Lets control and the other lanes see this lane's figures.
    pub(super) fn publish(&mut self, now: Time) {
        let mut status = std::mem::take(&mut self.spare);
        status.paths.clear();
        status.clusters.clear();
        status.paths.reserve(self.peers.snapshot.paths.len());
        for (index, link) in self.peers.links() {
            let (Some(sender), Some(row)) = (link.sender, self.paths.path_row(index, now)) else { continue };
            let spec = &self.peers.snapshot.paths[link.spec];
            let (pair, at) = (&self.peers.pairs[sender], |ago| now.before(ago));
            let last_proof = row.proof.map(at);
            spec.board.set(self.index, Some(row.state));
            spec.board.prove(self.index, last_proof);
            self.post_mtu(index);
            status.paths.push(LanePath {
                key: spec.key.clone(),
                state: row.state,
                since: at(row.since),
                last_proof,
                last_heard: row.heard.map(at),
                endpoint: pair.endpoint,
                session_age: pair.session.age(),
                next_key: self.peers.next_key(index).map(|next| if row.state.carries() { next } else { NextKey::Dark }),
                row,
            });
        }
        let changed = self.timers.published(status.paths.len() as u32, now);
        status.clusters.extend(self.paths.cluster_rows(now));
        (status.revision, status.at, status.load) = (self.peers.snapshot.revision, now, self.load.told());
        self.spare = self.shared.doors[self.index].publish(status).unwrap_or_default();
        if changed {
            self.shared.changed.notify_one();
        }
    }
}
