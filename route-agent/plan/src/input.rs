//! What a plan is made from: plain values, converted from the local API by the process, and here from the node probes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hawser_liveness::State;
use hawser_model::export::{EndpointPort, ServicePort};
use hawser_model::prefix::host_address;
use hawser_model::{ClusterId, IpFamily, NodeName, PrefixSet, ServiceName};
use hawser_node_probe::{ClusterState, LiveView, Reach};
use ipnet::IpNet;

/// Everything that a node's kernel state follows from.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// This node.
    pub node: NodeName,
    /// Whether the cluster is a site: no CNI connects its nodes' pods, and virtual addresses are programmed here.
    pub site: bool,
    /// All nodes of the cluster, this one included.
    pub nodes: Vec<Node>,
    /// What the cluster claims: its own pods' prefixes.
    pub prefixes: PrefixSet,
    /// Where virtual addresses come from.
    pub vip_prefixes: PrefixSet,
    /// Where this node answers DNS.
    pub dns_addresses: Vec<IpAddr>,
    /// The other clusters.
    pub remotes: Vec<Remote>,
    /// What node probes say about gateways, this node's own included; none: not probed yet.
    pub gateways: BTreeMap<NodeName, GatewayView>,
    /// Imported services with virtual addresses.
    pub services: Vec<Service>,
    /// This host.
    pub host: Host,
}

impl Input {
    /// This node, if it is known.
    #[must_use]
    pub fn me(&self) -> Option<&Node> {
        self.nodes.iter().find(|n| n.name == self.node)
    }

    /// The other nodes.
    pub fn others(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|n| n.name != self.node)
    }
}

/// A node of this cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its LAN addresses.
    pub addresses: Vec<IpAddr>,
    /// Its pods; the first address of each is the host's own.
    pub pod_cidrs: Vec<IpNet>,
    /// Whether it is a gateway.
    pub gateway: bool,
}

impl Node {
    /// Its first LAN address of a family.
    #[must_use]
    pub fn address(&self, family: IpFamily) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|a| IpFamily::of(*a) == family)
    }

    /// The host's own pod address of a family: the first of its first pod CIDR of that family.
    #[must_use]
    pub fn own_address(&self, family: IpFamily) -> Option<IpAddr> {
        self.pod_cidrs.iter().find(|c| IpFamily::of_net(c) == family).and_then(host_address)
    }
}

/// Another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its id.
    pub id: ClusterId,
    /// What it routes.
    pub prefixes: PrefixSet,
}

/// Whether a gateway of this cluster answers this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// It does (or may be about to stop).
    Usable,
    /// It does, in hold-down after an outage.
    Held,
    /// Nothing is known since this process started.
    Unknown,
    /// It does not.
    Down,
}

/// How a gateway reaches a remote cluster, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusterReach {
    /// By a path that carries traffic.
    Live,
    /// Only by paths in hold-down or with heavy loss.
    Held,
    /// No answer since it started.
    Unknown,
    /// Not at all.
    Dark,
}

/// What this node knows of a gateway's ways to a remote cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterView {
    /// How it is reached.
    pub reach: ClusterReach,
    /// The largest packet that the gateway's ways there take, bytes.
    pub mtu: u32,
}

impl From<Reach> for ClusterView {
    fn from(Reach { state, mtu }: Reach) -> Self {
        let reach = match state {
            ClusterState::Live => ClusterReach::Live,
            ClusterState::Held => ClusterReach::Held,
            ClusterState::Unknown => ClusterReach::Unknown,
            ClusterState::Dark => ClusterReach::Dark,
        };
        Self { reach, mtu: mtu.into() }
    }
}

/// What this node knows of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayView {
    /// Whether it answers.
    pub path: Path,
    /// Whether it asks not to be chosen.
    pub draining: bool,
    /// What it reaches; a cluster it does not name is [`ClusterReach::Unknown`].
    pub clusters: BTreeMap<ClusterId, ClusterView>,
}

impl GatewayView {
    /// Of a gateway whose answers are judged to be in `state`, and what it `said`.
    #[must_use]
    pub fn new(state: State, said: &LiveView) -> Self {
        Self {
            path: match state {
                State::Up | State::Suspect => Path::Usable,
                State::Held => Path::Held,
                State::Unknown => Path::Unknown,
                State::Down => Path::Down,
            },
            draining: said.draining(),
            clusters: said.clusters().map(|(id, reach)| (id.clone(), reach.into())).collect(),
        }
    }
}

/// An imported service with virtual addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Its virtual addresses.
    pub vips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Client-IP affinity: how long a client keeps its endpoint, seconds.
    pub affinity: Option<u32>,
    /// `internalTrafficPolicy: Local`: endpoints of this node only.
    pub local_only: bool,
    /// Its endpoints.
    pub groups: Vec<Group>,
}

/// One slice of endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The exporting cluster.
    pub cluster: ClusterId,
    /// The ports that may be reached at these endpoints.
    pub ports: Vec<EndpointPort>,
    /// The endpoints.
    pub endpoints: Vec<Backend>,
}

/// One endpoint of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Takes new connections.
    pub ready: bool,
    /// Still serves; used where no endpoint is ready.
    pub serving: bool,
    /// Its node, where it is one of this cluster.
    pub node: Option<NodeName>,
}

/// What this host's kernel is like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Whether IPv6 is on.
    pub ipv6: bool,
    /// Devices that other nodes and the world are reached by.
    pub uplinks: Vec<Uplink>,
    /// Devices that this node's pods are bridged by: several pods behind one device.
    pub pod_bridges: BTreeSet<String>,
}

/// A device that leads to other nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Its MTU, bytes.
    pub mtu: u32,
}
