//! Underlays of different MTUs, and one that shrinks while traffic flows: what senders see of it.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
mod senders;

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use common::{Host, LIMIT, Outer, pair, pair_with_mtu, pod, pod_with_mtu, tcp_echo, udp_echo};
use hawser_testbed::{Netns, Switch, wait_for};
use senders::{Sender, Stall, Stream, get};
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

fn underlay(mtu: u32, outer: Outer, at_least: u16, at_most: u16) {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, a, b) = pair_with_mtu(keys.path(), [2, 2], outer, mtu);
    let found = wait_mtu(&a, at_least, at_most);
    wait_mtu(&b, at_least, at_most);
    // A pod's link takes more than any tunnel.
    let (_pods, pod, addresses) = pod_with_mtu(&a, mtu.max(1500));
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
        let streams = [Stream::start(&a, &b, family), Stream::start(&b, &a, family)];
        for stream in streams {
            stream.wait_arrived(2_000_000);
            stream.end().is_short(&format!("underlay of {mtu}, {outer:?} outside, {family:?} inside"));
        }
        Sender::new(&pod, source, &b).learns(expected);
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

/// Two hosts whose link will silently shrink from 1,500 to `mtu` bytes, and what the path will take then.
fn about_to_shrink(keys: &std::path::Path, mtu: u32, outer: Outer) -> (Switch, Host, Host, [u16; 2]) {
    let (switch, a, b) = pair(keys, [2, 2], outer);
    [&a, &b].into_iter().for_each(single_packets);
    wait_mtu(&a, 1420, 1420);
    wait_mtu(&b, 1420, 1420);
    // Veth devices forward four bytes more than their MTU: a VLAN tag's.
    let outside = if outer == Outer::V4 { 60 } else { 80 };
    let most = mtu as u16 + 4 - outside;
    (switch, a, b, [most - 36, most])
}

/// How long a stream stalls when a link of its path shrinks.
fn shrink(mtu: u32, outer: Outer, inside: Outer) -> Stall {
    let keys = tempfile::tempdir().unwrap();
    let (switch, a, b, [least, most]) = about_to_shrink(keys.path(), mtu, outer);
    let stream = Stream::start(&a, &b, inside);
    stream.wait_arrived(2_000_000);
    narrow(&switch, mtu);
    wait_mtu(&a, least, most);
    stream.wait_arrived(2_000_000);
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
        for _ in 0..3 {
            let what = format!("shrunk to {mtu}, {outer:?} outside, {inside:?} inside");
            shrink(mtu, outer, inside).is_short(&what);
        }
    }
}

/// Datagrams of the old size that a pod goes on to send find out by themselves: the path is searched again, and the pod is told.
#[test]
fn a_link_that_shrinks_silently_is_told_to_senders_of_datagrams() {
    for (mtu, outer, number) in [(1400, Outer::V4, 0), (1400, Outer::V6, 1), (1280, Outer::V6, 0)] {
        let keys = tempfile::tempdir().unwrap();
        let (switch, a, b, [least, most]) = about_to_shrink(keys.path(), mtu, outer);
        let (_pods, pod, addresses) = pod(&a);
        let sender = Sender::new(&pod, addresses[number], &b);
        sender.learns(1420);
        narrow(&switch, mtu);
        let mut lost = 0;
        wait_for("a datagram to be refused that is too large now", LIMIT, || {
            let passed = sender.passes(1420 - sender.headers);
            let refused = passed.as_ref().err().and_then(|e| e.downcast_ref::<std::io::Error>()?.raw_os_error());
            lost += u32::from(passed.is_err());
            anyhow::ensure!(refused == Some(libc::EMSGSIZE), "{passed:?}");
            Ok(())
        })
        .unwrap();
        println!("{sender:?} over {outer:?}: {lost} were lost or refused before it was told of {}", sender.known());
        let found = wait_mtu(&a, least, most);
        // Until the search has found it, the path takes what it is searched from.
        let base = hawser_datapath::pmtu::BASE;
        sender.learns_within(if addresses[number].is_ipv4() { base..=found } else { 1280..=found.max(1280) });
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
