//! Broker, agents, gateways, route agents, whole sites end and come back; what lives goes on.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_e2e::rope::{LIMIT, Rope, WEB, Web};
use hawser_testbed::traffic::dns;
use hawser_testbed::traffic::udp::Stream;
use hawser_testbed::{Workload, wait_for};

/// Up, `web` exported by west and reached by name from east.
fn established(name: &str) -> Result<(Rope, Web, Workload)> {
    let rope = Rope::start(name)?;
    let web = Rope::web(&rope.west, 3)?;
    let client = rope.east.add_workload(3)?;
    rope.export(&rope.west)?;
    reached_by_name(&rope, &client)?;
    Ok((rope, web, client))
}

fn reached_by_name(rope: &Rope, client: &Workload) -> Result<()> {
    for address in Rope::resolve(&rope.east, client)? {
        Rope::ask_web(client, address, LIMIT)?;
    }
    Ok(())
}

fn stream(web: &Web, client: &Workload) -> Result<Stream> {
    Stream::start(&client.ns, SocketAddr::new(web.workload.v4.into(), 7), 8)
}

/// What west says reaches east: the export is taken back, and the name goes.
fn news_pass(rope: &Rope, client: &Workload) -> Result<()> {
    rope.west.hawser(&rope.lab, 1, &["unexport", "shop/web", "--wait", "0s"])?.success()?;
    wait_for("the name to go", LIMIT, || {
        let answer = dns::query(&client.ns, rope.east.dns()[0], WEB, "A")?;
        ensure!(answer.data.is_empty(), "{answer:?}");
        Ok(())
    })
}

#[test]
fn broker_killed_and_restarted() -> Result<()> {
    let (mut rope, web, client) = established("broker")?;
    let traffic = stream(&web, &client)?;
    rope.lab.take_broker()?.kill()?;
    thread::sleep(Duration::from_secs(2));
    reached_by_name(&rope, &client)?;
    rope.lab.start_broker()?;
    let loss = traffic.finish()?;
    ensure!(loss.lost() == 0, "a broker's death must not touch traffic: {loss:?}");
    news_pass(&rope, &client)?;
    rope.pass()
}

#[test]
fn broker_stopped_and_started() -> Result<()> {
    let (mut rope, _web, client) = established("brokerstop")?;
    let status = rope.lab.take_broker()?.stop().context("with two agents connected")?;
    ensure!(status.success(), "{status}");
    reached_by_name(&rope, &client)?;
    rope.lab.start_broker()?;
    news_pass(&rope, &client)?;
    rope.pass()
}

#[test]
fn records_wiped_and_members_come_back_one_by_one() -> Result<()> {
    let (mut rope, web, client) = established("records")?;
    let traffic = stream(&web, &client)?;
    rope.lab.take_broker()?.kill()?;
    for agent in [1, 2] {
        rope.west.kill(agent, "hawser-agent")?;
    }
    fs::remove_file(rope.lab.broker_dir().join("records.redb"))?;
    rope.lab.start_broker()?;
    // Only east is back, to a broker that knows nothing of west's records.
    thread::sleep(Duration::from_secs(5));
    reached_by_name(&rope, &client)?;
    rope.west.start(1, "hawser-agent")?;
    thread::sleep(Duration::from_secs(3));
    reached_by_name(&rope, &client)?;
    let loss = traffic.finish()?;
    ensure!(loss.lost() == 0, "no live member's routes may vanish: {loss:?}");
    rope.pass()
}

#[test]
fn roster_wiped_and_the_broker_refuses_to_start() -> Result<()> {
    let (mut rope, web, client) = established("roster")?;
    let traffic = stream(&web, &client)?;
    rope.lab.take_broker()?.kill()?;
    fs::remove_file(rope.lab.broker_dir().join("roster.redb"))?;
    let dir = rope.lab.broker_dir();
    let dir = dir.to_str().context("UTF-8")?;
    let refused = rope.lab.hawser_on(rope.lab.broker_host(), &["broker", "serve", "--dir", dir], None)?;
    ensure!(refused.code == 1, "{refused:?}");
    for remedy in ["restore", "init"] {
        ensure!(refused.stderr.contains(remedy), "the remedy {remedy} is not named: {refused:?}");
    }
    thread::sleep(Duration::from_secs(1));
    let loss = traffic.finish()?;
    ensure!(loss.lost() == 0, "{loss:?}");
    reached_by_name(&rope, &client)?;
    rope.pass()
}

#[test]
fn gateway_restarted_while_broker_and_agents_are_down() -> Result<()> {
    let (mut rope, _web, client) = established("gwalone")?;
    rope.lab.take_broker()?.kill()?;
    for agent in [1, 2] {
        rope.east.kill(agent, "hawser-agent")?;
        rope.west.kill(agent, "hawser-agent")?;
    }
    for gateway in [1, 2] {
        rope.east.kill(gateway, "hawser-gateway")?;
    }
    for gateway in [1, 2] {
        rope.east.start(gateway, "hawser-gateway")?;
    }
    rope.wait_up()?;
    reached_by_name(&rope, &client)?;
    rope.pass()
}

#[test]
fn agents_and_route_agents_restarted() -> Result<()> {
    let (mut rope, web, client) = established("agents")?;
    let traffic = stream(&web, &client)?;
    for node in [1, 2] {
        rope.east.kill(node, "hawser-agent")?;
    }
    for node in [1, 2, 3] {
        rope.east.kill(node, "hawser-route-agent")?;
        rope.west.kill(node, "hawser-route-agent")?;
    }
    thread::sleep(Duration::from_secs(1));
    for node in [1, 2] {
        rope.east.start(node, "hawser-agent")?;
    }
    for node in [1, 2, 3] {
        rope.east.start(node, "hawser-route-agent")?;
        rope.west.start(node, "hawser-route-agent")?;
    }
    thread::sleep(Duration::from_secs(3));
    let loss = traffic.finish()?;
    ensure!(loss.lost() == 0, "a restart under load must lose nothing: {loss:?}");
    reached_by_name(&rope, &client)?;
    rope.pass()
}

#[test]
fn whole_site_restarted() -> Result<()> {
    let (mut rope, _web, client) = established("site")?;
    rope.east.kill_all();
    rope.east.start_all()?;
    rope.wait_up()?;
    reached_by_name(&rope, &client)?;
    rope.pass()
}
