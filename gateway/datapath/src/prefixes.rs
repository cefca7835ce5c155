//! Which cluster an address belongs to: the longest match over all clusters' prefixes.

use std::net::IpAddr;

use hawser_model::{ClusterId, PrefixSet};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// A remote cluster's place in the list that a [`Prefixes`] was built from.
pub type ClusterIndex = u16;

/// What a prefix leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) cluster: ClusterIndex,
    /// Which of the tables of paths.
    pub(crate) table: u16,
}

/// A map from prefixes of both families.
#[derive(Debug, Clone)]
pub(crate) struct NetMap<T> {
    v4: PrefixMap<Ipv4Net, T>,
    v6: PrefixMap<Ipv6Net, T>,
}

impl<T> Default for NetMap<T> {
    fn default() -> Self {
        Self { v4: PrefixMap::new(), v6: PrefixMap::new() }
    }
}

impl<T: Copy> NetMap<T> {
    pub(crate) fn insert(&mut self, net: IpNet, value: T) {
        match net {
            IpNet::V4(net) => self.v4.insert(net, value),
            IpNet::V6(net) => self.v6.insert(net, value),
        };
    }

    /// The value of the longest prefix that covers `addr`.
    #[inline]
    pub(crate) fn get(&self, addr: IpAddr) -> Option<T> {
        match addr {
            IpAddr::V4(addr) => self.v4.get_lpm(&Ipv4Net::from(addr)).map(|(_, value)| *value),
            IpAddr::V6(addr) => self.v6.get_lpm(&Ipv6Net::from(addr)).map(|(_, value)| *value),
        }
    }

    /// The values of all prefixes that share addresses with `net`.
    fn overlapping(&self, net: &IpNet) -> Vec<(IpNet, T)> {
        match net {
            IpNet::V4(net) => {
                let (wider, narrower) = (self.v4.cover(net), self.v4.children(net));
                wider.chain(narrower).map(|(net, value)| (IpNet::V4(net), *value)).collect()
            }
            IpNet::V6(net) => {
                let (wider, narrower) = (self.v6.cover(net), self.v6.children(net));
                wider.chain(narrower).map(|(net, value)| (IpNet::V6(net), *value)).collect()
            }
        }
    }
}

/// A prefix that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The cluster that has it.
    pub cluster: ClusterId,
    /// The prefix.
    pub prefix: IpNet,
    /// Which of this cluster's or an earlier cluster's prefixes it shares addresses with.
    pub overlaps: IpNet,
}

/// A remote cluster's part of the table.
#[derive(Debug, Clone, Copy)]
pub struct ClusterPrefixes<'a> {
    /// Its id.
    pub id: &'a ClusterId,
    /// Its prefixes.
    pub prefixes: &'a PrefixSet,
}

/// All prefixes: this cluster's own and the remote clusters'. Changes only with the configuration.
#[derive(Debug, Clone, Default)]
pub struct Prefixes {
    own: NetMap<()>,
    remote: NetMap<Target>,
}

impl Prefixes {
    /// Builds the table. A prefix that shares addresses with `own` or with an earlier cluster's is left out: the broker
    /// lets none through, and none may divert another's traffic if it did.
    #[must_use]
    pub fn new(own: &PrefixSet, clusters: &[ClusterPrefixes<'_>]) -> (Self, Vec<Skipped>) {
        let mut this = Self::default();
        let mut skipped = Vec::new();
        own.iter().for_each(|net| this.own.insert(*net, ()));
        for (cluster, part) in (0..ClusterIndex::MAX).zip(clusters) {
            for &prefix in part.prefixes.iter() {
                let foreign =
                    this.remote.overlapping(&prefix).into_iter().find(|(_, target)| target.cluster != cluster);
                let ours = this.own.overlapping(&prefix).into_iter().next().map(|(net, ())| net);
                match ours.or(foreign.map(|(net, _)| net)) {
                    Some(overlaps) => skipped.push(Skipped { cluster: part.id.clone(), prefix, overlaps }),
                    None => this.remote.insert(prefix, Target { cluster, table: cluster }),
                }
            }
        }
        (this, skipped)
    }

    /// Gives a part of a cluster's prefixes a table of its own; false where it is not part of them.
    pub(crate) fn refine(&mut self, net: IpNet, target: Target) -> bool {
        let net = net.trunc();
        // Clusters' prefixes share no addresses, so what covers `net` decides for all of it.
        let part = self.remote.overlapping(&net).iter().any(|(n, t)| n.contains(&net) && t.cluster == target.cluster);
        if part {
            self.remote.insert(net, target);
        }
        part
    }

    #[inline]
    pub(crate) fn target(&self, addr: IpAddr) -> Option<Target> {
        self.remote.get(addr)
    }

    /// The remote cluster that `addr` belongs to.
    #[inline]
    #[must_use]
    pub fn cluster_of(&self, addr: IpAddr) -> Option<ClusterIndex> {
        self.target(addr).map(|target| target.cluster)
    }

    /// Whether `addr` belongs to this cluster.
    #[inline]
    #[must_use]
    pub fn is_own(&self, addr: IpAddr) -> bool {
        self.own.get(addr).is_some()
    }
}
