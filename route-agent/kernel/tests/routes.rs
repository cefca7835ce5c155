//! Device, neighbours, routes and rules on real kernels: nodes as network namespaces.

mod common;

use common::{cluster, ping, remote};
use hawser_route_plan::Desired;

#[test]
fn one_pass_connects_the_nodes_and_a_second_changes_nothing() {
    let cluster = cluster(3, 1);
    cluster.converge();
    for (i, host) in cluster.hosts.iter().enumerate() {
        assert_eq!(host.pass(cluster.desired(i)), [""; 0], "{}", host.name);
        host.restart();
        assert_eq!(host.pass(cluster.desired(i)), [""; 0], "{} restarted", host.name);
    }
    let [_, second, third] = &cluster.hosts[..] else { panic!("three hosts") };
    for family in ["4", "6:"] {
        ping(&second.pod, &third.pod, &third.address(family, 10), &second.address(family, 10));
        ping(&second.pod, &third.ns, &third.address(family, 1), &second.address(family, 10));
        ping(&second.ns, &third.pod, &third.address(family, 10), &second.address(family, 1));
    }
}

#[test]
fn pods_of_any_node_reach_the_remote_cluster_and_keep_their_address() {
    let cluster = cluster(3, 2);
    let far = remote(&[&cluster.hosts[0], &cluster.hosts[1]]);
    cluster.converge();
    for host in &cluster.hosts {
        for to in ["10.2.5.10", "fd10:2:5::10"] {
            ping(&host.pod, &far.ns, to, &host.address(to, 10));
            ping(&host.ns, &far.ns, to, &host.address(to, 1));
            ping(&far.ns, &host.pod, &host.address(to, 10), to);
            ping(&far.ns, &host.ns, &host.address(to, 1), to);
        }
    }
}

#[test]
fn leaving_removes_everything_of_ours_and_nothing_else() {
    let cluster = cluster(2, 1);
    let host = &cluster.hosts[0];
    host.ns.ip("route add 203.0.113.0/24 dev lan0").unwrap();
    let state = || {
        let shown = ["-br link", "-br addr", "route show table all", "-6 route show table all", "rule", "-6 rule"];
        let shown = shown.map(|what| host.ns.ip(what).unwrap()).join("\n") + &host.nft();
        shown
            .replace("UNKNOWN", "UP")
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    let before = state();
    host.pass(cluster.desired(0));
    assert_ne!(state(), before);
    assert_ne!(host.pass(Desired::default()), [""; 0]);
    assert_eq!(state(), before);
    assert_eq!(host.pass(Desired::default()), [""; 0]);
}
