//! The set of a lane's paths.

use std::collections::VecDeque;
use std::time::Duration;

use hawser_liveness::{ClusterState, Config, Event, Pace, Path, Reason, State, Time};
use hawser_model::{ClusterId, Gateway, NodeName, PrefixSet, RemoteCluster};

use crate::forwarding::{Forwarding, PathIndex};
use crate::paths::event::PathEvent;
use crate::paths::report::{self, ClusterRow, PathRow};
use crate::paths::slot::{PathInfo, Slot};
use crate::paths::timers::Timers;
use crate::prefixes::{ClusterIndex, ClusterPrefixes, Skipped};
use crate::probe::{Kind, Probe};
use crate::selector::{PathState, Selector};

/// Events kept for a caller that does not poll; the oldest go first.
const MAX_EVENTS: usize = 4096;
/// A cluster without traffic for this long is probed at the idle pace.
const IDLE_AFTER: Duration = Duration::from_secs(10);
/// Traffic is noted at this grain.
const TRAFFIC_GRAIN: Duration = Duration::from_secs(1);

/// How a lane's set is made; fixed for its life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathConfig {
    /// This lane.
    pub lane: u8,
    /// Numbers of liveness; the mode is set per path.
    pub liveness: Config,
}

#[derive(Debug, Clone)]
struct Cluster {
    id: ClusterId,
    generation: u64,
    paths: Vec<PathIndex>,
    state: ClusterState,
    since: Time,
    last_traffic: Time,
    idle: bool,
    /// When flows last left a dead path, and how long that took.
    last_failover: Option<(Time, Duration)>,
}

/// All paths of one lane.
///
/// In the lane's loop: arrivals first (`handle_*`), then [`Self::handle_timeout`], then [`Self::poll_probe`] and
/// [`Self::poll_event`] until they return nothing, then packets by [`Self::forwarding`]; sleep until
/// [`Self::poll_timeout`] at most.
#[derive(Debug, Clone)]
pub struct PathSet {
    cfg: PathConfig,
    draining: bool,
    healthy: bool,
    clusters: Vec<Cluster>,
    /// In the order of the configuration.
    slots: Vec<Slot>,
    selector: Selector,
    /// A path's state changed since the selector was told.
    stale: bool,
    timers: Timers,
    probing: VecDeque<PathIndex>,
    events: VecDeque<PathEvent>,
}

impl PathSet {
    /// A set without paths.
    #[must_use]
    pub fn new(cfg: PathConfig) -> Self {
        Self {
            cfg,
            draining: false,
            healthy: true,
            clusters: Vec::new(),
            slots: Vec::new(),
            selector: Selector::default(),
            stale: false,
            timers: Timers::default(),
            probing: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Makes the set that of these clusters, this cluster's prefixes being `own`. Paths are numbered anew, in order; those
    /// that stay keep their life. One whose generation, remote lane or its key changed starts a new one. Returns the
    /// prefixes that had to be left out.
    pub fn apply(&mut self, own: &PrefixSet, clusters: &[RemoteCluster], now: Time) -> Vec<Skipped> {
        let clusters = &clusters[..clusters.len().min(usize::from(ClusterIndex::MAX))];
        let mut old = std::mem::take(&mut self.slots);
        let known = std::mem::take(&mut self.clusters);
        for (cluster_index, cluster) in (0..ClusterIndex::MAX).zip(clusters) {
            let first = self.slots.len();
            for gateway in &cluster.gateways {
                let Some(info) = self.info(cluster_index, cluster, gateway) else { continue };
                let twice = self.slots[first..].iter().any(|slot| slot.info.gateway == info.gateway);
                if twice || self.slots.len() >= usize::from(PathIndex::MAX) - 1 {
                    continue;
                }
                let slot = match old.iter().position(|slot| same_session(&slot.info, &info)) {
                    Some(place) => Slot { info, armed: None, ..old.swap_remove(place) },
                    None => Slot::new(info, self.cfg.liveness, now),
                };
                self.slots.push(slot.with(gateway));
            }
            let paths = (0..PathIndex::MAX).take(self.slots.len()).skip(first).collect();
            let known = known.iter().find(|c| c.id == cluster.id && c.generation == cluster.generation);
            let of = known.map_or_else(|| Cluster::new(cluster, now), Clone::clone);
            self.clusters.push(Cluster { paths, ..of });
        }
        self.timers = Timers::default();
        self.probing.clear();
        (0..self.slots.len()).for_each(|slot| self.rearm(slot as PathIndex));
        (0..self.clusters.len()).for_each(|cluster| self.judge(cluster, now));
        self.select(own, clusters)
    }

    fn select(&mut self, own: &PrefixSet, clusters: &[RemoteCluster]) -> Vec<Skipped> {
        let parts: Vec<_> = clusters.iter().map(|c| ClusterPrefixes { id: &c.id, prefixes: &c.prefixes }).collect();
        let paths: Vec<_> = self.slots.iter().map(Slot::spec).collect();
        let (selector, skipped) = Selector::new(own, &parts, &paths);
        self.selector = selector;
        self.stale = true;
        skipped
    }

    /// Who a gateway's path leads to from this lane; nothing where the gateway has no lanes.
    fn info(&self, cluster_index: ClusterIndex, cluster: &RemoteCluster, gateway: &Gateway) -> Option<PathInfo> {
        let lanes = u8::try_from(gateway.lanes.len()).unwrap_or(u8::MAX);
        let remote_lane = if gateway.probes { self.cfg.lane.checked_rem(lanes)? } else { 0 };
        Some(PathInfo {
            cluster: cluster.id.clone(),
            generation: cluster.generation,
            cluster_index,
            gateway: gateway.node.clone(),
            remote_lane,
            remote_key: gateway.lanes.get(usize::from(remote_lane))?.public_key,
            probes: gateway.probes,
            hand_over: !gateway.probes && self.cfg.lane != 0,
        })
    }

    fn slot(&self, path: PathIndex) -> Option<&Slot> {
        self.slots.get(usize::from(path))
    }

    fn slot_mut(&mut self, path: PathIndex) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(path))
    }

    /// Who a path leads to.
    #[must_use]
    pub fn info_of(&self, path: PathIndex) -> Option<&PathInfo> {
        self.slot(path).map(|slot| &slot.info)
    }

    /// All paths.
    pub fn paths(&self) -> impl Iterator<Item = (PathIndex, &PathInfo)> {
        (0..PathIndex::MAX).zip(self.slots.iter().map(|slot| &slot.info))
    }

    /// The path to a gateway.
    #[must_use]
    pub fn find(&self, cluster: &ClusterId, gateway: &NodeName) -> Option<PathIndex> {
        self.paths().find(|(_, info)| info.cluster == *cluster && info.gateway == *gateway).map(|(index, _)| index)
    }

    /// How a path stands.
    #[must_use]
    pub fn state(&self, path: PathIndex) -> Option<State> {
        self.slot(path).map(Slot::state)
    }

    /// Since when a path stands so.
    #[must_use]
    pub fn since(&self, path: PathIndex) -> Option<Time> {
        self.slot(path).map(Slot::since)
    }

    /// The row of one path.
    #[must_use]
    pub fn path_row(&self, path: PathIndex, now: Time) -> Option<PathRow> {
        self.slot(path).map(|slot| slot.row(now))
    }

    /// Whether a cluster has not answered yet, but has been configured for less than `patience`.
    #[must_use]
    pub fn is_new(&self, cluster: ClusterIndex, patience: Duration, now: Time) -> bool {
        let cluster = self.clusters.get(usize::from(cluster));
        cluster.is_some_and(|c| c.state == ClusterState::Unknown && now.since(c.since) < patience)
    }

    /// What probes say about this gateway from now on: that it drains, that it can deliver.
    pub fn set_own(&mut self, draining: bool, healthy: bool) {
        self.draining = draining;
        self.healthy = healthy;
    }

    /// Something happened to a path: `f` tells its liveness, and what follows from that follows.
    pub fn handle(&mut self, path: PathIndex, now: Time, f: impl FnOnce(&mut Path)) {
        if let Some(slot) = self.slot_mut(path) {
            f(&mut slot.life);
            self.follow(path, now);
        }
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
        slot.life.handle_drain(probe.draining || !probe.healthy);
        slot.counts.peer_rx_packets = Some(probe.rx_packets);
        match probe.kind {
            Kind::Ask => slot.life.handle_peer_probe(probe.seq, probe.echo, now),
            Kind::Answer => {
                slot.life.handle_probe_answer(probe.seq, now);
                slot.life.handle_echo(probe.echo, now);
            }
        }
        self.follow(path, now);
        (probe.kind == Kind::Ask).then(|| self.answer(Some(path), probe))
    }

    /// The answer to a probe that arrived by a path, or from a lane that this one does not send to.
    #[must_use]
    pub fn answer(&self, path: Option<PathIndex>, probe: &Probe) -> Probe {
        let slot = path.and_then(|path| self.slot(path));
        Probe {
            kind: Kind::Answer,
            seq: probe.seq,
            sent: probe.sent,
            // An answer's echo names a probe of its receiver: the one answered.
            echo: probe.seq,
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
        self.stale = true;
        self.judge(usize::from(info.cluster_index), now);
    }

    /// The lane's own loop was late by `lag`.
    pub fn handle_lag(&mut self, now: Time, lag: Duration) {
        if lag > self.cfg.liveness.interval / 2 {
            self.slots.iter_mut().for_each(|slot| slot.life.handle_lag(now, lag));
        }
    }

    /// Judges what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some((at, path)) = self.timers.pop(now) {
            let Some(slot) = self.slot_mut(path).filter(|s| s.armed == Some(at)) else { continue };
            slot.armed = None;
            slot.life.handle_timeout(now);
            self.pace(path, now);
            self.probing.push_back(path);
            self.follow_events(path, now);
        }
    }

    /// A probe to send now and the path to send it by, to [`PathInfo::remote_key`].
    pub fn poll_probe(&mut self, now: Time) -> Option<(PathIndex, Probe)> {
        while let Some(&path) = self.probing.front() {
            let (draining, healthy) = (self.draining, self.healthy);
            let probe = self.slot_mut(path).and_then(|slot| {
                let seq = slot.life.poll_probe(now)?;
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

    /// The snapshot to look packets up in, current as of `now`.
    pub fn forwarding(&mut self, now: Time) -> &Forwarding {
        if std::mem::take(&mut self.stale) {
            let states: Vec<PathState> = self.slots.iter().map(|slot| slot.path_state(now)).collect();
            self.selector.update(&states);
        }
        self.selector.forwarding()
    }

    /// The clusters with their generations and states, as configured.
    pub fn cluster_states(&self) -> impl Iterator<Item = (&ClusterId, u64, ClusterState)> {
        self.clusters.iter().map(|c| (&c.id, c.generation, c.state))
    }

    /// Rows for clusters.
    #[must_use]
    pub fn cluster_rows(&self, now: Time) -> Vec<ClusterRow> {
        self.clusters.iter().map(|cluster| self.cluster_row(cluster, now)).collect()
    }

    /// Rows for paths.
    #[must_use]
    pub fn path_rows(&self, now: Time) -> Vec<PathRow> {
        self.slots.iter().map(|slot| slot.row(now)).collect()
    }

    fn cluster_row(&self, cluster: &Cluster, now: Time) -> ClusterRow {
        let slots: Vec<&Slot> = cluster.paths.iter().filter_map(|&p| self.slot(p)).collect();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (live, total) = (count(slots.iter().filter(|s| s.state().is_live()).count()), count(slots.len()));
        let worst = slots.iter().filter(|s| !s.state().is_live()).max_by_key(|s| s.since());
        ClusterRow {
            cluster: cluster.id.clone(),
            generation: cluster.generation,
            state: cluster.state,
            since: now.since(cluster.since),
            reason: report::reason(cluster.state, live, total, worst.map(|s| (&s.info.gateway, s.reason()))),
            live_paths: live,
            total_paths: total,
            last_failover: cluster.last_failover.map(|(at, took)| (now.since(at), took)),
        }
    }

    /// Takes in what a path's liveness has to say after it was told something.
    fn follow(&mut self, path: PathIndex, now: Time) {
        self.follow_events(path, now);
        self.rearm(path);
    }

    fn rearm(&mut self, path: PathIndex) {
        if let Some(slot) = self.slots.get_mut(usize::from(path)) {
            self.timers.arm(path, &mut slot.armed, slot.life.poll_timeout());
        }
    }

    fn follow_events(&mut self, path: PathIndex, now: Time) {
        while let Some((event, info)) =
            self.slot_mut(path).and_then(|slot| slot.life.poll_event().map(|event| (event, slot.info.clone())))
        {
            self.stale = true;
            let (cluster, gateway) = (info.cluster, info.gateway);
            match event {
                Event::PeerDraining(draining) => self.emit(PathEvent::Draining { cluster, gateway, draining }),
                Event::State { from, to, reason, at, last_proof } => {
                    let index = usize::from(info.cluster_index);
                    let (id, node) = (cluster.clone(), gateway.clone());
                    self.emit(PathEvent::State { path, cluster, gateway, from, to, reason, at });
                    if self.concerns_other_lanes(to, reason) {
                        self.emit(PathEvent::Hint { cluster: id.clone(), gateway: node.clone() });
                    }
                    if from.is_live() && to == State::Down {
                        self.note_failover(index, (id, node), at, last_proof);
                    }
                    self.judge(index, now);
                }
            }
        }
    }

    /// Whether the other lanes should have a look at their paths to the same gateway. Of mere suspicions, only lane 0's
    /// count: on a lossy path the lanes would keep each other suspicious otherwise.
    fn concerns_other_lanes(&self, to: State, reason: Reason) -> bool {
        match (to, reason) {
            (State::Suspect, Reason::AnswerMissed) => self.cfg.lane == 0,
            (State::Down, Reason::Silent | Reason::OneWay | Reason::Refused) => true,
            _ => false,
        }
    }

    /// Records that flows left a dead path, if there was another to go to.
    fn note_failover(&mut self, index: usize, of: (ClusterId, NodeName), at: Time, last_proof: Option<Time>) {
        let Some(cluster) = self.clusters.get(index) else { return };
        let others = cluster.paths.iter().any(|&p| self.state(p).is_some_and(State::is_live));
        if let Some(proof) = last_proof.filter(|_| others) {
            let took = at.since(proof);
            self.clusters[index].last_failover = Some((at, took));
            self.emit(PathEvent::Failover { cluster: of.0, gateway: of.1, at, took });
        }
    }

    /// Derives a cluster's state from its paths'.
    fn judge(&mut self, index: usize, now: Time) {
        let Some(cluster) = self.clusters.get(index) else { return };
        let to = ClusterState::of_paths(cluster.paths.iter().filter_map(|&p| self.state(p)));
        let from = cluster.state;
        if from != to {
            let cluster = &mut self.clusters[index];
            (cluster.state, cluster.since) = (to, now);
            let id = cluster.id.clone();
            self.emit(PathEvent::Cluster { cluster: id, from, to, at: now });
        }
    }

    /// Any traffic of a cluster keeps all its paths at the normal pace: they are where its flows would go.
    fn note_traffic(&mut self, index: usize, now: Time) {
        let Some(cluster) = self.clusters.get_mut(index) else { return };
        if now.since(cluster.last_traffic) < TRAFFIC_GRAIN {
            return;
        }
        cluster.last_traffic = now;
        if std::mem::take(&mut cluster.idle) {
            for path in cluster.paths.clone() {
                self.handle(path, now, |life| life.set_pace(Pace::Normal));
            }
        }
    }

    /// Slows the probes of a path whose cluster has gone idle.
    fn pace(&mut self, path: PathIndex, now: Time) {
        let Some(slot) = self.slots.get_mut(usize::from(path)) else { return };
        let Some(cluster) = self.clusters.get_mut(usize::from(slot.info.cluster_index)) else { return };
        if now.since(cluster.last_traffic) > IDLE_AFTER {
            cluster.idle = true;
            slot.life.set_pace(Pace::Idle);
        }
    }

    fn emit(&mut self, event: PathEvent) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

impl Cluster {
    fn new(cluster: &RemoteCluster, now: Time) -> Self {
        Self {
            id: cluster.id.clone(),
            generation: cluster.generation,
            paths: Vec::new(),
            state: ClusterState::Unknown,
            since: now,
            last_traffic: now,
            idle: false,
            last_failover: None,
        }
    }
}

/// Whether two descriptions are of one path with one session.
fn same_session(a: &PathInfo, b: &PathInfo) -> bool {
    (&a.cluster, a.generation, &a.gateway, a.remote_lane, a.remote_key, a.probes)
        == (&b.cluster, b.generation, &b.gateway, b.remote_lane, b.remote_key, b.probes)
}
