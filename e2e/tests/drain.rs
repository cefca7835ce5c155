//! A gateway is drained, stopped, started and taken back into use: no packet is lost on the way.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_e2e::Rope;
use hawser_e2e::rope::LIMIT;
use hawser_testbed::traffic::tcp::{Connections, Echo};
use hawser_testbed::traffic::udp::{self, Loss, Stream};
use hawser_testbed::{Site, wait_for};

/// Flows of each of two streams: enough that every path carries some.
const FLOWS: usize = 8;

/// Drains, stops, starts a gateway of a site and takes it back; insists that nothing is sent by it in between.
fn replace_gateway(rope: &mut Rope, pick: fn(&mut Rope) -> &mut Site, node: u8) -> Result<()> {
    let name = pick(rope).node(node).name.clone();
    let drained = {
        let args = ["drain", "gateway", &name, "--wait", "30s", "-o", "json"];
        let site = pick(rope).dir.clone();
        let mut args = args.to_vec();
        args.extend(["--site", site.to_str().context("UTF-8")?]);
        rope.lab.hawser_on(rope.lab.broker_host(), &args, None)?.success()?
    };
    ensure!(drained.contains("Drained"), "{drained}");
    let before = carried(pick(rope), node)?;
    thread::sleep(Duration::from_millis(500));
    let after = carried(pick(rope), node)?;
    ensure!(before == after, "{name} says it is drained, and went from {before} to {after} packets");

    let status = pick(rope).take(node, "hawser-gateway")?.stop()?;
    ensure!(status.success(), "{status}");
    pick(rope).start(node, "hawser-gateway")?;
    rope.wait_up()?;
    let site = pick(rope).dir.clone();
    let args = ["drain", "gateway", &name, "--undo", "--wait", "30s", "--site", site.to_str().context("UTF-8")?];
    rope.lab.hawser_on(rope.lab.broker_host(), &args, None)?.success()?;
    wait_for(&format!("{name} to carry packets again"), LIMIT, || {
        let packets = carried(pick(rope), node)?;
        ensure!(packets > 200, "{packets} packets since it started");
        Ok(())
    })
}

/// Users' packets that a gateway's paths have carried.
fn carried(site: &Site, node: u8) -> Result<u64> {
    let name = site.node(node).name.clone();
    let reports = Rope::reports(site)?;
    let report = reports.iter().find(|r| r["node"] == name.as_str()).with_context(|| format!("no report of {name}"))?;
    let paths = report["paths"].as_array().context("paths")?;
    Ok(paths.iter().flat_map(|p| [p["rxPackets"].as_u64(), p["txPackets"].as_u64()]).flatten().sum())
}

#[test]
fn draining_replacing_and_taking_back_a_gateway_loses_nothing() -> Result<()> {
    let mut rope = Rope::start("drain")?;
    let server = rope.west.add_workload(3)?;
    // One client behind a node that is no gateway, one behind the very gateway that is replaced.
    let clients = [rope.east.add_workload(3)?, rope.east.add_workload(1)?];
    let _udp = udp::Echo::start(&server.ns, 7, "west")?;
    let _tcp = Echo::start(&server.ns, 9)?;
    let to = |port: u16| [SocketAddr::new(server.v4.into(), port), SocketAddr::new(server.v6.into(), port)];
    let tcp = Connections::open(&clients[0].ns, &to(9), 2)?;
    let flows: Vec<(u16, SocketAddr)> = (0..FLOWS).map(|i| (0, to(7)[i % 2])).collect();
    for (client, to) in clients.iter().flat_map(|client| to(7).map(|to| (client, to))) {
        wait_for(&format!("{to} to answer {}", client.ns.name()), LIMIT, || {
            udp::ask(&client.ns, to, Duration::from_secs(1))
        })?;
    }
    let east: fn(&mut Rope) -> &mut Site = |rope| &mut rope.east;
    let west: fn(&mut Rope) -> &mut Site = |rope| &mut rope.west;
    for (side, pick) in [("the clients' side", east), ("the server's side", west)] {
        let ends = || clients.iter().chain([&server]);
        let full = rope.overflows(ends())?;
        let streams = clients.iter().map(|c| Stream::start_from(&c.ns, &flows)).collect::<Result<Vec<_>>>()?;
        replace_gateway(&mut rope, pick, 1)?;
        thread::sleep(Duration::from_secs(1));
        let losses: Vec<Loss> = streams.into_iter().map(Stream::finish).collect::<Result<_>>()?;
        let full = rope.overflows(ends())?.saturating_sub(full);
        for (loss, behind) in losses.iter().zip(["worker", "gateway"]) {
            println!(
                "{side}, a client behind a {behind}: {} of {} lost, {full} for full queues",
                loss.lost(),
                loss.sent
            );
        }
        rope.lost_nothing_else(&losses, full).context(side)?;
        ensure!(tcp.alive(Duration::from_secs(10)) == tcp.count(), "{side}: a connection broke");
    }
    rope.pass()
}
