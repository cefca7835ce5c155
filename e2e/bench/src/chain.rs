//! The whole way: pod, its node, VXLAN, gateway, tunnel, gateway, VXLAN, node, pod; and the same way with the gateways
//! routing to each other without the tunnel.
//!
//! Gateways and route agents are the real processes on the testbed's sites; nothing else of them changes between the two
//! ways than a routing rule on each gateway.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_model::defaults::{TABLE_TRANSIT, VXLAN_DEVICE};
use hawser_testbed::site::Outer;
use hawser_testbed::{Lab, Site, SiteOptions, wait_for};

use crate::agent;
use crate::bed::{Bed, End, START, TUNNEL_MTU};
use crate::hawser::report;
use crate::subject::Subject;

/// Priority of the rules that lead past the tunnel, before Hawser's.
const PRIORITY: u32 = 4800;
/// The table with the way past the tunnel.
const TABLE: u32 = 4800;
/// The gateway's and the other node's number in a site.
const GATEWAY: u8 = 1;
const WORKER: u8 = 2;

/// Two sites; see the module.
pub struct Chain {
    sites: [Site; 2],
    _lab: Lab,
}

/// Two pods on the far ends of the chain. The programs of the hops are not measured one by one.
///
/// # Errors
/// When a program is missing or does not come up.
pub fn ends() -> Result<([End; 2], Chain)> {
    let lab = Lab::without_captures("bench")?;
    // Logs are of use only when something goes wrong below.
    let result = set_up(&lab);
    if result.is_ok() {
        lab.pass();
    }
    let (ends, sites) = result?;
    Ok((ends, Chain { sites, _lab: lab }))
}

fn set_up(lab: &Lab) -> Result<([End; 2], [Site; 2])> {
    let mut sites = [site(lab, 1, "west")?, site(lab, 2, "east")?];
    for site in &mut sites {
        agent::join(&site.dir, &["west".to_owned(), "east".to_owned()])?;
        for node in [GATEWAY, WORKER] {
            site.start(node, "hawser-route-agent")?;
        }
        site.start(GATEWAY, "hawser-gateway")?;
    }
    introduce(&sites[0], &sites[1])?;
    introduce(&sites[1], &sites[0])?;
    for site in &sites {
        wait_for("the other site to be reached by full-sized packets", START, || {
            let report = report(&site.node(GATEWAY).state)?;
            let path = report.paths.first().context("no path")?;
            ensure!(path.state == "Up" && u32::from(path.mtu) == TUNNEL_MTU, "{path:?}");
            Ok(())
        })?;
    }
    let end = |site: &Site| -> Result<End> {
        let pod = site.add_workload(WORKER)?;
        Ok(End { measured: Vec::new(), ns: pod.ns, inner: pod.v4.into() })
    };
    let ends = [end(&sites[0])?, end(&sites[1])?];
    Ok((ends, sites))
}

fn site(lab: &Lab, number: u8, cluster: &str) -> Result<Site> {
    lab.add_site(SiteOptions { gateways: 1, workers: 1, outer: Outer::V4, ..SiteOptions::new(number, cluster) })
}

/// Tells `to` of `site`'s gateway.
fn introduce(site: &Site, to: &Site) -> Result<()> {
    let gateway = site.node(GATEWAY);
    let lanes = wait_for("the gateway to start", Duration::from_secs(20), || agent::lanes(&site.dir, &gateway.name))?;
    let candidate = site.wan_addresses(GATEWAY)[0].to_string();
    agent::learn(&to.dir, vec![agent::cluster(&site.options.cluster, &prefix(site), lanes, &candidate)])
}

fn prefix(site: &Site) -> String {
    format!("10.{}.0.0/16", site.options.number)
}

impl Chain {
    /// Leads packets past the tunnel, or through it again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn bypass(&self, past: bool) -> Result<()> {
        let [west, east] = &self.sites;
        for (site, other) in [(west, east), (east, west)] {
            let ns = &site.node(GATEWAY).ns;
            let (own, remote, next) = (prefix(site), prefix(other), other.wan_addresses(GATEWAY)[0]);
            let outwards = format!("prio {PRIORITY} iif {VXLAN_DEVICE} to {remote} lookup {TABLE}");
            let inwards = format!("prio {PRIORITY} iif wan0 to {own} lookup {TABLE_TRANSIT}");
            let verb = if past { "add" } else { "del" };
            ns.ip(&format!("route replace {remote} via {next} dev wan0 table {TABLE}"))?;
            ns.ip(&format!("rule {verb} {outwards}"))?;
            ns.ip(&format!("rule {verb} {inwards}"))?;
            // Through the tunnel, transit is not tracked either.
            ns.nft(&format!(
                "table ip bench\ndelete table ip bench\ntable ip bench {{ chain transit {{\n\
                 type filter hook prerouting priority -450; policy accept;\niifname wan0 ip daddr {own} notrack\n}}\n}}\n"
            ))?;
        }
        Ok(())
    }

    /// Bytes that the gateways have sent through the tunnel.
    ///
    /// # Errors
    /// When a gateway does not answer.
    pub fn tunnelled(&self) -> Result<u64> {
        let sent = |site: &Site| -> Result<u64> {
            Ok(report(&site.node(GATEWAY).state)?.paths.iter().map(|path| path.tx_bytes).sum())
        };
        self.sites.iter().map(sent).sum()
    }
}

/// TCP from pod to pod for a time, in Gbit/s: through the tunnel, or past it. What passed the tunnel proves which it was.
///
/// # Errors
/// When the measurement fails or took the other way.
pub fn rate(bed: &Bed, subject: Subject, flows: u32, time: Duration) -> Result<f64> {
    let chain = bed.more::<Chain>()?;
    let past = subject == Subject::BareChain;
    let settle = || std::thread::sleep(Duration::from_millis(600));
    if past {
        chain.bypass(true)?;
    }
    settle();
    let before = chain.tunnelled()?;
    let measured = bed.tcp(flows, time);
    // Reports are up to a quarter of a second old.
    settle();
    let tunnelled = chain.tunnelled()? - before;
    if past {
        chain.bypass(false)?;
    }
    let tcp = measured?;
    let share = tunnelled as f64 * 8e-9 / tcp.amount;
    ensure!(if past { share < 0.05 } else { share > 0.9 }, "{:.0} % of it went through the tunnel", share * 100.0);
    Ok(tcp.rate)
}
