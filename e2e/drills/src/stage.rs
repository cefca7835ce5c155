//! Where drills happen: two sites with two gateways each; flows and connections, which `cover` chooses.

mod cover;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use hawser_e2e::Rope;
use hawser_e2e::rope::LIMIT;
use hawser_testbed::traffic::tcp;
use hawser_testbed::traffic::tcp::Connections;
use hawser_testbed::traffic::udp;
use hawser_testbed::{Outer, Process, Site, Workload, wait_for};

pub use self::cover::Covered;
use crate::watch::Watch;
use crate::ways::{self, TCP_PORT, UDP_PORT};

/// Flows of a stream, half of each family: enough for every path, and few enough for a slow machine's two cores.
const FLOWS: u16 = 10;
/// Names of the programs that a site runs.
pub const GATEWAY: &str = "hawser-gateway";
/// See [`GATEWAY`].
pub const AGENT: &str = "hawser-agent";
/// See [`GATEWAY`].
pub const ROUTE_AGENT: &str = "hawser-route-agent";

/// A source port and where it sends to.
type Flow = (u16, SocketAddr);

/// See the module. Fields are dropped in order.
pub struct Stage {
    /// Connections from `east` to `west`, open all the time.
    pub tcp: Connections,
    /// What `west` answers with.
    pub echo: udp::Echo,
    _tcp_echo: tcp::Echo,
    connections: Vec<Flow>,
    flows: Vec<Flow>,
    next_port: u16,
    client: Workload,
    server: Workload,
    /// Processes that a fault needs, e.g. what saturates a core.
    pub extras: Vec<Process>,
    /// Broker and sites; `east` is where the stream starts.
    pub rope: Rope,
}

impl Stage {
    /// Starts everything, with tunnels over `outer`, and chooses the flows and the connections.
    ///
    /// # Errors
    /// With the step that failed.
    pub fn new(name: &str, outer: Outer) -> Result<Self> {
        let mut rope = Rope::prepare_quiet(name, |site| site.outer = outer)?;
        rope.join_all()?;
        rope.wait_up()?;
        rope.gateways().try_for_each(|gateway| ways::remember(&gateway.ns))?;
        let (server, client) = (rope.west.add_workload(3)?, rope.east.add_workload(3)?);
        let mut stage = Self {
            tcp: Connections::open_from(&client.ns, &[])?,
            echo: udp::Echo::start(&server.ns, UDP_PORT, "west")?,
            _tcp_echo: tcp::Echo::start(&server.ns, TCP_PORT)?,
            connections: Vec::new(),
            flows: Vec::new(),
            next_port: cover::PORTS.start,
            client,
            server,
            extras: Vec::new(),
            rope,
        };
        wait_next_hops(&stage.rope)?;
        stage.flows = stage.take_ports(FLOWS, UDP_PORT);
        stage.cover()?;
        Ok(stage)
    }

    /// Where the stream starts, and where it is answered.
    #[must_use]
    pub fn ends(&self) -> [&Workload; 2] {
        [&self.client, &self.server]
    }

    /// Watches all gateways.
    #[must_use]
    pub fn watch(&self) -> Watch {
        let sockets = self.rope.gateways().map(|node| node.state.join("gateway/admin.sock"));
        Watch::start(sockets.collect::<Vec<PathBuf>>())
    }

    /// The two sides, in turn: the one the stream starts from first.
    pub fn side(&mut self, run: u32) -> &mut Site {
        if run.is_multiple_of(2) { &mut self.rope.east } else { &mut self.rope.west }
    }

    /// The gateway of a side that it is about, in turn over runs of that side.
    #[must_use]
    pub fn turn(run: u32) -> u8 {
        if run.is_multiple_of(2) { 1 } else { 2 }
    }

    /// Runs `hawser` for a site of these sides and insists on success.
    ///
    /// # Errors
    /// With what it said.
    pub fn hawser(&mut self, run: u32, args: &[&str]) -> Result<String> {
        let dir = self.side(run).dir.clone();
        let mut all = args.to_vec();
        all.extend(["--site", dir.to_str().context("Paths of the testbed are UTF-8")?]);
        self.rope.lab.hawser_on(self.rope.lab.broker_host(), &all, None)?.success()
    }

    /// Waits until every path is up and every node uses every gateway.
    ///
    /// # Errors
    /// With what was seen last.
    pub fn settle(&self) -> Result<()> {
        self.rope.wait_up()?;
        wait_next_hops(&self.rope)
    }

    /// Back to a state without history: wires healed, gateways and route agents started anew. They die behind cut wires: a
    /// kernel sends few ICMP errors per second and peer, and the next run may need them.
    ///
    /// # Errors
    /// With the step that failed.
    pub fn reset(&mut self) -> Result<()> {
        self.extras.clear();
        self.rope.gateways().try_for_each(|node| self.rope.lab.wan().isolate(&node.name))?;
        for site in [&mut self.rope.west, &mut self.rope.east] {
            for program in [GATEWAY, ROUTE_AGENT] {
                for number in numbers(site, program) {
                    // It may have been killed already.
                    let _ = site.kill(number, program);
                }
            }
        }
        for site in [&mut self.rope.west, &mut self.rope.east] {
            site.lan.heal()?;
            for program in [GATEWAY, ROUTE_AGENT] {
                for number in numbers(site, program) {
                    site.start(number, program)?;
                }
            }
        }
        self.rope.lab.wan().heal()?;
        self.settle()
    }

    /// Kills all processes of these programs, without notice.
    ///
    /// # Errors
    /// When one does not run.
    pub fn kill_all(&mut self, programs: &[&'static str]) -> Result<()> {
        for site in [&mut self.rope.west, &mut self.rope.east] {
            for &program in programs {
                numbers(site, program).into_iter().try_for_each(|number| site.kill(number, program))?;
            }
        }
        Ok(())
    }

    /// Starts all processes of these programs.
    ///
    /// # Errors
    /// When one can't be started.
    pub fn start_all(&mut self, programs: &[&'static str]) -> Result<()> {
        for site in [&mut self.rope.west, &mut self.rope.east] {
            for &program in programs {
                numbers(site, program).into_iter().try_for_each(|number| site.start(number, program))?;
            }
        }
        Ok(())
    }

    /// Every process that runs, with the host's name and its program's.
    pub fn processes(&self) -> impl Iterator<Item = (&str, &'static str, u32)> {
        let sites = [&self.rope.west, &self.rope.east].into_iter();
        sites.flat_map(|site| {
            site.nodes.iter().flat_map(move |node| {
                let pid =
                    move |program| Some((node.name.as_str(), program, site.process(node.number, program).ok()?.pid()));
                [GATEWAY, AGENT, ROUTE_AGENT].into_iter().filter_map(pid)
            })
        })
    }
}

/// The nodes of a site that a program runs on.
fn numbers(site: &Site, program: &str) -> Vec<u8> {
    site.nodes.iter().filter(|node| node.gateway || program == ROUTE_AGENT).map(|node| node.number).collect()
}

fn wait_next_hops(rope: &Rope) -> Result<()> {
    for site in [&rope.west, &rope.east] {
        let worker = site.node(3);
        wait_for(&format!("{} to use both gateways", worker.name), LIMIT, || {
            for family in ["-4", "-6"] {
                let routes = worker.ns.ip(&format!("{family} route show table 4857"))?;
                ensure!(routes.matches("nexthop").count() == 2, "{family}: {routes}");
            }
            Ok(())
        })?;
    }
    Ok(())
}
