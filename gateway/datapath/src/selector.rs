//! From configuration and path states to the forwarding snapshot: one bucket table per cluster, one more per preferred
//! prefix. Paths are counted by the caller: a path's index is its place in the list that the selector was made of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hawser_liveness::State;
use hawser_model::{ClusterId, NodeName, PrefixSet};
use ipnet::IpNet;

use crate::buckets::{self, Buckets, Choice};
use crate::forwarding::{Forwarding, PathIndex, Spread};
use crate::hash;
use crate::paths::places::Places;
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

#[derive(Debug, Clone, Copy)]
struct Member {
    cluster: ClusterIndex,
    key: u64,
    weight: u16,
}

/// Keeps the snapshot current. Made anew with each configuration, updated with each change of a path's state.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    members: Vec<Member>,
    /// Each cluster's paths.
    clusters: Vec<Arc<[PathIndex]>>,
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
        let mut of: Vec<Vec<PathIndex>> = vec![Vec::new(); clusters.len()];
        for (path, index) in paths.iter().zip(0..) {
            if let Some(of) = of.get_mut(usize::from(path.cluster)) {
                of.push(index);
            }
        }
        let members = paths.iter().map(|p| Member {
            cluster: p.cluster,
            key: clusters.get(usize::from(p.cluster)).map_or(0, |c| path_key(c.id, p.gateway)),
            weight: p.weight,
        });
        let mut this = Self {
            members: members.collect(),
            tables: specify(&mut prefixes, &of, paths),
            clusters: of.into_iter().map(Arc::from).collect(),
            states: vec![PathState::UNKNOWN; paths.len()],
            forwarding: Forwarding::default(),
        };
        for at in 0..this.tables.len() {
            this.tables[at].hash = this.identity(&this.tables[at]);
        }
        let spread = |table: &Table| Spread {
            buckets: Arc::default(),
            paths: Arc::clone(&this.clusters[usize::from(table.cluster)]),
        };
        this.forwarding = Forwarding::new(Arc::new(prefixes), this.tables.iter().map(spread).collect());
        (this, skipped)
    }

    /// Takes in that some paths may stand otherwise than before. Only their clusters are looked at, and only those tables
    /// filled anew whose usable paths changed. True if any was.
    pub fn update(
        &mut self,
        changed: impl IntoIterator<Item = PathIndex>,
        state: impl Fn(PathIndex) -> PathState,
    ) -> bool {
        let members = changed.into_iter().filter_map(|path| self.members.get(usize::from(path)));
        let mut clusters: Vec<usize> = members.map(|member| usize::from(member.cluster)).collect();
        clusters.sort_unstable();
        clusters.dedup();
        clusters.retain(|&cluster| self.learn(cluster, &state));
        let (mut choices, mut filled) = (Vec::new(), false);
        // Each cluster's own table is at its number; those of preferred prefixes follow all of them.
        let nearest = self.clusters.len()..self.tables.len();
        for at in clusters.iter().copied().chain(nearest) {
            let Some(table) = self.tables.get_mut(at) else { continue };
            let cluster = usize::from(table.cluster);
            if clusters.binary_search(&cluster).is_ok() {
                choices.clear();
                let of = self.clusters[cluster].iter().map(|p| usize::from(*p)).zip(0..);
                choices.extend(of.map(|(path, place)| choice(place, self.members[path], &self.states[path])));
                if let Some(buckets) = table.fill(&choices) {
                    self.forwarding.set(at, Arc::new(buckets));
                    filled = true;
                }
            }
        }
        filled
    }

    /// Looks at all paths of a cluster; whether one may be used otherwise than before.
    fn learn(&mut self, cluster: usize, state: impl Fn(PathIndex) -> PathState) -> bool {
        let mut differs = false;
        for &path in self.clusters.get(cluster).iter().flat_map(|paths| paths.iter()) {
            let (known, state) = (&mut self.states[usize::from(path)], state(path));
            differs |= known.state != state.state || known.draining != state.draining;
            *known = state;
        }
        differs
    }

    /// A copy that shares nothing that its updates would have to copy.
    pub(crate) fn detached(&self) -> Self {
        let mut this = self.clone();
        this.forwarding.detach();
        this
    }

    /// Takes over what `old` filled, where the same paths are to choose from: nothing is filled anew for paths that only have
    /// other indexes. To be told the states before it is used.
    pub(crate) fn adopt(&mut self, old: &Self) {
        let places = Places::new(old.tables.iter().map(|table| table.hash));
        for at in 0..self.tables.len() {
            let same = |place: &usize| self.spreads_as(at, old, *place);
            let Some(place) = places.find(self.tables[at].hash).find(same) else { continue };
            self.tables[at].filled = old.tables[place].filled.clone();
            if let Some(buckets) = old.forwarding.buckets(place) {
                self.forwarding.set(at, Arc::clone(buckets));
            }
        }
    }

    /// Whether one of our tables chooses from the same paths as one of `old`'s, whatever their indexes.
    fn spreads_as(&self, at: usize, old: &Self, place: usize) -> bool {
        let (table, other) = (&self.tables[at], &old.tables[place]);
        other.nearest == table.nearest && self.members_of(table).eq(old.members_of(other))
    }

    /// The paths that a table may choose from: what tells them apart, and their shares.
    fn members_of(&self, table: &Table) -> impl Iterator<Item = (u64, u16)> {
        let paths = self.clusters[usize::from(table.cluster)].iter();
        paths.map(|path| self.members[usize::from(*path)]).map(|member| (member.key, member.weight))
    }

    /// What tells a table's buckets from another's, whatever the paths' indexes.
    fn identity(&self, table: &Table) -> u64 {
        let mix = |state, (key, weight)| hash::mix(hash::mix(state, key), u64::from(weight));
        let members = self.members_of(table).fold(1, mix);
        table.nearest.iter().flatten().fold(members, |state, place| hash::mix(state, u64::from(*place)))
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

/// A path as buckets see it: counted among its cluster's.
fn choice(index: PathIndex, member: Member, path: &PathState) -> Choice {
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
    /// Finds it when the configuration changes.
    hash: u64,
    /// Groups of nearest paths, counted among their cluster's, the best first; empty for a cluster's own table.
    nearest: Vec<Vec<PathIndex>>,
    /// What the buckets were filled with: the usable paths, counted alike, and how many are configured.
    filled: (Vec<PathIndex>, usize),
}

impl Table {
    fn new(cluster: ClusterIndex, nearest: Vec<Vec<PathIndex>>) -> Self {
        Self { cluster, hash: 0, nearest, filled: (Vec::new(), 0) }
    }

    /// Its buckets, from all of the cluster's paths; none where the same ones are usable as before.
    fn fill(&mut self, all: &[Choice]) -> Option<Buckets> {
        let (usable, configured) = self.usable(all);
        let filled = (usable.iter().map(|p| p.index).collect(), configured);
        if filled == self.filled {
            return None;
        }
        self.filled = filled;
        Some(Buckets::new(&usable, configured))
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
fn specify(prefixes: &mut Prefixes, clusters: &[Vec<PathIndex>], paths: &[PathSpec<'_>]) -> Vec<Table> {
    let mut tables: Vec<Table> =
        (0..ClusterIndex::MAX).take(clusters.len()).map(|cluster| Table::new(cluster, Vec::new())).collect();
    let mut by_net: BTreeMap<(ClusterIndex, IpNet), Vec<PathIndex>> = BTreeMap::new();
    for (of, cluster) in clusters.iter().zip(0..) {
        for (path, place) in of.iter().zip(0..) {
            for net in paths[usize::from(*path)].preferred {
                by_net.entry((cluster, net.trunc())).or_default().push(place);
            }
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
