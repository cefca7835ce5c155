//! Tunnels between network namespaces: what passes, in which families, with which numbers of lanes.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{LIMIT, Outer, Pinged, pair, ping, tcp_echo, udp_echo};
use hawser_testbed::wait_for;

fn everything_passes(lanes: [usize; 2], outer: Outer) {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, a, b) = pair(keys.path(), lanes, outer);
    for inside in [Outer::V4, Outer::V6] {
        assert_eq!(ping(&a, b.inner(inside), 56), Pinged::Reply);
        assert_eq!(ping(&b, a.inner(inside), 56), Pinged::Reply);
        for len in [0, 1, 1200, 20_000] {
            udp_echo(&a, &b, inside, len);
        }
        // Enough flows that every lane and both directions get some.
        for _ in 0..4 {
            assert_eq!(tcp_echo(&a, &b, inside, 300_000), 300_000);
            assert_eq!(tcp_echo(&b, &a, inside, 300_000), 300_000);
        }
    }
    for host in [&a, &b] {
        let report = wait_for("figures of the path", LIMIT, || {
            let report = host.tunnel().report();
            let path = &report.paths[0];
            let counted = path.traffic.rx_packets > 0 && path.traffic.tx_packets > 0;
            if counted && path.rtt.is_some() { Ok(report) } else { anyhow::bail!("{path:#?}") }
        })
        .unwrap();
        assert_eq!(report.paths[0].endpoint.unwrap().is_ipv4(), outer == Outer::V4, "{report:#?}");
        // The first handshakes may come before the other end knows of its peer.
        let unexpected: Vec<_> = report
            .drops
            .iter()
            .filter(|(reason, n)| {
                **n > 0 && !["egress_forbidden", "no_path", "no_session", "not_ours"].contains(reason)
            })
            .collect();
        assert!(unexpected.is_empty(), "{unexpected:?}");
    }
}

#[test]
fn one_lane_each() {
    everything_passes([1, 1], Outer::V4);
    everything_passes([1, 1], Outer::V6);
}

#[test]
fn two_lanes_each() {
    everything_passes([2, 2], Outer::V4);
    everything_passes([2, 2], Outer::V6);
}

#[test]
fn four_lanes_each() {
    everything_passes([4, 4], Outer::V4);
    everything_passes([4, 4], Outer::V6);
}

#[test]
fn different_numbers_of_lanes() {
    everything_passes([1, 4], Outer::V4);
    everything_passes([4, 2], Outer::V6);
    everything_passes([3, 2], Outer::V4);
}
