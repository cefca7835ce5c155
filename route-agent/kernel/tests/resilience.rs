//! What happens to packets while things change: restarts, drift, gateways that go, other people's firewalls, attackers.

#![allow(clippy::unwrap_used, reason = "test code outside test functions")]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use common::{cluster, ping, remote, service};
use hawser_model::export::Protocol;
use hawser_route_plan::{Desired, Path};
use hawser_testbed::traffic::{http, udp};
use hawser_testbed::{Netns, wait_for};

const LIMIT: Duration = Duration::from_secs(2);

#[test]
fn restarts_and_new_rulesets_under_load_lose_no_packet() {
    let mut cluster = cluster(3, 2);
    let far = remote(&[&cluster.hosts[0], &cluster.hosts[1]]);
    cluster.converge();
    let _echo = udp::Echo::start(&far.ns, 5353, "far").unwrap();
    let vips = ["10.250.0.7", "fd25::7"];
    let web = service("web", &vips, (Protocol::Udp, 53, 5353), &[("east", "10.2.5.10"), ("east", "fd10:2:5::10")]);
    cluster.services = vec![web.clone()];
    cluster.converge();
    let streams: Vec<udp::Stream> = ["10.2.5.10:5353", "[fd10:2:5::10]:5353", "10.250.0.7:53", "[fd25::7]:53"]
        .map(|to| udp::Stream::start(&cluster.hosts[2].pod, to.parse().unwrap(), 3).unwrap())
        .into();
    for round in 0..6_u16 {
        let other = service("other", &["10.250.0.9"], (Protocol::Tcp, 80 + round, 80), &[("east", "10.2.5.10")]);
        cluster.services = vec![web.clone(), other];
        for (i, host) in cluster.hosts.iter().enumerate() {
            host.restart();
            assert_eq!(host.pass(cluster.desired(i)), ["loaded the nft tables"]);
            host.restart();
            assert_eq!(host.pass(cluster.desired(i)), [""; 0]);
        }
    }
    let all: Vec<udp::Loss> = streams.into_iter().map(|s| s.finish().unwrap()).collect();
    assert!(all.iter().all(|loss| loss.sent > 100), "{all:?}");
    // What a starved test program did not read in time was not lost on the way.
    let unread: u64 = [&far.ns, &cluster.hosts[2].pod].into_iter().map(overflows).sum();
    let lost: u64 = all.iter().map(udp::Loss::lost).sum();
    assert_eq!(lost, unread, "{all:?}");
}

/// Datagrams that found their socket's buffer full.
fn overflows(ns: &Netns) -> u64 {
    let snmp = |file: &'static str| ns.run(move || std::fs::read_to_string(file).unwrap());
    let v4 = snmp("/proc/thread-self/net/snmp");
    let rows: Vec<Vec<&str>> = v4.lines().filter(|l| l.starts_with("Udp:")).map(|l| l.split(' ').collect()).collect();
    let column = rows[0].iter().position(|n| *n == "RcvbufErrors").unwrap();
    let v6 = snmp("/proc/thread-self/net/snmp6");
    let v6 = v6.lines().find_map(|l| l.strip_prefix("Udp6RcvbufErrors")).unwrap().trim().parse::<u64>().unwrap();
    rows[1][column].parse::<u64>().unwrap() + v6
}

#[test]
fn what_others_change_is_set_right() {
    let cluster = cluster(2, 1);
    cluster.converge();
    let host = &cluster.hosts[1];
    let all = |what: &str| host.ns.ip(what).unwrap();
    let damages: [(&str, &[&str]); 10] = [
        ("ip", &["route", "del", "10.2.0.0/16", "table", "4857", "metric", "200"]),
        ("ip", &["-6", "route", "flush", "table", "4858"]),
        ("ip", &["route", "add", "10.66.0.0/16", "dev", "lan0", "table", "4857"]),
        ("ip", &["rule", "del", "priority", "4857"]),
        ("ip", &["rule", "add", "priority", "4856", "lookup", "99"]),
        ("ip", &["addr", "flush", "dev", "hawser-vx"]),
        ("ip", &["neigh", "flush", "dev", "hawser-vx", "nud", "permanent"]),
        ("ip", &["link", "set", "hawser-vx", "mtu", "1300", "address", "02:00:00:00:00:01"]),
        ("nft", &["flush", "chain", "inet", "hawser", "source"]),
        ("nft", &["delete", "element", "inet", "hawser", "remote4", "{ 10.2.0.0/16 }"]),
    ];
    let state = || {
        let shown =
            ["route show table all", "-6 route show table all", "rule", "-6 rule", "-br addr", "neigh", "-br link"];
        let fdb = host.ns.output("bridge", &["fdb", "show", "dev", "hawser-vx"], None).unwrap();
        let mut lines: Vec<String> = (shown.map(all).join("\n") + &fdb).lines().map(|l| l.trim().to_owned()).collect();
        lines.retain(|l| !l.contains("lan0"));
        lines.sort();
        lines
    };
    let before = state();
    for (program, args) in damages {
        host.ns.output(program, args, None).unwrap();
        assert_ne!(host.pass(cluster.desired(1)), [""; 0], "{args:?}");
        assert_eq!(state(), before, "{args:?}");
        assert_eq!(host.pass(cluster.desired(1)), [""; 0], "{args:?}");
    }
    all("link del hawser-vx");
    assert_ne!(host.pass(cluster.desired(1)), [""; 0]);
    assert_eq!(host.pass(cluster.desired(1)), [""; 0]);
    ping(&host.pod, &cluster.hosts[0].pod, "10.1.1.10", "10.1.2.10");
}

#[test]
fn routes_leave_a_gateway_by_one_operation_each_and_fail_fast_without_any() {
    let mut cluster = cluster(3, 2);
    let far = remote(&[&cluster.hosts[0], &cluster.hosts[1]]);
    cluster.converge();
    let names: Vec<_> = cluster.hosts.iter().map(|h| h.name.clone()).collect();
    let mut before = cluster.desired(2);
    for (gone, name) in names.iter().enumerate().take(2) {
        cluster.gateways.get_mut(name).unwrap().path = Path::Down;
        let after = cluster.desired(2);
        let (from, to) = (before.routes.clone(), after.routes.clone());
        let report = cluster.hosts[2].with(move |runtime, kernel| runtime.block_on(kernel.move_routes(&from, &to)));
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert_eq!(report.changes.len(), 2, "one per remote prefix: {:?}", report.changes);
        assert_eq!(cluster.hosts[2].pass(after.clone()), [""; 0], "a full pass agrees");
        before = after;
        if gone == 0 {
            (0..8).for_each(|_| ping(&cluster.hosts[2].pod, &far.ns, "10.2.5.10", "10.1.3.10"));
            ping(&cluster.hosts[2].pod, &far.ns, "fd10:2:5::10", "fd10:1:3::10");
        }
    }
    for to in ["10.2.5.10:9", "[fd10:2:5::10]:9"] {
        let error = http::get(&cluster.hosts[2].pod, to.parse().unwrap(), "/", LIMIT).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("No route to host") || error.contains("Network is unreachable"), "{error}");
    }
}

#[test]
fn without_ipv6_nodes_reach_each_other_by_their_lan_addresses() {
    let mut cluster = cluster(2, 1);
    for host in &cluster.hosts {
        host.ns.sysctl("ipv6/conf/all/disable_ipv6", "1").unwrap();
        host.ns.sysctl("ipv6/conf/default/disable_ipv6", "1").unwrap();
    }
    cluster.ipv6 = false;
    cluster.converge();
    ping(&cluster.hosts[0].pod, &cluster.hosts[1].pod, "10.1.2.10", "10.1.1.10");
    assert_eq!(cluster.hosts[0].pass(cluster.desired(0)), [""; 0]);
}

#[test]
fn a_firewall_that_drops_what_it_does_not_know_lets_us_pass_and_is_left_as_it_was() {
    let cluster = cluster(2, 1);
    for host in &cluster.hosts {
        host.ns
            .nft(
                "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }\n\
                  table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }",
            )
            .unwrap();
    }
    let before = cluster.hosts[0].nft();
    cluster.converge();
    for to in ["10.1.2.10", "fd10:1:2::10"] {
        ping(&cluster.hosts[0].pod, &cluster.hosts[1].pod, to, &cluster.hosts[0].address(to, 10));
    }
    assert_eq!(cluster.hosts[0].pass(cluster.desired(0)), [""; 0]);
    cluster.hosts[0].pass(Desired::default());
    assert_eq!(cluster.hosts[0].nft(), before);
}

#[test]
fn masquerading_rules_of_others_do_not_hide_pods() {
    let cluster = cluster(2, 1);
    let far = remote(&[&cluster.hosts[0]]);
    for host in &cluster.hosts {
        let rule = "table inet other { chain post { type nat hook postrouting priority srcnat; oifname != \"pods0\" masquerade; }; }";
        host.ns.nft(rule).unwrap();
    }
    cluster.converge();
    for to in ["10.2.5.10", "fd10:2:5::10"] {
        ping(&cluster.hosts[1].pod, &far.ns, to, &cluster.hosts[1].address(to, 10));
    }
    ping(&cluster.hosts[1].pod, &cluster.hosts[0].pod, "10.1.1.10", "10.1.2.10");
}

#[test]
fn transit_is_not_tracked_and_local_traffic_is() {
    let cluster = cluster(2, 1);
    let far = remote(&[&cluster.hosts[0]]);
    cluster.converge();
    let tracked = |i: usize| {
        let text = cluster.hosts[i].ns.run(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap());
        text.lines().filter(|l| l.contains("10.2.5.10")).count()
    };
    ping(&cluster.hosts[1].pod, &far.ns, "10.2.5.10", "10.1.2.10");
    assert_eq!((tracked(0), tracked(1)), (0, 1));
    ping(&cluster.hosts[0].pod, &far.ns, "10.2.5.10", "10.1.1.10");
    assert_eq!(tracked(0), 1);
}

/// An Ethernet frame with an IPv4 UDP packet in a VXLAN header, as the second node would send for its pod to the first's.
fn injected(mac: [u8; 6], vni: u32, payload: &[u8]) -> Vec<u8> {
    let udp_length = 8 + payload.len();
    let total = 20 + udp_length;
    let mut ip = vec![0x45, 0];
    ip.extend((total as u16).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 2, 10, 10, 1, 1, 10]);
    let sum = ip.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum::<u32>();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![8, 0, 0, 0];
    frame.extend((vni << 8).to_be_bytes());
    frame.extend(mac);
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    frame.extend(ip);
    frame.extend(9_u16.to_be_bytes());
    frame.extend(7777_u16.to_be_bytes());
    frame.extend((udp_length as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

#[test]
fn only_nodes_can_put_packets_into_the_network_between_nodes() {
    let cluster = cluster(2, 1);
    let stranger = Netns::new("stranger", None).unwrap();
    cluster.lan.plug(&stranger, "lan0", 1500).unwrap();
    stranger.ip("addr add 192.168.9.99/24 dev lan0").unwrap();
    cluster.converge();
    let victim = &cluster.hosts[0];
    let ear = victim.pod.run(|| UdpSocket::bind("10.1.1.10:7777")).unwrap();
    ear.set_nonblocking(true).unwrap();
    let to: SocketAddr = "192.168.9.1:4811".parse().unwrap();
    let send = |ns: &Netns, what: &'static [u8]| {
        let frame = injected(hawser_node_probe::mac(&victim.name), 4811, what);
        ns.run(move || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&frame, to).map(drop)).unwrap();
    };
    let refused = || -> u64 {
        let text = victim.ns.output("nft", &["list", "chain", "inet", "hawser", "guard"], None).unwrap();
        text.split("packets ").skip(1).map(|t| t.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    send(&victim.pod, b"pod of this node");
    send(&cluster.hosts[1].pod, b"pod of another node");
    send(&stranger, b"stranger on the LAN");
    // The same packet from a node gets through: that is what the three above had to look like.
    send(&cluster.hosts[1].ns, b"node");
    let mut buffer = [0; 64];
    let heard = wait_for("the node's packet", LIMIT, || Ok(ear.recv(&mut buffer)?)).unwrap();
    assert_eq!(&buffer[..heard], b"node", "only the node's packet arrives");
    assert_eq!(refused(), 2, "of this node's pod and the stranger:\n{}", victim.nft());
    assert!(ear.recv(&mut buffer).is_err());
}
