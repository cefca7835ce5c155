//! Nodes of one cluster as network namespaces on a LAN, each with a pod, converged by the code under test.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "test code outside test functions")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hawser_model::export::{EndpointPort, Protocol, ServicePort};
use hawser_model::{ClusterId, NodeName, PrefixSet, ServiceName};
use hawser_route_kernel::{Kernel, Report};
use hawser_route_plan::{
    Backend, ClusterReach, ClusterView, Desired, GatewayView, Group, Host, Input, Node, Path, Remote, Service,
};
use hawser_testbed::{Netns, Switch, traffic};

/// The remote cluster's addresses, living on gateways' TUN stand-in.
pub(crate) const REMOTE4: &str = "10.2.0.0/16";
pub(crate) const REMOTE6: &str = "fd10:2::/32";

/// A host with one pod behind a bridge, and a kernel driven by the code under test.
pub(crate) struct Host1 {
    pub(crate) name: NodeName,
    pub(crate) number: u8,
    pub(crate) ns: Arc<Netns>,
    pub(crate) pod: Netns,
    runtime: Arc<tokio::runtime::Runtime>,
    kernel: Arc<Mutex<Option<Kernel>>>,
}

pub(crate) struct Cluster {
    pub(crate) lan: Switch,
    pub(crate) hosts: Vec<Host1>,
    pub(crate) gateways: BTreeMap<NodeName, GatewayView>,
    pub(crate) services: Vec<Service>,
    pub(crate) ipv6: bool,
}

pub(crate) fn id(s: &str) -> ClusterId {
    ClusterId::new(s).unwrap()
}

/// `gateways` of `nodes` hosts are gateways; they come first.
pub(crate) fn cluster(nodes: u8, gateways: u8) -> Cluster {
    let lan = Switch::new("lan").unwrap();
    let hosts: Vec<Host1> = (1..=nodes).map(|n| host(&lan, n)).collect();
    let live = |_: &Host1| GatewayView {
        path: Path::Usable,
        draining: false,
        clusters: BTreeMap::from([(id("east"), ClusterView { reach: ClusterReach::Live, mtu: 1420 })]),
    };
    let gateways = hosts.iter().take(gateways.into()).map(|h| (h.name.clone(), live(h))).collect();
    Cluster { lan, hosts, gateways, services: Vec::new(), ipv6: true }
}

fn host(lan: &Switch, n: u8) -> Host1 {
    let ns = Netns::new(&format!("n{n}"), None).unwrap();
    lan.plug(&ns, "lan0", 1500).unwrap();
    let pod = Netns::new(&format!("p{n}"), None).unwrap();
    for line in [
        format!("addr add 192.168.9.{n}/24 dev lan0"),
        format!("addr add fd00:9::{n}/64 dev lan0 nodad"),
        // Its own address: one taken from the ports would change with them.
        format!("link add pods0 address 02:70:6f:64:00:{n:02x} type bridge mcast_snooping 0"),
        format!("addr add 10.1.{n}.1/24 dev pods0"),
        format!("addr add fd10:1:{n}::1/64 dev pods0 nodad"),
        "link set pods0 up".to_owned(),
    ] {
        ns.ip(&line).unwrap();
    }
    add_pod(&ns, &pod, n, 10);
    let runtime = ns.run(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    let name = NodeName::new(format!("n{n}")).unwrap();
    Host1 { name, number: n, ns: Arc::new(ns), pod, runtime: Arc::new(runtime), kernel: Arc::default() }
}

/// Puts `pod` behind the host's bridge, as `.last`.
pub(crate) fn add_pod(ns: &Netns, pod: &Netns, n: u8, last: u8) {
    let there = ns.path();
    pod.ip(&format!("link add eth0 type veth peer name pod{last} netns {}", there.display())).unwrap();
    ns.ip(&format!("link set pod{last} master pods0 up")).unwrap();
    for line in [
        format!("addr add 10.1.{n}.{last}/24 dev eth0"),
        format!("addr add fd10:1:{n}::{last}/64 dev eth0 nodad"),
        "link set eth0 up".to_owned(),
        format!("route add default via 10.1.{n}.1"),
        format!("route add default via fd10:1:{n}::1"),
    ] {
        pod.ip(&line).unwrap();
    }
}

impl Host1 {
    /// Forgets everything it knows, as a restarted process does.
    pub(crate) fn restart(&self) {
        *self.kernel.lock().unwrap() = None;
    }

    /// Runs `job` with this host's kernel, on its thread.
    pub(crate) fn with<T: Send + 'static>(
        &self,
        job: impl FnOnce(&tokio::runtime::Runtime, &mut Kernel) -> T + Send + 'static,
    ) -> T {
        let (runtime, kernel) = (Arc::clone(&self.runtime), Arc::clone(&self.kernel));
        self.ns.run(move || {
            let _inside = runtime.enter();
            let mut kernel = kernel.lock().unwrap();
            let kernel = kernel.get_or_insert_with(|| Kernel::open().unwrap());
            job(&runtime, kernel)
        })
    }

    pub(crate) fn converge(&self, wanted: Desired) -> Report {
        self.with(move |runtime, kernel| runtime.block_on(kernel.converge(&wanted)))
    }

    /// Converges without an error and says what changed.
    pub(crate) fn pass(&self, wanted: Desired) -> Vec<String> {
        let report = self.converge(wanted);
        let errors: Vec<String> = report.errors.iter().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "on {}: {errors:#?}; changed {:#?}", self.name, report.changes);
        report.changes
    }

    /// What nft holds.
    pub(crate) fn nft(&self) -> String {
        self.ns.output("nft", &["list", "ruleset"], None).unwrap()
    }

    /// An address of its pods' network, of the family of `like`: 1 is its own, 10 its pod's.
    pub(crate) fn address(&self, like: &str, last: u8) -> String {
        let n = self.number;
        if like.contains(':') { format!("fd10:1:{n}::{last}") } else { format!("10.1.{n}.{last}") }
    }
}

/// Sends an echo request to `to` on `server`, which must see `source`.
pub(crate) fn ping(from: &Netns, server: &Netns, to: &str, source: &str) {
    let limit = Duration::from_secs(2);
    match traffic::raw::ping(from, server, to.parse().unwrap(), limit) {
        Ok(seen) => assert_eq!(seen, source.parse::<IpAddr>().unwrap(), "{} to {to}", from.name()),
        Err(error) => panic!("{} to {to}: {error:#}\n{}\n{}", from.name(), dump(from), dump(server)),
    }
}

/// What a namespace's kernel holds, for messages.
pub(crate) fn dump(ns: &Netns) -> String {
    let mut all = format!("== {}\n", ns.name());
    for what in ["-br addr", "route show table all", "-6 route show table all", "rule", "neigh"] {
        all += &ns.ip(what).unwrap_or_else(|e| e.to_string());
    }
    all + &ns.output("nft", &["list", "ruleset"], None).unwrap_or_else(|e| e.to_string())
}

impl Cluster {
    pub(crate) fn node(h: &Host1) -> Node {
        let n = h.number;
        Node {
            name: h.name.clone(),
            addresses: [format!("192.168.9.{n}"), format!("fd00:9::{n}")].map(|a| a.parse().unwrap()).into(),
            pod_cidrs: [format!("10.1.{n}.0/24"), format!("fd10:1:{n}::/64")].map(|c| c.parse().unwrap()).into(),
            gateway: false,
        }
    }

    pub(crate) fn input(&self, of: usize) -> Input {
        let nodes: Vec<Node> =
            self.hosts.iter().map(|h| Node { gateway: self.gateways.contains_key(&h.name), ..Self::node(h) }).collect();
        let host = &self.hosts[of];
        let mut input = Input {
            node: host.name.clone(),
            site: true,
            nodes,
            prefixes: nets(&["10.1.0.0/16", "fd10:1::/32"]),
            vip_prefixes: nets(&["10.250.0.0/24", "fd25::/112"]),
            dns_addresses: ["10.253.0.53", "fd53::53"].map(|a| a.parse().unwrap()).into(),
            remotes: vec![Remote { id: id("east"), prefixes: nets(&[REMOTE4, REMOTE6]) }],
            gateways: self.gateways.clone(),
            services: self.services.clone(),
            host: Host::default(),
        };
        let (me, others) = (input.me().cloned(), input.others().cloned().collect::<Vec<_>>());
        input.host = host.with(move |runtime, kernel| {
            let others: Vec<&Node> = others.iter().collect();
            runtime.block_on(kernel.host(me.as_ref(), &others)).unwrap()
        });
        assert_eq!(input.host.ipv6, self.ipv6);
        input
    }

    pub(crate) fn desired(&self, of: usize) -> Desired {
        hawser_route_plan::plan(&self.input(of))
    }

    pub(crate) fn converge(&self) {
        for (i, host) in self.hosts.iter().enumerate() {
            host.pass(self.desired(i));
        }
    }
}

pub(crate) fn nets(all: &[&str]) -> PrefixSet {
    all.iter().map(|n| n.parse::<ipnet::IpNet>().unwrap()).collect()
}

/// A service on `vips` whose ports lead to `backends` of these clusters.
pub(crate) fn service(name: &str, vips: &[&str], port: (Protocol, u16, u16), backends: &[(&str, &str)]) -> Service {
    let (protocol, number, target) = port;
    let groups = backends.iter().map(|(cluster, address)| Group {
        cluster: id(cluster),
        ports: vec![EndpointPort {
            name: "main".into(),
            protocol,
            app_protocol: None,
            port: target,
            service_port: Some(number),
        }],
        endpoints: vec![Backend { address: address.parse().unwrap(), ready: true, serving: true, node: None }],
    });
    Service {
        name: ServiceName::new("shop", name).unwrap(),
        vips: vips.iter().map(|v| v.parse().unwrap()).collect(),
        ports: vec![ServicePort { name: "main".into(), protocol, app_protocol: None, port: number }],
        affinity: None,
        local_only: false,
        groups: groups.collect(),
    }
}

/// A stand-in for the gateway's TUN: a veth to a namespace that answers for the whole remote cluster.
pub(crate) struct Remote1 {
    pub(crate) ns: Netns,
}

/// Joins gateway hosts to one remote host by stand-ins of their TUNs, with the routes that a gateway process makes.
pub(crate) fn remote(gateways: &[&Host1]) -> Remote1 {
    let ns = Netns::new("remote", None).unwrap();
    ns.ip("addr add 10.2.5.10/32 dev lo").unwrap();
    ns.ip("addr add fd10:2:5::10/128 dev lo nodad").unwrap();
    for gateway in gateways {
        let n = gateway.number;
        let there = gateway.ns.path();
        ns.ip(&format!("link add tun{n} type veth peer name hawser-tun netns {}", there.display())).unwrap();
        for line in [
            format!("link set tun{n} up"),
            format!("addr add 169.254.77.{n}/32 dev tun{n}"),
            format!("addr add fe80::{n}/64 dev tun{n} nodad"),
        ] {
            ns.ip(&line).unwrap();
        }
        for line in [
            "link set hawser-tun up".to_owned(),
            format!("addr add 10.1.{n}.1/32 dev hawser-tun"),
            "addr add fe80::99/64 dev hawser-tun nodad".to_owned(),
        ] {
            gateway.ns.ip(&line).unwrap();
        }
        for table in [4857, 4858] {
            for (remote, family, via) in [(REMOTE4, "", "inet6 "), (REMOTE6, "-6 ", "")] {
                let line = format!(
                    "{family}route add {remote} via {via}fe80::{n} dev hawser-tun table {table} metric 100 {}",
                    if family.is_empty() { format!("src 10.1.{n}.1") } else { format!("src fd10:1:{n}::1") }
                );
                gateway.ns.ip(&line).unwrap();
            }
        }
    }
    let hops = |v: &str| -> String {
        gateways.iter().map(|g| format!(" nexthop via {v}fe80::99 dev tun{}", g.number)).collect()
    };
    ns.ip(&format!("route add 10.1.0.0/16 src 10.2.5.10{}", hops("inet6 "))).unwrap();
    ns.ip(&format!("-6 route add fd10:1::/32 src fd10:2:5::10{}", hops(""))).unwrap();
    Remote1 { ns }
}
