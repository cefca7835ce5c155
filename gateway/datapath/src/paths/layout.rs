//! What a path set becomes with another configuration, as far as that can be worked out without the lane's thread: tables,
//! rows, new lives. [`PathSet::exchange`](super::PathSet::exchange) only swaps it in.

use std::sync::Arc;

use hawser_liveness::{Config, Mode, Time};
use hawser_model::{Gateway, PrefixSet, RemoteCluster};

use crate::forwarding::PathIndex;
use crate::paths::places::{Places, path_hash};
use crate::paths::set::{Cluster, PathConfig};
use crate::paths::slot::{BoxedSlot, PathInfo, Slot};
use crate::paths::timers::Timers;
use crate::prefixes::{ClusterIndex, ClusterPrefixes, Prefixes, Skipped};
use crate::selector::{PathSpec, Selector};

/// A configuration laid out, the same for all lanes of a gateway.
#[derive(Debug, Clone)]
pub struct Layout<'a> {
    clusters: &'a [RemoteCluster],
    /// The gateways that get paths: index of their cluster, and their place in it.
    gateways: Vec<(ClusterIndex, usize)>,
    selector: Selector,
    skipped: Vec<Skipped>,
}

/// A [`Layout`] as one lane takes it over.
#[derive(Debug)]
pub struct LanePaths {
    /// As if all were new, in the order of the configuration.
    pub(super) slots: Vec<BoxedSlot>,
    /// Theirs, in the same order,
    pub(super) hashes: Vec<u64>,
    /// and which slots have them.
    pub(super) places: Places,
    /// As if all were new.
    pub(super) clusters: Vec<Cluster>,
    pub(super) selector: Selector,
    /// As if all were new.
    pub(super) timers: Timers,
}

impl LanePaths {
    /// The paths as they will be numbered.
    pub fn paths(&self) -> impl Iterator<Item = (PathIndex, &PathInfo)> {
        (0..PathIndex::MAX).zip(self.slots.iter().map(|slot| &slot.info))
    }
}

/// What came of taking a [`LanePaths`] over.
#[derive(Debug)]
pub struct Exchanged {
    /// Paths that stay: those of new ones stand as new ones do.
    pub kept: Vec<PathIndex>,
    /// What was given up.
    pub leftovers: Leftovers,
}

/// What a set gave up for another configuration. To drop it takes a while: best done by another thread.
#[derive(Debug)]
#[expect(dead_code, reason = "kept only to be dropped elsewhere")]
pub struct Leftovers {
    pub(super) slots: Vec<BoxedSlot>,
    pub(super) clusters: Vec<Cluster>,
    pub(super) selector: Selector,
    pub(super) timers: Timers,
    pub(super) places: Places,
}

impl<'a> Layout<'a> {
    /// Lays out these clusters, this cluster's prefixes being `own`.
    #[must_use]
    pub fn new(own: &PrefixSet, clusters: &'a [RemoteCluster]) -> Self {
        let clusters = &clusters[..clusters.len().min(usize::from(ClusterIndex::MAX))];
        let mut gateways = Vec::new();
        for (index, cluster) in (0..ClusterIndex::MAX).zip(clusters) {
            for (place, gateway) in cluster.gateways.iter().enumerate() {
                let twice = cluster.gateways[..place].iter().any(|g| g.node == gateway.node && !g.lanes.is_empty());
                if !twice && !gateway.lanes.is_empty() && gateways.len() < usize::from(PathIndex::MAX) - 1 {
                    gateways.push((index, place));
                }
            }
        }
        let parts: Vec<_> = clusters.iter().map(|c| ClusterPrefixes { id: &c.id, prefixes: &c.prefixes }).collect();
        let spec = |&(index, place): &(ClusterIndex, usize)| {
            let gateway = &clusters[usize::from(index)].gateways[place];
            let weight = weight(gateway);
            PathSpec { cluster: index, gateway: &gateway.node, weight, preferred: &gateway.preferred }
        };
        let (selector, skipped) = Selector::new(own, &parts, &gateways.iter().map(spec).collect::<Vec<_>>());
        Self { clusters, gateways, selector, skipped }
    }

    /// The prefixes that had to be left out.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The prefixes that are in.
    #[must_use]
    pub fn prefixes(&self) -> &Arc<Prefixes> {
        self.selector.forwarding().prefixes()
    }

    /// It as the lane of `cfg` takes it over, soon after `now`. `max_mtu` tells the largest inner packet, bytes, that the first
    /// link to a gateway takes: by its cluster's place in the configuration, and its own.
    #[must_use]
    pub fn of_lane(&self, cfg: &PathConfig, max_mtu: impl Fn(usize, usize) -> u16, now: Time) -> LanePaths {
        let mut clusters: Vec<Cluster> = self.clusters.iter().map(|cluster| Cluster::new(cluster, now)).collect();
        let mut slots = Vec::with_capacity(self.gateways.len());
        let numbers = |mode| Arc::new(Config { mode, ..cfg.liveness.among(self.gateways.len()) });
        let (probed, plain) = (numbers(Mode::ProbesInSession), numbers(Mode::SessionOnly));
        let mut timers = Timers::default();
        for (path, &(index, place)) in (0..PathIndex::MAX).zip(&self.gateways) {
            let cluster = &self.clusters[usize::from(index)];
            let gateway = &cluster.gateways[place];
            clusters[usize::from(index)].paths.push(path);
            let liveness = Arc::clone(if gateway.probes { &probed } else { &plain });
            let mut slot = Slot::new(info(cfg.lane, index, cluster, gateway), liveness, now).with(gateway);
            if !slot.info.hand_over {
                slot.size.set_max(max_mtu(usize::from(index), place), now);
            }
            slot.arm(path, &mut timers);
            slots.push(Box::new(slot));
        }
        let hashes: Vec<u64> = slots.iter().map(|slot| path_hash(&slot.info)).collect();
        let places = Places::new(hashes.iter().copied());
        LanePaths { slots, hashes, places, clusters, selector: self.selector.detached(), timers }
    }
}

/// Who a gateway's path leads to from a lane.
fn info(lane: u8, cluster_index: ClusterIndex, cluster: &RemoteCluster, gateway: &Gateway) -> PathInfo {
    // Gateways without lanes have no paths.
    let lanes = u8::try_from(gateway.lanes.len()).unwrap_or(u8::MAX).max(1);
    let remote_lane = if gateway.probes { lane % lanes } else { 0 };
    let remote = &gateway.lanes[usize::from(remote_lane)];
    PathInfo {
        cluster: cluster.id.clone(),
        generation: cluster.generation,
        cluster_index,
        gateway: gateway.node.clone(),
        remote_lane,
        remote_key: remote.public_key,
        remote_next_key: remote.next_public_key,
        probes: gateway.probes,
        hand_over: !gateway.probes && lane != 0,
    }
}

/// A gateway's share is what it can carry: its lanes.
pub(super) fn weight(gateway: &Gateway) -> u16 {
    u16::try_from(gateway.lanes.len()).unwrap_or(u16::MAX).max(1)
}
