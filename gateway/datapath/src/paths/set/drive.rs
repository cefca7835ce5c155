//! What a path set is told, and what it wants done.

use std::time::Duration;

use hawser_liveness::{Path, State, Time};

use super::PathSet;
use crate::forwarding::PathIndex;
use crate::paths::event::PathEvent;
use crate::probe::{Kind, Probe};

/// Paths that are judged in one call.
const JUDGED_AT_ONCE: usize = 32;

impl PathSet {
    /// Something happened to a path: `f` tells its liveness, and what follows from that follows.
    pub fn handle(&mut self, path: PathIndex, now: Time, f: impl FnOnce(&mut Path)) {
        if let Some(slot) = self.slot_mut(path) {
            f(&mut slot.life);
            self.follow(path, now);
        }
    }

    /// Whether a path's liveness knows of a session.
    #[must_use]
    pub fn has_session(&self, path: PathIndex) -> bool {
        self.slot(path).is_some_and(|slot| slot.life.has_session())
    }

    /// Inner packets arrived by a path from its peer, authenticated, at `now`: user traffic.
    pub fn handle_received(&mut self, path: PathIndex, packets: u64, bytes: u64, now: Time) {
        if let Some(slot) = self.slot_mut(path) {
            slot.counts.rx_packets += packets;
            slot.counts.rx_bytes += bytes;
            slot.life.handle_authenticated(now);
            let cluster = usize::from(slot.info.cluster_index);
            // What silence proves does not change; a path that was silent is probed sooner.
            if !slot.life.state().is_live() {
                self.rearm(path);
            }
            self.note_traffic(cluster, now);
        }
    }

    /// Inner packets went out by a path.
    pub fn handle_sent(&mut self, path: PathIndex, packets: u64, bytes: u64, now: Time) {
        if let Some(slot) = self.slot_mut(path) {
            slot.counts.tx_packets += packets;
            slot.counts.tx_bytes += bytes;
            let cluster = usize::from(slot.info.cluster_index);
            self.note_traffic(cluster, now);
        }
    }

    /// A probe arrived from the lane that `path` sends to, at `now`. Returns the answer, if it asks for one.
    /// Probes from a gateway's other lanes, which this lane only receives from, are answered by [`Self::answer`].
    pub fn handle_probe(&mut self, path: PathIndex, probe: &Probe, now: Time) -> Option<Probe> {
        let slot = self.slot_mut(path)?;
        slot.life.handle_drain(probe.draining || !probe.healthy, now);
        slot.counts.peer_rx_packets = Some(probe.rx_packets);
        match probe.kind {
            Kind::Ask => slot.life.handle_peer_probe(probe.seq, probe.echo, now),
            Kind::Answer => {
                slot.life.handle_probe_answer(probe.seq, now);
                slot.life.handle_echo(probe.echo, now);
            }
            Kind::SizeAsk => slot.life.handle_authenticated(now),
            Kind::SizeAnswer => {
                slot.life.handle_authenticated(now);
                self.resize(path, |size| size.handle_answer(probe.seq, now));
            }
        }
        self.follow(path, now);
        probe.kind.answer().map(|_| self.answer(Some(path), probe))
    }

    /// The answer to a probe that arrived by a path, or from a lane that this one does not send to.
    #[must_use]
    pub fn answer(&self, path: Option<PathIndex>, probe: &Probe) -> Probe {
        let slot = path.and_then(|path| self.slot(path));
        Probe {
            kind: probe.kind.answer().unwrap_or(Kind::Answer),
            seq: probe.seq,
            sent: probe.sent,
            // An answer's echo names a probe of its receiver: the one answered. Padded ones are numbered apart.
            echo: if probe.kind == Kind::Ask { probe.seq } else { 0 },
            draining: self.draining,
            healthy: self.healthy,
            rx_packets: slot.map_or(0, |s| s.counts.rx_packets),
        }
    }

    /// Lane 0 says how a plain peer stands, of which this lane has no session.
    pub fn handle_mirror(&mut self, path: PathIndex, state: State, now: Time) {
        let Some(slot) = self.slot_mut(path) else { return };
        let Some((before, _)) = slot.mirror.filter(|(before, _)| *before != state) else { return };
        slot.mirror = Some((state, now));
        let (info, reason) = (slot.info.clone(), slot.reason());
        let (cluster, gateway) = (info.cluster, info.gateway);
        self.emit(PathEvent::State { path, cluster, gateway, from: before, to: state, reason, at: now });
        self.mark_stale(path);
        self.judge(usize::from(info.cluster_index), now);
    }

    /// The lane's own loop was late by `lag`.
    pub fn handle_lag(&mut self, now: Time, lag: Duration) {
        if lag > self.cfg.liveness.interval / 2 {
            for slot in &mut self.slots {
                slot.life.handle_lag(now, lag);
                slot.size.handle_lag(now);
            }
        }
    }

    /// Judges what is due at `now`: so many paths at once that packets can wait for it. [`Self::poll_timeout`] tells of the
    /// rest.
    pub fn handle_timeout(&mut self, now: Time) {
        for _ in 0..JUDGED_AT_ONCE {
            let Some((at, path)) = self.timers.pop(now) else { return };
            let Some(slot) = self.slot_mut(path).filter(|s| s.armed == Some(at)) else { continue };
            slot.armed = None;
            slot.life.handle_timeout(now);
            self.pace(path, now);
            self.probing.push_back(path);
            self.follow_events(path, now);
            self.judge_size(path, now);
        }
    }

    /// A probe to send now and the path to send it by, to [`PathInfo::remote_key`].
    pub fn poll_probe(&mut self, now: Time) -> Option<(PathIndex, Probe)> {
        while let Some(&path) = self.probing.front() {
            let (draining, healthy) = (self.draining, self.healthy);
            let budgets = &mut self.budgets;
            let probe = self.slots.get_mut(usize::from(path)).and_then(|slot| {
                let seq = slot.poll_probe(budgets, now)?;
                let (echo, rx_packets) = (slot.life.echo(), slot.counts.rx_packets);
                Some(Probe { kind: Kind::Ask, seq, sent: now, echo, draining, healthy, rx_packets })
            });
            if let Some(probe) = probe {
                return Some((path, probe));
            }
            self.probing.pop_front();
            self.rearm(path);
        }
        None
    }

    /// When [`Self::handle_timeout`] has something to do next, and what.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        self.timers.next()
    }

    /// What happened since the last call, oldest first.
    pub fn poll_event(&mut self) -> Option<PathEvent> {
        self.events.pop_front()
    }
}
