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
mod tests {
    use super::*;

    const START: Time = Time::from_millis(5_000);

    fn guard() -> HandshakeGuard {
        HandshakeGuard::new(3)
    }

    fn from(address: &str) -> Sender {
        Sender { address: address.parse().unwrap(), known: false, now: START }
    }

    fn identity(seed: u8) -> Identity {
        Identity::new(x25519::StaticSecret::from([seed; 32]))
    }

    fn key(identity: &Identity) -> PublicKey {
        identity.key()
    }

    /// An IPv4 packet with nothing inside.
    fn packet() -> Vec<u8> {
        let mut p = vec![0u8; 28];
        p[0] = 0x45;
        p[3] = 28;
        p
    }

    fn connect(a: &mut WireGuard, b: &mut WireGuard) {
        let (mut x, mut y) = ([0u8; 2048], [0u8; 2048]);
        let n = a.initiate(&mut x).unwrap();
        let Opened::Initiation(n) = b.open(&x[..n], &mut y) else { panic!("no answer to the initiation") };
        assert!(!b.ready(), "an answered initiation alone must not carry data");
        let Opened::Response(n) = a.open(&y[..n], &mut x) else { panic!("response refused") };
        assert_eq!(b.open(&x[..n], &mut y), Opened::Keepalive);
        assert!(a.ready() && b.ready());
    }

    #[test]
    fn a_handshake_then_data_both_ways() {
        let (ia, ib) = (identity(1), identity(2));
        let mut a = WireGuard::new(&ia, key(&ib), 7, None);
        let mut b = WireGuard::new(&ib, key(&ia), 9, None);
        let mut out = [0u8; 2048];
        assert_eq!(a.seal(&packet(), &mut out), None, "nothing is queued before there is a session");
        connect(&mut a, &mut b);
        both_refuse_replays(&mut a, &mut b, 9);
        both_refuse_replays(&mut b, &mut a, 7);
    }

    #[test]
    fn answered_initiations_are_no_session_however_many() {
        let (ia, ib) = (identity(1), identity(2));
        let mut a = WireGuard::new(&ia, key(&ib), 7, None);
        let mut b = WireGuard::new(&ib, key(&ia), 9, None);
        let (mut x, mut y) = ([0u8; 2048], [0u8; 2048]);
        for answered in 0..20 {
            let n = a.initiate(&mut x).unwrap();
            assert!(matches!(b.open(&x[..n], &mut y), Opened::Initiation(_)));
            b.tick(&mut y);
            assert!(!b.ready(), "after {answered} answers that were lost");
        }
        connect(&mut a, &mut b);
    }

    #[test]
    fn a_new_handshake_beside_traffic_loses_nothing() {
        let (ia, ib) = (identity(1), identity(2));
        let mut a = WireGuard::new(&ia, key(&ib), 7, None);
        let mut b = WireGuard::new(&ib, key(&ia), 9, None);
        connect(&mut a, &mut b);
        let (mut x, mut y, mut plain) = ([0u8; 2048], [0u8; 2048], [0u8; 2048]);
        let seal = |from: &mut WireGuard| {
            let mut out = [0u8; 2048];
            let n = from.seal(&packet(), &mut out).expect("there is a session all the time");
            out[..n].to_vec()
        };
        // Sealed before and in the middle of the handshake, arriving after it.
        let mut late = vec![seal(&mut a)];
        let mut late_back = vec![seal(&mut b)];
        let n = a.initiate(&mut x).unwrap();
        late.push(seal(&mut a));
        let Opened::Initiation(n) = b.open(&x[..n], &mut y) else { panic!("no answer to the initiation") };
        late_back.push(seal(&mut b));
        let Opened::Response(n) = a.open(&y[..n], &mut x) else { panic!("response refused") };
        late.push(seal(&mut a));
        assert_eq!(b.open(&x[..n], &mut y), Opened::Keepalive);
        late_back.push(seal(&mut b));
        for message in late {
            assert_eq!(b.open(&message, &mut plain), Opened::Packet(28));
        }
        for message in late_back {
            assert_eq!(a.open(&message, &mut plain), Opened::Packet(28));
        }
    }

    fn both_refuse_replays(from: &mut WireGuard, to: &mut WireGuard, slot: u32) {
        let (mut out, mut plain) = ([0u8; 2048], [0u8; 2048]);
        let n = from.seal(&packet(), &mut out).unwrap();
        assert_eq!(data_receiver(&out[..n]).unwrap() >> 8, slot);
        assert_eq!(to.open(&out[..n], &mut plain), Opened::Packet(28));
        assert_eq!(to.open(&out[..n], &mut plain), Opened::Rejected, "a replay");
        let n = from.seal(&packet(), &mut out).unwrap();
        out[n - 1] ^= 1;
        assert_eq!(to.open(&out[..n], &mut plain), Opened::Rejected, "a changed tag");
    }

    #[test]
    fn admission_tells_the_peer_and_refuses_garbage() {
        let (ia, ib, ic) = (identity(1), identity(2), identity(3));
        let mut a = WireGuard::new(&ia, key(&ib), 1, None);
        let (mut msg, mut out, mut guard, peer) = ([0u8; MESSAGE_MAX], [0u8; MESSAGE_MAX], guard(), from("127.0.0.1"));
        let n = a.initiate(&mut msg).unwrap();
        assert_eq!(ib.admit(&msg[..n], peer, &mut guard, &mut out), Admitted::Initiation(key(&ia)));
        assert_eq!(ic.admit(&msg[..n], peer, &mut guard, &mut out), Admitted::Rejected, "meant for another lane");
        for len in 0..n {
            assert_eq!(ib.admit(&msg[..len], peer, &mut guard, &mut out), Admitted::Rejected, "cut to {len}");
        }
    }

    /// One who floods `victim` with initiations, and how often what became of them.
    struct Flooder<'a> {
        session: WireGuard,
        victim: &'a Identity,
        cookies: usize,
        admitted: usize,
        too_many: usize,
    }

    impl<'a> Flooder<'a> {
        fn new(own: &Identity, victim: &'a Identity) -> Self {
            let session = WireGuard::new(own, key(victim), 1, None);
            Self { session, victim, cookies: 0, admitted: 0, too_many: 0 }
        }

        /// Sends `count` messages, each with the cookie that came back last, if it `takes` cookies at all.
        fn flood(&mut self, guard: &mut HandshakeGuard, from: Sender, count: usize, takes: bool) {
            let (mut msg, mut out) = ([0u8; MESSAGE_MAX], [0u8; MESSAGE_MAX]);
            for _ in 0..count {
                let n = self.session.initiate(&mut msg).unwrap();
                match self.victim.admit(&msg[..n], from, guard, &mut out) {
                    Admitted::CookieWanted(len) => {
                        self.cookies += 1;
                        if takes {
                            assert_eq!(self.session.open(&out[..len], &mut [0u8; MESSAGE_MAX]), Opened::Cookie);
                        }
                    }
                    Admitted::Initiation(_) => self.admitted += 1,
                    Admitted::TooMany => self.too_many += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_flood_of_handshakes_is_answered_with_cookies() {
        let (ia, ib) = (identity(1), identity(2));
        for address in ["192.0.2.1", "2001:db8::1"] {
            let (mut guard, mut a) = (guard(), Flooder::new(&ia, &ib));
            a.flood(&mut guard, from(address), 400, false);
            assert_eq!((a.admitted, a.cookies, a.too_many), (200, 200, 0), "without a cookie nothing more gets in");
            a.flood(&mut guard, from(address), 1, true);
            a.flood(&mut guard, from(address), 1, true);
            assert_eq!((a.admitted, a.cookies, a.too_many), (201, 201, 0), "with the cookie it does");
        }
    }

    #[test]
    fn cookies_let_nobody_in_without_end_and_a_known_peer_beside_a_flood() {
        let (ia, ib, ic) = (identity(1), identity(2), identity(3));
        for (attacker, peer) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8:0:1::1")] {
            let (mut guard, mut a, mut c) = (guard(), Flooder::new(&ia, &ib), Flooder::new(&ic, &ib));
            a.flood(&mut guard, from(attacker), 2000, true);
            assert_eq!(a.cookies, 1);
            assert_eq!((a.admitted, a.too_many), (220, 1779), "200 for anybody, and its own");
            c.flood(&mut guard, Sender { known: true, ..from(peer) }, 3, true);
            assert_eq!((c.cookies, c.admitted, c.too_many), (1, 2, 0));
        }
    }

    #[test]
    fn a_network_of_flooders_keeps_no_known_peer_out() {
        let (ia, ib, ic) = (identity(1), identity(2), identity(3));
        let (mut guard, mut c) = (guard(), Flooder::new(&ic, &ib));
        let mut admitted = 0;
        for network in 0..100 {
            let mut a = Flooder::new(&ia, &ib);
            a.flood(&mut guard, from(&format!("2001:db8:1:{network:x}::1")), 10, true);
            admitted += a.admitted;
        }
        assert_eq!(admitted, 300, "200 for anybody, 100 for those with cookies");
        c.flood(&mut guard, Sender { known: true, ..from("2001:db8:2::1") }, 2, true);
        assert_eq!((c.cookies, c.admitted), (1, 1));
    }

    #[test]
    fn answers_without_end_are_no_way_past_the_guard() {
        let (ia, ib) = (identity(1), identity(2));
        let mut a = WireGuard::new(&ia, key(&ib), 1, None);
        let mut b = WireGuard::new(&ib, key(&ia), 2, None);
        let (mut msg, mut answer, mut out) = ([0u8; MESSAGE_MAX], [0u8; MESSAGE_MAX], [0u8; MESSAGE_MAX]);
        let n = a.initiate(&mut msg).unwrap();
        let Opened::Initiation(n) = b.open(&msg[..n], &mut answer) else { panic!("no answer") };
        let (mut guard, mut admitted) = (guard(), 0);
        for _ in 0..1000 {
            match ia.admit(&answer[..n], from("192.0.2.1"), &mut guard, &mut out) {
                Admitted::Session(_) => admitted += 1,
                other => assert!(matches!(other, Admitted::CookieWanted(_)), "{other:?}"),
            }
        }
        assert_eq!(admitted, 200);
    }

    #[test]
    fn only_whole_data_messages_have_a_receiver() {
        assert_eq!(data_receiver(&[]), None);
        let mut m = [0u8; 32];
        m[0] = 4;
        m[4..8].copy_from_slice(&0x0102_0304u32.to_le_bytes());
        m[8] = 5;
        assert_eq!(data_receiver(&m), Some(0x0102_0304));
        assert_eq!(data_counter(&m), Some(5));
        assert_eq!(data_receiver(&m[..31]), None);
        m[1] = 1;
        assert_eq!(data_receiver(&m), None);
    }
}
