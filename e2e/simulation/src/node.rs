//! A node beside its cluster's gateways: asks them as `hawser-route-agent` does, and routes as `hawser-route-plan` says.
//!
//! Datagrams on the cluster's own network are unsealed here; codec and replay protection are tested where they live.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use hawser_liveness::{ClusterState, Config, Event, Path, State, Time};
use hawser_model::ClusterId;
use hawser_model::defaults::TABLE_REMOTE;
use hawser_node_probe::{LivePage, LiveView, Reach, link_local, pages};
use hawser_route_plan::{GatewayView, Host, Input, Remote, Route, RouteKey, RouteKind, Uplink, routes};

use crate::topology::{HostId, Topology};

/// How often a gateway says unasked that its state changed, and how far apart.
pub(crate) const NOTICES: u32 = 3;
pub(crate) const NOTICE_GAP: Duration = Duration::from_millis(10);

/// What gateways say of every way; no packet here is too large for it.
pub(crate) const MTU: u16 = 1420;

/// What is said on a cluster's own network.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    Ask { gateway: HostId, seq: u64 },
    Answer { gateway: HostId, instance: u64, seq: u64, page: LivePage },
    Notice { gateway: HostId, instance: u64, page: LivePage },
}

/// What a gateway process says about itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Voice {
    version: u64,
    pub(crate) draining: bool,
    pub(crate) clusters: Vec<(ClusterId, Reach)>,
    pub(crate) since: Time,
}

impl Voice {
    /// Takes in how the gateway stands; true where that is news.
    pub(crate) fn prepare(&mut self, draining: bool, clusters: Vec<(ClusterId, Reach)>, now: Time) -> bool {
        if self.version > 0 && self.draining == draining && self.clusters == clusters {
            return false;
        }
        *self = Self { version: self.version + 1, draining, clusters, since: now };
        true
    }

    pub(crate) fn page(&self) -> LivePage {
        pages(self.version, self.draining, &self.clusters).swap_remove(0)
    }
}

/// Where a packet of a node goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// To one of these gateways.
    Via(Vec<HostId>),
    /// Nowhere, and its sender is told.
    Unreachable,
    /// By whatever other table knows: out of the node in the clear.
    Leak,
}

#[derive(Debug)]
struct Gateway {
    path: Path,
    view: LiveView,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) cluster: usize,
    input: Input,
    gateways: BTreeMap<HostId, Gateway>,
    by_address: BTreeMap<IpAddr, HostId>,
    routes: BTreeMap<RouteKey, Route>,
    pub(crate) wakes_at: Option<Time>,
}

impl Node {
    pub(crate) fn new(cluster: usize, topology: &Topology) -> Self {
        let hosts = &topology.clusters[cluster];
        let node = |name: &str, last: u8, gateway| hawser_route_plan::Node {
            name: name.parse().expect("a valid name"),
            addresses: vec![[172, 16, 0, last].into()],
            pod_cidrs: Vec::new(),
            gateway,
        };
        let me = node("worker", 1, false);
        let others = (0_usize..).zip(hosts).map(|(i, h)| node(topology.hosts[*h].node.as_str(), 10 + i as u8, true));
        let remotes = (0..topology.clusters.len()).filter(|c| *c != cluster);
        let remote = |c| Remote { id: Topology::id(c), prefixes: Topology::prefixes(c) };
        let uplinks = vec![Uplink { name: "eth0".to_owned(), mtu: 1500 }];
        let input = Input {
            node: me.name.clone(),
            site: true,
            nodes: std::iter::once(me).chain(others).collect(),
            prefixes: Topology::prefixes(cluster),
            vip_prefixes: std::iter::empty().collect(),
            dns_addresses: Vec::new(),
            remotes: remotes.map(remote).collect(),
            gateways: BTreeMap::new(),
            services: Vec::new(),
            host: Host { ipv6: true, uplinks, pod_bridges: BTreeSet::new() },
        };
        let gateway = || Gateway { path: Path::new(Config::default(), Time::START), view: LiveView::default() };
        let mut this = Self {
            cluster,
            input,
            gateways: hosts.iter().map(|h| (*h, gateway())).collect(),
            by_address: hosts.iter().map(|h| (link_local(&topology.hosts[*h].node).into(), *h)).collect(),
            routes: BTreeMap::new(),
            wakes_at: None,
        };
        this.plan(topology);
        this
    }

    /// Judges what is due and asks who is to be asked; the questions.
    pub(crate) fn turn(&mut self, topology: &Topology, now: Time) -> Vec<Said> {
        let mut asked = Vec::new();
        for (&host, gateway) in &mut self.gateways {
            gateway.path.handle_timeout(now);
            while let Some(seq) = gateway.path.poll_probe(now) {
                asked.push(Said::Ask { gateway: host, seq });
            }
        }
        self.follow(topology);
        asked
    }

    /// Takes in what a gateway says.
    pub(crate) fn hear(&mut self, said: &Said, topology: &Topology, now: Time) {
        let (Said::Answer { gateway, instance, page, .. } | Said::Notice { gateway, instance, page }) = said else {
            return;
        };
        let Some(gateway) = self.gateways.get_mut(gateway) else { return };
        match said {
            Said::Answer { seq, .. } => gateway.path.handle_probe_answer(*seq, now),
            _ => gateway.path.handle_authenticated(now),
        }
        let news = gateway.view.apply(*instance, page);
        gateway.path.handle_drain(gateway.view.draining(), now);
        if news {
            self.plan(topology);
        }
        self.follow(topology);
    }

    fn follow(&mut self, topology: &Topology) {
        let mut news = false;
        for gateway in self.gateways.values_mut() {
            while let Some(event) = gateway.path.poll_event() {
                news |= matches!(event, Event::State { .. } | Event::PeerDraining(_));
            }
        }
        if news {
            self.plan(topology);
        }
    }

    /// Works the routes out anew.
    fn plan(&mut self, topology: &Topology) {
        let view = |(host, gateway): (&HostId, &Gateway)| (topology.hosts[*host].node.clone(), gateway.seen());
        self.input.gateways = self.gateways.iter().map(view).collect();
        self.routes = routes::routes(&self.input);
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.gateways.values().filter_map(|g| g.path.poll_timeout().map(|(at, _)| at)).min()
    }

    /// Where a packet to `dst` goes: the longest prefix, then the lowest metric.
    pub(crate) fn route(&self, dst: IpAddr) -> Way {
        let fits = |key: &RouteKey| key.table == TABLE_REMOTE && key.prefix.contains(&dst);
        let best = self.routes.iter().filter(|(key, _)| fits(key));
        let best = best.max_by_key(|(key, _)| (key.prefix.prefix_len(), std::cmp::Reverse(key.metric)));
        match best.map(|(_, route)| &route.kind) {
            Some(RouteKind::Via(hops)) => {
                Way::Via(hops.iter().filter_map(|hop| self.by_address.get(&hop.via).copied()).collect())
            }
            Some(RouteKind::Unreachable) => Way::Unreachable,
            Some(RouteKind::Device | RouteKind::Throw) | None => Way::Leak,
        }
    }

    /// How a gateway stands for this node, and what it is known to say about a cluster.
    pub(crate) fn knows(&self, host: HostId, cluster: &ClusterId) -> Option<(State, ClusterState)> {
        let said = |view: &LiveView| view.reach(cluster).map_or(ClusterState::Unknown, |reach| reach.state);
        self.gateways.get(&host).map(|g| (g.path.state(), said(&g.view)))
    }
}

impl Gateway {
    fn seen(&self) -> GatewayView {
        GatewayView::new(self.path.state(), &self.view)
    }
}
