//! The clusters that a gateway reaches, in pages that fit a datagram, and a node's view of them.

use std::collections::{BTreeMap, BTreeSet};

use hawser_liveness::ClusterState;
use hawser_model::ClusterId;

/// Bytes of entries in one page: what a datagram has left beside the longest node name.
const PAGE_BYTES: usize = 800;
/// Bytes of an entry apart from its name: state, MTU and length.
pub(crate) const ENTRY_OVERHEAD: usize = 4;

/// How a gateway reaches a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Whether it does.
    pub state: ClusterState,
    /// The largest packet that every path which carries its packets takes, bytes.
    pub mtu: u16,
}

/// One page of what a gateway says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePage {
    /// Grows with each change of the set or the flag while the gateway process runs.
    pub version: u64,
    /// Whether the gateway asks to be left alone.
    pub draining: bool,
    /// Which page of `parts` this is, from 0.
    pub part: u8,
    /// How many pages there are, at least 1.
    pub parts: u8,
    /// The remote clusters of this page and how they are reached.
    pub clusters: Vec<(ClusterId, Reach)>,
}

/// Puts a gateway's state into pages, at least one. Answers carry one page each, in turn; notices go out for every page.
/// What exceeds 255 pages (thousands of clusters) is left out.
#[must_use]
pub fn pages(version: u64, draining: bool, clusters: &[(ClusterId, Reach)]) -> Vec<LivePage> {
    let mut groups: Vec<Vec<(ClusterId, Reach)>> = vec![Vec::new()];
    let mut used = 0;
    for entry in clusters {
        let bytes = ENTRY_OVERHEAD + entry.0.as_str().len();
        if used + bytes > PAGE_BYTES {
            groups.push(Vec::new());
            used = 0;
        }
        used += bytes;
        if let Some(group) = groups.last_mut() {
            group.push(entry.clone());
        }
    }
    groups.truncate(usize::from(u8::MAX));
    let parts = u8::try_from(groups.len()).unwrap_or(u8::MAX);
    (0..parts).zip(groups).map(|(part, clusters)| LivePage { version, draining, part, parts, clusters }).collect()
}

/// What a node knows about one gateway, from its pages in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveView {
    instance: u64,
    version: u64,
    draining: bool,
    clusters: BTreeMap<ClusterId, Reach>,
    /// Pages of this version that came.
    seen: BTreeSet<u8>,
    /// Clusters that pages of this version named.
    named: BTreeSet<ClusterId>,
}

impl LiveView {
    /// Takes a page of the gateway process `instance` in. True where that changed how a cluster is reached, or the drain flag.
    /// What a page names holds at once; what no page names goes when all pages of a version have come.
    pub fn apply(&mut self, instance: u64, page: &LivePage) -> bool {
        let restarted = instance != self.instance;
        if !restarted && page.version < self.version {
            return false;
        }
        if restarted || page.version > self.version {
            self.instance = instance;
            self.version = page.version;
            self.seen.clear();
            self.named.clear();
        }
        let mut changed = std::mem::replace(&mut self.draining, page.draining) != page.draining;
        for (cluster, reach) in &page.clusters {
            self.named.insert(cluster.clone());
            changed |= self.clusters.insert(cluster.clone(), *reach) != Some(*reach);
        }
        self.seen.insert(page.part);
        if self.seen.len() >= usize::from(page.parts) {
            let before = self.clusters.len();
            self.clusters.retain(|cluster, _| self.named.contains(cluster));
            changed |= self.clusters.len() != before;
        }
        changed
    }

    /// Whether the gateway asks to be left alone.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.draining
    }

    /// How the gateway reaches a cluster, where it has said so.
    #[must_use]
    pub fn reach(&self, cluster: &ClusterId) -> Option<Reach> {
        self.clusters.get(cluster).copied()
    }

    /// All that the gateway named.
    pub fn clusters(&self) -> impl Iterator<Item = (&ClusterId, Reach)> {
        self.clusters.iter().map(|(cluster, reach)| (cluster, *reach))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(n: usize, state: ClusterState) -> Vec<(ClusterId, Reach)> {
        let reach = Reach { state, mtu: 1420 };
        (0..n).map(|i| (ClusterId::new(format!("cluster-{i:055}")).unwrap(), reach)).collect()
    }

    #[test]
    fn pages_in_any_order_make_the_view() {
        let clusters = set(100, ClusterState::Live);
        let all = pages(1, false, &clusters);
        assert!(all.len() > 5, "{}", all.len());
        let mut view = LiveView::default();
        for page in all.iter().rev() {
            assert!(view.apply(1, page));
        }
        assert_eq!(view.clusters().count(), 100);
        assert!(!view.apply(1, &all[0]), "nothing new");

        let fewer = pages(2, true, &clusters[..1]);
        assert!(view.apply(1, &fewer[0]));
        assert!(view.draining());
        assert_eq!(view.clusters().count(), 1);
        assert!(!view.apply(1, &all[3]), "an older version changes nothing");
        assert!(view.draining());
        assert!(view.apply(2, &pages(1, false, &[])[0]), "a restarted gateway counts from anew");
        assert_eq!((view.clusters().count(), view.draining()), (0, false));
        assert_eq!(view.reach(&clusters[0].0), None);
    }

    #[test]
    fn a_change_holds_before_all_its_pages_came() {
        let mut view = LiveView::default();
        pages(1, false, &set(40, ClusterState::Live)).iter().for_each(|p| {
            view.apply(9, p);
        });
        let dark = set(40, ClusterState::Dark);
        assert!(view.apply(9, &pages(2, false, &dark)[1]));
        assert_eq!(
            view.clusters().filter(|(_, reach)| reach.state == ClusterState::Dark).count(),
            pages(2, false, &dark)[1].clusters.len()
        );
        assert_eq!(view.clusters().count(), 40);
        let mut narrow = dark;
        narrow[0].1.mtu = 1280;
        assert!(view.apply(9, &pages(3, false, &narrow)[0]), "a smaller MTU is a change");
    }
}
