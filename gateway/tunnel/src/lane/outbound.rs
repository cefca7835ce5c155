//! TUN to UDP: which path, then seal and send.

use std::net::SocketAddr;
use std::time::Duration;

use hawser_datapath::icmp::{self, Trouble};
use hawser_datapath::{ClusterIndex, DropReason, Packet, PathIndex, Route, mss, pmtu};
use hawser_liveness::{State, Time};
use hawser_model::IpFamily;
use nix::errno::Errno;

use super::Lane;
use super::batch::Batch;
use super::peers::Peers;
use super::turn::Room;
use crate::control::MTU_MIN;
use crate::session::Session as _;
use crate::shared::Handover;

/// How long a cluster that has not answered yet is waited for before packets to it are refused: sessions need a moment.
const PATIENCE: Duration = Duration::from_secs(3);

impl Lane {
    /// Takes a burst from the TUN. False when the device is gone.
    pub(super) fn outbound(&mut self, now: Time) -> bool {
        let mut room = Room::new();
        while room.is_left() {
            match self.segments.read(&self.tun) {
                Ok(true) => {
                    room.take(self.segments.bytes());
                    self.route(now);
                }
                Ok(false) => break,
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => return false,
                Err(error) => {
                    tracing::debug!(lane = self.index, %error, "a packet from the TUN was not understood");
                    room.take(0);
                    self.counters.dropped(DropReason::EgressMalformed);
                }
            }
        }
        self.flush_batch();
        self.flush_writes();
        true
    }

    /// Sends what was read: one packet, or the segments of one superpacket, which are all of one flow.
    fn route(&mut self, now: Time) {
        let count = self.segments.len() as u64;
        let Ok(packet) = Packet::parse(self.segments.packet()) else {
            return self.counters.dropped_many(DropReason::EgressMalformed, count);
        };
        if let Err(reason) = self.policy.egress(&packet) {
            return self.counters.dropped_many(reason, count);
        }
        match self.paths.forwarding(now).route(packet.dst(), packet.flow_hash(0)) {
            Route::Path { path, .. } => self.send_all(path, now),
            Route::NoPath { cluster } => self.no_path(cluster, now),
            Route::NotRemote => self.counters.dropped_many(DropReason::EgressDestination, count),
        }
    }

    /// Sends all segments by a path.
    fn send_all(&mut self, path: PathIndex, now: Time) {
        let Some(link) = self.peers.link(path).copied() else {
            return self.counters.dropped_many(DropReason::NoSession, self.segments.len() as u64);
        };
        let mtu = self.peers.snapshot.paths[link.spec].mtu();
        let announced = mtu.min(self.shared.lan_mtu());
        let sender = self.peers.ready_sender(path);
        let (mut packets, mut bytes, mut largest) = (0, 0, 0);
        loop {
            let packet = self.segments.packet();
            let len = packet.len();
            let whole = len <= usize::from(mtu);
            if !whole && !must_pass(packet) {
                self.counters.dropped(DropReason::TooBig);
                self.refuse(Trouble::TooBig(mtu), now);
            } else {
                mss::clamp(packet, announced);
                match sender {
                    Some((pair, to)) => {
                        self.send(pair, to, whole, now);
                        largest = largest.max(len);
                        packets += 1;
                        bytes += len as u64;
                    }
                    None => self.hand_over(link.spec, None),
                }
            }
            if !self.segments.advance() {
                break;
            }
        }
        if largest > usize::from(pmtu::BASE) {
            self.paths.handle_large(path);
        }
        if packets > 0 {
            self.paths.handle_sent(path, packets, bytes, now);
        }
    }

    /// Sends the packet at hand, in fragments where it is not `whole` to the path.
    #[inline]
    fn send(&mut self, pair: usize, to: SocketAddr, whole: bool, now: Time) {
        let packet = self.segments.packet();
        if !whole || !self.batch.fits(to, packet.len()) {
            self.flush_batch();
        }
        seal(&mut self.batch, &mut self.peers, pair, to, self.segments.packet(), now);
        if !whole {
            self.flush_fragmented();
        }
    }

    /// This lane has no path to a cluster: another may have one, where ports differ in fate or sessions are younger here.
    fn no_path(&mut self, cluster: ClusterIndex, now: Time) {
        let lanes = self.shared.doors.len();
        let helper = self.peers.links().find_map(|(path, link)| {
            let spec = self.peers.snapshot.paths.get(link.spec).filter(|spec| spec.cluster == usize::from(cluster))?;
            let fell = match self.paths.state(path) {
                Some(State::Down) => self.paths.since(path).unwrap_or(now),
                _ => Time::START,
            };
            spec.board.helper(self.index, lanes, fell).map(|lane| (link.spec, lane))
        });
        let count = self.segments.len();
        match helper {
            Some((spec, lane)) => loop {
                self.hand_over(spec, Some(lane));
                if !self.segments.advance() {
                    break;
                }
            },
            None => {
                self.counters.dropped_many(DropReason::NoPath, count as u64);
                if !self.paths.is_new(cluster, PATIENCE, now) {
                    self.refuse(Trouble::Unreachable, now);
                }
            }
        }
    }

    /// Tells the sender of the packet at hand why it does not go on, if that may be told.
    fn refuse(&mut self, trouble: Trouble, now: Time) {
        let Ok(packet) = Packet::parse(self.segments.packet()) else { return };
        let addresses = &self.peers.snapshot.peers.addresses;
        let Some(&from) = addresses.iter().find(|a| a.is_ipv4() == packet.src().is_ipv4()) else { return };
        if self.limiter.allow(packet.src(), now) && icmp::reply(&packet, trouble, from, &mut self.reply) {
            self.raw.send(&self.reply, packet.src());
        }
    }

    /// Gives the packet at hand to a lane that has a session on this path: `lane`, or lane 0, which alone talks to plain peers, or
    /// whichever has one.
    fn hand_over(&mut self, spec: usize, lane: Option<usize>) {
        let path = &self.peers.snapshot.paths[spec];
        let lanes = self.shared.doors.len();
        let first = (!path.probes && self.index != 0).then_some(0);
        let Some(lane) = lane.or(first).or_else(|| path.board.helper(self.index, lanes, Time::START)) else {
            return self.counters.dropped(DropReason::NoSession);
        };
        let revision = self.peers.snapshot.revision;
        let packet = self.segments.packet().to_vec();
        if !self.shared.doors[lane].hand_over(Handover { revision, spec, packet }) {
            self.counters.dropped(DropReason::QueueFull);
        }
    }

    /// Sends what other lanes left here.
    pub(super) fn handed_over(&mut self, now: Time) {
        while let Ok(Handover { revision, spec, packet }) = self.ring.try_recv() {
            let current = revision == self.peers.snapshot.revision;
            let path = self.peers.links().find(|(_, link)| current && link.spec == spec).map(|(path, _)| path);
            let sender = path.and_then(|path| Some((path, self.peers.ready_sender(path)?)));
            let Some((path, (pair, to))) = sender else {
                self.counters.dropped(DropReason::NoSession);
                continue;
            };
            let whole = packet.len() <= usize::from(self.peers.snapshot.paths[spec].mtu());
            if !whole || !self.batch.fits(to, packet.len()) {
                self.flush_batch();
            }
            seal(&mut self.batch, &mut self.peers, pair, to, &packet, now);
            if !whole {
                self.flush_fragmented();
            }
            self.paths.handle_sent(path, 1, packet.len() as u64, now);
        }
        self.flush_batch();
    }

    /// Sends the batch.
    pub(super) fn flush_batch(&mut self) {
        let Some((to, bytes, segment)) = self.batch.contents() else { return };
        let count = bytes.len().div_ceil(segment) as u64;
        let socket = self.sockets.iter().find(|s| s.family() == IpFamily::of(to.ip()));
        let sent = socket.map_or(Err(Errno::EAFNOSUPPORT), |socket| match socket.send(to, bytes, segment) {
            // Devices without checksum offload refuse segmentation, whole batches over the device's MTU are refused too.
            Err(Errno::EIO | Errno::EINVAL | Errno::EMSGSIZE) if count > 1 => {
                bytes.chunks(segment).try_for_each(|one| socket.send(to, one, segment))
            }
            result => result,
        });
        self.batch.clear();
        if let Err(error) = sent {
            self.counters.dropped_many(DropReason::SendFailed, count);
            self.send_failed(to, error);
        }
    }

    /// Sends the one datagram of the batch, which is larger than the path takes, in fragments.
    fn flush_fragmented(&mut self) {
        let Some((to, bytes, _)) = self.batch.contents() else { return };
        let socket = self.sockets.iter().find(|s| s.family() == IpFamily::of(to.ip()));
        let sent = socket.map_or(Err(Errno::EAFNOSUPPORT), |socket| socket.send_fragmented(to, bytes));
        self.batch.clear();
        if let Err(error) = sent {
            self.counters.dropped(DropReason::SendFailed);
            self.send_failed(to, error);
        }
    }

    /// A local error can mean that a link or route is gone: the path is suspect.
    pub(super) fn send_failed(&mut self, to: SocketAddr, error: Errno) {
        tracing::debug!(lane = self.index, %to, %error, "packets were not sent");
        let gone = matches!(error, Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ENETDOWN | Errno::ENODEV);
        let pairs: Vec<usize> = if gone { self.peers.by_endpoint(to).collect() } else { Vec::new() };
        let now = self.shared.now();
        for pair in pairs {
            if self.peers.pairs[pair].sends {
                self.paths.handle(self.peers.pairs[pair].path, now, |life| life.handle_hint(now));
                self.timers.request();
            }
        }
    }
}

/// Every link takes IPv6 packets of this size (RFC 8200, 5): where the path does not, its outer packets are fragmented.
fn must_pass(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 6) && packet.len() <= usize::from(MTU_MIN)
}

/// Seals one packet into the batch and remembers what it became.
#[inline]
fn seal(batch: &mut Batch, peers: &mut Peers, pair: usize, to: SocketAddr, packet: &[u8], now: Time) {
    let pair = &mut peers.pairs[pair];
    let session = &mut pair.session;
    if let Some(sealed) = batch.push(to, |out| session.seal(packet, out)) {
        pair.sent.note(sealed, now);
    }
}
