//! Gateways die, are cut off, lose one direction: traffic goes on.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_e2e::{Rope, figure};
use hawser_testbed::Workload;
use hawser_testbed::traffic::udp::{Loss, Stream};
use hawser_testbed::traffic::{http, udp};

/// Flows of a stream: enough that every path carries some.
const FLOWS: usize = 16;

/// Streams and downloads from a pod in east to one in west while `fault` happens; both must go on.
fn survives(rope: &mut Rope, name: &str, fault: impl FnOnce(&mut Rope) -> Result<()>) -> Result<Loss> {
    let (server, client): (Workload, Workload) = (rope.west.add_workload(3)?, rope.east.add_workload(3)?);
    let _echo = udp::Echo::start(&server.ns, 7, "west")?;
    let _http = http::Server::start(&server.ns, 8080, "west")?;
    let mut downloads = Vec::new();
    for to in [SocketAddr::new(server.v4.into(), 8080), SocketAddr::new(server.v6.into(), 8080)] {
        downloads.push(http::Download::start(&client.ns, to, Duration::from_secs(6))?);
    }
    let stream = Stream::start(&client.ns, SocketAddr::new(server.v4.into(), 7), FLOWS)?;
    thread::sleep(Duration::from_secs(1));
    fault(rope)?;
    thread::sleep(Duration::from_secs(4));
    let loss = stream.finish()?;
    for download in downloads {
        let progress = download.finish()?;
        ensure!(progress.complete, "{name}: a download broke: {progress:?}");
    }
    figure(format_args!(
        "{name}: longest time without traffic of any flow {:?}, {} of {} lost",
        loss.longest_gap,
        loss.lost(),
        loss.sent
    ));
    ensure!(loss.longest_gap < Duration::from_secs(3), "{name}: traffic did not go on: {loss:?}");
    Ok(loss)
}

#[test]
fn a_killed_gateway_process_on_either_side() -> Result<()> {
    let mut rope = Rope::start("kill")?;
    survives(&mut rope, "west's gateway killed", |rope| rope.west.kill(1, "hawser-gateway"))?;
    rope.west.start(1, "hawser-gateway")?;
    rope.wait_up()?;
    survives(&mut rope, "east's gateway killed", |rope| rope.east.kill(2, "hawser-gateway"))?;
    rope.pass()
}

#[test]
fn a_gateway_host_cut_off() -> Result<()> {
    let mut rope = Rope::start("cutoff")?;
    survives(&mut rope, "west's gateway host cut off", |rope| {
        rope.lab.wan().isolate("west-gw1")?;
        rope.west.lan.isolate("west-gw1")
    })?;
    rope.pass()
}

#[test]
fn the_clients_gateway_host_cut_off() -> Result<()> {
    let mut rope = Rope::start("cutoff2")?;
    survives(&mut rope, "east's gateway host cut off", |rope| {
        rope.lab.wan().isolate("east-gw2")?;
        rope.east.lan.isolate("east-gw2")
    })?;
    rope.pass()
}

#[test]
fn a_path_black_holed_one_way_and_a_gateway_without_its_wan() -> Result<()> {
    let mut rope = Rope::start("blackhole")?;
    survives(&mut rope, "a path black-holed one way", |rope| rope.lab.wan().black_hole("west-gw1", "east-gw1"))?;
    rope.lab.wan().heal()?;
    rope.wait_up()?;
    survives(&mut rope, "a gateway that loses its WAN", |rope| rope.lab.wan().isolate("east-gw1"))?;
    rope.pass()
}

/// A slow and lossy wire is no dead one: paths that still answer stay, none is given up and none flaps.
#[test]
fn a_slow_and_lossy_wan_loses_no_path() -> Result<()> {
    let mut rope = Rope::start("slow")?;
    survives(&mut rope, "a slow WAN that loses 3 %", |rope| {
        for host in ["west-gw1", "west-gw2", "east-gw1", "east-gw2"] {
            rope.lab.wan().slow(host, 8_000, Duration::from_millis(40))?;
        }
        rope.lab.wan().loss(30)
    })?;
    for site in [&rope.west, &rope.east] {
        for report in Rope::reports(site)? {
            let clusters = report["clusters"].as_array().context("a report has clusters")?;
            ensure!(clusters.len() == 1 && clusters[0]["lastFailoverAgoMs"].is_null(), "a path was given up: {report}");
            let rtt = report["paths"].as_array().into_iter().flatten().filter_map(|path| path["rttUs"].as_u64()).max();
            figure(format_args!("{}: slowest round trip {rtt:?} µs", report["node"]));
        }
    }
    rope.lab.wan().heal()?;
    rope.wait_up()?;
    rope.pass()
}
