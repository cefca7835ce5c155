//! Who is there: clusters, their gateways and prefixes; and how a test asks for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hawser_model::{ClusterId, Gateway, Lane, NodeName, PrefixSet, PublicKey, RemoteCluster};
use ipnet::IpNet;

/// A gateway to simulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayShape {
    /// Its lanes, at least 1.
    pub lanes: u8,
    /// Whether it sits behind an address translator: nobody reaches it before it spoke first.
    pub nat: bool,
    /// Whether it is nearest to the upper half of its cluster's addresses.
    pub preferred: bool,
}

impl GatewayShape {
    /// A gateway with a public address.
    #[must_use]
    pub const fn public(lanes: u8) -> Self {
        Self { lanes, nat: false, preferred: false }
    }

    /// A gateway behind an address translator.
    #[must_use]
    pub const fn nat(lanes: u8) -> Self {
        Self { lanes, nat: true, preferred: false }
    }

    /// The same, nearest to the upper half of its cluster's addresses.
    #[must_use]
    pub const fn preferred(self) -> Self {
        Self { preferred: true, ..self }
    }
}

/// A gateway host, by number over all clusters.
pub(crate) type HostId = usize;

#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) cluster: usize,
    pub(crate) node: NodeName,
    pub(crate) shape: GatewayShape,
}

#[derive(Debug, Clone)]
pub(crate) struct Topology {
    pub(crate) hosts: Vec<Host>,
    /// Each cluster's hosts.
    pub(crate) clusters: Vec<Vec<HostId>>,
}

impl Topology {
    pub(crate) fn new(clusters: &[Vec<GatewayShape>]) -> Self {
        let mut this = Self { hosts: Vec::new(), clusters: Vec::new() };
        for (cluster, gateways) in clusters.iter().enumerate() {
            let first = this.hosts.len();
            for &shape in gateways {
                let node = NodeName::new(format!("g{}", this.hosts.len())).expect("a valid name");
                this.hosts.push(Host { cluster, node, shape });
            }
            this.clusters.push((first..this.hosts.len()).collect());
        }
        assert!(this.hosts.len() < 200 && this.clusters.len() < 100, "addresses and keys count in bytes");
        this
    }

    pub(crate) fn id(cluster: usize) -> ClusterId {
        ClusterId::new(format!("c{cluster}")).expect("a valid id")
    }

    /// The cluster that an id was made for.
    pub(crate) fn cluster_of(id: &ClusterId) -> usize {
        id.as_str()[1..].parse().expect("made by `id`")
    }

    pub(crate) fn prefixes(cluster: usize) -> PrefixSet {
        let v4 = Self::address(cluster, false, 0, 0);
        let v6 = Self::address(cluster, true, 0, 0);
        [(v4, 16), (v6, 48)].map(|(a, len)| IpNet::new(a, len).expect("a valid length")).into_iter().collect()
    }

    /// An address in a cluster. The upper half of `subnet`s is what gateways may be nearest to.
    pub(crate) fn address(cluster: usize, v6: bool, subnet: u8, host: u8) -> IpAddr {
        if v6 {
            Ipv6Addr::new(0xfd00, 0, cluster as u16, u16::from(subnet) << 8, 0, 0, 0, u16::from(host)).into()
        } else {
            Ipv4Addr::new(10, cluster as u8, subnet, host).into()
        }
    }

    /// The addresses of a gateway's own links, inside its cluster's prefixes as on many clouds: no peer may reach them.
    pub(crate) fn link_addresses(&self, host: HostId) -> [IpAddr; 2] {
        [false, true].map(|v6| Self::address(self.hosts[host].cluster, v6, 127, 200 + (host % 50) as u8))
    }

    /// Whether a gateway says that it is nearest to `addr`, an address of its cluster.
    pub(crate) fn is_nearest(&self, host: HostId, addr: IpAddr) -> bool {
        let subnet = match addr {
            IpAddr::V4(v4) => u16::from(v4.octets()[2]),
            IpAddr::V6(v6) => v6.segments()[3] >> 8,
        };
        self.hosts[host].shape.preferred && subnet >= 128
    }

    /// The cluster that owns `addr`, by arithmetic and not by any table.
    pub(crate) fn owner_of(&self, addr: IpAddr) -> Option<usize> {
        let cluster = match addr {
            IpAddr::V4(v4) => v4.octets().first().filter(|o| **o == 10).map(|_| usize::from(v4.octets()[1])),
            IpAddr::V6(v6) => (v6.segments()[..2] == [0xfd00, 0]).then(|| usize::from(v6.segments()[2])),
        };
        cluster.filter(|c| *c < self.clusters.len())
    }

    pub(crate) fn key(host: HostId, lane: u8) -> PublicKey {
        let mut key = [7; 32];
        (key[0], key[1]) = (host as u8, lane);
        PublicKey(key)
    }

    /// Whose key it is.
    pub(crate) fn owner(key: &PublicKey) -> (HostId, u8) {
        (usize::from(key.0[0]), key.0[1])
    }

    /// A cluster as the others see it.
    pub(crate) fn remote(&self, cluster: usize, generation: u64) -> RemoteCluster {
        let gateway = |&host: &HostId| {
            let Host { node, shape, .. } = &self.hosts[host];
            let lane = |lane| Lane { public_key: Self::key(host, lane), port: u16::from(lane), next_public_key: None };
            let upper = [(false, 17), (true, 49)];
            let upper = upper.map(|(v6, len)| IpNet::new(Self::address(cluster, v6, 128, 0), len).expect("a length"));
            Gateway {
                node: node.clone(),
                lanes: (0..shape.lanes).map(lane).collect(),
                candidates: Vec::new(),
                preferred: if shape.preferred { upper.to_vec() } else { Vec::new() },
                probes: true,
            }
        };
        let gateways = self.clusters[cluster].iter().map(gateway).collect();
        RemoteCluster { id: Self::id(cluster), generation, prefixes: Self::prefixes(cluster), gateways }
    }
}
