//! What must not pass: spoofed sources, replays, truncated datagrams, garbage. Each is counted and changes nothing else.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::StaticSecret;
use common::{Host, LIMIT, Outer, PORT, Pinged, outer_address, pair, ping, prefixes, udp_echo};
use hawser_model::defaults::TABLE_REMOTE;
use hawser_model::{PrefixSet, PublicKey};
use hawser_testbed::{Netns, Switch, wait_for};

fn wait_drops(host: &Host, reason: &str, at_least: u64) {
    wait_for(&format!("{at_least} drops for {reason} on h{}", host.number), LIMIT, || {
        let drops = host.tunnel().report().drops;
        if drops[reason] >= at_least { Ok(()) } else { anyhow::bail!("{drops:?}") }
    })
    .unwrap();
}

/// Sends `count` datagrams by UDP from an address of `from` that is not its own cluster's, as its neighbours know it.
fn send_spoofed(from: &Host, source: IpAddr, to: SocketAddr, count: usize) {
    from.ns.run(move || {
        let socket = UdpSocket::bind(SocketAddr::new(source, 0)).unwrap();
        (0..count).for_each(|_| {
            socket.send_to(b"spoofed", to).unwrap();
        });
    });
}

#[test]
fn a_spoofed_source_is_dropped_and_counted() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, a, b) = pair(keys.path(), [2, 2], Outer::V4);
    // The attacker's gateway lets its own pods use addresses that its cluster never claimed.
    let greedy = PrefixSet::new(prefixes(1).iter().copied().chain(prefixes(9).iter().copied()));
    a.apply_as(greedy, vec![b.as_peer(Outer::V4)]);
    for (family, source) in [(Outer::V4, "10.9.0.1/32 dev lo"), (Outer::V6, "fd09::1/128 dev lo nodad")] {
        a.ns.ip(&format!("addr add {source}")).unwrap();
        let source: IpAddr = source.split('/').next().unwrap().parse().unwrap();
        let target = b.inner(family);
        // The device has its addresses a moment after its routes.
        let bind = || b.ns.run(move || Ok(UdpSocket::bind(SocketAddr::new(target, 0))?));
        let victim = wait_for("the gateway's own address", LIMIT, bind).unwrap();
        let before = b.drops("ingress_source");
        send_spoofed(&a, source, victim.local_addr().unwrap(), 10);
        wait_drops(&b, "ingress_source", before + 10);
        victim.set_nonblocking(true).unwrap();
        let got = victim.recv(&mut [0; 100]);
        assert!(got.is_err(), "a spoofed packet was delivered");
    }
    udp_echo(&a, &b, Outer::V4, 100);
    udp_echo(&a, &b, Outer::V6, 100);
}

#[test]
fn the_gateways_own_addresses_are_out_of_reach() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, a, b) = pair(keys.path(), [1, 1], Outer::V4);
    // A cluster that claims its nodes' network has the host's own address inside its prefixes.
    let wide = PrefixSet::new(prefixes(2).iter().copied().chain(["198.51.100.0/24".parse().unwrap()]));
    b.ns.ip("addr add 198.51.100.1/24 dev eth0").unwrap();
    b.apply_as(wide.clone(), vec![a.as_peer(Outer::V4)]);
    let mut peer = b.as_peer(Outer::V4);
    peer.prefixes = wide;
    a.apply(vec![peer]);
    wait_for("the route to it", LIMIT, || {
        let routes = a.ns.ip(&format!("route show table {TABLE_REMOTE}"))?;
        if routes.contains("198.51.100.0/24") { Ok(()) } else { anyhow::bail!("{routes}") }
    })
    .unwrap();
    let source = a.inner(Outer::V4);
    wait_for("a packet to the host's address to be dropped", LIMIT, || {
        send_spoofed(&a, source, "198.51.100.1:9".parse()?, 1);
        std::thread::sleep(Duration::from_millis(20));
        anyhow::ensure!(b.drops("ingress_host") > 0, "{:?}", b.tunnel().report().drops);
        Ok(())
    })
    .unwrap();
    udp_echo(&a, &b, Outer::V4, 100);
}

/// A host between two gateways that passes datagrams on and keeps what passes towards the second.
struct Relay {
    ns: Arc<Netns>,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    socket: UdpSocket,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Relay {
    const NUMBER: u8 = 7;

    /// Gateways send to it on their own port; both think it is the other.
    fn new(switch: &Switch, second: SocketAddr) -> Self {
        let ns = Netns::new("relay", None).unwrap();
        switch.plug(&ns, "eth0", 1500).unwrap();
        ns.ip(&format!("addr add 192.0.2.{}/24 dev eth0", Self::NUMBER)).unwrap();
        let socket = ns.run(|| UdpSocket::bind(("0.0.0.0", PORT)).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (passing, kept, ended) = (socket.try_clone().unwrap(), Arc::clone(&seen), Arc::clone(&stop));
        let first = SocketAddr::new(outer_address(1, Outer::V4), PORT);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0u8; 2048];
            while !ended.load(Ordering::Relaxed) {
                let Ok((n, from)) = passing.recv_from(&mut buffer) else { continue };
                let to = if from == second { first } else { second };
                if to == second {
                    kept.lock().unwrap().push(buffer[..n].to_vec());
                }
                let _ = passing.send_to(&buffer[..n], to);
            }
        });
        Self { ns: Arc::new(ns), seen, socket, stop, thread: Some(thread) }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

#[test]
fn replays_truncated_datagrams_and_garbage_are_dropped_and_counted() {
    let keys = tempfile::tempdir().unwrap();
    let switch = Switch::new("wire").unwrap();
    let (mut a, mut b) = (Host::new(&switch, 1), Host::new(&switch, 2));
    let second = SocketAddr::new(outer_address(2, Outer::V4), PORT);
    let relay = Relay::new(&switch, second);
    a.start(keys.path(), 1);
    b.start(keys.path(), 1);
    let through = [outer_address(Relay::NUMBER, Outer::V4)];
    for (host, other) in [(&a, &b), (&b, &a)] {
        let mut peer = other.as_peer(Outer::V4);
        peer.gateways = vec![other.as_gateway(&through)];
        host.apply(vec![peer]);
    }
    a.wait_live(&b);
    assert_eq!(ping(&a, b.inner(Outer::V4), 56), Pinged::Reply);

    let seen: Vec<Vec<u8>> = relay.seen.lock().unwrap().clone();
    let data: Vec<&Vec<u8>> = seen.iter().filter(|m| m[0] == 4).collect();
    let initiation = seen.iter().find(|m| m[0] == 1).or(seen.iter().find(|m| m[0] == 2)).unwrap();
    assert!(data.len() >= 2, "{}", data.len());
    let before = b.tunnel().report().drops;
    for message in &data {
        relay.socket.send_to(message, second).unwrap();
    }
    wait_drops(&b, "not_authentic", before["not_authentic"] + data.len() as u64);

    // Every shorter form of a datagram, of each kind, and bytes that are nothing at all.
    for message in [data[0], initiation] {
        for len in 0..message.len() {
            relay.socket.send_to(&message[..len], second).unwrap();
        }
    }
    let mut noise = 0x1234_5678_u32;
    for len in 1..1400 {
        let garbage: Vec<u8> = (0..len)
            .map(|i| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Every other one claims to be a WireGuard message.
                if i == 0 && len % 2 == 0 { (len % 5) as u8 } else { (noise >> 24) as u8 }
            })
            .collect();
        relay.socket.send_to(&garbage, second).unwrap();
        if len % 64 == 0 {
            // Let the receiver keep up: this is about what it does, not about its buffer.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    wait_drops(&b, "not_ours", before["not_ours"] + 1000);
    assert_eq!(ping(&a, b.inner(Outer::V6), 56), Pinged::Reply);
    assert_eq!(ping(&b, a.inner(Outer::V4), 56), Pinged::Reply);
    let report = b.tunnel().report();
    assert!(b.tunnel().is_healthy(), "{report:#?}");
    assert_eq!(report.paths[0].endpoint.unwrap().ip(), through[0], "replays must not move the endpoint");
    drop(relay.ns.clone());
}

#[test]
fn a_replay_from_elsewhere_does_not_move_the_endpoint() {
    let keys = tempfile::tempdir().unwrap();
    let switch = Switch::new("wire").unwrap();
    let (mut a, mut b) = (Host::new(&switch, 1), Host::new(&switch, 2));
    let second = SocketAddr::new(outer_address(2, Outer::V4), PORT);
    let relay = Relay::new(&switch, second);
    a.start(keys.path(), 1);
    b.start(keys.path(), 1);
    let through = [outer_address(Relay::NUMBER, Outer::V4)];
    let mut peer = b.as_peer(Outer::V4);
    peer.gateways = vec![b.as_gateway(&through)];
    a.apply(vec![peer]);
    let mut peer = a.as_peer(Outer::V4);
    peer.gateways = vec![a.as_gateway(&[])];
    b.apply(vec![peer]);
    a.wait_live(&b);
    let stranger = Host::new(&switch, 8);
    let initiations: Vec<Vec<u8>> = relay.seen.lock().unwrap().iter().filter(|m| m[0] == 1).cloned().collect();
    assert!(!initiations.is_empty());
    let before = b.drops("not_authentic");
    let count = initiations.len() as u64;
    stranger.ns.run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        initiations.iter().for_each(|m| {
            socket.send_to(m, second).unwrap();
        });
    });
    wait_drops(&b, "not_authentic", before + count);
    assert_eq!(ping(&b, a.inner(Outer::V4), 56), Pinged::Reply);
    assert_eq!(b.tunnel().report().paths[0].endpoint.unwrap().ip(), through[0]);
}

/// Floods `to`, whose key is `key`, with initiations of a key that nobody knows, each with the last cookie that came back;
/// how many were sent, and how many cookies came.
fn flood(
    stranger: &Host,
    key: PublicKey,
    to: SocketAddr,
    stop: Arc<AtomicBool>,
) -> std::thread::JoinHandle<(u64, u64)> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = stranger.ns.run(move || UdpSocket::bind(any).unwrap());
    socket.set_nonblocking(true).unwrap();
    let mut session = Tunn::new(StaticSecret::from([77; 32]), key.0.into(), None, None, 1, None);
    std::thread::spawn(move || {
        let (mut sent, mut cookies) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..2 {
                let (mut message, mut answer, mut out) = ([0; 256], [0; 256], [0; 256]);
                // A cookie is for the last message: it is taken before there is another.
                while let Ok(n) = socket.recv(&mut answer) {
                    cookies += u64::from(matches!(session.decapsulate(None, &answer[..n], &mut out), TunnResult::Done));
                }
                let TunnResult::WriteToNetwork(message) = session.format_handshake_initiation(&mut message, true)
                else {
                    panic!("no initiation");
                };
                socket.send_to(message, to).unwrap();
                sent += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        (sent, cookies)
    })
}

#[test]
fn a_flood_of_handshakes_with_cookies_is_limited_and_keeps_no_peer_out() {
    for outer in [Outer::V4, Outer::V6] {
        let keys = tempfile::tempdir().unwrap();
        let (switch, a, mut b) = pair(keys.path(), [1, 1], outer);
        let (stranger, stop) = (Host::new(&switch, 8), Arc::new(AtomicBool::new(false)));
        let to = SocketAddr::new(outer_address(1, outer), PORT);
        let flooding = flood(&stranger, a.tunnel().lanes()[0].key, to, Arc::clone(&stop));
        wait_drops(&a, "cookie_sent", 1);
        wait_drops(&a, "handshake_limit", 500);
        udp_echo(&a, &b, Outer::V4, 100);
        // The peer begins anew, and needs a handshake.
        b.stop();
        b.start(keys.path(), 1);
        b.apply(vec![a.as_peer(outer)]);
        b.wait_live(&a);
        udp_echo(&b, &a, Outer::V6, 100);
        let drops = a.tunnel().report().drops;
        stop.store(true, Ordering::Relaxed);
        let (sent, cookies) = flooding.join().unwrap();
        println!("{outer:?}: {sent} initiations, {cookies} cookies: {drops:?}");
        assert!(cookies > 0 && drops["handshake_limit"] > sent / 4, "{sent} sent, {drops:?}");
    }
}
