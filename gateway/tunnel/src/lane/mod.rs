//! A lane: one thread with one TUN queue, one UDP port, one key, and a session with every peer lane that talks to it (more
//! than one of each while keys are replaced).
//!
//! The loop takes a burst from each source, then what its timers want, then waits. Nothing on the packet path locks,
//! allocates or asks another thread. `outbound` is TUN to UDP, `inbound` UDP to TUN, `timers` and `handshakes` what
//! is due; `peers` holds the sessions they work on, each a `pair`. Each lane judges paths for itself
//! (`hawser_datapath::PathSet`), so that the lane that sees a path die moves its flows with its next packet; the others are
//! told by the board and the bell.

mod attempts;
mod batch;
mod buffers;
mod change;
mod endpoints;
mod handshakes;
mod inbound;
mod lazy;
mod load;
mod naps;
mod newcomers;
mod newest;
mod outbound;
mod pair;
mod peers;
mod round;
mod seek;
mod sent;
mod sessions;
mod sources;
mod tell;
#[cfg(test)]
mod tests;
mod timers;
mod turn;

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use hawser_datapath::paths::{Clock, Exchanged};
use hawser_datapath::{Bucket, Counters, Fair, HandshakeGuard, Limiter, PathIndex, PathSet, Policy};
use hawser_liveness::Time;
use hawser_model::IpFamily;
use tun_rs::SyncDevice;

pub(crate) use self::newcomers::Newcomers;

use self::batch::Batch;
use self::buffers::{TunPackets, TunWrites};
use self::handshakes::Looks;
use self::load::{Load, Work};
use self::peers::Peers;
use self::round::Round;
use self::sources::{Ready, Sources, tun_fd};
use self::turn::Pace;
use crate::raw::RawSender;
use crate::session::Session as _;
use crate::shared::{Change, Handover, Shared};
use crate::status::LaneStatus;
use crate::udp::{LaneSocket, RECEIVE_MAX};

/// ICMP errors that are looked at; others are as good as lost. A dying peer is told by two, and by its silence.
const ERRORS_PER_SECOND: u32 = 1000;
const ERRORS_AT_ONCE: u32 = 200;

/// What a lane owns from its start.
pub(crate) struct Parts {
    pub(crate) index: usize,
    pub(crate) tun: SyncDevice,
    pub(crate) sockets: Vec<LaneSocket>,
    pub(crate) raw: RawSender,
    pub(crate) ring: Receiver<Handover>,
}

/// See the module.
pub(crate) struct Lane {
    index: usize,
    shared: Arc<Shared>,
    sources: Sources,
    tun: SyncDevice,
    sockets: Vec<LaneSocket>,
    raw: RawSender,
    ring: Receiver<Handover>,
    paths: PathSet,
    policy: Policy,
    peers: Peers,
    timers: Clock,
    /// How far through the sessions' timers,
    ticked: Round,
    /// the sessions that may want a handshake,
    looks: Looks,
    /// and the figures to be shown.
    shown: Round,
    /// How far it has read what other lanes found; none: all is to be read anew.
    epoch: Option<u64>,
    /// Figures about to be shown, in the memory of some that were.
    spare: LaneStatus,
    counters: Arc<Counters>,
    limiter: Limiter,
    guard: HandshakeGuard,
    /// How many ICMP errors are looked at.
    errors: Bucket,
    /// One for each socket.
    fair: [Fair; 2],
    pace: Pace,
    batch: Batch,
    segments: TunPackets,
    writes: TunWrites,
    datagrams: Vec<u8>,
    reply: Vec<u8>,
    load: Load,
}

impl Lane {
    pub(crate) fn new(parts: Parts, shared: Arc<Shared>) -> nix::Result<Self> {
        let now = shared.now();
        let bell = shared.doors[parts.index].bell();
        let sources = Sources::new(bell, tun_fd(&parts.tun), parts.sockets.iter().map(AsFd::as_fd))?;
        let snapshot = shared.snapshot.load_full();
        let paths = PathSet::new(shared.doors[parts.index].config);
        let secrets = RandomState::new();
        Ok(Self {
            index: parts.index,
            sources,
            peers: Peers::new(parts.index, shared.doors.len(), snapshot),
            paths,
            policy: Policy::default(),
            timers: Clock::new(now),
            ticked: Round::default(),
            looks: Looks::default(),
            shown: Round::default(),
            epoch: None,
            spare: LaneStatus::default(),
            counters: Arc::clone(&shared.counters[parts.index]),
            limiter: Limiter::replies(secrets.hash_one("replies")),
            guard: HandshakeGuard::new(secrets.hash_one("handshakes")),
            errors: Bucket::new(ERRORS_PER_SECOND, ERRORS_AT_ONCE),
            fair: Default::default(),
            pace: Pace::default(),
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
            load: Load::default(),
        })
    }

    /// Runs until the tunnel stops.
    pub(crate) fn run(mut self) {
        if let Err(error) = turn::go_first() {
            tracing::info!(lane = self.index, %error, "the lane waits for the CPU like any program: it lacks CAP_SYS_NICE");
        }
        while !self.shared.stopping() {
            let latest = self.shared.snapshot.load().revision;
            if latest != self.peers.snapshot.revision
                && let Some(change) = self.shared.doors[self.index].take()
            {
                self.take(change);
            }
            let ready = match self.sources.wait(self.timers.due(), self.shared.now()) {
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
            if let Some(nap) = self.pace.nap(|at| self.guard.wants_cookie(at)) {
                std::thread::sleep(nap);
            }
        }
    }

    /// One round over all sources; false when the device is gone.
    fn turn(&mut self, ready: Ready) -> bool {
        if ready.bell {
            self.shared.doors[self.index].answer();
        }
        let now = self.shared.now();
        self.pace.begin(now);
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

    /// Goes by another configuration from now on. All at once, so that no packet meets half of it; what takes long was
    /// worked out by who left it, is left to who clears out, or is for later turns: sessions' keys and handshakes.
    fn take(&mut self, change: Change) {
        let work = Work::begin();
        let now = self.shared.now();
        let Exchanged { kept, leftovers } = self.paths.exchange(change.paths, now);
        let policy = std::mem::replace(&mut self.policy, change.policy);
        let (others, ended) = self.peers.apply(&change.snapshot, change.new, &self.paths, now);
        self.shared.doors[self.index].discard(Box::new((leftovers, policy, ended)));
        // A path may stay where its sessions end: it went and came while this lane was not told.
        kept.into_iter().chain(others).for_each(|path| self.tell_session(path, now));
        // What others said meanwhile may have been heard before there was a path that it was about.
        self.epoch = None;
        self.shown = Round::default();
        self.timers.reconfigured();
        self.load.changed(&work);
    }

    /// Tells a path whether its session can send, and its first link's size.
    fn tell_session(&mut self, path: PathIndex, now: Time) {
        let Some(link) = self.peers.link(path).copied() else { return };
        let ready = link.sender.is_some_and(|pair| self.peers.pairs[pair].session.ready());
        let max_mtu = link.sender.map(|_| self.peers.snapshot.paths[link.spec].max_mtu);
        if self.paths.has_session(path) != ready {
            self.paths.handle(path, now, |life| life.handle_session(ready, now));
        }
        if let Some(max) = max_mtu {
            self.paths.set_max_mtu(path, max, now);
        }
    }

    /// Gives up sessions of replaced keys that ran out.
    fn drop_ended(&mut self, now: Time) {
        let seen: Vec<_> = self.peers.links().map(|(path, link)| (path, link.hints)).collect();
        let none = Newcomers::none(self.peers.by_spec.clone());
        let (all, ended) = self.peers.apply(&Arc::clone(&self.peers.snapshot), none, &self.paths, now);
        self.shared.doors[self.index].discard(Box::new(ended));
        seen.into_iter().for_each(|(path, hints)| self.peers.saw_hints(path, hints));
        all.into_iter().for_each(|path| self.tell_session(path, now));
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
