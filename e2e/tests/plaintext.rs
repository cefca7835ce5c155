//! What is said between pods is on no wire outside in plain, whatever happens to the gateways.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_e2e::figure;
use hawser_e2e::rope::{LIMIT, Rope};
use hawser_testbed::traffic::{tcp, udp};
use hawser_testbed::{Netns, Workload, wait_for};

/// What nobody else may hear.
const SAID: &[u8] = b"for the other pod's ears alone, 20260101";
/// What is said in plain on the WAN, so that its being found there says that all before it would have been.
const PLAIN: &[u8] = b"said in plain to the broker's host, number ";
/// How often it is said, by each protocol and family.
const TIMES: usize = 20;

/// How often `text` was captured on a wire.
fn heard(rope: &Rope, wire: &str, text: &[u8]) -> Result<usize> {
    let mut times = 0;
    for entry in fs::read_dir(rope.lab.logs())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(&format!("{wire}.pcap")) {
            times += fs::read(&path)?.windows(text.len()).filter(|window| *window == text).count();
        }
    }
    Ok(times)
}

/// Insists that nothing of it was heard on the WAN up to now.
fn nobody_heard(rope: &Rope, from: &Netns, number: u8) -> Result<()> {
    let plain = [PLAIN, &[b'0' + number]].concat();
    let (v4, v6) = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED));
    for (own, broker) in [(v4, "198.51.100.1"), (v6, "2001:db8:0:ff::1")] {
        let before = heard(rope, "wan", &plain)?;
        let (to, text) = (SocketAddr::new(broker.parse()?, 9), plain.clone());
        from.run(move || UdpSocket::bind((own, 0)).and_then(|socket| socket.send_to(&text, to)))?;
        wait_for("the WAN's capture to have everything", LIMIT, || {
            let times = heard(rope, "wan", &plain)?;
            // The host that is told may quote it.
            ensure!(times > before, "said in plain once more, heard {times} times, as before");
            Ok(())
        })?;
    }
    let times = heard(rope, "wan", SAID)?;
    ensure!(times == 0, "heard {times} times on the WAN");
    Ok(())
}

/// Says it by UDP and TCP, and hears it back.
fn say(client: &Workload, to: IpAddr) -> Result<()> {
    let own = client.address_like(to);
    let (udp, mut tcp) = client.ns.run(move || -> Result<(UdpSocket, TcpStream)> {
        let socket = UdpSocket::bind((own, 0))?;
        socket.connect((to, 7))?;
        Ok((socket, TcpStream::connect_timeout(&SocketAddr::new(to, 9), LIMIT)?))
    })?;
    udp.set_read_timeout(Some(Duration::from_secs(1)))?;
    tcp.set_read_timeout(Some(LIMIT))?;
    let mut back = vec![0; SAID.len()];
    for _ in 0..TIMES {
        wait_for("a datagram to come back", LIMIT, || {
            udp.send(SAID)?;
            udp.recv(&mut back).context("nothing came back")
        })?;
        tcp.write_all(SAID)?;
        tcp.read_exact(&mut back)?;
        ensure!(back == SAID, "something else came back");
    }
    Ok(())
}

/// Says it to where no gateway leads, before and after the pod is told so.
fn in_vain(client: &Workload, to: IpAddr) -> Result<()> {
    let own = client.address_like(to);
    let socket = client.ns.run(move || UdpSocket::bind((own, 0)))?;
    socket.connect((to, 7))?;
    wait_for(&format!("{own} to be told that {to} is out of reach"), LIMIT, || {
        socket.send(SAID)?;
        // A host tells one sender once a second: the datagram's answer may have been it, and the next try's is told.
        let (to, limit) = (SocketAddr::new(to, 9), Duration::from_secs(3));
        let result = client.ns.run(move || TcpStream::connect_timeout(&to, limit)).map_err(|e| e.kind());
        ensure!(matches!(result, Err(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)), "{result:?}");
        Ok(())
    })?;
    for _ in 0..TIMES {
        socket.send(SAID)?;
    }
    Ok(())
}

#[test]
fn nothing_is_said_in_plain_outside() -> Result<()> {
    let mut rope = Rope::start("plaintext")?;
    let server = rope.west.add_workload(3)?;
    let _echoes = (udp::Echo::start(&server.ns, 7, "west")?, tcp::Echo::start(&server.ns, 9)?);
    // Behind a node that is no gateway, and behind one that is.
    let clients = [rope.east.add_workload(3)?, rope.east.add_workload(1)?];
    let all = |f: &dyn Fn(&Workload, IpAddr) -> Result<()>| {
        clients.iter().try_for_each(|client| {
            [IpAddr::from(server.v4), server.v6.into()].into_iter().try_for_each(|to| f(client, to))
        })
    };
    all(&say)?;
    nobody_heard(&rope, &rope.east.node(1).ns, 1)?;
    // It would have been found: inside the sites it is.
    let inside = wait_for("the sites' captures to have it", LIMIT, || {
        let times = [heard(&rope, "east-lan", SAID)?, heard(&rope, "west-lan", SAID)?];
        ensure!(times.iter().all(|times| *times >= 4 * TIMES), "{times:?} times");
        Ok(times)
    })?;
    figure(format_args!("said {} times and answered: heard {inside:?} times inside, never outside", 8 * TIMES));

    // Without a gateway there is another way out, which must not be taken.
    for number in [1, 2] {
        rope.east.node(number).ns.ip("route add default via 198.51.100.1 dev wan0")?;
        rope.east.node(number).ns.ip("-6 route add default via 2001:db8:0:ff::1 dev wan0")?;
        rope.east.kill(number, "hawser-gateway")?;
    }
    all(&in_vain)?;
    nobody_heard(&rope, &rope.east.node(1).ns, 2)?;
    rope.pass()
}
