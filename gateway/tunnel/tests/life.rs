//! Starting, stopping, losing and dropping peers; errors that senders are told.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Host, LIMIT, Outer, Pinged, pair, ping, ping_from, pod, tcp_echo, udp_echo};
use hawser_liveness::ClusterState;
use hawser_model::defaults::{TABLE_REMOTE, TABLE_TRANSIT, TUN_DEVICE};
use hawser_testbed::{Switch, wait_for};

#[test]
fn a_restart_keeps_keys_and_leaves_nothing_behind() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, mut a, b) = pair(keys.path(), [2, 2], Outer::V6);
    let before: Vec<_> = a.tunnel().lanes().iter().map(|l| l.key).collect();
    a.stop();
    let links = a.ns.ip("-o link show").unwrap();
    assert!(!links.contains(TUN_DEVICE), "{links}");
    for table in [TABLE_REMOTE, TABLE_TRANSIT] {
        let routes = a.ns.ip(&format!("route show table {table}")).unwrap_or_default();
        assert_eq!(routes.trim(), "", "table {table}");
    }
    a.start(keys.path(), 2);
    let after: Vec<_> = a.tunnel().lanes().iter().map(|l| l.key).collect();
    assert_eq!(before, after);
    // The other end was told nothing and needs nothing.
    a.apply(vec![b.as_peer(Outer::V6)]);
    a.wait_live(&b);
    udp_echo(&a, &b, Outer::V4, 500);
    udp_echo(&b, &a, Outer::V6, 500);
}

#[test]
fn a_crash_is_noticed_and_the_way_back_found() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, a, mut b) = pair(keys.path(), [2, 2], Outer::V4);
    b.drop_tunnel();
    a.wait_state(&b.id(), ClusterState::Dark);
    wait_for("the route to go", LIMIT, || {
        let routes = a.ns.ip(&format!("route show table {TABLE_REMOTE}"))?;
        if routes.trim().is_empty() { Ok(()) } else { anyhow::bail!("{routes}") }
    })
    .unwrap();
    b.start(keys.path(), 2);
    b.apply(vec![a.as_peer(Outer::V4)]);
    b.wait_live(&a);
    // In hold-down here, but as the only path it carries packets all the same.
    udp_echo(&b, &a, Outer::V4, 100);
}

#[test]
fn one_of_two_gateways_dies_and_the_other_carries_on() {
    let keys = tempfile::tempdir().unwrap();
    let switch = Switch::new("wire").unwrap();
    let mut hosts: Vec<Host> = [1, 2, 3].iter().map(|&n| Host::new(&switch, n)).collect();
    hosts.iter_mut().for_each(|h| h.start(keys.path(), 2));
    let [a, b, c] = &hosts[..] else { unreachable!() };
    // Cluster 2 has the gateways h2 and h3; only h2 holds the address that answers.
    let mut both = b.as_peer(Outer::V4);
    both.gateways.push(c.as_gateway(&[common::outer_address(3, Outer::V4)]));
    a.apply(vec![both]);
    b.apply(vec![a.as_peer(Outer::V4)]);
    c.apply_as(b.prefixes(), vec![a.as_peer(Outer::V4)]);
    wait_for("two live paths", LIMIT, || {
        let report = a.tunnel().report();
        if report.clusters.first().is_some_and(|c| c.live_paths == 2) { Ok(()) } else { anyhow::bail!("{report:#?}") }
    })
    .unwrap();
    switch.isolate("h3").unwrap();
    let status = wait_for("the failover", LIMIT, || {
        let status = a.tunnel().report().clusters[0].clone();
        if status.live_paths == 1 { Ok(status) } else { anyhow::bail!("{status:#?}") }
    })
    .unwrap();
    assert_eq!(status.state, ClusterState::Live);
    let (_, took) = wait_for("its duration", LIMIT, || {
        a.tunnel().report().clusters[0].last_failover.ok_or_else(|| anyhow::anyhow!("none"))
    })
    .unwrap();
    println!("power-off noticed after {took:?}");
    // Every flow now goes by the gateway that is left.
    for _ in 0..16 {
        udp_echo(a, b, Outer::V4, 64);
    }
}

#[test]
fn senders_are_told_at_once_when_there_is_no_path() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, a, mut b) = pair(keys.path(), [1, 1], Outer::V4);
    b.drop_tunnel();
    a.wait_state(&b.id(), ClusterState::Dark);
    let (_pods, pod, [v4, v6]) = pod(&a);
    assert_eq!(ping_from(&pod, v4, b.inner(Outer::V4), 56), Pinged::Error(3, 1));
    assert_eq!(ping_from(&pod, v6, b.inner(Outer::V6), 56), Pinged::Error(1, 0));
    assert!(a.drops("no_path") >= 2);
}

#[test]
fn packets_of_the_paths_size_pass_and_larger_ones_are_answered() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, a, b) = pair(keys.path(), [1, 1], Outer::V4);
    let routes = a.ns.ip(&format!("route show table {TABLE_REMOTE}")).unwrap();
    assert!(routes.contains("mtu 1420"), "{routes}");
    let link = a.ns.ip(&format!("-d link show {TUN_DEVICE}")).unwrap();
    assert!(link.contains("mtu 1420") && link.contains("gso_max_segs 64"), "{link}");
    let (_pods, pod, [v4, v6]) = pod(&a);
    assert_eq!(ping_from(&pod, v4, b.inner(Outer::V4), 1420 - 28), Pinged::Reply);
    assert_eq!(ping_from(&pod, v6, b.inner(Outer::V6), 1420 - 48), Pinged::Reply);
    assert_eq!(ping_from(&pod, v6, b.inner(Outer::V6), 1421 - 48), Pinged::Error(2, 0));
    assert_eq!(ping(&a, b.inner(Outer::V4), 5000), Pinged::Reply, "what may be fragmented is");
}

#[test]
fn a_dropped_peer_is_gone_at_once_and_stays_gone() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, a, b) = pair(keys.path(), [2, 2], Outer::V4);
    a.apply(Vec::new());
    let tunnel = std::sync::Arc::clone(a.tunnel());
    let settled = tunnel.settled();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, settled).await }).expect("every lane took it over");
    drop(tunnel);
    let before = a.drops("not_ours");
    b.wait_state(&a.id(), ClusterState::Dark);
    // Its packets and handshakes are all refused.
    wait_for("refusals", LIMIT, || {
        let now = a.drops("not_ours");
        if now > before { Ok(()) } else { anyhow::bail!("{now}") }
    })
    .unwrap();
    assert!(a.tunnel().report().paths.is_empty());
    let routes = a.ns.ip(&format!("route show table {TABLE_TRANSIT}")).unwrap_or_default();
    assert_eq!(routes.trim(), "");
}

#[test]
fn a_drain_is_heard_by_the_peer() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, a, b) = pair(keys.path(), [1, 1], Outer::V4);
    a.tunnel().set_draining(true);
    wait_for("the drain to be heard", LIMIT, || {
        let report = b.tunnel().report();
        if report.paths[0].draining { Ok(()) } else { anyhow::bail!("{report:#?}") }
    })
    .unwrap();
    // The only gateway carries on.
    udp_echo(&b, &a, Outer::V4, 100);
}

#[test]
fn load_raises_no_alarm_and_loses_no_byte() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, a, b) = pair(keys.path(), [2, 2], Outer::V4);
    assert_eq!(tcp_echo(&a, &b, Outer::V4, 30_000_000), 30_000_000);
    for host in [&a, &b] {
        let report = host.tunnel().report();
        assert!(report.paths[0].state.is_live(), "{report:#?}");
        assert_eq!(report.clusters[0].last_failover, None, "{report:#?}");
    }
}

#[test]
fn a_second_gateway_on_a_host_is_refused() {
    let keys = tempfile::tempdir().unwrap();
    let switch = Switch::new("wire").unwrap();
    let mut a = Host::new(&switch, 1);
    a.start(keys.path(), 1);
    let config = hawser_tunnel::Config {
        node: hawser_model::NodeName::new("h1").unwrap(),
        device: TUN_DEVICE.to_owned(),
        lanes: 1,
        port: common::PORT + 100,
        keys: keys.path().join("other"),
    };
    let id = a.id();
    let error = a.ns.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(hawser_tunnel::Tunnel::start(config, id)).err().map(|e| format!("{e:?}"))
    });
    let error = error.expect("it must not start");
    assert!(error.contains("exists already"), "{error}");
}
