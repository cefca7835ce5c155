//! Sessions against each other, and floods against who admits handshakes.

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
