//! Users' packets: who talks to whom, what a packet looks like, which came through; and packets that must never.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hawser_datapath::checksum::Sum;
use hawser_liveness::Time;

use crate::dice::Dice;
use crate::topology::{HostId, Topology};

/// Flows of one talk.
pub(crate) const FLOWS: u8 = 8;
/// Sequence numbers on their way that are remembered.
const UNDER_WAY: usize = 4096;
/// Bytes of ours at the end of each packet: mark, talk, flow, number.
const TAIL: usize = 12;
const MARK: u8 = 0xa5;
const HOSTILE: u8 = 0x5a;

/// Packets from one cluster to another, now and then.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Talks until then; silent if that is past.
    pub(crate) until: Time,
    pub(crate) pace: Duration,
    pub(crate) next: u64,
    under_way: BTreeSet<u64>,
}

/// What the end of a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) hostile: bool,
    pub(crate) talk: usize,
    pub(crate) flow: u8,
    pub(crate) number: u64,
}

impl Tail {
    fn encode(self) -> [u8; TAIL] {
        let mut out = [0; TAIL];
        out[..4].copy_from_slice(&[if self.hostile { HOSTILE } else { MARK }, self.talk as u8, self.flow, 0]);
        out[4..].copy_from_slice(&self.number.to_be_bytes());
        out
    }

    pub(crate) fn decode(packet: &[u8]) -> Option<Self> {
        let tail: &[u8; TAIL] = packet.last_chunk()?;
        let (head, number) = tail.split_first_chunk::<4>()?;
        let hostile = match head[0] {
            MARK => false,
            HOSTILE => true,
            _ => return None,
        };
        let number = u64::from_be_bytes(number.try_into().ok()?);
        Some(Self { hostile, talk: usize::from(head[1]), flow: head[2], number })
    }
}

impl Talk {
    pub(crate) fn new(from: usize, to: usize) -> Self {
        let pace = Duration::from_millis(50);
        Self { from, to, until: Time::START, pace, next: 0, under_way: BTreeSet::new() }
    }

    /// The next packet of its next flow.
    pub(crate) fn packet(&mut self, talk: usize) -> Box<[u8]> {
        self.next += 1;
        // Below FLOWS.
        let flow = (self.next % u64::from(FLOWS)) as u8;
        if self.under_way.len() == UNDER_WAY {
            self.under_way.pop_first();
        }
        self.under_way.insert(self.next);
        let (src, dst) = self.ends(flow);
        let tail = Tail { hostile: false, talk, flow, number: self.next };
        udp(src, dst, 4000 + u16::from(flow), tail)
    }

    /// The two ends of a flow: both families, both halves of the destination's addresses.
    pub(crate) fn ends(&self, flow: u8) -> (IpAddr, IpAddr) {
        let (v6, upper) = (flow % 2 == 1, if flow % 4 < 2 { 128 } else { 0 });
        let src = Topology::address(self.from, v6, 1, 10 + flow);
        (src, Topology::address(self.to, v6, upper + flow, 20 + flow))
    }

    /// A packet came: false where it came before.
    pub(crate) fn came(&mut self, number: u64) -> bool {
        // What was forgotten as lost may still come.
        self.under_way.remove(&number) || self.under_way.len() == UNDER_WAY
    }
}

/// A packet that a workload of a cluster may send but no gateway may forward.
pub(crate) fn forbidden(topology: &Topology, from: usize, to: usize, dice: &mut Dice) -> Box<[u8]> {
    let v6 = dice.chance(0.5);
    let addr = |cluster, subnet, host| Topology::address(cluster, v6, subnet, host);
    let (own, theirs) = (addr(from, 1, 10), addr(to, 1, 20));
    let link_local: IpAddr = if v6 { [0xfe80, 0, 0, 0, 0, 0, 0, 1].into() } else { [169, 254, 169, 254].into() };
    let metadata: IpAddr = if v6 { [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254].into() } else { [100, 100, 100, 200].into() };
    let third = topology.clusters.len() + 1;
    let (src, dst) = dice.of(&[
        (theirs, theirs),
        (addr(third, 1, 1), theirs),
        (own, link_local),
        (own, metadata),
        (link_local, theirs),
        (own, addr(third, 1, 1)),
        (own, addr(from, 2, 2)),
    ]);
    udp(src, dst, 4999, Tail { hostile: true, talk: 0, flow: 0, number: 0 })
}

/// A packet that a hostile gateway of cluster `from` may send to gateway `to` and that may go nowhere there.
pub(crate) fn smuggled(topology: &Topology, from: usize, to: HostId, dice: &mut Dice) -> Box<[u8]> {
    let v6 = dice.chance(0.5);
    let cluster = topology.hosts[to].cluster;
    let addr = |cluster, host| Topology::address(cluster, v6, 1, host);
    let others: Vec<usize> = (0..topology.clusters.len()).filter(|c| *c != cluster && *c != from).collect();
    let third = if others.is_empty() { topology.clusters.len() + 1 } else { dice.of(&others) };
    let link_local: IpAddr = if v6 { [0xfe80, 0, 0, 0, 0, 0, 0, 1].into() } else { [169, 254, 169, 254].into() };
    let loopback: IpAddr = if v6 { [0, 0, 0, 0, 0, 0, 0, 1].into() } else { [127, 0, 0, 1].into() };
    let host = topology.link_addresses(to)[usize::from(v6)];
    let (src, dst) = dice.of(&[
        (addr(third, 1), addr(cluster, 20)),
        (addr(cluster, 5), addr(cluster, 20)),
        (addr(from, 10), addr(third, 1)),
        (addr(from, 10), addr(from, 11)),
        (addr(from, 10), host),
        (addr(from, 10), link_local),
        (addr(from, 10), loopback),
        (link_local, addr(cluster, 20)),
    ]);
    udp(src, dst, 4998, Tail { hostile: true, talk: 0, flow: 0, number: 0 })
}

/// A UDP packet without a checksum of its own.
fn udp(src: IpAddr, dst: IpAddr, port: u16, tail: Tail) -> Box<[u8]> {
    let len = 8 + TAIL as u16;
    let mut out = Vec::with_capacity(60);
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            out.extend_from_slice(&[0x45, 0]);
            out.extend_from_slice(&(20 + len).to_be_bytes());
            out.extend_from_slice(&[0, 1, 0, 0, 64, 17, 0, 0]);
            out.extend_from_slice(&src.octets());
            out.extend_from_slice(&dst.octets());
            let sum = Sum::default().bytes(&out).finish();
            out[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            out.extend_from_slice(&[0x60, 0, 0, 0]);
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(&[17, 64]);
            out.extend_from_slice(&src.octets());
            out.extend_from_slice(&dst.octets());
        }
        _ => unreachable!("{src} and {dst} are of one family"),
    }
    out.extend_from_slice(&port.to_be_bytes());
    out.extend_from_slice(&[0, 80]);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&tail.encode());
    out.into_boxed_slice()
}
