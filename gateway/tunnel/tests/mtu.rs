//! Underlays of different MTUs, and one that shrinks while traffic flows: what senders see of it.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{Host, LIMIT, Outer, pair, pair_with_mtu, pod, tcp_echo, udp_echo};
use hawser_testbed::{Netns, Switch, wait_for};
use socket2::{SockRef, Socket};

/// Waits until the path's MTU is known and between the two, and gives it.
fn wait_mtu(host: &Host, at_least: u16, at_most: u16) -> u16 {
    wait_for(&format!("a path MTU of {at_least} to {at_most}"), LIMIT, || {
        let path = host.tunnel().report().paths.into_iter().next().unwrap();
        let found = path.mtu_phase.as_str() == "Found" && (at_least..=at_most).contains(&path.mtu);
        if found { Ok(path.mtu) } else { anyhow::bail!("{} {}", path.mtu_phase.as_str(), path.mtu) }
    })
    .unwrap()
}

/// What the kernel holds for the route to `to`, for a socket bound to `from`.
fn route_mtu(ns: &Netns, from: IpAddr, to: IpAddr) -> i32 {
    ns.run(move || {
        let socket = UdpSocket::bind(SocketAddr::new(from, 0)).unwrap();
        socket.connect(SocketAddr::new(to, 9)).unwrap();
        let (level, name) =
            if to.is_ipv4() { (libc::IPPROTO_IP, libc::IP_MTU) } else { (libc::IPPROTO_IPV6, libc::IPV6_MTU) };
        get(&socket, level, name)
    })
}

#[expect(unsafe_code, reason = "socket options by number")]
fn get(socket: &UdpSocket, level: i32, name: i32) -> i32 {
    let (mut value, mut len) = (0i32, size_of::<i32>() as u32);
    // SAFETY: the descriptor is open; value and len are live, and len is value's size.
    let rc = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    assert_eq!(rc, 0);
    value
}

#[expect(unsafe_code, reason = "socket options by number")]
fn set(socket: &UdpSocket, level: i32, name: i32, value: i32) {
    // SAFETY: the descriptor is open; the pointer and length describe a live i32.
    let rc = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), 4) };
    assert_eq!(rc, 0);
}

/// From a pod behind `a`, which knows nothing of tunnels: large datagrams that may be fragmented arrive, those that may not
/// make the pod learn `mtu`.
fn senders_learn(pod: &Netns, source: IpAddr, b: &Host, mtu: u16) {
    let family = if source.is_ipv4() { Outer::V4 } else { Outer::V6 };
    let target = b.inner(family);
    let server = b.ns.run(move || UdpSocket::bind(SocketAddr::new(target, 0)).unwrap());
    server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let to = server.local_addr().unwrap();
    let client = pod.run(move || {
        let socket = UdpSocket::bind(SocketAddr::new(source, 0)).unwrap();
        socket.connect(to).unwrap();
        socket
    });
    let (level, discover, split, whole, known) = if source.is_ipv4() {
        let (dont, probe) = (libc::IP_PMTUDISC_DONT, libc::IP_PMTUDISC_DO);
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, dont, probe, libc::IP_MTU)
    } else {
        let (dont, probe) = (libc::IPV6_PMTUDISC_DONT, libc::IPV6_PMTUDISC_DO);
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, dont, probe, libc::IPV6_MTU)
    };
    set(&client, level, discover, split);
    for len in [1200u32, 1232, 1300, 3000, 20_000] {
        wait_for(&format!("a datagram of {len} bytes from {source}"), LIMIT, || {
            let data: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            client.send(&data)?;
            let mut buffer = vec![0; 65_535];
            let n = server.recv(&mut buffer)?;
            anyhow::ensure!(buffer[..n] == data, "{n} bytes, or others");
            Ok(())
        })
        .unwrap();
    }
    set(&client, level, discover, whole);
    wait_for("the pod to learn the path's MTU", LIMIT, || {
        // Refused once it is known.
        let _ = client.send(&[7; 1440]);
        let learnt = get(&client, level, known);
        anyhow::ensure!(learnt == i32::from(mtu), "{learnt} instead of {mtu}");
        Ok(())
    })
    .unwrap();
}

fn underlay(mtu: u32, outer: Outer, at_least: u16, at_most: u16) {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, a, b) = pair_with_mtu(keys.path(), [2, 2], outer, mtu);
    let found = wait_mtu(&a, at_least, at_most);
    wait_mtu(&b, at_least, at_most);
    let (_pods, pod, addresses) = pod(&a);
    for (family, source) in [(Outer::V4, addresses[0]), (Outer::V6, addresses[1])] {
        let expected = if family == Outer::V6 { found.max(1280) } else { found };
        wait_for("the route to carry the path's MTU", LIMIT, || {
            let mtu = route_mtu(&a.ns, a.inner(family), b.inner(family));
            anyhow::ensure!(mtu == i32::from(expected), "{mtu} instead of {expected}");
            Ok(())
        })
        .unwrap();
        assert_eq!(tcp_echo(&a, &b, family, 300_000), 300_000);
        assert_eq!(tcp_echo(&b, &a, family, 300_000), 300_000);
        udp_echo(&a, &b, family, 20_000);
        // A pod's own link takes 1,500.
        if expected < 1440 {
            senders_learn(&pod, source, &b, expected);
        }
    }
}

#[test]
fn an_underlay_of_1280() {
    underlay(1280, Outer::V4, 1200, 1200);
    underlay(1280, Outer::V6, 1200, 1200);
}

#[test]
fn an_underlay_of_1400() {
    underlay(1400, Outer::V4, 1320, 1320);
    underlay(1400, Outer::V6, 1320, 1320);
}

#[test]
fn an_underlay_of_1500() {
    underlay(1500, Outer::V4, 1420, 1420);
    underlay(1500, Outer::V6, 1420, 1420);
}

#[test]
fn an_underlay_of_9000() {
    underlay(9000, Outer::V4, 8920, 8920);
    underlay(9000, Outer::V6, 8920, 8920);
}

/// Makes the switch's links take less (or more) than the hosts' own, without a word to anybody.
fn narrow(switch: &Switch, mtu: u32) {
    for port in ["h1", "h2"] {
        switch.ns().ip(&format!("link set dev {port} mtu {mtu}")).unwrap();
    }
}

/// One packet at a time on the wire: the switch lets whole superpackets pass, whatever their segments' size.
fn single_packets(host: &Host) {
    host.ns.ip("link set dev eth0 gso_max_segs 1").unwrap();
}

/// A TCP stream that never rests; what it gives at the end is the longest time in which nothing arrived.
struct Stream {
    stop: Arc<AtomicBool>,
    server: JoinHandle<Duration>,
}

impl Stream {
    fn start(from: &Host, to: &Host, family: Outer) -> Self {
        let address = to.inner(family);
        let listener = to.ns.run(move || TcpListener::bind(SocketAddr::new(address, 0)).unwrap());
        let target = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (ended, client) = (Arc::clone(&stop), from.ns.run(move || TcpStream::connect(target).unwrap()));
        std::thread::spawn(move || {
            let (mut client, data) = (client, vec![5u8; 16_384]);
            while !ended.load(Ordering::Relaxed) && client.write_all(&data).is_ok() {
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            let (mut buffer, mut longest, mut last) = (vec![0; 65_536], Duration::ZERO, Instant::now());
            while let Ok(n) = stream.read(&mut buffer) {
                longest = longest.max(last.elapsed());
                last = Instant::now();
                if n == 0 {
                    return longest;
                }
            }
            panic!("nothing arrived any more");
        });
        Self { stop, server }
    }

    fn end(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.server.join().unwrap()
    }
}

/// The time that a stream stalls when a link of its path silently shrinks from 1,500 to `mtu` bytes.
fn shrink(mtu: u32, outer: Outer, inside: Outer) -> Duration {
    let keys = tempfile::tempdir().unwrap();
    let (switch, a, b) = pair(keys.path(), [2, 2], outer);
    [&a, &b].into_iter().for_each(single_packets);
    wait_mtu(&a, 1420, 1420);
    let stream = Stream::start(&a, &b, inside);
    std::thread::sleep(Duration::from_millis(500));
    narrow(&switch, mtu);
    // Veth devices forward four bytes more than their MTU: a VLAN tag's.
    let outside = if outer == Outer::V4 { 60 } else { 80 };
    let most = mtu as u16 + 4 - outside;
    wait_mtu(&a, most - 36, most);
    std::thread::sleep(Duration::from_secs(1));
    let stalled = stream.end();
    let report = a.tunnel().report();
    assert_eq!(report.paths[0].state, hawser_liveness::State::Up, "small packets pass: {report:#?}");
    stalled
}

#[test]
fn a_link_that_shrinks_silently_stalls_tcp_for_less_than_a_second() {
    for (mtu, outer, inside) in
        [(1400, Outer::V4, Outer::V4), (1400, Outer::V6, Outer::V6), (1280, Outer::V6, Outer::V4)]
    {
        // Once within the second shows it; a busy machine may need another try.
        let stalls: Vec<Duration> = std::iter::repeat_with(|| shrink(mtu, outer, inside))
            .take(3)
            .scan(false, |done, d| {
                let go_on = !*done;
                *done = d < Duration::from_secs(1);
                go_on.then_some(d)
            })
            .collect();
        println!("shrunk to {mtu}, {outer:?} outside, {inside:?} inside: stalled for {stalls:?}");
        assert!(stalls.iter().any(|d| *d < Duration::from_secs(1)), "{stalls:?}");
    }
}

#[test]
fn what_tcp_announces_fits_the_way_to_the_nodes_too() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, a, b) = pair(keys.path(), [1, 1], Outer::V4);
    wait_mtu(&a, 1420, 1420);
    wait_mtu(&b, 1420, 1420);
    a.ns.ip("link add hawser-vx mtu 1300 type veth peer name elsewhere").unwrap();
    for (family, expected) in [(Outer::V4, 1260), (Outer::V6, 1240)] {
        for (from, to) in [(&a, &b), (&b, &a)] {
            wait_for("a segment size that fits", LIMIT, || {
                let address = to.inner(family);
                let listener = to.ns.run(move || TcpListener::bind(SocketAddr::new(address, 0)))?;
                let target = listener.local_addr()?;
                let client = from.ns.run(move || TcpStream::connect(target))?;
                let (server, _) = listener.accept()?;
                // Timestamps take 12 bytes of each segment.
                let sizes = [&client, &server].map(|s| Socket::tcp_mss(&SockRef::from(s)).unwrap());
                anyhow::ensure!(sizes.iter().all(|&s| s == expected - 12), "{sizes:?}");
                Ok(())
            })
            .unwrap();
        }
    }
}
