//! Attackers' requests: each gets a clear error or a counted drop, and nothing else changes.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hawser_e2e::figure;
use hawser_e2e::rope::{LIMIT, Rope, WEB};
use hawser_testbed::traffic::frames::{Injector, forge, read_capture};
use hawser_testbed::traffic::{dns, http, udp};
use hawser_testbed::{Netns, Site, SiteOptions, wait_for};

fn join(rope: &Rope, site: &Site, token: &str) -> Result<hawser_testbed::lab::Outcome> {
    let dir = site.dir.to_str().context("UTF-8")?;
    let args = ["join", "--site", dir, "--token-file", "-", "--wait", "0s"];
    rope.lab.hawser_on(&site.node(1).ns, &args, Some(token))
}

#[test]
fn tokens_that_expired_were_used_are_anothers_or_forged() -> Result<()> {
    let rope = Rope::prepare("tokens", |_| {})?;
    let refused = |what: &str, token: &str, code: i32| -> Result<()> {
        let outcome = join(&rope, &rope.east, token)?;
        figure(format_args!("{what}: {outcome:?}"));
        ensure!(outcome.code == code, "{what}: exit code {} is not {code}: {outcome:?}", outcome.code);
        ensure!(!rope.east.dir.join("secrets/cluster.crt").exists(), "{what} left a certificate");
        Ok(())
    };
    let expired = rope.lab.token("east", &["--ttl", "1s"])?;
    thread::sleep(Duration::from_millis(2100));
    refused("an expired token", &expired, 4)?;
    refused("another cluster's token", &rope.lab.token("west", &[])?, 5)?;
    let good = rope.lab.token("east", &[])?;
    let mut forged = good.clone().into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let outcome = join(&rope, &rope.east, std::str::from_utf8(&forged)?)?;
    ensure!([2, 4].contains(&outcome.code), "a forged token: {outcome:?}");
    join(&rope, &rope.east, &good)?.success()?;
    // Used up: a second site of that id, with a key of its own, is refused.
    let copy = rope.lab.add_site(SiteOptions::new(3, "eastcopy"))?;
    copy.write("membership.yaml", &fs::read_to_string(rope.east.dir.join("membership.yaml"))?)?;
    let outcome = join(&rope, &copy, &good)?;
    ensure!([4, 5].contains(&outcome.code), "a used token: {outcome:?}");
    ensure!(!copy.dir.join("secrets/cluster.crt").exists(), "a used token left a certificate");
    rope.pass()
}

fn claims_of_west_in_east(rope: &Rope) -> Result<String> {
    let object = rope.east.generated("RemoteCluster/west.yaml").context("east has no RemoteCluster west")?;
    let prefixes = object.lines().skip_while(|line| !line.contains("prefixes:"));
    Ok(prefixes.take_while(|line| !line.contains("rosterRevision")).collect())
}

#[test]
fn a_member_that_announces_what_is_not_its_own_changes_nothing() -> Result<()> {
    let rope = Rope::start("claims")?;
    let before = claims_of_west_in_east(&rope)?;
    let membership = fs::read_to_string(rope.west.dir.join("membership.yaml"))?;
    for claim in ["10.2.3.0/24", "0.0.0.0/0", "10.0.0.0/7", "127.0.0.0/8", "fe80::/64"] {
        let changed = membership.replace("10.1.0.0/16", &format!("10.1.0.0/16, '{claim}'"));
        rope.west.write("membership.yaml", &changed)?;
        wait_for(&format!("the refusal of {claim}"), LIMIT, || {
            let status = rope.west.hawser(&rope.lab, 1, &["status", "-o", "json"])?;
            ensure!(status.stdout.contains(claim) && status.code == 7, "{status:?}");
            Ok(())
        })?;
        ensure!(claims_of_west_in_east(&rope)? == before, "east's view of west changed with {claim}");
    }
    rope.west.write("membership.yaml", &membership)?;
    rope.wait_up()?;
    rope.pass()
}

#[test]
fn an_endpoint_outside_the_clusters_prefixes_is_left_out_and_named() -> Result<()> {
    let rope = Rope::start("endpoint")?;
    let web = Rope::web(&rope.west, 3)?;
    let client = rope.east.add_workload(3)?;
    rope.export(&rope.west)?;
    let [vip, _] = Rope::resolve(&rope.east, &client)?;
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-stolen\n  namespace: shop\n  labels: {kubernetes.io/service-name: web}\naddressType: IPv4\nports:\n- {name: http, protocol: TCP, port: 8080}\nendpoints:\n- addresses: ['10.2.3.77']\n  conditions: {ready: true}\n";
    rope.west.write("stolen.yaml", slice)?;
    wait_for("the condition that names the endpoint", LIMIT, || {
        let status = rope.west.hawser(&rope.lab, 1, &["status", "-o", "json"])?;
        ensure!(status.stdout.contains("10.2.3.77"), "{status:?}");
        Ok(())
    })?;
    let everything = rope.east.ns_text(3)?;
    ensure!(!everything.contains("10.2.3.77"), "the endpoint reached east's node: {everything}");
    for _ in 0..10 {
        Rope::ask_web(&client, vip, LIMIT)?;
    }
    ensure!(web.http.served() >= 10, "{}", web.http.served());
    rope.pass()
}

#[test]
fn a_revoked_cluster_is_out_within_a_second_and_stays_out() -> Result<()> {
    let mut rope = Rope::start("revoke")?;
    let mut north = rope.lab.add_site(SiteOptions::new(3, "north"))?;
    north.join(&rope.lab, &rope.lab.token("north", &[])?)?;
    north.start_all()?;
    for site in [&rope.west, &rope.east, &north] {
        site.wait_paths(2, 2, LIMIT)?;
    }
    let (server, client) = (north.add_workload(3)?, rope.east.add_workload(3)?);
    let _echo = udp::Echo::start(&server.ns, 7, "north")?;
    let to = SocketAddr::new(server.v4.into(), 7);
    wait_for("north to answer", LIMIT, || udp::ask(&client.ns, to, Duration::from_secs(1)))?;
    let undisturbed = udp::Stream::start(&client.ns, to, 8)?;

    let start = Instant::now();
    let revoke = rope.lab.hawser_on(rope.lab.broker_host(), &["revoke", "west", "--timeout", "20s"], None)?;
    figure(format_args!("revoke west: {:?} {revoke:?}", start.elapsed()));
    revoke.success()?;
    rope.east.wait_paths(1, 2, Duration::from_secs(1)).context("east must drop west within a second")?;
    north.wait_paths(1, 2, Duration::from_secs(1)).context("north must drop west within a second")?;
    let loss = undisturbed.finish()?;
    ensure!(loss.lost() == 0, "east and north must not notice: {loss:?}");

    // It stays out over restarts without broker and agents.
    rope.lab.take_broker()?.kill()?;
    for node in [1, 2] {
        rope.east.kill(node, "hawser-agent")?;
        rope.east.kill(node, "hawser-gateway")?;
        rope.east.start(node, "hawser-gateway")?;
    }
    rope.east.wait_paths(1, 2, LIMIT)?;
    wait_for("north to answer again", LIMIT, || udp::ask(&client.ns, to, Duration::from_secs(1)))?;
    rope.pass()
}

#[test]
fn a_spoofed_inner_source_is_dropped_and_counted() -> Result<()> {
    let rope = Rope::start("spoof")?;
    let (server, attacker) = (rope.west.add_workload(3)?, rope.east.add_workload(3)?);
    let _echo = udp::Echo::start(&server.ns, 7, "west")?;
    let listener: UdpSocket = server.ns.run(|| UdpSocket::bind("0.0.0.0:9"))?;
    listener.set_read_timeout(Some(Duration::from_millis(500)))?;
    let before = Rope::drops(&rope.east, "egress_source")?;
    // Neither is east's: one is nobody's, one is a pod's of west.
    for source in ["203.0.113.9", "10.1.1.99"] {
        attacker.ns.ip(&format!("addr add {source}/32 dev lo"))?;
        let to = SocketAddr::new(server.v4.into(), 9);
        let socket: UdpSocket =
            attacker.ns.run(move || UdpSocket::bind((source, 0)).and_then(|s| s.connect(to).map(|()| s)))?;
        for _ in 0..20 {
            socket.send(b"spoofed")?;
        }
    }
    let counted = wait_for("the drops to be counted", LIMIT, || {
        let counted = Rope::drops(&rope.east, "egress_source")? - before;
        ensure!(counted >= 20, "{counted} drops by source: {:?}", Rope::reports(&rope.east)?);
        Ok(counted)
    })?;
    figure(format_args!("{counted} of 40 dropped by the gateways, the others before"));
    let arrived = listener.recv_from(&mut [0; 64]);
    ensure!(arrived.is_err(), "a packet with a source that is not east's arrived in west: {arrived:?}");
    udp::ask(&attacker.ns, SocketAddr::new(server.v4.into(), 7), LIMIT)?;
    rope.pass()
}

#[test]
fn replayed_truncated_and_made_up_packets_to_every_port_change_nothing() -> Result<()> {
    let rope = Rope::start("garbage")?;
    let web = Rope::web(&rope.west, 3)?;
    let client = rope.east.add_workload(3)?;
    rope.export(&rope.west)?;
    let [vip, _] = Rope::resolve(&rope.east, &client)?;
    let attacker = Netns::new("attacker", None)?;
    rope.lab.wan().plug(&attacker, "wan0", 1500)?;
    attacker.ip("addr add 198.51.100.200/24 dev wan0")?;

    let drops = || {
        let mut counted = 0;
        for (site, reason) in [(&rope.west, "not_authentic"), (&rope.east, "not_authentic"), (&rope.west, "not_ours")] {
            counted += Rope::drops(site, reason)?;
        }
        Ok::<_, anyhow::Error>(counted)
    };
    let before = drops()?;
    let undisturbed = udp::Stream::start(&client.ns, SocketAddr::new(web.workload.v4.into(), 7), 8)?;
    let injector = Injector::open(&attacker, "wan0")?;
    let frames = wait_for("the capture to hold handshakes and data", LIMIT, || {
        let frames = captured_on_the_wan(&rope)?;
        // A handshake's beginning: type 1 and three zero bytes, 148 bytes in all.
        let handshakes = frames.iter().filter(|f| f.len() > 180 && f.windows(4).any(|w| w == [1, 0, 0, 0])).count();
        ensure!(handshakes > 0 && frames.len() > 3000, "{handshakes} handshakes in {} frames", frames.len());
        Ok(frames)
    })?;
    for frame in frames.iter().take(500).chain(frames.iter().rev().take(2000)) {
        // As it was, without its end, and of less than a WireGuard message's head.
        for keep in [frame.len(), frame.len().saturating_sub(62), 12] {
            if let Some(forged) = forge(frame, keep) {
                injector.send(&forged)?;
            }
        }
    }
    garbage(&attacker, "198.51.100.11".parse()?, &[51820, 51821, 4811, 4812, 4813, 10053, 53])?;
    garbage(&client.ns, "10.2.3.1".parse()?, &[51820, 4811, 4812, 4813, 10053, 53])?;
    garbage(&client.ns, rope.east.dns()[0], &[53])?;
    flood_tcp(&attacker, "198.51.100.1:7443".parse()?)?;

    let counted = wait_for("the drops to be counted", LIMIT, || {
        let counted = drops()? - before;
        ensure!(counted > 2000, "{counted} drops: {:?}", Rope::reports(&rope.east)?);
        Ok(counted)
    })?;
    figure(format_args!("{counted} replayed, cut and made up messages dropped and counted"));
    let loss = undisturbed.finish()?;
    ensure!(loss.duplicates == 0, "a replayed packet was delivered: {loss:?}");
    ensure!(loss.longest_gap < Duration::from_secs(1), "{loss:?}");
    rope.wait_up()?;
    Rope::ask_web(&client, vip, LIMIT)?;
    let answer = dns::query(&client.ns, rope.east.dns()[0], WEB, "A")?;
    ensure!(answer.data.len() == 1, "{answer:?}");
    rope.lab.token("after", &[]).context("the broker must still serve")?;
    rope.pass()
}

fn captured_on_the_wan(rope: &Rope) -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    for entry in fs::read_dir(rope.lab.logs())? {
        let path = entry?.path();
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("wan.pcap")) {
            frames.extend(read_capture(&path)?);
        }
    }
    Ok(frames)
}

/// Pseudo-random datagrams of many lengths, some with a WireGuard message's beginning.
fn garbage(from: &Netns, to: IpAddr, ports: &[u16]) -> Result<()> {
    let socket: UdpSocket = from.run(|| UdpSocket::bind("0.0.0.0:0"))?;
    let mut state = 0x4857_u64;
    for length in (0..1400).step_by(7) {
        let mut datagram: Vec<u8> = Vec::with_capacity(length);
        for _ in 0..length {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            datagram.push(state.to_be_bytes()[0]);
        }
        if length > 4 {
            datagram[..4].copy_from_slice(&[1 + (state % 4) as u8, 0, 0, 0]);
        }
        for &port in ports {
            // Refused by ICMP now and then, which is an answer.
            let _ = socket.send_to(&datagram, (to, port));
        }
    }
    Ok(())
}

/// Connections that say nothing, and some that say nonsense.
fn flood_tcp(from: &Netns, to: SocketAddr) -> Result<()> {
    let mut open = Vec::new();
    for i in 0..64u8 {
        let mut stream = from.run(move || TcpStream::connect_timeout(&to, Duration::from_secs(2)))?;
        if i % 2 == 0 {
            let _ = stream.write_all(&[i; 300]);
        }
        open.push(stream);
    }
    Ok(())
}

#[test]
fn a_pod_cannot_inject_into_the_overlay() -> Result<()> {
    let rope = Rope::start("inject")?;
    let (server, attacker) = (rope.east.add_workload(1)?, rope.east.add_workload(3)?);
    let seen = http::Server::start(&server.ns, 8080, "east")?;
    let listener: UdpSocket = server.ns.run(|| UdpSocket::bind("0.0.0.0:9"))?;
    listener.set_read_timeout(Some(Duration::from_millis(800)))?;
    // VXLAN header, Ethernet to the gateway's device, IPv4 UDP 203.0.113.1 → server:9.
    let mut packet = vec![8, 0, 0, 0, 0, 0x12, 0xcb, 0];
    packet.extend([0xff; 6]);
    packet.extend([2, 0, 0, 0, 0, 1, 8, 0]);
    packet.extend([0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 203, 0, 113, 1]);
    packet.extend(server.v4.octets());
    packet.extend([0, 9, 0, 9, 0, 12, 0, 0, b'e', b'v', b'i', b'l']);
    let socket: UdpSocket = attacker.ns.run(|| UdpSocket::bind("0.0.0.0:0"))?;
    for node in ["192.168.2.1", "10.2.1.1", "10.2.3.1"] {
        socket.send_to(&packet, (node, 4811)).ok();
    }
    let mut buffer = [0; 64];
    let got = listener.recv_from(&mut buffer);
    ensure!(got.is_err(), "an injected packet arrived: {got:?}");
    ensure!(seen.served() == 0);
    rope.pass()
}
