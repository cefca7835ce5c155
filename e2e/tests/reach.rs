//! Any pod reaches any pod, any protocol, source address kept, whatever runs outside.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_e2e::Rope;
use hawser_testbed::traffic::frames::Injector;
use hawser_testbed::traffic::{fragments, http, raw, udp};
use hawser_testbed::{Outer, Site, Workload, wait_for};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(5);
/// A search for a path's MTU waits for answers that don't come, several times.
const SEARCH: Duration = Duration::from_secs(60);

/// Asks by every protocol; each answer must name the client's own address.
fn every_protocol(client: &Workload, server: &Workload) -> Result<()> {
    let _http = http::Server::start(&server.ns, 8080, "server")?;
    let _udp = udp::Echo::start(&server.ns, 7, "server")?;
    let _raw = [132, 253].map(|protocol| raw::Echo::start(&server.ns, protocol));
    for to in [IpAddr::V4(server.v4), IpAddr::V6(server.v6)] {
        let own = client.address_like(to);
        let tcp = http::get(&client.ns, SocketAddr::new(to, 8080), "/", LIMIT).context("TCP")?;
        ensure!(tcp == format!("server=server client={own}"), "TCP: {tcp}");
        let udp = udp::ask(&client.ns, SocketAddr::new(to, 7), LIMIT).context("UDP")?;
        ensure!(udp == format!("server=server client={own}"), "UDP: {udp}");
        let icmp = raw::ping(&client.ns, &server.ns, to, LIMIT).context("ICMP")?;
        ensure!(icmp == own, "ICMP: {icmp}");
        for protocol in [132, 253] {
            let answer = raw::ask(&client.ns, to, protocol, LIMIT)?;
            ensure!(answer == format!("client={own}"), "protocol {protocol}: {answer}");
        }
    }
    Ok(())
}

fn all_combinations(rope: &Rope) -> Result<()> {
    for (from, to) in [(1, 1), (1, 3), (3, 1), (3, 3)] {
        let client = rope.east.add_workload(from)?;
        let server = rope.west.add_workload(to)?;
        every_protocol(&client, &server).with_context(|| format!("east node {from} to west node {to}"))?;
    }
    rope.pass()
}

#[test]
fn every_protocol_between_gateway_and_other_nodes_keeps_the_source() -> Result<()> {
    all_combinations(&Rope::start("reach")?)
}

#[test]
fn tunnels_run_over_ipv6_alone() -> Result<()> {
    all_combinations(&Rope::start_with("outer6", |site| site.outer = Outer::V6)?)
}

#[test]
fn tunnels_run_over_ipv4_alone_with_one_lane() -> Result<()> {
    all_combinations(&Rope::start_with("outer4", |site| {
        site.outer = Outer::V4;
        site.lanes = Some(1);
    })?)
}

#[test]
fn sites_with_two_and_four_lanes_pair_up() -> Result<()> {
    all_combinations(&Rope::start_with("lanes", |site| site.lanes = Some(2 * site.number))?)
}

/// East's links are narrower than west's: nothing tells west's gateways but probes that come back or not.
#[test]
fn status_tells_what_each_path_takes() -> Result<()> {
    // Outer IP, UDP and WireGuard's 32 bytes.
    for (outer, overhead) in [(Outer::V4, 60), (Outer::V6, 80)] {
        let rope = Rope::start_with("narrow", |site| {
            site.outer = outer;
            site.mtu = if site.number == 1 { 1500 } else { 1400 };
        })?;
        let mtus = wait_for("hawser status -o json to tell the MTU of 4 paths", SEARCH, || {
            let outcome = rope.west.status(&rope.lab, &["-o", "json"])?;
            let status: Value = serde_json::from_str(&outcome.stdout).with_context(|| format!("{outcome:?}"))?;
            let paths = status["paths"].as_array().context("no paths")?;
            let narrow =
                paths.iter().filter(|path| path["mtu"] == 1400 - overhead && path["mtuState"] == "Found").count();
            ensure!(paths.len() == 4 && narrow == 4, "{narrow} are: {paths:?}");
            Ok(status["clusters"][0]["mtu"].clone())
        })?;
        ensure!(mtus == 1400 - overhead, "the cluster's is {mtus}");
        rope.pass()?;
    }
    Ok(())
}

#[test]
fn hosts_themselves_reach_pods_with_an_address_of_their_own() -> Result<()> {
    let rope = Rope::start("hosts")?;
    let server = rope.west.add_workload(3)?;
    let _http = http::Server::start(&server.ns, 8080, "server")?;
    for node in &rope.east.nodes {
        for to in [IpAddr::V4(server.v4), IpAddr::V6(server.v6)] {
            let answer = http::get(&node.ns, SocketAddr::new(to, 8080), "/", LIMIT)
                .with_context(|| format!("from {} to {to}", node.name))?;
            let own =
                if to.is_ipv4() { format!("10.2.{}.1", node.number) } else { format!("fd10:2:{}::1", node.number) };
            ensure!(answer == format!("server=server client={own}"), "from {}: {answer}", node.name);
        }
    }
    rope.pass()
}

/// Sends a datagram from the client's node piece by piece, each by another gateway than the one before, the last piece first,
/// until it comes back whole.
fn piecemeal(rope: &Rope, client: &Workload, server: &Workload) -> Result<()> {
    let node = &rope.east.node(3).ns;
    let injector = Injector::open(node, "hawser-vx")?;
    let gateways = rope.east.gateways().map(|gateway| gateway.ns.device("hawser-vx", "address"));
    let gateways = gateways.collect::<Result<Vec<_>>>()?;
    let data: Vec<u8> = (0..7_500_u32).map(|i| (i % 251) as u8).collect();
    let mut id = 0;
    for to in [IpAddr::V4(server.v4), IpAddr::V6(server.v6)] {
        let own = client.address_like(to);
        let socket = client.ns.run(move || UdpSocket::bind((own, 0)))?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        wait_for(&format!("a datagram in pieces from {own} to come back from {to}"), LIMIT, || {
            id += 1;
            let pieces = fragments::of(socket.local_addr()?, SocketAddr::new(to, 7), id, &data)?;
            for (piece, gateway) in pieces.iter().rev().zip(gateways.iter().cycle()) {
                injector.send(&fragments::frame(gateway, piece)?)?;
            }
            let mut buffer = vec![0; 65_535];
            let n = socket.recv(&mut buffer).context("nothing came back")?;
            ensure!(buffer[..n] == data, "{n} bytes came back, or others");
            Ok(())
        })?;
    }
    Ok(())
}

/// Packets that each gateway's lanes took from its host (`tx_packets`), or gave to it (`rx_packets`).
fn passed(site: &Site, way: &str) -> Result<Vec<u64>> {
    let counts = site.gateways().map(|gateway| gateway.ns.device("hawser-tun", &format!("statistics/{way}")));
    counts.map(|count| Ok(count?.parse()?)).collect()
}

#[test]
fn fragments_of_one_datagram_arrive_over_any_mix_of_gateways() -> Result<()> {
    let rope = Rope::start("pieces")?;
    let client = rope.east.add_workload(3)?;
    let servers = [rope.west.add_workload(1)?, rope.west.add_workload(3)?];
    let echoes = servers.iter().map(|server| udp::Echo::start(&server.ns, 7, "west"));
    let _echoes = echoes.collect::<Result<Vec<_>>>()?;
    for server in &servers {
        piecemeal(&rope, &client, server).context("all paths up")?;
    }
    // Each gateway has one path, to another gateway: the pieces can't come together before the pod's node.
    for (from, to) in [("east-gw1", "west-gw1"), ("east-gw2", "west-gw2")] {
        rope.lab.wan().black_hole(from, to)?;
    }
    rope.east.wait_paths(1, 1, LIMIT)?;
    rope.west.wait_paths(1, 1, LIMIT)?;
    let before = [passed(&rope.east, "tx_packets")?, passed(&rope.west, "rx_packets")?].concat();
    for server in &servers {
        piecemeal(&rope, &client, server).context("one path each")?;
    }
    let after = [passed(&rope.east, "tx_packets")?, passed(&rope.west, "rx_packets")?].concat();
    // Eight pieces to each of two addresses of two servers, half of them by each gateway.
    let each = before.iter().zip(&after).all(|(before, after)| after - before >= 16);
    ensure!(each, "not every gateway carried its pieces: {before:?}, then {after:?}");
    rope.pass()
}
