//! One WireGuard session with one peer lane, hidden behind [`Session`] so that nothing else knows boringtun.
//!
//! boringtun keeps its own clock and randomness and would queue packets while no session exists; here a packet is sealed
//! only with a session, and handshakes start only when the lane says so.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519;
use hawser_datapath::{HandshakeGuard, probe};
use hawser_liveness::Time;
use hawser_model::PublicKey;

/// Bytes that sealing adds: 16 of header, 16 of tag.
pub(crate) const SEAL_OVERHEAD: usize = 32;
/// A buffer of this size takes any message that is not data.
pub(crate) const MESSAGE_MAX: usize = 160;
/// Length of a data message's header: type, receiver index, counter.
pub(crate) const DATA_HEADER: usize = 16;

/// What became of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// An inner packet of this length is in the buffer.
    Packet(usize),
    /// An authenticated message without content.
    Keepalive,
    /// An authenticated initiation: the answer, of this length, is in the buffer.
    Initiation(usize),
    /// The answer to our initiation: there is a session, and a message of this length to confirm it in the buffer.
    Response(usize),
    /// A cookie for our next initiation.
    Cookie,
    /// Not authentic, a replay, or of an unknown session.
    Rejected,
}

/// A session as a lane drives it. `Tunn` is the one real implementation.
pub(crate) trait Session {
    /// Whether packets can be sealed now.
    fn ready(&self) -> bool;
    /// Encrypts `packet` into `out`, which must be [`SEAL_OVERHEAD`] larger and at least [`MESSAGE_MAX`]; the length
    /// written, or `None` without a session.
    fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize>;
    /// Takes a datagram of this peer; `out` must be as large as `datagram` and at least [`MESSAGE_MAX`].
    fn open(&mut self, datagram: &[u8], out: &mut [u8]) -> Opened;
    /// Writes a handshake initiation; its length.
    fn initiate(&mut self, out: &mut [u8]) -> Option<usize>;
    /// Advances the session's own timers (call every 250 ms or so); a message of this length may be due to be sent.
    fn tick(&mut self, out: &mut [u8]) -> Option<usize>;
    /// Age of the session in use.
    fn age(&self) -> Option<Duration>;
}

/// What every session of a lane shares: its key, and cookies.
pub(crate) struct Identity {
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    probe_address: Ipv6Addr,
    /// Always asks for a cookie.
    strict: RateLimiter,
    /// Never does. Sessions check again what was admitted.
    lenient: Arc<RateLimiter>,
}

/// Who sent a datagram, and when it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) address: IpAddr,
    /// Whether some peer is configured with the address.
    pub(crate) known: bool,
    pub(crate) now: Time,
}

/// What a handshake message or cookie, checked by [`Identity::admit`], asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// An initiation of the peer with this key.
    Initiation(PublicKey),
    /// For the session with this local index.
    Session(u32),
    /// Send these bytes of the buffer back: a cookie is wanted.
    CookieWanted(usize),
    /// More than its sender may send.
    TooMany,
    /// Garbage, or not for us.
    Rejected,
}

impl Identity {
    pub(crate) fn new(secret: x25519::StaticSecret) -> Self {
        let public = x25519::PublicKey::from(&secret);
        Self {
            strict: RateLimiter::new(&public, 0),
            lenient: Arc::new(RateLimiter::new(&public, u64::MAX)),
            secret,
            probe_address: probe::address(&PublicKey(public.to_bytes())),
            public,
        }
    }

    /// The half that peers know.
    pub(crate) fn key(&self) -> PublicKey {
        PublicKey(self.public.to_bytes())
    }

    /// Where the probes of lanes of this key come from.
    pub(crate) fn probe_address(&self) -> Ipv6Addr {
        self.probe_address
    }

    /// Tells whose a datagram is, without trusting it. What costs a key agreement is admitted as `guard` says.
    pub(crate) fn admit(&self, datagram: &[u8], from: Sender, guard: &mut HandshakeGuard, out: &mut [u8]) -> Admitted {
        let check = if guard.wants_cookie(from.now) { &self.strict } else { &*self.lenient };
        let packet = match check.verify_packet(Some(from.address), datagram, out) {
            Ok(packet) => packet,
            Err(TunnResult::WriteToNetwork(cookie)) => return Admitted::CookieWanted(cookie.len()),
            Err(_) => return Admitted::Rejected,
        };
        let costs = matches!(packet, Packet::HandshakeInit(_) | Packet::HandshakeResponse(_));
        if costs && !guard.allow(from.address, from.known, from.now) {
            return Admitted::TooMany;
        }
        match packet {
            Packet::HandshakeInit(init) => match parse_handshake_anon(&self.secret, &self.public, &init) {
                Ok(half) => Admitted::Initiation(PublicKey(half.peer_static_public)),
                Err(_) => Admitted::Rejected,
            },
            Packet::HandshakeResponse(p) => Admitted::Session(p.receiver_idx),
            Packet::PacketCookieReply(p) => Admitted::Session(p.receiver_idx),
            Packet::PacketData(p) => Admitted::Session(p.receiver_idx),
        }
    }
}

/// The receiver index of a data message; `None` for anything else.
#[inline]
pub(crate) fn data_receiver(datagram: &[u8]) -> Option<u32> {
    let (head, rest) = datagram.split_first_chunk::<8>()?;
    if head[..4] != [4, 0, 0, 0] || rest.len() < SEAL_OVERHEAD - 8 {
        return None;
    }
    Some(u32::from_le_bytes([head[4], head[5], head[6], head[7]]))
}

/// Whether a message begins a handshake.
pub(crate) fn is_initiation(message: &[u8]) -> bool {
    message.first() == Some(&1)
}

/// The receiver index of a handshake's answer: that of the session it makes.
pub(crate) fn response_receiver(datagram: &[u8]) -> Option<u32> {
    let index = datagram.get(8..12).filter(|_| datagram.first() == Some(&2))?;
    index.try_into().ok().map(u32::from_le_bytes)
}

/// The counter of a data message.
#[inline]
pub(crate) fn data_counter(datagram: &[u8]) -> Option<u64> {
    data_receiver(datagram)?;
    datagram.get(8..16).and_then(|c| c.try_into().ok()).map(u64::from_le_bytes)
}

/// boringtun's session.
pub(crate) struct WireGuard {
    tunn: Tunn,
    ready: bool,
}

impl WireGuard {
    /// `slot` is this session's number on the lane: the receiver indices it takes are `slot << 8` and the 255 after it.
    pub(crate) fn new(identity: &Identity, peer: PublicKey, slot: u32, keepalive: Option<u16>) -> Self {
        let tunn = Tunn::new(
            identity.secret.clone(),
            x25519::PublicKey::from(peer.0),
            None,
            keepalive,
            slot,
            Some(Arc::clone(&identity.lenient)),
        );
        Self { tunn, ready: false }
    }

    fn has_keys(&self) -> bool {
        self.tunn.time_since_last_handshake().is_some()
    }
}

impl Session for WireGuard {
    #[inline]
    fn ready(&self) -> bool {
        self.ready
    }

    #[inline]
    fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        if !self.ready {
            return None;
        }
        match self.tunn.encapsulate(packet, out) {
            TunnResult::WriteToNetwork(sealed) => Some(sealed.len()),
            _ => None,
        }
    }

    #[inline]
    fn open(&mut self, datagram: &[u8], out: &mut [u8]) -> Opened {
        let kind = datagram.first().copied();
        let opened = match self.tunn.decapsulate(None, datagram, out) {
            TunnResult::WriteToTunnelV4(p, _) | TunnResult::WriteToTunnelV6(p, _) => Opened::Packet(p.len()),
            TunnResult::WriteToNetwork(p) if kind == Some(1) => Opened::Initiation(p.len()),
            TunnResult::WriteToNetwork(p) => Opened::Response(p.len()),
            TunnResult::Done if kind == Some(3) => Opened::Cookie,
            TunnResult::Done => Opened::Keepalive,
            TunnResult::Err(_) => Opened::Rejected,
        };
        // An initiation that we answered is no session: only a response, or the peer's first message under its keys. boringtun
        // keeps the keys all the same, eventually in the place where it looks for those in use.
        if !self.ready && matches!(opened, Opened::Response(_) | Opened::Packet(_) | Opened::Keepalive) {
            self.ready = self.has_keys();
        }
        opened
    }

    fn initiate(&mut self, out: &mut [u8]) -> Option<usize> {
        match self.tunn.format_handshake_initiation(out, true) {
            TunnResult::WriteToNetwork(p) => Some(p.len()),
            _ => None,
        }
    }

    fn tick(&mut self, out: &mut [u8]) -> Option<usize> {
        let due = match self.tunn.update_timers(out) {
            TunnResult::WriteToNetwork(p) => Some(p.len()),
            _ => None,
        };
        self.ready &= self.has_keys();
        due
    }

    fn age(&self) -> Option<Duration> {
        self.tunn.time_since_last_handshake()
    }
}

#[cfg(test)]
mod tests;
