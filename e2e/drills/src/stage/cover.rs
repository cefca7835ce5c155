//! Flows and connections that cover every path both ways: chosen, and looked at again before every run. Where each goes is seen
//! by `ways`.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use hawser_testbed::traffic::tcp::Connections;
use hawser_testbed::traffic::udp;
use hawser_testbed::{Site, wait_for};

use super::{Flow, Stage};
use crate::ways::{self, Spread, TCP_PORT, UDP_PORT};

/// Connections, half of each family.
const CONNECTIONS: u16 = 8;
/// Source ports, below those that the kernel gives away.
pub(super) const PORTS: std::ops::Range<u16> = 10_000..30_000;
/// Choices of flows, or of connections, that are tried: every other one leaves some path without any, where there are few.
const CHOICES: u16 = 24;
/// How long what was chosen may take to be seen on its way.
const SIGHT: Duration = Duration::from_secs(3);

/// Flows that cover every path.
pub struct Covered {
    /// How they are spread.
    pub spread: Spread,
    /// Their sockets. A kernel sends what comes from one on the same machine by a number of the socket's, not by its ports
    /// alone: others of the same ports may take other ways.
    pub sockets: Vec<UdpSocket>,
}

impl Stage {
    /// Makes sure that every path carries at least one flow and one connection in both directions: where one does not, others
    /// are chosen.
    ///
    /// # Errors
    /// When no choice covers every path.
    pub fn cover(&mut self) -> Result<Covered> {
        let mut seen = Spread::new();
        for _ in 0..=CHOICES {
            // Those that broke are not seen everywhere either, and counted by the run that broke them.
            seen = self.sight(&self.connections, &[]).unwrap_or_default();
            if ways::covers(&seen) {
                return self.cover_by_flows();
            }
            self.connections = self.take_ports(CONNECTIONS, TCP_PORT);
            self.tcp = Connections::open_from(&self.client.ns, &self.connections)?;
        }
        bail!("No {CONNECTIONS} connections of {CHOICES} choices cover every path both ways: {seen:?}")
    }

    fn cover_by_flows(&mut self) -> Result<Covered> {
        let (count, mut seen) = (u16::try_from(self.flows.len())?, Spread::new());
        for _ in 0..=CHOICES {
            let sockets = udp::sockets(&self.client.ns, &self.flows)?;
            seen = self.sight(&self.flows, &sockets)?;
            if ways::covers(&seen) {
                return Ok(Covered { spread: seen, sockets });
            }
            self.flows = self.take_ports(count, UDP_PORT);
        }
        bail!("No {count} flows of {CHOICES} choices cover every path both ways: {seen:?}")
    }

    /// The next source ports, to that port of either family in turn.
    pub(super) fn take_ports(&mut self, count: u16, to: u16) -> Vec<Flow> {
        if self.next_port + count > PORTS.end {
            self.next_port = PORTS.start;
        }
        let ports = self.next_port..self.next_port + count;
        self.next_port = ports.end;
        let to = [SocketAddr::new(self.server.v4.into(), to), SocketAddr::new(self.server.v6.into(), to)];
        ports.map(|port| (port, to[usize::from(port % 2)])).collect()
    }

    /// How these are spread once each was seen on one path there and one back. A packet is sent by each of the sockets for it.
    fn sight(&self, flows: &[Flow], sockets: &[UdpSocket]) -> Result<Spread> {
        let ports = ports(flows);
        wait_for("every flow to be seen on its way", SIGHT, || {
            // An ICMP error of an earlier one may be reported here.
            sockets.iter().for_each(|socket| drop(socket.send(b"!")));
            let spread = self.spread(&ports)?;
            ensure!(spread.values().sum::<usize>() == 2 * ports.len(), "{} flows: {spread:?}", ports.len());
            Ok(spread)
        })
    }

    /// How the stream's flows are spread over paths, by the packets of the last [`ways::FRESH`].
    ///
    /// # Errors
    /// When a gateway's kernel does not tell.
    pub fn spread_now(&self) -> Result<Spread> {
        self.spread(&ports(&self.flows))
    }

    fn spread(&self, ports: &[u16]) -> Result<Spread> {
        let passed = |site: &Site| {
            let of = site.gateways().map(|gateway| Ok((gateway.name.clone(), ways::passed(&gateway.ns)?)));
            of.collect::<Result<Vec<_>>>()
        };
        Ok(ways::spread(ports, [&passed(&self.rope.east)?, &passed(&self.rope.west)?]))
    }
}

fn ports(flows: &[Flow]) -> Vec<u16> {
    flows.iter().map(|(port, _)| *port).collect()
}
