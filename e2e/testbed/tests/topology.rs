//! The testbed itself: hosts reach each other where wires say so, faults do what they say, nothing stays behind.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hawser_testbed::traffic::{http, raw, udp};
use hawser_testbed::{Lab, Netns, SiteOptions, Switch, wait_for};

const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn gateways_meet_on_the_wan_and_pods_reach_their_node_only() {
    let lab = Lab::new("topology").unwrap();
    let west = lab.add_site(SiteOptions::new(1, "west")).unwrap();
    let east = lab.add_site(SiteOptions::new(2, "east")).unwrap();
    for to in east.wan_addresses(2) {
        raw::ping(&west.node(1).ns, &east.node(2).ns, to, LIMIT).unwrap();
    }
    let (a, b) = (west.add_workload(3).unwrap(), east.add_workload(3).unwrap());
    let node: IpAddr = "10.1.3.1".parse().unwrap();
    assert_eq!(raw::ping(&a.ns, &west.node(3).ns, node, LIMIT).unwrap(), IpAddr::V4(a.v4));
    let _server = http::Server::start(&b.ns, 80, "b").unwrap();
    let across = http::get(&a.ns, SocketAddr::new(b.v4.into(), 80), "/", Duration::from_millis(500));
    assert!(across.is_err(), "sites must not reach each other without Hawser: {across:?}");
    lab.pass();
}

#[test]
fn pods_that_come_and_go_leave_others_their_way() {
    let lab = Lab::new("comings").unwrap();
    let site = lab.add_site(SiteOptions::new(1, "west")).unwrap();
    let node = &site.node(3).ns;
    let before = node.device("pods0", "address").unwrap();
    let stays = site.add_workload(3).unwrap();
    let goes = site.add_workload(3).unwrap();
    assert_eq!(node.device("pods0", "address").unwrap(), before, "pods have learnt another");
    let port = |ns: &Netns| ns.device("eth0", "iflink").unwrap();
    let left = port(&goes.ns);
    drop(goes);
    // The kernel takes a namespace's devices down some time after its last user is gone.
    wait_for("the pod's port to go", LIMIT, || {
        let links = node.ip("-o link show")?;
        anyhow::ensure!(!links.lines().any(|line| line.starts_with(&format!("{left}: "))), "{links}");
        Ok(())
    })
    .unwrap();
    assert_eq!(node.device("pods0", "address").unwrap(), before, "pods have learnt another");
    for to in ["10.1.3.1", "fd10:1:3::1"].map(|to| to.parse().unwrap()) {
        raw::ping(&stays.ns, node, to, LIMIT).unwrap();
    }
    lab.pass();
}

#[test]
fn faults_hit_what_they_name_and_heal() {
    let switch = Switch::new("sw").unwrap();
    let [a, b] = ["a", "b"].map(|name| Netns::new(name, None).unwrap());
    for (host, address) in [(&a, "192.0.2.1/24"), (&b, "192.0.2.2/24")] {
        switch.plug(host, "eth0", 1500).unwrap();
        host.ip(&format!("addr add {address} dev eth0")).unwrap();
    }
    let _echo = udp::Echo::start(&b, 7, "b").unwrap();
    let to = "192.0.2.2:7".parse().unwrap();
    let short = Duration::from_millis(300);
    assert_eq!(udp::ask(&a, to, LIMIT).unwrap(), "server=b client=192.0.2.1");
    switch.black_hole("b", "a").unwrap();
    udp::ask(&a, to, short).unwrap_err();
    switch.heal().unwrap();
    udp::ask(&a, to, LIMIT).unwrap();
    switch.isolate("a").unwrap();
    udp::ask(&a, to, short).unwrap_err();
    switch.heal().unwrap();
    switch.loss(500).unwrap();
    let stream = udp::Stream::start(&a, to, 2).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    let loss = stream.finish().unwrap();
    assert!(loss.lost() > loss.sent / 3 && loss.received > 0, "{loss:?}");

    // 4 flows of 500 datagrams a second want some 800 kbit/s; a tenth of that passes.
    switch.heal().unwrap();
    switch.slow("b", 80, Duration::from_millis(100)).unwrap();
    let stream = udp::Stream::start(&a, to, 4).unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    let slowed = stream.finish().unwrap();
    assert!(slowed.lost() > slowed.sent / 2 && slowed.received > 0, "{slowed:?}");
    switch.heal().unwrap();
    let stream = udp::Stream::start(&a, to, 4).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let healed = stream.finish().unwrap();
    assert_eq!(healed.lost(), 0, "{healed:?}");
}

#[test]
fn nothing_stays_behind() {
    let (dir, pid) = {
        let lab = Lab::new("cleanup").unwrap();
        let ns = Netns::new("host", None).unwrap();
        let mut command = std::process::Command::new("sleep");
        command.arg("1000");
        let process = hawser_testbed::Process::start(&ns, "sleep", command, &lab.logs()).unwrap();
        lab.pass();
        (lab.dir().to_owned(), process.pid())
    };
    assert!(!dir.exists());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}
