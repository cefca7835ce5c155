//! What a tunnel is told: how to start, and which peers there are.

use std::net::IpAddr;
use std::path::PathBuf;

use hawser_model::{ClusterId, Gateway, NodeName, PrefixSet, RemoteCluster};

/// Most lanes of one gateway.
pub const LANES_MAX: usize = 8;

/// How a tunnel starts; fixed for its life.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node it runs on.
    pub node: NodeName,
    /// Name of the TUN device, [`hawser_model::defaults::TUN_DEVICE`] but in tests.
    pub device: String,
    /// Number of lanes, 1 to [`LANES_MAX`].
    pub lanes: usize,
    /// UDP port of the first lane; lane `i` listens on `port + i`.
    pub port: u16,
    /// Folder of the lane keys; made if missing, mode 0700.
    pub keys: PathBuf,
}

impl Config {
    /// As many lanes as cores, at most [`LANES_MAX`].
    #[must_use]
    pub fn default_lanes() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from).min(LANES_MAX)
    }
}

/// Everything that decides where packets may come from and go to: replaced as a whole by [`crate::Tunnel::apply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    /// This cluster.
    pub cluster: ClusterId,
    /// What this cluster routes: the only destinations taken from peers, the only sources sent to them.
    pub prefixes: PrefixSet,
    /// The node's own addresses on the TUN, one per family at most.
    pub addresses: Vec<IpAddr>,
    /// The other clusters.
    pub clusters: Vec<PeerCluster>,
}

impl Peers {
    /// No peers: what a tunnel starts with.
    #[must_use]
    pub fn none(cluster: ClusterId) -> Self {
        Self { cluster, prefixes: PrefixSet::default(), addresses: Vec::new(), clusters: Vec::new() }
    }
}

/// Another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCluster {
    /// Its name.
    pub id: ClusterId,
    /// Which membership of that name.
    pub generation: u64,
    /// What it routes.
    pub prefixes: PrefixSet,
    /// Its gateways.
    pub gateways: Vec<PeerGateway>,
}

impl PeerCluster {
    pub(crate) fn to_model(&self) -> RemoteCluster {
        RemoteCluster {
            id: self.id.clone(),
            generation: self.generation,
            prefixes: self.prefixes.clone(),
            gateways: self.gateways.iter().map(|g| g.gateway.clone()).collect(),
        }
    }
}

/// A gateway of another cluster, its names resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerGateway {
    /// Keys, ports, preferences.
    pub gateway: Gateway,
    /// Every address its candidates stand for; all are tried, the best answering one sticks.
    pub addresses: Vec<IpAddr>,
}
