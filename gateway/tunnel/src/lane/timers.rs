//! What a lane does by the clock: sessions, handshakes, probes, verdicts, and telling the others.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hawser_datapath::probe::{self, Probe};
use hawser_datapath::{DropReason, PathEvent, PathIndex, pmtu};
use hawser_liveness::{State, Time};

use super::Lane;
use super::pair::is_wanted;
use crate::session::{MESSAGE_MAX, SEAL_OVERHEAD, Session as _};
use crate::status::{LanePath, LaneStatus, NextKey, carries};

/// Between looks at sessions' own timers.
const TICK: Duration = Duration::from_millis(100);
/// Between publications of figures; changes are published at once.
const PUBLISH: Duration = Duration::from_millis(250);
/// A session is renewed at this age at the latest; it ends at 180 s.
const RENEW_AFTER: Duration = Duration::from_secs(150);
/// Silence of a path with a session before handshakes are tried everywhere again.
const SEEK_AFTER: Duration = Duration::from_secs(1);

/// When what is due.
pub(super) struct Timers {
    next: Time,
    tick: Time,
    publish: Time,
    epoch: u64,
    /// Look at once: `next` is no deadline that was missed then.
    requested: bool,
    changed: bool,
}

impl Timers {
    pub(super) fn new(now: Time) -> Self {
        Self { next: now, tick: now, publish: now, epoch: 0, requested: true, changed: true }
    }

    /// How long the lane may wait for packets.
    pub(super) fn wait(&self, now: Time) -> Duration {
        if self.requested { Duration::ZERO } else { self.next.since(now) }
    }

    /// Something happened that timers should see at once.
    pub(super) fn request(&mut self) {
        self.requested = true;
    }

    /// Something happened that everybody should know at once.
    pub(super) fn publish_soon(&mut self) {
        (self.requested, self.changed) = (true, true);
    }
}

impl Lane {
    /// Does what is due.
    pub(super) fn run_timers(&mut self) {
        let now = self.shared.now();
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        let news = epoch != self.timers.epoch;
        if now < self.timers.next && !self.timers.requested && !news {
            return;
        }
        self.paths.handle_lag(now, now.since(self.timers.next));
        self.timers.requested = false;
        if news {
            self.timers.epoch = epoch;
            self.read_boards(now);
        }
        if now >= self.timers.tick {
            self.timers.tick = now + TICK;
            self.tick_sessions(now);
        }
        self.handshakes(now);
        self.paths.handle_timeout(now);
        while let Some((path, probe)) = self.paths.poll_probe(now) {
            if let Some((pair, _)) = self.peers.ready_sender(path) {
                self.send_probe(pair, &probe, now);
            }
        }
        while let Some((path, probe, size)) = self.paths.poll_size_probe(now) {
            if let Some((pair, _)) = self.peers.ready_sender(path) {
                self.send_size_probe(pair, &probe, size, now);
            }
        }
        while let Some(event) = self.paths.poll_event() {
            self.path_event(event);
        }
        if self.timers.changed || now >= self.timers.publish {
            self.publish(now);
        }
        let probes = self.paths.poll_timeout().map_or(self.timers.tick, |(at, _)| at);
        self.timers.next = probes.min(self.timers.tick).min(self.timers.publish);
    }

    /// Sessions' own timers.
    fn tick_sessions(&mut self, now: Time) {
        self.peers.identities().iter().for_each(|identity| identity.tick());
        let mut message = [0u8; MESSAGE_MAX];
        for pair in 0..self.peers.pairs.len() {
            let was_ready = self.peers.pairs[pair].session.ready();
            let due = self.peers.pairs[pair].session.tick(&mut message);
            // A session of a replaced key runs out.
            if let Some(len) = due.filter(|_| self.peers.pairs[pair].ends.is_none()) {
                let everywhere = !was_ready || self.is_lost(pair, now);
                for to in self.peers.targets(pair, everywhere) {
                    self.send_now(to, &message[..len]);
                }
            }
            match (was_ready, self.peers.pairs[pair].session.ready()) {
                (false, true) => self.established(pair, now),
                (true, false) => self.session_changed(pair, now),
                _ => {}
            }
        }
        if self.peers.has_ended(now) {
            let snapshot = std::sync::Arc::clone(&self.peers.snapshot);
            self.take(&snapshot);
        }
    }

    /// A session came to be.
    pub(super) fn established(&mut self, pair: usize, now: Time) {
        let state = &mut self.peers.pairs[pair];
        state.attempts.succeeded();
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

    /// Whether the pair's path is down for so long that the peer may have moved.
    fn is_lost(&self, pair: usize, now: Time) -> bool {
        let state = &self.peers.pairs[pair];
        let down = self.paths.state(state.path) == Some(State::Down);
        down && state.sends && self.paths.since(state.path).is_some_and(|at| now.since(at) >= SEEK_AFTER)
    }

    /// Starts handshakes: where there is no session, where the path has fallen silent, and in time before a session ends.
    fn handshakes(&mut self, now: Time) {
        for pair in 0..self.peers.pairs.len() {
            let state = &self.peers.pairs[pair];
            if !state.attempts.due(now) {
                continue;
            }
            let (ready, lost) = (state.session.ready(), self.is_lost(pair, now));
            if ready && !lost && state.session.age().is_none_or(|age| age < RENEW_AFTER) {
                continue;
            }
            let best = self.peers.usable_like(pair).filter(|_| !lost);
            if !is_wanted(state.standing, best.map(|pair| pair.standing)) {
                continue;
            }
            // Beside a session of other keys that works, the peer is where that one has it.
            let targets = match best.and_then(|best| best.endpoint) {
                Some(endpoint) if !ready => vec![endpoint],
                _ => self.peers.targets(pair, !ready || lost),
            };
            let state = &mut self.peers.pairs[pair];
            state.attempts.made(now);
            if targets.is_empty() {
                continue;
            }
            // One message to all candidates: the peer answers the first that arrives and takes the others for replays.
            let mut message = [0u8; MESSAGE_MAX];
            if let Some(len) = state.session.initiate(&mut message) {
                for to in targets {
                    self.send_now(to, &message[..len]);
                }
            }
        }
    }

    /// What other lanes found.
    pub(super) fn read_boards(&mut self, now: Time) {
        self.paths.set_own(self.shared.draining.load(Ordering::Relaxed), true);
        let links: Vec<_> = self.peers.links().map(|(path, link)| (path, link.clone())).collect();
        for (path, link) in links {
            let spec = &self.peers.snapshot.paths[link.spec];
            let (hints, mirror) = (spec.board.hints(), spec.board.get(0));
            // Another lane found less: the same may be true here.
            if spec.board.mtu() < self.paths.mtu(path) && self.paths.mtu(path) > Some(pmtu::BASE) {
                self.paths.handle_mtu_hint(path, now);
            }
            if hints != link.hints {
                self.peers.saw_hints(path, hints);
                self.paths.handle(path, now, |life| life.handle_hint(now));
            }
            if link.sender.is_none() {
                self.paths.handle_mirror(path, mirror.unwrap_or(State::Unknown), now);
            }
        }
    }

    fn path_event(&mut self, event: PathEvent) {
        self.timers.changed = true;
        match event {
            PathEvent::State { path, cluster, gateway, from, to, reason, .. } => {
                let brief = to == State::Suspect || (from == State::Suspect && to == State::Up);
                if brief || self.index > 0 {
                    tracing::debug!(lane = self.index, %cluster, %gateway, %from, %to, %reason, "path changed");
                } else {
                    tracing::info!(%cluster, %gateway, %from, %to, %reason, "path changed");
                }
                self.post(path, to);
            }
            PathEvent::Hint { cluster, gateway } => {
                let Some(path) = self.paths.find(&cluster, &gateway) else { return };
                let Some(spec) = self.peers.link(path).map(|link| link.spec) else { return };
                let hints = self.peers.snapshot.paths[spec].board.hint();
                self.peers.saw_hints(path, hints);
                self.shared.announce();
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
                self.shared.announce();
            }
            PathEvent::Cluster { .. } => {}
        }
    }

    /// Shows a path's state to the other lanes.
    fn post(&self, path: PathIndex, state: State) {
        let Some(link) = self.peers.link(path).filter(|l| l.sender.is_some()) else { return };
        self.peers.snapshot.paths[link.spec].board.set(self.index, Some(state));
        self.post_mtu(path);
        self.shared.announce();
    }

    /// Shows what a path takes from here, while it is in use.
    fn post_mtu(&self, path: PathIndex) {
        let Some(link) = self.peers.link(path).filter(|l| l.sender.is_some()) else { return };
        let in_use = matches!(self.paths.state(path), Some(State::Up | State::Suspect | State::Held));
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
        self.timers.publish = now + PUBLISH;
        let mut paths = Vec::new();
        for (index, link) in self.peers.links() {
            let (Some(sender), Some(row)) = (link.sender, self.paths.path_row(index, now)) else { continue };
            let spec = &self.peers.snapshot.paths[link.spec];
            let (pair, at) = (&self.peers.pairs[sender], |ago| now.before(ago));
            let last_proof = row.proof.map(at);
            spec.board.set(self.index, Some(row.state));
            spec.board.prove(self.index, last_proof);
            self.post_mtu(index);
            paths.push(LanePath {
                key: spec.key.clone(),
                state: row.state,
                since: at(row.since),
                last_proof,
                last_heard: row.heard.map(at),
                endpoint: pair.endpoint,
                session_age: pair.session.age(),
                next_key: self.peers.next_key(index).map(|next| if carries(row.state) { next } else { NextKey::Dark }),
                row,
            });
        }
        let revision = self.peers.snapshot.revision;
        let clusters = self.paths.cluster_rows(now);
        self.shared.doors[self.index].publish(LaneStatus { revision, paths, clusters, at: now });
        if std::mem::take(&mut self.timers.changed) {
            self.shared.changed.notify_one();
        }
    }
}
