//! From configuration and path states to the forwarding snapshot: one bucket table per cluster, one more per preferred
//! prefix. Paths are counted by the caller: a path's index is its place in the list that the selector was made of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hawser_liveness::State;
use hawser_model::{ClusterId, NodeName, PrefixSet};
use ipnet::IpNet;

use crate::buckets::{self, Buckets, Choice};
use crate::forwarding::{Forwarding, PathIndex};
use crate::hash;
use crate::prefixes::{ClusterIndex, ClusterPrefixes, Prefixes, Skipped, Target};

/// A path as configured.
#[derive(Debug, Clone, Copy)]
pub struct PathSpec<'a> {
    /// Index of its cluster in the list of clusters.
    pub cluster: ClusterIndex,
    /// The remote gateway's node.
    pub gateway: &'a NodeName,
    /// Its share against the other paths of the cluster: what the gateway can carry, in lanes.
    pub weight: u16,
    /// CIDRs inside the cluster's prefixes that the gateway is nearest to.
    pub preferred: &'a [IpNet],
}

/// A path as it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathState {
    /// Its state.
    pub state: State,
    /// Whether its gateway asks to be left alone.
    pub draining: bool,
    /// Share of probes lost, 0 to 1: tells which of several held ones is the best.
    pub loss: f64,
    /// Smoothed round trip: the same.
    pub rtt: Option<Duration>,
}

impl PathState {
    /// What nothing is known of.
    pub const UNKNOWN: Self = Self { state: State::Unknown, draining: false, loss: 0.0, rtt: None };
}

#[derive(Debug, Clone)]
struct Member {
    cluster: ClusterIndex,
    key: u64,
    weight: u16,
}

/// Keeps the snapshot current. Made anew with each configuration, updated with each change of a path's state.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    members: Vec<Member>,
    clusters: usize,
    tables: Vec<Table>,
    states: Vec<PathState>,
    forwarding: Forwarding,
}

impl Selector {
    /// A selector for this configuration, every path unknown; and the prefixes that had to be left out. Paths beyond 65,534
    /// are left out as well.
    #[must_use]
    pub fn new(own: &PrefixSet, clusters: &[ClusterPrefixes<'_>], paths: &[PathSpec<'_>]) -> (Self, Vec<Skipped>) {
        let paths = &paths[..paths.len().min(usize::from(PathIndex::MAX) - 1)];
        let (mut prefixes, skipped) = Prefixes::new(own, clusters);
        let clusters = &clusters[..clusters.len().min(usize::from(ClusterIndex::MAX))];
        let tables = specify(&mut prefixes, clusters.len(), paths);
        let members = paths.iter().map(|p| Member {
            cluster: p.cluster,
            key: clusters.get(usize::from(p.cluster)).map_or(0, |c| path_key(c.id, p.gateway)),
            weight: p.weight,
        });
        let buckets = tables.iter().map(|table| table.buckets.clone()).collect();
        let this = Self {
            members: members.collect(),
            clusters: clusters.len(),
            states: vec![PathState::UNKNOWN; paths.len()],
            forwarding: Forwarding::new(Arc::new(prefixes), buckets),
            tables,
        };
        (this, skipped)
    }

    /// Takes the paths' states in, in the order of the configuration. Only tables of clusters with a changed path are
    /// looked at, and only those filled anew whose usable paths changed. True if any was.
    pub fn update(&mut self, states: &[PathState]) -> bool {
        let mut dirty = vec![false; self.clusters];
        for ((member, known), state) in self.members.iter().zip(&mut self.states).zip(states) {
            let differs = known.state != state.state || known.draining != state.draining;
            if let Some(dirty) = dirty.get_mut(usize::from(member.cluster)).filter(|_| differs) {
                *dirty = true;
            }
            *known = *state;
        }
        if !dirty.contains(&true) {
            return false;
        }
        let mut choices: Vec<Vec<Choice>> = vec![Vec::new(); self.clusters];
        for ((member, state), index) in self.members.iter().zip(&self.states).zip(0..) {
            if let Some(of) = choices.get_mut(usize::from(member.cluster)) {
                of.push(choice(index, member, state));
            }
        }
        let mut changed = false;
        for table in &mut self.tables {
            let cluster = usize::from(table.cluster);
            changed |= dirty[cluster] && table.fill(&choices[cluster]);
        }
        if changed {
            let buckets = self.tables.iter().map(|table| table.buckets.clone()).collect();
            self.forwarding = Forwarding::new(self.forwarding.prefixes().clone(), buckets);
        }
        changed
    }

    /// The snapshot to look packets up in.
    #[inline]
    #[must_use]
    pub fn forwarding(&self) -> &Forwarding {
        &self.forwarding
    }
}

/// A path's identity in rendezvous hashing: the same in every run and on every gateway of this cluster.
fn path_key(cluster: &ClusterId, gateway: &NodeName) -> u64 {
    hash::bytes(hash::bytes(0, cluster.as_str().as_bytes()), gateway.as_str().as_bytes())
}

fn choice(index: PathIndex, member: &Member, path: &PathState) -> Choice {
    Choice {
        index,
        key: member.key,
        weight: member.weight,
        state: path.state,
        draining: path.draining,
        loss: path.loss,
        rtt: path.rtt,
    }
}

/// A bucket table and which paths it spreads over, whatever their states.
#[derive(Debug, Clone)]
struct Table {
    /// The cluster whose paths serve where the nearest ones cannot.
    cluster: ClusterIndex,
    /// Groups of nearest paths, the best first; empty for a cluster's own table.
    nearest: Vec<Vec<PathIndex>>,
    /// What the buckets were filled with: the usable paths, and how many are configured.
    filled: (Vec<PathIndex>, usize),
    buckets: Arc<Buckets>,
}

impl Table {
    fn new(cluster: ClusterIndex, nearest: Vec<Vec<PathIndex>>) -> Self {
        Self { cluster, nearest, filled: (Vec::new(), 0), buckets: Arc::default() }
    }

    /// Fills the buckets from all of the cluster's paths. False where the same ones are usable as before.
    fn fill(&mut self, all: &[Choice]) -> bool {
        let (usable, configured) = self.usable(all);
        let filled = (usable.iter().map(|p| p.index).collect(), configured);
        if filled == self.filled {
            return false;
        }
        self.buckets = Arc::new(Buckets::new(&usable, configured));
        self.filled = filled;
        true
    }

    fn usable(&self, all: &[Choice]) -> (Vec<Choice>, usize) {
        for group in &self.nearest {
            let members: Vec<Choice> = all.iter().filter(|p| group.contains(&p.index)).copied().collect();
            let usable = buckets::usable_preferred(&members);
            if !usable.is_empty() {
                return (usable, members.len());
            }
        }
        (buckets::usable(all), all.len())
    }
}

/// Lists all tables, the clusters' own first, and gives each preferred prefix one in `prefixes`.
fn specify(prefixes: &mut Prefixes, clusters: usize, paths: &[PathSpec<'_>]) -> Vec<Table> {
    let mut tables: Vec<Table> =
        (0..ClusterIndex::MAX).take(clusters).map(|cluster| Table::new(cluster, Vec::new())).collect();
    let mut by_net: BTreeMap<(ClusterIndex, IpNet), Vec<PathIndex>> = BTreeMap::new();
    for (path, index) in paths.iter().zip(0..) {
        for net in path.preferred {
            by_net.entry((path.cluster, net.trunc())).or_default().push(index);
        }
    }
    for (cluster, net) in by_net.keys() {
        let Ok(table) = u16::try_from(tables.len()) else { break };
        if prefixes.refine(*net, Target { cluster: *cluster, table }) {
            // Wider preferences of the same cluster serve next, the narrowest of them first.
            let mut wider: Vec<_> = by_net.iter().filter(|((c, n), _)| c == cluster && n.contains(net)).collect();
            wider.sort_by_key(|((_, n), _)| std::cmp::Reverse(n.prefix_len()));
            tables.push(Table::new(*cluster, wider.into_iter().map(|(_, paths)| paths.clone()).collect()));
        }
    }
    tables
}
