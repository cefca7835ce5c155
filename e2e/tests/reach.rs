//! Any pod reaches any pod, any protocol, source address kept, whatever runs outside.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_e2e::Rope;
use hawser_testbed::traffic::{http, raw, udp};
use hawser_testbed::{Outer, Workload};

const LIMIT: Duration = Duration::from_secs(5);

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
