//! From path states to bucket tables: one per cluster, one more per preferred prefix.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;

use crate::buckets::{self, Buckets, Choice};
use crate::forwarding::PathIndex;
use crate::prefixes::{ClusterIndex, Prefixes, Target};

/// A bucket table and which paths it spreads over, whatever their states.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// The cluster whose paths serve where the preferred ones cannot.
    cluster: ClusterIndex,
    /// Groups of nearest paths, the best first; empty for a cluster's own table.
    nearest: Vec<Vec<PathIndex>>,
    /// What the buckets were filled with: paths and weights, and how many are configured.
    filled: (Vec<(PathIndex, u16)>, usize),
    buckets: Arc<Buckets>,
}

/// Adds a table for each preferred prefix to `prefixes` and lists all tables, the clusters' own first.
/// `preferences` are (cluster, path, prefix).
pub(crate) fn specify(
    prefixes: &mut Prefixes,
    clusters: ClusterIndex,
    preferences: &[(ClusterIndex, PathIndex, IpNet)],
) -> Vec<Table> {
    let mut tables: Vec<Table> = (0..clusters).map(|cluster| Table::new(cluster, Vec::new())).collect();
    let mut by_net: BTreeMap<(ClusterIndex, IpNet), Vec<PathIndex>> = BTreeMap::new();
    for (cluster, path, net) in preferences {
        by_net.entry((*cluster, net.trunc())).or_default().push(*path);
    }
    for (cluster, net) in by_net.keys() {
        let Ok(table) = u16::try_from(tables.len()) else { break };
        if prefixes.refine(*net, Target { cluster: *cluster, table }) {
            // Wider preferences of the same cluster serve next, the narrowest of them first.
            let mut wider: Vec<_> = by_net.iter().filter(|((c, n), _)| c == cluster && n.contains(net)).collect();
            wider.sort_by_key(|((_, n), _)| std::cmp::Reverse(n.prefix_len()));
            tables.push(Table::new(*cluster, wider.into_iter().map(|(_, p)| p.clone()).collect()));
        }
    }
    tables
}

impl Table {
    fn new(cluster: ClusterIndex, nearest: Vec<Vec<PathIndex>>) -> Self {
        Self { cluster, nearest, filled: (Vec::new(), 0), buckets: Arc::default() }
    }

    pub(crate) fn cluster(&self) -> ClusterIndex {
        self.cluster
    }

    pub(crate) fn buckets(&self) -> &Arc<Buckets> {
        &self.buckets
    }

    /// Fills the buckets from all of the cluster's paths, unless the same ones are usable as before.
    pub(crate) fn fill(&mut self, all: &[Choice]) {
        let (usable, configured) = self.usable(all);
        let filled = (usable.iter().map(|p| (p.index, p.weight)).collect(), configured);
        if filled != self.filled {
            self.buckets = Arc::new(Buckets::new(&usable, configured));
            self.filled = filled;
        }
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
