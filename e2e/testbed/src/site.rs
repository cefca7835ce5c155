//! A site: a LAN, nodes on it, workloads behind the nodes. `manifests` is its directory, `processes` what runs on it.
//!
//! Site `s`, node `h`: LAN `192.168.s.h/24`, `fd00:0:0:s::h/64`; pods `10.s.h.0/24`, `fd10:s:h::/64`; claims `10.s.0.0/16`,
//! `fd10:s::/32`; virtual addresses `10.250.s.0/24`, `fd25:s::/112`; DNS `10.253.s.53`, `fd53:s::53`.

mod manifests;
mod processes;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::lab::capture;
use crate::{Lab, Netns, Process, Switch, wait_for};

/// Which family the tunnels run over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outer {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both are offered.
    Dual,
}

/// What a site is made of.
#[derive(Debug, Clone)]
pub struct SiteOptions {
    /// Its number, 1 to 24; all addresses follow from it.
    pub number: u8,
    /// Its cluster id.
    pub cluster: String,
    /// How many nodes are gateways; they come first.
    pub gateways: u8,
    /// How many nodes are not.
    pub workers: u8,
    /// The outer family.
    pub outer: Outer,
    /// Lanes of each gateway; none: the default.
    pub lanes: Option<u8>,
    /// MTU of WAN and LAN devices.
    pub mtu: u32,
}

impl SiteOptions {
    /// Two gateways, one worker, both outer families.
    #[must_use]
    pub fn new(number: u8, cluster: &str) -> Self {
        Self {
            number,
            cluster: cluster.to_owned(),
            gateways: 2,
            workers: 1,
            outer: Outer::Dual,
            lanes: None,
            mtu: 1500,
        }
    }
}

/// A node of a site.
pub struct Node {
    /// Its name: `<cluster>-gw<h>` or `<cluster>-n<h>`.
    pub name: String,
    /// Its number in the site.
    pub number: u8,
    /// Whether it is a gateway.
    pub gateway: bool,
    /// The host.
    pub ns: Netns,
    /// Its state folder.
    pub state: PathBuf,
    processes: BTreeMap<&'static str, Process>,
}

/// A client or server behind a node.
pub struct Workload {
    /// Its host.
    pub ns: Netns,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

impl Workload {
    /// Its address of the family of `like`.
    #[must_use]
    pub fn address_like(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv4() { self.v4.into() } else { self.v6.into() }
    }
}

/// See the module.
pub struct Site {
    /// What it is made of.
    pub options: SiteOptions,
    /// Its nodes, gateways first.
    pub nodes: Vec<Node>,
    /// The site directory: manifests, generated objects, secrets.
    pub dir: PathBuf,
    /// The wire between its nodes.
    pub lan: Switch,
    logs: PathBuf,
    workloads: std::cell::Cell<u8>,
    _capture: Option<Process>,
}

impl Site {
    pub(crate) fn new(lab: &Lab, options: SiteOptions) -> Result<Self> {
        let dir = lab.dir().join(&options.cluster);
        fs::create_dir(&dir)?;
        let lan = Switch::new(&format!("{}-lan", options.cluster))?;
        let logs = lab.logs();
        let capture = lab.is_captured().then(|| capture(lan.ns(), "br0", &logs).ok()).flatten();
        let resolv_conf = lab.dir().join(format!("{}-resolv.conf", options.cluster));
        fs::write(&resolv_conf, format!("nameserver 10.253.{}.53\noptions timeout:1 attempts:3\n", options.number))?;
        let mut site =
            Self { options, nodes: Vec::new(), dir, lan, logs, workloads: std::cell::Cell::new(0), _capture: capture };
        for number in 1..=site.options.gateways + site.options.workers {
            let node = site.make_node(lab, number)?;
            site.nodes.push(node);
        }
        site.write_manifests()?;
        Ok(site)
    }

    fn make_node(&self, lab: &Lab, number: u8) -> Result<Node> {
        let gateway = number <= self.options.gateways;
        let name = format!("{}-{}{number}", self.options.cluster, if gateway { "gw" } else { "n" });
        let (s, mtu) = (self.options.number, self.options.mtu);
        let ns = Netns::new(&name, None)?;
        self.lan.plug(&ns, "lan0", mtu)?;
        ns.ip(&format!("addr add 192.168.{s}.{number}/24 dev lan0"))?;
        ns.ip(&format!("addr add fd00:0:0:{s:x}::{number:x}/64 dev lan0"))?;
        if gateway {
            let host = 10 * u16::from(s) + u16::from(number);
            lab.wan().plug(&ns, "wan0", mtu)?;
            ns.ip(&format!("addr add 198.51.100.{host}/24 dev wan0"))?;
            ns.ip(&format!("addr add 2001:db8:0:ff::{host:x}/64 dev wan0"))?;
        }
        // A bridge without an address of its own takes the lowest of its ports': pods would lose their way when one leaves.
        ns.ip(&format!("link add pods0 address 02:70:6f:64:{s:02x}:{number:02x} type bridge mcast_snooping 0"))?;
        ns.ip(&format!("addr add 10.{s}.{number}.1/24 dev pods0"))?;
        ns.ip(&format!("addr add fd10:{s:x}:{number:x}::1/64 dev pods0"))?;
        ns.ip("link set pods0 up")?;
        let state = lab.dir().join("state").join(&name);
        fs::create_dir_all(&state)?;
        Ok(Node { name, number, gateway, ns, state, processes: BTreeMap::new() })
    }

    /// The node of that number, from 1.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn node(&self, number: u8) -> &Node {
        &self.nodes[usize::from(number) - 1]
    }

    /// Its gateways.
    pub fn gateways(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.gateway)
    }

    /// Its WAN addresses (of a gateway).
    #[must_use]
    pub fn wan_addresses(&self, number: u8) -> [IpAddr; 2] {
        let host = 10 * u16::from(self.options.number) + u16::from(number);
        let v4 = Ipv4Addr::new(198, 51, 100, host.to_be_bytes()[1]);
        [v4.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0xff, 0, 0, 0, host).into()]
    }

    /// The addresses its route agents answer DNS on.
    #[must_use]
    pub fn dns(&self) -> [IpAddr; 2] {
        let s = self.options.number;
        [Ipv4Addr::new(10, 253, s, 53).into(), Ipv6Addr::new(0xfd53, s.into(), 0, 0, 0, 0, 0, 0x53).into()]
    }

    /// Starts a workload behind a node.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_workload(&self, node: u8) -> Result<Workload> {
        let number = self.workloads.get() + 1;
        self.workloads.set(number);
        let (s, host, last) = (self.options.number, self.node(node), 9 + number);
        let resolv_conf = self.dir.with_file_name(format!("{}-resolv.conf", self.options.cluster));
        let ns = Netns::new(&format!("{}-pod{number}", self.options.cluster), Some(&resolv_conf))?;
        let there = host.ns.path();
        let port = format!("pod{number}");
        ns.ip(&format!("link add eth0 type veth peer name {port} netns {}", there.display()))?;
        host.ns.ip(&format!("link set {port} master pods0 up"))?;
        ns.ip(&format!("addr add 10.{s}.{node}.{last}/24 dev eth0"))?;
        ns.ip(&format!("addr add fd10:{s:x}:{node:x}::{last:x}/64 dev eth0"))?;
        ns.ip("link set eth0 up")?;
        ns.ip(&format!("route add default via 10.{s}.{node}.1"))?;
        ns.ip(&format!("route add default via fd10:{s:x}:{node:x}::1"))?;
        let v6 = Ipv6Addr::new(0xfd10, s.into(), node.into(), 0, 0, 0, 0, last.into());
        Ok(Workload { ns, v4: Ipv4Addr::new(10, s, node, last), v6 })
    }

    /// All that the kernel of a node holds of addresses: routes and nft rules.
    ///
    /// # Errors
    /// When `ip` or `nft` fail.
    pub fn ns_text(&self, node: u8) -> Result<String> {
        let ns = &self.node(node).ns;
        let routes = ns.ip("route show table all")? + &ns.ip("-6 route show table all")?;
        Ok(routes + &ns.output("nft", &["list", "ruleset"], None)?)
    }

    /// Waits until `hawser status` calls all `clusters` of others live with `paths` live paths on every gateway.
    ///
    /// # Errors
    /// With the last status seen.
    pub fn wait_paths(&self, clusters: usize, paths: u32, limit: Duration) -> Result<()> {
        let what = format!("{}: {clusters} clusters with {paths} live paths each", self.options.cluster);
        wait_for(&what, limit, || {
            for node in self.gateways() {
                let report = crate::traffic::admin::get(&node.state.join("gateway/admin.sock"), "/report")
                    .with_context(|| format!("{} has no report", node.name))?;
                let live = report.matches("\"state\":\"Live\"").count();
                let up = report.matches("\"state\":\"Up\"").count();
                anyhow::ensure!(
                    live == clusters && up == clusters * paths as usize,
                    "{}: {live} live clusters, {up} paths up: {report}",
                    node.name
                );
            }
            Ok(())
        })
    }

    /// Waits until every node has a route of each family to the other site's pods.
    ///
    /// # Errors
    /// With what the node's kernel said last.
    pub fn wait_routes(&self, to: &Self, limit: Duration) -> Result<()> {
        let s = to.options.number;
        wait_for(&format!("{}: routes to {}", self.options.cluster, to.options.cluster), limit, || {
            for node in &self.nodes {
                for pod in [format!("10.{s}.1.10"), format!("fd10:{s:x}:1::a")] {
                    node.ns.ip(&format!("route get {pod}")).with_context(|| format!("{} has no route", node.name))?;
                }
            }
            Ok(())
        })
    }
}
