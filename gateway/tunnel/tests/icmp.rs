//! ICMP errors that anybody can make up: they quote addresses and ports of a tunnel's datagrams, and nothing that is inside.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Host, LIMIT, Outer, PORT, outer_address, pair};
use hawser_datapath::checksum::Sum;
use hawser_liveness::State;
use hawser_testbed::wait_for;
use hawser_tunnel::PathStatus;
use socket2::{Domain, Protocol, Socket, Type};

/// Numbered packets, and how many go in a millisecond.
const PACKETS: u32 = 12_000;
const AT_ONCE: u32 = 4;
/// Errors a millisecond.
const ERRORS: usize = 20;

/// An error of this type and code about a datagram of one lane to another that was never sent.
fn error((kind, code): (u8, u8), from: IpAddr, to: IpAddr, lane: u16) -> Vec<u8> {
    // An MTU where one belongs.
    let mut message = vec![kind, code, 0, 0, 0, 0, 5, 0];
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            message.extend([0x45, 0, 0, 108, 0, 0, 0x40, 0, 64, 17, 0, 0]);
            message.extend([from.octets(), to.octets()].concat());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            message.extend([0x60, 0, 0, 0, 0, 88, 17, 64]);
            message.extend([from.octets(), to.octets()].concat());
        }
        _ => panic!("one family"),
    }
    let port = (PORT + lane).to_be_bytes();
    message.extend([port, port, 88_u16.to_be_bytes(), [0, 0]].concat());
    // It looks like data of a session.
    message.extend([4, 0, 0, 0]);
    message.extend([0xee; 76]);
    if from.is_ipv4() {
        let sum = Sum::default().bytes(&message).finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// Types and codes that a kernel makes different errors of.
fn kinds(outer: Outer) -> &'static [(u8, u8)] {
    match outer {
        Outer::V4 => &[(3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 5), (3, 7), (3, 8), (3, 13), (11, 0), (12, 0)],
        Outer::V6 => &[(1, 0), (1, 1), (1, 3), (1, 4), (2, 0), (3, 0), (4, 0), (4, 1)],
    }
}

/// Sends such errors to `victim` about what it sends to `peer` until it is stopped; how many.
fn forge(stranger: &Host, victim: u8, peer: u8, outer: Outer, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    let (from, to) = (outer_address(victim, outer), outer_address(peer, outer));
    let raw = stranger.ns.run(move || {
        let (domain, protocol) = match outer {
            Outer::V4 => (Domain::IPV4, Protocol::ICMPV4),
            Outer::V6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        Socket::new(domain, Type::RAW, Some(protocol)).unwrap()
    });
    let errors: Vec<_> =
        (0..2).flat_map(|lane| kinds(outer).iter().map(move |&kind| error(kind, from, to, lane))).collect();
    std::thread::spawn(move || {
        let (mut sent, mut next) = (0, errors.iter().cycle());
        while !stop.load(Ordering::Relaxed) {
            for message in next.by_ref().take(ERRORS) {
                raw.send_to(message, &SocketAddr::new(from, 0).into()).unwrap();
                sent += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        sent
    })
}

/// Sends numbered packets through the tunnel while `look` looks now and then; those that did not arrive.
fn stream(from: &Host, to: &Host, mut look: impl FnMut()) -> Vec<u32> {
    let (here, there) = (from.inner(Outer::V4), to.inner(Outer::V4));
    let server = to.ns.run(move || UdpSocket::bind(SocketAddr::new(there, 0)).unwrap());
    server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let target = server.local_addr().unwrap();
    // Several flows, so that each lane has some.
    let clients: Vec<UdpSocket> =
        (0..8).map(|_| from.ns.run(move || UdpSocket::bind(SocketAddr::new(here, 0)).unwrap())).collect();
    let receiver = std::thread::spawn(move || {
        let (mut seen, mut buffer) = (HashSet::new(), [0; 2048]);
        while seen.len() < PACKETS as usize
            && let Ok(n) = server.recv(&mut buffer)
        {
            seen.insert(u32::from_be_bytes(buffer[n - 4..n].try_into().unwrap()));
        }
        seen
    });
    let mut data = [7; 1000];
    let mut looked = Instant::now();
    for number in 0..PACKETS {
        data[996..].copy_from_slice(&number.to_be_bytes());
        clients[number as usize % clients.len()].send_to(&data, target).unwrap();
        if number % AT_ONCE == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        if looked.elapsed() > Duration::from_millis(50) {
            look();
            looked = Instant::now();
        }
    }
    let seen = receiver.join().unwrap();
    (0..PACKETS).filter(|number| !seen.contains(number)).collect()
}

fn path(host: &Host) -> PathStatus {
    host.tunnel().report().paths[0].clone()
}

fn made_up_errors_change_nothing(outer: Outer) {
    let keys = tempfile::tempdir().unwrap();
    let (switch, a, b) = pair(keys.path(), [2, 2], outer);
    let stranger = Host::new(&switch, 9);
    wait_for("the path's MTU", LIMIT, || {
        let path = path(&a);
        if path.mtu == 1420 { Ok(()) } else { anyhow::bail!("{path:?}") }
    })
    .unwrap();
    let (before, failed, stop) = (path(&a), a.drops("send_failed"), Arc::new(AtomicBool::new(false)));
    let forger = forge(&stranger, 1, 2, outer, Arc::clone(&stop));
    let mut seen = Vec::new();
    let lost = stream(&a, &b, || seen.push(path(&a)));
    stop.store(true, Ordering::Relaxed);
    let forged = forger.join().unwrap();
    let failed = a.drops("send_failed") - failed;
    println!("{outer:?}: {forged} errors, {} packets lost, {failed} of them not sent", lost.len());
    assert!(forged > 1000, "{forged}");
    assert!(
        lost.is_empty(),
        "lost {lost:?}; drops at a {:?}, at b {:?}",
        a.tunnel().report().drops,
        b.tunnel().report().drops
    );
    assert!(seen.len() > 10);
    for path in seen {
        // A suspect is in use, and probed more often: that much anybody may cause.
        assert!(matches!(path.state, State::Up | State::Suspect), "{path:?}");
        assert_eq!((path.mtu, path.endpoint), (before.mtu, before.endpoint), "{path:?}");
    }
    wait_for("the path to be up", LIMIT, || {
        let path = path(&a);
        if path.state == State::Up { Ok(()) } else { anyhow::bail!("{path:?}") }
    })
    .unwrap();
}

#[test]
fn made_up_errors_change_nothing_over_ipv4() {
    made_up_errors_change_nothing(Outer::V4);
}

#[test]
fn made_up_errors_change_nothing_over_ipv6() {
    made_up_errors_change_nothing(Outer::V6);
}
