//! A lane: one thread with one TUN queue, one UDP port, one key, and a session with every peer lane that talks to it (more
//! than one of each while keys are replaced).
//!
//! The loop takes a burst from each source, then what its timers want, then waits. Nothing on the packet path locks,
//! allocates or asks another thread. `outbound` is TUN to UDP, `inbound` UDP to TUN, `timers` handshakes, probes and
//! verdicts; `peers` holds the sessions they work on, each a `pair`. Each lane judges paths for itself (`hawser_datapath::PathSet`), so
//! that the lane that sees a path die moves its flows with its next packet; the others are told by the board and the bell.

mod attempts;
mod batch;
mod buffers;
mod inbound;
mod outbound;
mod pair;
mod peers;
mod sent;
mod timers;

use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use hawser_datapath::{Counters, Limiter, PathConfig, PathSet, Policy};
use hawser_liveness::Config;
use hawser_model::IpFamily;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tun_rs::SyncDevice;

use self::batch::Batch;
use self::buffers::{TunPackets, TunWrites};
use self::peers::Peers;
use self::timers::Timers;
use crate::raw::RawSender;
use crate::session::Session as _;
use crate::shared::{Handover, Shared};
use crate::snapshot::Snapshot;
use crate::udp::{LaneSocket, RECEIVE_MAX};

/// Reads from one source before the others have their turn.
const BURST: usize = 8;

/// What a lane owns from its start.
pub(crate) struct Parts {
    pub(crate) index: usize,
    pub(crate) tun: SyncDevice,
    pub(crate) sockets: Vec<LaneSocket>,
    pub(crate) raw: RawSender,
    pub(crate) ring: Receiver<Handover>,
    /// Random, so that echoes of an earlier run's probes are not taken for this one's.
    pub(crate) seed: u64,
}

/// See the module.
pub(crate) struct Lane {
    index: usize,
    shared: Arc<Shared>,
    tun: SyncDevice,
    sockets: Vec<LaneSocket>,
    raw: RawSender,
    ring: Receiver<Handover>,
    paths: PathSet,
    policy: Policy,
    peers: Peers,
    timers: Timers,
    counters: Arc<Counters>,
    limiter: Limiter,
    batch: Batch,
    segments: TunPackets,
    writes: TunWrites,
    datagrams: Vec<u8>,
    reply: Vec<u8>,
}

/// Which sources have something.
#[derive(Debug, Clone, Copy, Default)]
struct Ready {
    bell: bool,
    tun: bool,
    sockets: [bool; 2],
    errors: [bool; 2],
}

impl Lane {
    pub(crate) fn new(parts: Parts, shared: Arc<Shared>) -> Self {
        let now = shared.now();
        let snapshot = shared.snapshot.load_full();
        let liveness = Config { first_seq: parts.seed >> 16, ..Config::default() };
        // At most 8 lanes.
        let paths = PathSet::new(PathConfig { lane: parts.index as u8, liveness });
        let mut lane = Self {
            index: parts.index,
            peers: Peers::new(parts.index, shared.doors.len(), Arc::clone(&snapshot)),
            paths,
            policy: Policy::default(),
            timers: Timers::new(now),
            counters: Arc::clone(&shared.counters[parts.index]),
            limiter: Limiter::new(),
            batch: Batch::new(),
            segments: TunPackets::new(),
            writes: TunWrites::new(parts.tun.udp_gso()),
            datagrams: vec![0; RECEIVE_MAX],
            reply: Vec::new(),
            tun: parts.tun,
            sockets: parts.sockets,
            raw: parts.raw,
            ring: parts.ring,
            shared,
        };
        lane.take(&snapshot);
        lane
    }

    /// Runs until the tunnel stops.
    pub(crate) fn run(mut self) {
        while !self.shared.stopping() {
            let latest = self.shared.snapshot.load();
            if latest.revision != self.peers.snapshot.revision {
                let latest = Arc::clone(&latest);
                self.take(&latest);
            }
            let ready = match self.wait(self.timers.wait(self.shared.now())) {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!(lane = self.index, %error, "the lane can't wait for packets and ends");
                    return;
                }
            };
            if !self.turn(ready) {
                tracing::error!(lane = self.index, "the TUN device was removed; the lane ends");
                return;
            }
        }
    }

    /// One round over all sources; false when the device is gone.
    fn turn(&mut self, ready: Ready) -> bool {
        if ready.bell {
            self.shared.doors[self.index].answer();
        }
        let now = self.shared.now();
        for family in 0..self.sockets.len() {
            if ready.errors[family] {
                self.icmp_errors(family, now);
            }
            if ready.sockets[family] {
                self.inbound(family, now);
            }
        }
        if ready.tun && !self.outbound(now) {
            return false;
        }
        if ready.bell {
            self.handed_over(now);
        }
        self.run_timers();
        true
    }

    /// Goes by another snapshot from now on.
    fn take(&mut self, snapshot: &Arc<Snapshot>) {
        let now = self.shared.now();
        let skipped = self.paths.apply(&snapshot.peers.prefixes, &snapshot.clusters, now);
        for skipped in skipped.iter().filter(|_| self.index == 0) {
            let (cluster, prefix, overlaps) = (&skipped.cluster, skipped.prefix, skipped.overlaps);
            tracing::warn!(%cluster, %prefix, %overlaps, "a prefix is left out: it overlaps another cluster's or our own");
        }
        let hosts = snapshot.hosts.iter().copied();
        self.policy = Policy::new(Arc::clone(self.paths.forwarding(now).prefixes()), hosts);
        self.peers.apply(snapshot, &self.paths, now);
        let links: Vec<_> = self.peers.links().map(|(path, link)| (path, link.clone())).collect();
        for (path, link) in links {
            let ready = link.sender.is_some_and(|pair| self.peers.pairs[pair].session.ready());
            self.paths.handle(path, now, |life| life.handle_session(ready, now));
            if link.sender.is_some() {
                self.paths.set_max_mtu(path, self.peers.snapshot.paths[link.spec].max_mtu, now);
            }
        }
        // What others said meanwhile may have been heard before there was a path that it was about.
        self.read_boards(now);
        self.timers.publish_soon();
    }

    fn wait(&self, limit: Duration) -> nix::Result<Ready> {
        use std::os::fd::AsFd as _;
        let door = &self.shared.doors[self.index];
        let mut fds = [
            PollFd::new(door.bell().as_fd(), PollFlags::POLLIN),
            PollFd::new(tun_fd(&self.tun), PollFlags::POLLIN),
            PollFd::new(self.sockets[0].as_fd(), PollFlags::POLLIN),
            PollFd::new(self.sockets[self.sockets.len() - 1].as_fd(), PollFlags::POLLIN),
        ];
        match ppoll(&mut fds, Some(TimeSpec::from_duration(limit)), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
        let any = |i: usize| fds[i].any().unwrap_or(false);
        let failed = |i: usize| fds[i].revents().is_some_and(|r| r.contains(PollFlags::POLLERR));
        Ok(Ready { bell: any(0), tun: any(1), sockets: [any(2), any(3)], errors: [failed(2), failed(3)] })
    }

    /// Sends one datagram now, after what waits in the batch.
    fn send_now(&mut self, to: SocketAddr, message: &[u8]) {
        self.flush_batch();
        let Some(socket) = self.sockets.iter().find(|s| s.family() == IpFamily::of(to.ip())) else { return };
        if let Err(error) = socket.send(to, message, message.len()) {
            self.send_failed(to, error);
        }
    }
}

#[expect(unsafe_code, reason = "the device lends its descriptor as a number only")]
fn tun_fd(tun: &SyncDevice) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is the device's own and stays open as long as the device, which the result borrows.
    unsafe { BorrowedFd::borrow_raw(tun.as_raw_fd()) }
}
