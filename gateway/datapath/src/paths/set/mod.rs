//! The set of a lane's paths: what can be asked of it. `change` takes over configurations, `drive` is what it is told and
//! wants done, `follow` what follows from that; `sizes` is about the paths' MTUs.

mod change;
mod drive;
mod follow;
mod sizes;

use std::collections::VecDeque;
use std::time::Duration;

use hawser_liveness::{ClusterState, Config, State, Time};
use hawser_model::{ClusterId, NodeName, RemoteCluster};

use crate::forwarding::{Forwarding, PathIndex};
use crate::paths::budget::Budgets;
use crate::paths::event::PathEvent;
use crate::paths::places::cluster_hash;
use crate::paths::report::{ClusterRow, PathRow};
use crate::paths::slot::{BoxedSlot, PathInfo, Slot};
use crate::paths::timers::Timers;
use crate::prefixes::ClusterIndex;
use crate::selector::{PathState, Selector};

/// How a lane's set is made; fixed for its life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathConfig {
    /// This lane.
    pub lane: u8,
    /// Numbers of liveness; the mode is set per path.
    pub liveness: Config,
}

#[derive(Debug, Clone)]
pub(in crate::paths) struct Cluster {
    id: ClusterId,
    generation: u64,
    /// Finds it when the configuration changes.
    hash: u64,
    pub(in crate::paths) paths: Vec<PathIndex>,
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
    slots: Vec<BoxedSlot>,
    /// Theirs: by these they are found when the configuration changes.
    hashes: Vec<u64>,
    selector: Selector,
    /// Paths whose state changed since the selector was told.
    stale: Vec<PathIndex>,
    timers: Timers,
    budgets: Budgets,
    probing: VecDeque<PathIndex>,
    sizing: VecDeque<PathIndex>,
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
            hashes: Vec::new(),
            selector: Selector::default(),
            stale: Vec::new(),
            timers: Timers::default(),
            budgets: Budgets::default(),
            probing: VecDeque::new(),
            sizing: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    fn slot(&self, path: PathIndex) -> Option<&Slot> {
        self.slots.get(usize::from(path)).map(Box::as_ref)
    }

    fn slot_mut(&mut self, path: PathIndex) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(path)).map(Box::as_mut)
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

    /// When both directions of a path were last proven.
    #[must_use]
    pub fn last_proof(&self, path: PathIndex) -> Option<Time> {
        self.slot(path).and_then(|slot| slot.life.last_proof())
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

    /// The snapshot to look packets up in, current as of `now`.
    pub fn forwarding(&mut self, now: Time) -> &Forwarding {
        if !self.stale.is_empty() {
            self.refresh(now);
        }
        self.selector.forwarding()
    }

    /// Tells the selector how things stand.
    fn refresh(&mut self, now: Time) {
        let Self { slots, stale, selector, .. } = self;
        for &path in &*stale {
            if let Some(slot) = slots.get_mut(usize::from(path)) {
                slot.stale = false;
            }
        }
        let state = |p: PathIndex| slots.get(usize::from(p)).map_or(PathState::UNKNOWN, |slot| slot.path_state(now));
        selector.update(stale.drain(..), state);
    }

    /// The clusters with their generations and states, as configured.
    pub fn cluster_states(&self) -> impl Iterator<Item = (&ClusterId, u64, ClusterState)> {
        self.clusters.iter().map(|c| (&c.id, c.generation, c.state))
    }

    /// How many clusters there are: rows of [`Self::cluster_rows`].
    #[must_use]
    pub fn clusters(&self) -> usize {
        self.clusters.len()
    }

    /// Rows for clusters.
    pub fn cluster_rows(&self, now: Time) -> impl Iterator<Item = ClusterRow> {
        self.clusters.iter().map(move |cluster| self.cluster_row(cluster, now))
    }

    /// Rows for paths.
    #[must_use]
    pub fn path_rows(&self, now: Time) -> Vec<PathRow> {
        self.slots.iter().map(|slot| slot.row(now)).collect()
    }

    fn cluster_row(&self, cluster: &Cluster, now: Time) -> ClusterRow {
        let slots = || cluster.paths.iter().filter_map(|&p| self.slot(p));
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let worst = slots().filter(|s| !s.state().is_live()).max_by_key(|s| s.since());
        ClusterRow {
            cluster: cluster.id.clone(),
            generation: cluster.generation,
            state: cluster.state,
            since: now.since(cluster.since),
            live_paths: count(slots().filter(|s| s.state().is_live()).count()),
            total_paths: count(slots().count()),
            worst: worst.map(|s| (s.info.gateway.clone(), s.reason())),
            last_failover: cluster.last_failover.map(|(at, took)| (now.since(at), took)),
        }
    }
}

impl Cluster {
    pub(in crate::paths) fn new(cluster: &RemoteCluster, now: Time) -> Self {
        Self {
            hash: cluster_hash(cluster.id.as_str(), cluster.generation),
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
