//! UDP to TUN: whose datagram, open, check, write. Also what ICMP says about what we sent.

use std::net::SocketAddr;

use hawser_datapath::probe::{self, Probe};
use hawser_datapath::{DropReason, Packet, Verdict, mss};
use hawser_liveness::Time;

use super::Lane;
use super::naps::Direction;
use super::turn::Room;
use crate::session::{
    Admitted, MESSAGE_MAX, Opened, SEAL_OVERHEAD, Sender, Session as _, data_receiver, is_initiation, response_receiver,
};
use crate::udp::{IcmpError, IcmpKind, Received};

/// What a probe that tells that a path is alive is on the wire.
const PROBE: usize = probe::LEN + SEAL_OVERHEAD;

/// ICMP errors taken off a queue before others have their turn.
const ERRORS: usize = 128;

/// Inner packets of one batch of datagrams, all of one peer.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    packets: u64,
    bytes: u64,
}

impl Lane {
    /// Takes a burst from one socket.
    pub(super) fn inbound(&mut self, socket: usize, now: Time) {
        let mut datagrams = std::mem::take(&mut self.datagrams);
        let mut room = Room::new();
        while room.is_left() {
            match self.sockets[socket].receive(&mut datagrams) {
                Ok(Some(received)) => {
                    let data = &datagrams[..received.len];
                    match data_receiver(data) {
                        Some(_) => room.take(received.len),
                        None => room.take_handshake(),
                    }
                    self.received(socket, data, &received, now);
                    if self.pace.is_first() {
                        self.flush_writes();
                    }
                }
                Ok(None) => {
                    self.fair[socket].handle_empty();
                    break;
                }
                // An ICMP error that waits is told here once; the queue holds its details.
                Err(_) => {
                    room.take(0);
                    self.icmp_errors(socket, now);
                }
            }
        }
        self.datagrams = datagrams;
        self.pace.took(Direction::In, &room);
        self.flush_writes();
        self.flush_batch();
    }

    /// Datagrams of one sender.
    fn received(&mut self, socket: usize, data: &[u8], received: &Received, now: Time) {
        let from = SocketAddr::new(received.from.ip().to_canonical(), received.from.port());
        if received.overflow > 0 {
            self.counters.dropped_many(DropReason::ReceiveQueueFull, received.overflow.into());
        }
        let mut last: Option<(u32, usize)> = None;
        let mut tally = Tally::default();
        let mut verdict = Verdict::Take;
        for datagram in data.chunks(received.stride.max(1)) {
            let Some(receiver) = data_receiver(datagram) else {
                self.message(datagram, from, now);
                continue;
            };
            // Nearly always all are of one session.
            let pair = match last {
                Some((known, pair)) if known == receiver => pair,
                _ => {
                    let Some(pair) = self.peers.by_receiver(receiver) else {
                        self.counters.dropped(DropReason::NotOurs);
                        continue;
                    };
                    self.count(last, std::mem::take(&mut tally), now);
                    last = Some((receiver, pair));
                    let path = self.peers.pairs[pair].path;
                    verdict = self.fair[socket].handle_received(path, received.len, received.waited(), now);
                    pair
                }
            };
            if verdict != Verdict::Take && !may_be_probe(datagram, received) {
                self.counters.dropped(DropReason::QueueLong);
                if verdict == Verdict::DropOne {
                    verdict = Verdict::Take;
                }
                continue;
            }
            self.data(pair, datagram, from, received, &mut tally, now);
        }
        self.count(last, tally, now);
    }

    fn count(&mut self, last: Option<(u32, usize)>, tally: Tally, now: Time) {
        if let Some((_, pair)) = last.filter(|_| tally.packets > 0) {
            self.paths.handle_received(self.peers.pairs[pair].path, tally.packets, tally.bytes, now);
        }
    }

    fn data(
        &mut self,
        pair: usize,
        datagram: &[u8],
        from: SocketAddr,
        received: &Received,
        tally: &mut Tally,
        now: Time,
    ) {
        if self.writes.is_full(datagram.len()) {
            self.flush_writes();
        }
        let state = &mut self.peers.pairs[pair];
        let was_ready = state.session.ready();
        let room = self.writes.room(datagram.len());
        let opened = state.session.open(datagram, room);
        if !matches!(opened, Opened::Packet(_) | Opened::Keepalive) {
            return self.counters.dropped(DropReason::NotAuthentic);
        }
        if state.newest.note(datagram) && state.endpoint != Some(from) {
            self.roam(pair, from);
        }
        if !was_ready {
            self.established(pair, now);
        }
        if let Opened::Packet(len) = opened {
            self.packet(pair, len, received, tally, now);
        }
    }

    fn roam(&mut self, pair: usize, to: SocketAddr) {
        if !self.peers.may_roam_to(to.ip()) {
            return;
        }
        let state = &self.peers.pairs[pair];
        let key = &self.peers.snapshot.paths[state.spec].key;
        tracing::debug!(
            lane = self.index, cluster = %key.cluster, gateway = %key.gateway, remote_lane = state.remote_lane,
            from = ?state.endpoint, %to, "endpoint changed"
        );
        let (path, sends) = (state.path, state.sends);
        self.peers.pairs[pair].seek.moved();
        if self.peers.move_to(pair, to) && sends {
            self.peers.choose(path);
        }
    }

    /// An inner packet of `len` bytes is in the write buffer.
    fn packet(&mut self, pair: usize, len: usize, received: &Received, tally: &mut Tally, now: Time) {
        let state = &self.peers.pairs[pair];
        let spec = &self.peers.snapshot.paths[state.spec];
        let room = &mut self.writes.room(len)[..len];
        if probe::is_probe(room) {
            let decoded = Probe::decode(room, state.addresses.1, state.addresses.0);
            return match decoded {
                Some(probe) => self.probed(pair, &probe, now.before(received.waited())),
                None => self.counters.dropped(DropReason::BadProbe),
            };
        }
        let Ok(packet) = Packet::parse(room) else {
            return self.counters.dropped(DropReason::IngressMalformed);
        };
        if let Err(reason) = self.policy.ingress(&packet, spec.cluster as u16) {
            return self.counters.dropped(reason);
        }
        mss::clamp(room, spec.mtu().min(self.shared.lan_mtu()));
        tally.packets += 1;
        tally.bytes += len as u64;
        self.writes.commit(len);
    }

    /// A handshake message, a cookie, or garbage.
    fn message(&mut self, datagram: &[u8], from: SocketAddr, now: Time) {
        let mut out = [0u8; MESSAGE_MAX];
        if datagram.len() > MESSAGE_MAX {
            return self.counters.dropped(DropReason::NotOurs);
        }
        let sender = Sender { address: from.ip(), known: self.peers.snapshot.knows(from.ip()), now };
        let pair = match self.expected(datagram) {
            Some(pair) => Some(pair),
            None => match self.peers.identities().admit(datagram, sender, &mut self.guard, &mut out) {
                (own, Admitted::Initiation(remote)) => self.peers.by_keys(own, remote),
                (_, Admitted::Session(receiver)) => self.peers.by_receiver(receiver),
                (_, Admitted::CookieWanted(len)) => {
                    self.counters.dropped(DropReason::CookieSent);
                    return self.send_now(from, &out[..len]);
                }
                (_, Admitted::TooMany) => return self.counters.dropped(DropReason::HandshakeLimit),
                (_, Admitted::Rejected) => None,
            },
        };
        // No session begins by a key that was replaced.
        let Some(pair) = pair.filter(|&pair| self.peers.pairs[pair].ends.is_none()) else {
            return self.counters.dropped(DropReason::NotOurs);
        };
        if is_initiation(datagram) {
            self.peers.wake(pair);
        }
        let was_ready = self.peers.pairs[pair].session.ready();
        match self.peers.pairs[pair].session.open(datagram, &mut out) {
            // The answer goes where the initiation came from; where data goes is for data to say.
            Opened::Initiation(len) => self.send_now(from, &out[..len]),
            Opened::Response(len) => {
                // It answers what we sent there, so the peer is there: the first candidate to answer is the best.
                if self.peers.pairs[pair].endpoint != Some(from) {
                    self.roam(pair, from);
                }
                self.send_now(from, &out[..len]);
                self.peers.pairs[pair].attempts.succeeded();
                self.peers.pairs[pair].seek.answered();
                if let Some(receiver) = response_receiver(datagram) {
                    self.peers.pairs[pair].newest.renewed(receiver);
                }
                if !was_ready {
                    self.established(pair, now);
                }
            }
            Opened::Cookie => {}
            Opened::Packet(_) | Opened::Keepalive | Opened::Rejected => self.counters.dropped(DropReason::NotAuthentic),
        }
    }

    /// The pair whose initiation a datagram answers, if that is still waited for.
    pub(super) fn expected(&mut self, datagram: &[u8]) -> Option<usize> {
        let receiver = response_receiver(datagram)?;
        let pair = self.peers.by_receiver(receiver)?;
        let state = &mut self.peers.pairs[pair];
        state.answers = state.answers.checked_sub(1)?;
        Some(pair)
    }

    /// Reads what ICMP told about datagrams of ours.
    pub(super) fn icmp_errors(&mut self, socket: usize, now: Time) {
        let mut quoted = [0u8; 128];
        for _ in 0..ERRORS {
            let Some(error) = self.sockets[socket].receive_error(&mut quoted) else { return };
            // What is not looked at is taken off all the same: the queue shares the memory of that of datagrams.
            if self.errors.take(now) {
                self.icmp_error(&error, &quoted[..error.quoted], now);
            }
        }
    }

    pub(super) fn icmp_error(&mut self, error: &IcmpError, quoted: &[u8], now: Time) {
        let to = SocketAddr::new(error.to.ip().to_canonical(), error.to.port());
        for pair in self.peers.senders_to(to) {
            // Only what quotes a ciphertext of ours is evidence; the rest is a hint, and costs an early probe at most.
            match self.peers.pairs[pair].sent.recognise(quoted, now) {
                Some(id) => self.icmp_evidence(pair, error.kind, id, now),
                None => self.icmp_hint(pair, error.kind, now),
            }
        }
    }

    /// An error about the datagram `id`, by somebody who saw it.
    fn icmp_evidence(&mut self, pair: usize, kind: IcmpKind, id: u64, now: Time) {
        let state = &self.peers.pairs[pair];
        match kind {
            // What it says of sizes is not believed, but worth a look.
            IcmpKind::TooBig => self.paths.handle_mtu_hint(state.path, now),
            IcmpKind::PortUnreachable => {
                self.peers.snapshot.paths[state.spec].board.refuse(self.index, now);
                self.paths.handle(state.path, now, |life| life.handle_port_unreachable(id, now));
            }
            IcmpKind::Unreachable => self.paths.handle(state.path, now, |life| life.handle_hint(now)),
        }
        self.timers.request();
    }

    /// An error that anybody may have made up: now and then a reason to probe.
    fn icmp_hint(&mut self, pair: usize, kind: IcmpKind, now: Time) {
        let path = self.peers.pairs[pair].path;
        // The same error concerns one of several sessions between the same addresses.
        let in_use = self.peers.link(path).is_some_and(|link| link.sender == Some(pair));
        if kind != IcmpKind::TooBig && in_use && self.peers.pairs[pair].may_be_hinted(now) {
            self.paths.handle(path, now, |life| life.handle_hint(now));
            self.timers.request();
        }
    }

    pub(super) fn flush_writes(&mut self) {
        let lost = self.writes.flush(&self.tun);
        if lost > 0 {
            self.counters.dropped_many(DropReason::TunFailed, lost);
        }
    }
}

/// Whether a datagram may be a probe, which tells that a path is alive, by what can be seen of it.
fn may_be_probe(datagram: &[u8], received: &Received) -> bool {
    let alone = received.len == datagram.len() || datagram.len() < received.stride;
    alone && datagram.len() <= PROBE
}
