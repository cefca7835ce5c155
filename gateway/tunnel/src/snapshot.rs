//! The peers as lanes use them: immutable, numbered, with every path laid out.

use std::collections::{HashMap, HashSet};
use std::iter;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::sync::Arc;

use hawser_datapath::{pmtu, probe};
use hawser_model::{ClusterId, Lane, NodeName, PrefixSet, PublicKey};

use crate::board::Board;
use crate::config::{PeerGateway, Peers};
use crate::rotation::Identities;

/// Which path: this gateway to that one. A cluster that joined anew has new paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PathKey {
    pub(crate) cluster: ClusterId,
    pub(crate) generation: u64,
    pub(crate) gateway: NodeName,
}

/// A path as configured.
pub(crate) struct PathSpec {
    pub(crate) key: PathKey,
    /// Stands for `key`: the same in all snapshots, and no other path's.
    pub(crate) number: u64,
    /// Index of its cluster in [`Peers::clusters`].
    pub(crate) cluster: usize,
    pub(crate) lanes: Vec<Lane>,
    /// Where the probes of each of the lanes' keys come from.
    probe_addresses: Vec<(PublicKey, Ipv6Addr)>,
    /// Where to try; none inside a prefix of the cluster set.
    pub(crate) addresses: Vec<IpAddr>,
    /// Candidates that are inside one, or nowhere.
    pub(crate) refused: Vec<IpAddr>,
    /// Largest inner packet that the first link takes; what the path takes is [`Self::mtu`].
    pub(crate) max_mtu: u16,
    /// False for a plain WireGuard endpoint, which knows one key of ours: lane 0's.
    pub(crate) probes: bool,
    pub(crate) board: Arc<Board>,
}

impl PathSpec {
    /// The largest inner packet that the path takes, as far as lanes found.
    #[inline]
    pub(crate) fn mtu(&self) -> u16 {
        // A plain endpoint answers no probes.
        if !self.probes {
            return self.max_mtu;
        }
        self.board.mtu().unwrap_or(pmtu::BASE).min(self.max_mtu)
    }

    /// Where the probes of one of the lanes' keys come from.
    pub(crate) fn probe_address(&self, key: PublicKey) -> Ipv6Addr {
        let known = self.probe_addresses.iter().find(|(known, _)| *known == key);
        known.map_or_else(|| probe::address(&key), |(_, address)| *address)
    }
}

/// All that lanes need of the peers.
pub(crate) struct Snapshot {
    /// Grows with each snapshot.
    pub(crate) revision: u64,
    pub(crate) peers: Arc<Peers>,
    /// Addresses of this host that no peer may reach.
    pub(crate) hosts: Vec<IpAddr>,
    /// Paths in the order of `peers`: lanes, control and reports all count them by this.
    pub(crate) paths: Vec<PathSpec>,
    /// Those of each cluster.
    of_clusters: Vec<Range<usize>>,
    /// Where peers are tried.
    outer: HashSet<IpAddr>,
    /// What leads into tunnels, and our own.
    inner: PrefixSet,
    next_number: u64,
    /// Each lane's own keys.
    pub(crate) identities: Arc<[Identities]>,
}

impl Snapshot {
    /// Lays `peers` out. `previous` gives paths that stay their boards, and the lanes their keys; `mtu` tells the largest inner
    /// packet towards a set of addresses, `hosts` are the addresses of this host's links.
    pub(crate) fn new(
        peers: Arc<Peers>,
        previous: Option<&Self>,
        mtu: impl Fn(&[IpAddr]) -> u16,
        hosts: Vec<IpAddr>,
    ) -> Self {
        let hosts = out_of_reach(&peers, hosts);
        let inner: PrefixSet = peers
            .clusters
            .iter()
            .map(|c| &c.prefixes)
            .chain([&peers.prefixes])
            .flat_map(PrefixSet::iter)
            .copied()
            .collect();
        let known: HashMap<&PathKey, &PathSpec> =
            previous.iter().flat_map(|p| &p.paths).map(|path| (&path.key, path)).collect();
        let mut next_number = previous.map_or(1, |p| p.next_number);
        let (mut paths, mut of_clusters) = (Vec::new(), Vec::with_capacity(peers.clusters.len()));
        for (index, cluster) in peers.clusters.iter().enumerate() {
            let first = paths.len();
            for peer in &cluster.gateways {
                let key = PathKey {
                    cluster: cluster.id.clone(),
                    generation: cluster.generation,
                    gateway: peer.gateway.node.clone(),
                };
                let (addresses, refused) = outer_addresses(&inner, peer);
                let known = known.get(&key);
                let number = known.map_or(next_number, |path| path.number);
                next_number = next_number.max(number + 1);
                let board = known.map_or_else(Arc::default, |path| Arc::clone(&path.board));
                paths.push(PathSpec {
                    number,
                    cluster: index,
                    probe_addresses: probe_addresses(peer, known.copied()),
                    lanes: peer.gateway.lanes.clone(),
                    max_mtu: mtu(&addresses),
                    addresses,
                    refused,
                    probes: peer.gateway.probes,
                    board,
                    key,
                });
            }
            of_clusters.push(first..paths.len());
        }
        drop(known);
        let identities = previous.map_or_else(|| Arc::from([]), |p| Arc::clone(&p.identities));
        let revision = previous.map_or(1, |p| p.revision + 1);
        let outer = paths.iter().flat_map(|path| path.addresses.iter().copied()).collect();
        Self { revision, peers, hosts, paths, of_clusters, outer, inner, next_number, identities }
    }

    /// Whether it would be the same if it were made anew.
    pub(crate) fn is_of(&self, peers: &Arc<Peers>, mtu: impl Fn(&[IpAddr]) -> u16, hosts: Vec<IpAddr>) -> bool {
        (Arc::ptr_eq(&self.peers, peers) || self.peers == *peers)
            && self.hosts == out_of_reach(peers, hosts)
            && self.paths.iter().all(|path| path.max_mtu == mtu(&path.addresses))
    }

    /// The same with these keys.
    pub(crate) fn with_identities(self, identities: Vec<Identities>) -> Self {
        Self { identities: identities.into(), ..self }
    }

    /// Whether some peer is tried at `address`.
    pub(crate) fn knows(&self, address: IpAddr) -> bool {
        self.outer.contains(&address)
    }

    /// Whether an outer address would lead into a tunnel, or nowhere.
    pub(crate) fn is_inner(&self, address: IpAddr) -> bool {
        is_inner(&self.inner, address)
    }

    /// The paths of a cluster.
    pub(crate) fn paths_of(&self, cluster: usize) -> &[PathSpec] {
        &self.paths[self.specs_of(cluster)]
    }

    /// Which of [`Self::paths`] these are.
    pub(crate) fn specs_of(&self, cluster: usize) -> Range<usize> {
        self.of_clusters.get(cluster).cloned().unwrap_or_default()
    }

    /// Names the candidates that are not tried, where `previous` did not have them.
    pub(crate) fn warn_refused(&self, previous: &Self) {
        for spec in self.paths.iter().filter(|spec| !spec.refused.is_empty()) {
            if previous.paths.iter().any(|p| p.key == spec.key && p.refused == spec.refused) {
                continue;
            }
            let (cluster, gateway) = (&spec.key.cluster, &spec.key.gateway);
            tracing::warn!(
                %cluster, %gateway, addresses = ?spec.refused,
                "candidates inside the cluster set's own prefixes are not tried: a tunnel would run inside itself; \
                 list an address of the underlay"
            );
        }
    }
}

/// Addresses of this host's links, without those to which answers come to what the host itself sends into the tunnel.
fn out_of_reach(peers: &Peers, mut hosts: Vec<IpAddr>) -> Vec<IpAddr> {
    hosts.retain(|a| !peers.addresses.contains(a));
    hosts
}

/// Where the probes of a gateway's lanes come from: worked out once per key.
fn probe_addresses(peer: &PeerGateway, known: Option<&PathSpec>) -> Vec<(PublicKey, Ipv6Addr)> {
    let keys = peer.gateway.lanes.iter().flat_map(|lane| iter::once(lane.public_key).chain(lane.next_public_key));
    let of = |key| (key, known.map_or_else(|| probe::address(&key), |path| path.probe_address(key)));
    keys.map(of).collect()
}

fn is_inner(inner: &PrefixSet, address: IpAddr) -> bool {
    address.is_unspecified() || address.is_multicast() || inner.contains(address)
}

/// The addresses to try, and those that may not be.
fn outer_addresses(inner: &PrefixSet, peer: &PeerGateway) -> (Vec<IpAddr>, Vec<IpAddr>) {
    peer.addresses.iter().map(IpAddr::to_canonical).partition(|&a| !is_inner(inner, a))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PeerCluster;
    use hawser_model::{Gateway, PrefixSet};

    fn peers(address: &str) -> Peers {
        let gateway = Gateway {
            node: NodeName::new("e1").unwrap(),
            lanes: vec![Lane { public_key: PublicKey([1; 32]), port: 51820, next_public_key: None }],
            candidates: Vec::new(),
            preferred: Vec::new(),
            probes: true,
        };
        Peers {
            cluster: ClusterId::new("west").unwrap(),
            prefixes: PrefixSet::new(["10.1.0.0/16".parse().unwrap()]),
            addresses: Vec::new(),
            clusters: vec![PeerCluster {
                id: ClusterId::new("east").unwrap(),
                generation: 1,
                prefixes: PrefixSet::new(["10.2.0.0/16".parse().unwrap(), "fd02::/48".parse().unwrap()]),
                gateways: vec![PeerGateway { gateway, addresses: vec![address.parse().unwrap()] }],
            }],
        }
    }

    #[test]
    fn candidates_inside_prefixes_are_refused() {
        for (address, kept) in [
            ("192.0.2.1", true),
            ("10.2.0.1", false),
            ("10.1.0.1", false),
            ("::ffff:10.2.0.1", false),
            ("fd02::1", false),
            ("2001:db8::1", true),
            ("0.0.0.0", false),
        ] {
            let snapshot = Snapshot::new(peers(address).into(), None, |_| 1420, Vec::new());
            assert_eq!(!snapshot.paths[0].addresses.is_empty(), kept, "{address}");
        }
    }

    #[test]
    fn a_path_keeps_its_board_until_its_cluster_joins_anew() {
        let first = Snapshot::new(peers("192.0.2.1").into(), None, |_| 1420, Vec::new());
        let second = Snapshot::new(peers("192.0.2.2").into(), Some(&first), |_| 1420, Vec::new());
        assert_eq!(second.revision, 2);
        assert!(Arc::ptr_eq(&first.paths[0].board, &second.paths[0].board));
        let mut renewed = peers("192.0.2.2");
        renewed.clusters[0].generation = 2;
        let third = Snapshot::new(renewed.into(), Some(&second), |_| 1420, Vec::new());
        assert!(!Arc::ptr_eq(&first.paths[0].board, &third.paths[0].board));
        let numbers = [&first, &second, &third].map(|s| s.paths[0].number);
        assert_eq!((numbers[0], numbers[0] + 1), (numbers[1], numbers[2]), "a number is a path's for good");
        assert_eq!((third.paths_of(0).len(), third.paths_of(1).len()), (1, 0));
    }
}
