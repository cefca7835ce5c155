//! A lane's loop after `hawser-tunnel`'s, without devices and threads: the same turn, the same clock, the same path set, policy
//! and codec, around models of the session and of the board that lanes share. `inbound` and `outbound` are the packet paths,
//! `timers` and `handshakes` what is done by the clock; each has its like there.
//!
//! Left out, as compared with a real lane:
//! - the path MTU, with its probes and ICMP's word of it: every packet passes;
//! - superpackets, batches, bursts and what is dropped where they are too long: a turn takes all that waits;
//! - rotation of keys, plain peers, floods, a look for a better address of a peer that is reached;
//! - a configuration is taken over at once, also by a loop that stands still.

mod handshakes;
mod inbound;
mod outbound;
mod timers;

pub(crate) use handshakes::SEEK_AFTER;
pub(crate) use inbound::quotable;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};

use hawser_datapath::paths::{Clock, lane_pairs};
use hawser_datapath::{PathConfig, PathEvent, PathIndex, PathSet, Policy, probe};
use hawser_liveness::{Config, Time};
use hawser_model::{PrefixSet, RemoteCluster};

use crate::board::Board;
use crate::session::{Attempts, Session};
use crate::topology::{HostId, Topology};
use crate::underlay::{Addr, Datagram};

/// Datagrams that wait while the loop is stalled; the socket takes no more.
const INBOX: usize = 512;
/// Packets that wait in the TUN's queue.
const QUEUE: usize = 500;

/// What a gateway is told by its local API.
#[derive(Debug, Clone)]
pub(crate) struct Instructions {
    pub(crate) own: PrefixSet,
    pub(crate) clusters: Vec<RemoteCluster>,
    pub(crate) hosts: Vec<IpAddr>,
    pub(crate) draining: bool,
}

/// One session with one remote lane.
#[derive(Debug)]
struct Pair {
    path: PathIndex,
    remote: (HostId, u8),
    generation: u64,
    probe_address: Ipv6Addr,
    sends: bool,
    session: Session,
    endpoint: Option<Addr>,
    /// The newest data so far: the number of its keys, and its counter.
    newest: (u64, u64),
    attempts: Attempts,
    /// What was sent lately, by what an ICMP error may quote of it.
    sent: VecDeque<(u64, Time)>,
}

/// Where a path leads.
#[derive(Debug, Clone, Copy)]
struct Link {
    to: HostId,
    sender: usize,
    hints: u64,
    /// Whether the far gateway drains.
    draining: bool,
}

/// What a turn of the loop did to the world.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) datagrams: Vec<(Addr, Datagram)>,
    /// Inner packets that went to the TUN, and the host whose session they came from.
    pub(crate) delivered: Vec<(HostId, Box<[u8]>)>,
    /// User packets sent, and the host whose path was taken.
    pub(crate) sent: Vec<HostId>,
    /// Packets for another lane of this gateway: (lane, to which host's path, packet).
    pub(crate) handed: Vec<(u8, HostId, Box<[u8]>)>,
    pub(crate) events: Vec<PathEvent>,
    /// The lane showed a change.
    pub(crate) published: bool,
    /// Packets that had no path, and the cluster.
    pub(crate) stranded: Vec<usize>,
    /// Packets that the policy or the tables refused, coming in and going out.
    pub(crate) refused: [u64; 2],
    pub(crate) violation: Option<String>,
    /// The last number given out.
    pub(crate) numbers: u64,
}

impl Effects {
    /// A number that nobody had.
    fn fresh(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

/// What a turn may look at and change beside the lane itself.
pub(crate) struct Around<'a> {
    pub(crate) now: Time,
    pub(crate) host: HostId,
    pub(crate) topology: &'a Topology,
    pub(crate) board: &'a mut Board,
    /// Where each host may be reached, as its candidates say; nothing behind a translator.
    pub(crate) candidates: &'a [Option<Addr>],
    pub(crate) fx: &'a mut Effects,
}

#[derive(Debug)]
pub(crate) struct Lane {
    index: u8,
    lanes: u8,
    probe_address: Ipv6Addr,
    pub(crate) paths: PathSet,
    policy: Policy,
    pairs: Vec<Pair>,
    links: Vec<Option<Link>>,
    clock: Clock,
    /// How far it has read what other lanes found; none: all is to be read anew.
    epoch: Option<u64>,
    inbox: VecDeque<(Time, Addr, Datagram)>,
    tun: VecDeque<Box<[u8]>>,
    ring: VecDeque<(HostId, Box<[u8]>)>,
    /// The loop does nothing before.
    pub(crate) stalled_until: Time,
    /// When the world wakes it next.
    pub(crate) wakes_at: Option<Time>,
}

impl Lane {
    pub(crate) fn new(host: HostId, index: u8, lanes: u8, first_seq: u64, now: Time) -> Self {
        let liveness = Config { first_seq, ..Config::default() };
        Self {
            index,
            lanes,
            probe_address: probe::address(&Topology::key(host, index)),
            paths: PathSet::new(PathConfig { lane: index, liveness }),
            policy: Policy::default(),
            pairs: Vec::new(),
            links: Vec::new(),
            clock: Clock::new(now),
            epoch: None,
            inbox: VecDeque::new(),
            tun: VecDeque::new(),
            ring: VecDeque::new(),
            stalled_until: now,
            wakes_at: None,
        }
    }

    /// Goes by another configuration from now on; sessions with the same peer lane go on.
    pub(crate) fn apply(&mut self, config: &Instructions, board: &Board, now: Time) -> Result<(), String> {
        let skipped = self.paths.apply(&config.own, &config.clusters, now);
        if !skipped.is_empty() {
            return Err(format!("prefixes were left out: {skipped:?}"));
        }
        self.policy = Policy::new(self.paths.forwarding(now).prefixes().clone(), config.hosts.iter().copied());
        let mut old = std::mem::take(&mut self.pairs);
        self.links.clear();
        for (path, info) in self.paths.paths() {
            let (to, _) = Topology::owner(&info.remote_key);
            let cluster = &config.clusters[usize::from(info.cluster_index)];
            let Some(gateway) = cluster.gateways.iter().find(|g| g.node == info.gateway) else { continue };
            let mut sender = None;
            for (here, there) in lane_pairs(self.lanes, gateway.lanes.len() as u8).filter(|p| p.0 == self.index) {
                debug_assert_eq!(here, self.index);
                let known = old.iter().position(|p| p.remote == (to, there) && p.generation == info.generation);
                let mut pair =
                    known.map_or_else(|| Pair::new((to, there), info.generation, now), |at| old.swap_remove(at));
                pair.path = path;
                pair.sends = info.remote_lane == there;
                if pair.sends {
                    sender = Some(self.pairs.len());
                }
                self.pairs.push(pair);
            }
            let hints = board.notes.get(&to).map_or(0, |n| n.hints);
            let draining = self.paths.path_row(path, now).is_some_and(|row| row.draining);
            self.links.push(sender.map(|sender| Link { to, sender, hints, draining }));
        }
        // What was handed over counts paths as they were.
        self.ring.clear();
        for (path, link) in (0..).zip(&self.links) {
            let ready = link.is_some_and(|link| self.pairs[link.sender].session.ready());
            if self.paths.has_session(path) != ready {
                self.paths.handle(path, now, |life| life.handle_session(ready, now));
            }
        }
        self.epoch = None;
        self.clock.reconfigured();
        Ok(())
    }

    pub(crate) fn receive(&mut self, at: Time, from: Addr, datagram: Datagram) {
        if self.inbox.len() < INBOX {
            self.inbox.push_back((at, from, datagram));
        }
    }

    pub(crate) fn queue(&mut self, packet: Box<[u8]>) {
        if self.tun.len() < QUEUE {
            self.tun.push_back(packet);
        }
    }

    pub(crate) fn hand_over(&mut self, to: HostId, packet: Box<[u8]>) {
        if self.ring.len() < QUEUE {
            self.ring.push_back((to, packet));
        }
    }

    /// One round over all sources.
    pub(crate) fn turn(&mut self, around: &mut Around<'_>) {
        while let Some((at, from, datagram)) = self.inbox.pop_front() {
            self.received(at, from, datagram, around);
        }
        while let Some(packet) = self.tun.pop_front() {
            self.outbound(packet, around);
        }
        while let Some((to, packet)) = self.ring.pop_front() {
            self.handed_over(to, packet, around);
        }
        self.run_timers(around);
    }

    /// Until when the loop waits for packets.
    pub(crate) fn due(&self) -> Time {
        self.clock.due()
    }

    /// The path's session, if packets can be sealed by it now.
    fn ready_sender(&self, path: PathIndex) -> Option<usize> {
        let sender = self.links.get(usize::from(path)).copied().flatten()?.sender;
        let pair = &self.pairs[sender];
        (pair.session.ready() && pair.endpoint.is_some()).then_some(sender)
    }

    /// The paths of this lane: to which host, and how each stands.
    pub(crate) fn path_states(&self) -> impl Iterator<Item = (HostId, hawser_liveness::State)> + '_ {
        self.links
            .iter()
            .enumerate()
            .filter_map(|(path, link)| Some(((*link)?.to, self.paths.state(path as PathIndex)?)))
    }
}

impl Pair {
    fn new(remote: (HostId, u8), generation: u64, now: Time) -> Self {
        Self {
            path: 0,
            remote,
            generation,
            probe_address: probe::address(&Topology::key(remote.0, remote.1)),
            sends: false,
            session: Session::default(),
            endpoint: None,
            newest: (0, 0),
            attempts: Attempts::new(now),
            sent: VecDeque::new(),
        }
    }
}
