//! What every scenario starts from: a broker, `west` and `east` joined, all processes running, a server in `west`.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hawser_testbed::site::Node;
use hawser_testbed::traffic::udp::{self, Loss};
use hawser_testbed::traffic::{admin, dns, http};
use hawser_testbed::{Lab, Site, SiteOptions, Workload, wait_for};
use serde_json::Value;

/// Long enough for a loaded machine; conditions end waits, not this.
pub const LIMIT: Duration = Duration::from_secs(60);
/// The exported service's name.
pub const WEB: &str = "web.shop.svc.clusterset.local.";

/// Held by the one rope of this process: a rope is some twenty processes, and scenarios count lost packets, so that ropes
/// side by side would starve each other.
static TURN: Mutex<()> = Mutex::new(());

/// Fields are dropped in order: sites' processes before the laboratory.
pub struct Rope {
    /// Number 1: exports `web`.
    pub west: Site,
    /// Number 2: uses it.
    pub east: Site,
    /// WAN and broker.
    pub lab: Lab,
    _turn: Option<MutexGuard<'static, ()>>,
}

/// A server of `web` with both its protocols.
pub struct Web {
    /// Where it runs.
    pub workload: Workload,
    /// HTTP on port 8080.
    pub http: http::Server,
    /// UDP echo on port 7.
    pub udp: udp::Echo,
}

/// Ports of `web`: name, protocol, port, target port.
pub const WEB_PORTS: [(&str, &str, u16, u16); 2] = [("http", "TCP", 80, 8080), ("echo", "UDP", 7, 7)];

impl Rope {
    /// Starts everything and waits until every gateway has its paths up and every node its routes.
    ///
    /// # Errors
    /// With the step that failed and what was seen.
    pub fn start(name: &str) -> Result<Self> {
        Self::start_with(name, |_| {})
    }

    /// Like [`Rope::start`], with other options for both sites.
    ///
    /// # Errors
    /// With the step that failed and what was seen.
    pub fn start_with(name: &str, options: impl Fn(&mut SiteOptions)) -> Result<Self> {
        let mut rope = Self::prepare(name, options)?;
        rope.join_all()?;
        rope.wait_up()?;
        Ok(rope)
    }

    /// The laboratory with a running broker and two sites, not yet joined; nothing runs in the sites.
    ///
    /// # Errors
    /// With the step that failed.
    pub fn prepare(name: &str, options: impl Fn(&mut SiteOptions)) -> Result<Self> {
        // A scenario that failed has left nothing in a bad state.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Self::build(Lab::new(name)?, Some(turn), options)
    }

    /// The same for measurements: nothing is recorded on any wire, and others may run at the same time.
    ///
    /// # Errors
    /// With the step that failed.
    pub fn prepare_quiet(name: &str, options: impl Fn(&mut SiteOptions)) -> Result<Self> {
        Self::build(Lab::without_captures(name)?, None, options)
    }

    fn build(mut lab: Lab, turn: Option<MutexGuard<'static, ()>>, options: impl Fn(&mut SiteOptions)) -> Result<Self> {
        lab.init_broker("demo")?;
        lab.start_broker()?;
        let [west, east] = [(1, "west"), (2, "east")].map(|(number, cluster)| {
            let mut site = SiteOptions::new(number, cluster);
            options(&mut site);
            lab.add_site(site)
        });
        Ok(Self { west: west?, east: east?, lab, _turn: turn })
    }

    /// Ends a scenario that went well; the logs of any other are kept.
    ///
    /// # Errors
    /// Never: scenarios end with it.
    pub fn pass(&self) -> Result<()> {
        self.lab.pass();
        Ok(())
    }

    /// Joins both sites with one-use tokens and starts their processes.
    ///
    /// # Errors
    /// With the step that failed.
    pub fn join_all(&mut self) -> Result<()> {
        for site in [&mut self.west, &mut self.east] {
            let token = self.lab.token(&site.options.cluster, &[])?;
            site.join(&self.lab, &token).context("Failed to join")?;
            site.start_all()?;
        }
        Ok(())
    }

    /// Waits until every gateway of both sites has all its paths up, and every node its routes.
    ///
    /// # Errors
    /// With the last report, or what a node's kernel says.
    pub fn wait_up(&self) -> Result<()> {
        for (site, other) in [(&self.west, &self.east), (&self.east, &self.west)] {
            site.wait_paths(1, u32::from(other.options.gateways), LIMIT)?;
            site.wait_routes(other, LIMIT)?;
        }
        Ok(())
    }

    /// Starts a server of `web` behind a node of a site and declares the Service there.
    ///
    /// # Errors
    /// With the step that failed.
    pub fn web(site: &Site, node: u8) -> Result<Web> {
        let workload = site.add_workload(node)?;
        let http = http::Server::start(&workload.ns, 8080, &site.options.cluster)?;
        let udp = udp::Echo::start(&workload.ns, 7, &site.options.cluster)?;
        site.service("web", false, &WEB_PORTS, &[&workload])?;
        Ok(Web { workload, http, udp })
    }

    /// Exports `shop/web` of a site.
    ///
    /// # Errors
    /// With what `hawser export` said.
    pub fn export(&self, site: &Site) -> Result<()> {
        site.hawser(&self.lab, 1, &["export", "shop/web", "--wait", "0s"])?.success()?;
        Ok(())
    }

    /// Waits until the DNS of `site` answers [`WEB`], and gives the addresses, IPv4 first.
    ///
    /// # Errors
    /// With the last answer.
    pub fn resolve(site: &Site, client: &Workload) -> Result<[IpAddr; 2]> {
        let [dns4, dns6] = site.dns();
        let one = |server: IpAddr, kind: &str| {
            wait_for(&format!("{kind} of {WEB} from {server}"), LIMIT, || {
                let answer = dns::query(&client.ns, server, WEB, kind)?;
                let first = answer.data.first().with_context(|| format!("no address: {answer:?}"))?;
                first.parse::<IpAddr>().with_context(|| format!("not an address: {answer:?}"))
            })
        };
        Ok([one(dns4, "A")?, one(dns6, "AAAA")?])
    }

    /// What each gateway of `site` reports of itself.
    ///
    /// # Errors
    /// When one does not answer.
    pub fn reports(site: &Site) -> Result<Vec<Value>> {
        site.gateways()
            .map(|node| {
                let report = admin::get(&node.state.join("gateway/admin.sock"), "/report")?;
                Ok(serde_json::from_str(&report)?)
            })
            .collect()
    }

    /// Packets that the gateways of `site` dropped for a reason, e.g. `ingress_source`.
    ///
    /// # Errors
    /// When a gateway does not answer, or counts no such reason.
    pub fn drops(site: &Site, reason: &str) -> Result<u64> {
        let reports = Self::reports(site)?;
        let counts = reports
            .iter()
            .map(|r| r["drops"][reason].as_u64().with_context(|| format!("no counter {reason:?} in {}", r["drops"])));
        counts.sum()
    }

    /// The gateways of both sites.
    pub fn gateways(&self) -> impl Iterator<Item = &Node> {
        self.west.gateways().chain(self.east.gateways())
    }

    /// Packets that found a gateway's TUN queue full, or a socket at these ends: on a machine that is too busy to run gateways
    /// and ends, whatever else happens. Lanes' sockets have room for a second of such streams: what is lost there is lost.
    ///
    /// # Errors
    /// When a gateway does not run.
    pub fn overflows<'a>(&self, ends: impl IntoIterator<Item = &'a Workload>) -> Result<u64> {
        let queues: u64 = self.gateways().map(|node| node.ns.queue_overflows("hawser-tun")).sum::<Result<_>>()?;
        Ok(queues + ends.into_iter().map(|end| udp::overflows(&end.ns)).sum::<Result<u64>>()?)
    }

    /// Insists that streams lost no more than the `full` packets of [`Self::overflows`] meanwhile.
    ///
    /// # Errors
    /// With what gateways dropped, by reason.
    pub fn lost_nothing_else(&self, losses: &[Loss], full: u64) -> Result<()> {
        let lost: u64 = losses.iter().map(Loss::lost).sum();
        if lost > full {
            let reports = [Self::reports(&self.west)?, Self::reports(&self.east)?].concat();
            let drops: Vec<String> = reports.iter().map(|r| format!("{}: {}", r["node"], r["drops"])).collect();
            bail!("{lost} lost, {full} for full queues; gateways dropped {drops:#?}; {losses:#?}");
        }
        Ok(())
    }

    /// Asks `web` at `address` until it answers, and insists that it saw the client's own address.
    ///
    /// # Errors
    /// With the last answer.
    pub fn ask_web(client: &Workload, address: IpAddr, limit: Duration) -> Result<String> {
        let to = SocketAddr::new(address, 80);
        wait_for(&format!("an answer from http://{to}"), limit, || {
            let answer = http::get(&client.ns, to, "/", Duration::from_secs(1))?;
            let own = format!("client={}", client.address_like(address));
            ensure!(answer.ends_with(&own), "the source address was not kept ({own}): {answer}");
            Ok(answer)
        })
    }
}
