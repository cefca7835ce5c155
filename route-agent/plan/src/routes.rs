//! Device, addresses, next hops, routes, rules and settings.
//!
//! Next hops are link-local IPv6 addresses made from node names, for both families, with permanent neighbours; where IPv6 is
//! off, the nodes' IPv4 addresses, `onlink`. Two tables: [`TABLE_REMOTE`] for what this node and its pods send,
//! [`TABLE_TRANSIT`] for what comes in by `hawser-vx` or the TUN; the gateway process adds its TUN routes to both, at a lower
//! metric in the first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hawser_model::defaults::{TABLE_REMOTE, TABLE_TRANSIT, TUN_DEVICE, VXLAN_DEVICE, VXLAN_OVERHEAD};
use hawser_model::{ClusterId, IpFamily, NodeName};
use hawser_node_probe::{link_local, mac};
use ipnet::IpNet;

use crate::desired::{DeviceSettings, Hop, Mac, Role, Route, RouteKey, RouteKind, Rule, Sysctl, Vxlan};
use crate::input::{Input, Node};
use crate::select;

/// Priority of the rules for packets that come in by our devices.
pub const PRIORITY_TRANSIT: u32 = 4856;
/// Priority of the rule for packets to other clusters.
pub const PRIORITY_REMOTE: u32 = 4857;
/// Sites: priority of the rule by which the host's own specific routes win over ours between nodes.
pub const PRIORITY_SITE_MAIN: u32 = 4858;
/// Sites: priority of the rule by which nodes reach each other's pods.
pub const PRIORITY_SITE: u32 = 4859;
/// Metric of routes to this node's own pods.
pub const METRIC_LOCAL: u32 = 100;
/// Metric of routes through other nodes; a gateway's own TUN routes have a lower one.
pub const METRIC_VIA: u32 = 200;
/// Metric of what is left when every other route is gone.
pub const METRIC_UNREACHABLE: u32 = 4000;

/// The devices that packets of ours come and go by: this agent's and the gateway process's.
pub const DEVICES: [&str; 2] = [VXLAN_DEVICE, TUN_DEVICE];
const TABLE_MAIN: u32 = 254;
/// What an uplink's MTU is taken for where it is not known.
const ETHERNET_MTU: u32 = 1500;
/// IPv6 needs this much on every link.
const MIN_MTU: u32 = 1280;

/// The addresses that `hawser-vx` packets travel between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Underlay {
    family: IpFamily,
    local: IpAddr,
}

impl Underlay {
    /// The family that most nodes have an address of, the same on every node; IPv4 where both are as common. None where this
    /// node has no such address.
    #[must_use]
    pub fn choose(input: &Input) -> Option<Self> {
        let count = |family| input.nodes.iter().filter(|n| n.address(family).is_some()).count();
        let family = if count(IpFamily::V6) > count(IpFamily::V4) { IpFamily::V6 } else { IpFamily::V4 };
        if family == IpFamily::V6 && !input.host.ipv6 {
            return None;
        }
        Some(Self { family, local: input.me()?.address(family)? })
    }

    /// The device.
    #[must_use]
    pub fn device(&self, input: &Input) -> Vxlan {
        let uplink = input.host.uplinks.iter().map(|u| u.mtu).min().unwrap_or(ETHERNET_MTU);
        let overhead = match self.family {
            IpFamily::V4 => u32::from(VXLAN_OVERHEAD) - 20,
            IpFamily::V6 => u32::from(VXLAN_OVERHEAD),
        };
        Vxlan { mac: Mac(mac(&input.node)), mtu: uplink.saturating_sub(overhead).max(MIN_MTU), local: self.local }
    }

    /// The underlay address of each other node that has one.
    fn peers<'a>(&'a self, input: &'a Input) -> impl Iterator<Item = (&'a Node, IpAddr)> {
        input.others().filter_map(|n| Some((n, n.address(self.family)?)))
    }

    /// One permanent neighbour per other node: its next-hop address.
    #[must_use]
    pub fn neighbours(&self, input: &Input) -> BTreeMap<IpAddr, Mac> {
        self.peers(input).filter_map(|(n, _)| Some((hop(input, n)?.via, Mac(mac(&n.name))))).collect()
    }

    /// One unicast forwarding entry per other node.
    #[must_use]
    pub fn fdb(&self, input: &Input) -> BTreeMap<Mac, IpAddr> {
        self.peers(input).map(|(n, address)| (Mac(mac(&n.name)), address)).collect()
    }

    /// The underlay addresses of all other nodes: only these may send us VXLAN packets.
    pub(crate) fn sources(&self, input: &Input) -> BTreeSet<IpAddr> {
        input.others().flat_map(|n| n.addresses.iter().copied()).filter(|a| IpFamily::of(*a) == self.family).collect()
    }
}

/// How packets get to another node over `hawser-vx`.
fn hop(input: &Input, node: &Node) -> Option<Hop> {
    if input.host.ipv6 {
        return Some(Hop { via: link_local(&node.name).into(), onlink: false });
    }
    Some(Hop { via: node.address(IpFamily::V4)?, onlink: true })
}

/// Whether this host can have routes to `net`.
fn routable(input: &Input, net: &IpNet) -> bool {
    input.host.ipv6 || matches!(net, IpNet::V4(_))
}

/// Addresses on `hawser-vx`: the host's own pod addresses, its next-hop address, the DNS addresses.
#[must_use]
pub fn addresses(input: &Input) -> BTreeMap<IpNet, Role> {
    let own = input.me().into_iter().flat_map(|n| [n.own_address(IpFamily::V4), n.own_address(IpFamily::V6)]).flatten();
    let mut addresses: BTreeMap<IpNet, Role> =
        input.dns_addresses.iter().map(|a| (IpNet::from(*a), Role::Service)).collect();
    addresses.extend(own.map(|a| (IpNet::from(a), Role::Own)));
    addresses.extend(IpNet::new(link_local(&input.node).into(), 64).ok().map(|net| (net, Role::Own)));
    addresses.retain(|a, _| routable(input, a));
    addresses
}

/// The routing rules.
#[must_use]
pub fn rules(input: &Input) -> BTreeSet<Rule> {
    let mut rules: BTreeSet<Rule> =
        DEVICES.map(|device| Rule::From { device, priority: PRIORITY_TRANSIT, table: TABLE_TRANSIT }).into();
    rules.insert(Rule::Unmarked { priority: PRIORITY_REMOTE, table: TABLE_REMOTE });
    if input.site {
        rules.insert(Rule::UnmarkedSpecific { priority: PRIORITY_SITE_MAIN, table: TABLE_MAIN });
        rules.insert(Rule::Unmarked { priority: PRIORITY_SITE, table: TABLE_TRANSIT });
    }
    rules
}

/// All routes but those of the gateway process.
#[must_use]
pub fn routes(input: &Input) -> BTreeMap<RouteKey, Route> {
    let mut routes = transit(input);
    let underlay = Underlay::choose(input);
    let device = underlay.map(|u| u.device(input).mtu);
    for remote in &input.remotes {
        let gateways = select::gateways(input, &remote.id);
        let mtu = path_mtu(input, &gateways, &remote.id);
        let hops: BTreeSet<Hop> = gateways
            .into_iter()
            .filter_map(|name| input.nodes.iter().find(|n| &n.name == name))
            .filter(|n| underlay.is_some_and(|u| n.address(u.family).is_some()))
            .filter_map(|n| hop(input, n))
            .collect();
        for prefix in remote.prefixes.iter() {
            if !hops.is_empty() {
                let key = RouteKey { table: TABLE_REMOTE, prefix: *prefix, metric: METRIC_VIA };
                let route = sourced(input, prefix, RouteKind::Via(hops.clone()));
                let mtu = mtu.map(|mtu| if prefix.addr().is_ipv6() { mtu.max(MIN_MTU) } else { mtu });
                routes.insert(key, Route { mtu: mtu.filter(|mtu| Some(*mtu) < device), ..route });
            }
            for table in [TABLE_REMOTE, TABLE_TRANSIT] {
                let key = RouteKey { table, prefix: *prefix, metric: METRIC_UNREACHABLE };
                routes.insert(key, Route { kind: RouteKind::Unreachable, source: None, mtu: None });
            }
        }
    }
    if input.site && underlay.is_some() {
        for prefix in input.vip_prefixes.iter() {
            let key = RouteKey { table: TABLE_REMOTE, prefix: *prefix, metric: METRIC_VIA };
            routes.insert(key, sourced(input, prefix, RouteKind::Device));
        }
    }
    routes.retain(|key, _| routable(input, &key.prefix));
    routes
}

/// What every way to a cluster by one of these gateways takes: what does not fit is to be cut, or its sender told, here.
/// Behind connection tracking on a bridge the kernel forgets how small a sender's fragments were, and makes larger ones.
fn path_mtu(input: &Input, gateways: &[&NodeName], cluster: &ClusterId) -> Option<u32> {
    let views = gateways.iter().filter_map(|name| input.gateways.get(*name)?.clusters.get(cluster));
    views.map(|view| view.mtu).min()
}

/// Between the nodes of this cluster: others' pods over `hawser-vx`, own ones as if this table were not there.
fn transit(input: &Input) -> BTreeMap<RouteKey, Route> {
    let mut routes = BTreeMap::new();
    let key = |prefix: &IpNet, metric| RouteKey { table: TABLE_TRANSIT, prefix: prefix.trunc(), metric };
    if let Some(underlay) = Underlay::choose(input) {
        for (node, _) in underlay.peers(input) {
            let Some(hop) = hop(input, node) else { continue };
            for cidr in &node.pod_cidrs {
                let kind = RouteKind::Via(BTreeSet::from([hop]));
                routes.insert(key(cidr, METRIC_VIA), sourced(input, cidr, kind));
            }
        }
    }
    for cidr in input.me().into_iter().flat_map(|n| &n.pod_cidrs) {
        routes.insert(key(cidr, METRIC_LOCAL), Route { kind: RouteKind::Throw, source: None, mtu: None });
    }
    routes
}

/// What this host itself sends by the route comes from its own pod address: the only one that other clusters answer.
fn sourced(input: &Input, prefix: &IpNet, kind: RouteKind) -> Route {
    let source = input.me().and_then(|n| n.own_address(IpFamily::of_net(prefix)));
    Route { kind, source, mtu: None }
}

/// Settings of our devices and the gateway's.
#[must_use]
pub fn device_settings() -> BTreeMap<String, DeviceSettings> {
    DEVICES.map(|d| (d.to_owned(), DeviceSettings { loose_rp_filter: true, forwarding: true })).into()
}

/// Kernel-wide settings.
#[must_use]
pub fn sysctls(input: &Input) -> Vec<Sysctl> {
    let mut sysctls = vec![
        Sysctl { path: "net/ipv4/ip_forward", value: "1", required: true },
        Sysctl { path: "net/ipv4/fib_multipath_hash_policy", value: "1", required: false },
    ];
    if input.host.ipv6 {
        sysctls.push(Sysctl { path: "net/ipv6/conf/all/forwarding", value: "1", required: true });
        sysctls.push(Sysctl { path: "net/ipv6/fib_multipath_hash_policy", value: "1", required: false });
    }
    sysctls
}
