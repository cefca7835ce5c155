//! What the decisions about one packet cost: view and hash, policy, lookup, clamp.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use hawser_datapath::{ClusterPrefixes, Packet, PathSpec, PathState, Policy, Selector, mss};
use hawser_liveness::State;
use hawser_model::{ClusterId, NodeName, PrefixSet};

const CLUSTERS: u8 = 100;
const GATEWAYS: u16 = 4;

/// A hundred clusters of four gateways each, all paths up.
fn selector() -> Selector {
    let own = PrefixSet::new(["10.0.0.0/16".parse().expect("valid"), "fd00::/48".parse().expect("valid")]);
    let clusters: Vec<(ClusterId, PrefixSet)> = (1..=CLUSTERS)
        .map(|i| {
            let nets = [format!("10.{i}.0.0/16"), format!("fd00:0:{i:x}::/48")];
            let id = ClusterId::new(format!("c{i}")).expect("valid");
            (id, nets.iter().map(|n| n.parse().expect("valid")).collect())
        })
        .collect();
    let nodes: Vec<NodeName> = (0..GATEWAYS).map(|i| NodeName::new(format!("gw{i}")).expect("valid")).collect();
    let parts: Vec<_> = clusters.iter().map(|(id, prefixes)| ClusterPrefixes { id, prefixes }).collect();
    let paths: Vec<_> = (0..u16::from(CLUSTERS))
        .flat_map(|cluster| nodes.iter().map(move |gateway| PathSpec { cluster, gateway, weight: 1, preferred: &[] }))
        .collect();
    let (mut selector, _) = Selector::new(&own, &parts, &paths);
    selector.update((0..).take(paths.len()), |_| PathState { state: State::Up, ..PathState::UNKNOWN });
    selector
}

/// A TCP packet of 1,400 bytes from this cluster to cluster 57.
fn packet(v6: bool, flags: u8) -> Vec<u8> {
    let mut out = vec![0; 1400];
    let tcp = if v6 { 40 } else { 20 };
    if v6 {
        out[0] = 0x60;
        out[4..6].copy_from_slice(&1360_u16.to_be_bytes());
        out[6] = 6;
        let addr = |s: &str| s.parse::<std::net::Ipv6Addr>().expect("valid").octets();
        out[8..24].copy_from_slice(&addr("fd00::5"));
        out[24..40].copy_from_slice(&addr("fd00:0:39::9"));
    } else {
        out[0] = 0x45;
        out[2..4].copy_from_slice(&1400_u16.to_be_bytes());
        out[9] = 6;
        out[12..20].copy_from_slice(&[10, 0, 0, 5, 10, 57, 0, 9]);
    }
    out[tcp + 12] = 0x60;
    out[tcp + 13] = flags;
    out[tcp + 20..tcp + 24].copy_from_slice(&[2, 4, 0xff, 0xff]);
    out
}

fn benches(c: &mut Criterion) {
    let selector = selector();
    let mut policy = Policy::new(Arc::clone(selector.forwarding().prefixes()), []);
    for (name, v6) in [("v4", false), ("v6", true)] {
        let bytes = packet(v6, 0x10);
        let view = Packet::parse(&bytes).expect("a packet");
        let dst: IpAddr = view.dst();
        c.bench_function(&format!("parse+hash/{name}"), |b| {
            b.iter(|| Packet::parse(black_box(&bytes)).map(|p| p.flow_hash(1)));
        });
        let mut flow = 0_u64;
        c.bench_function(&format!("route/{name}"), |b| {
            b.iter(|| {
                flow = flow.wrapping_add(0x9e37_79b9_7f4a_7c15);
                selector.forwarding().route(black_box(dst), flow)
            });
        });
        let mut other = bytes.clone();
        other[if v6 { 39 } else { 19 }] ^= 1;
        let views = [view, Packet::parse(&other).expect("a packet")];
        let mut turn = 0;
        // Never the ends of the packet before, always those.
        c.bench_function(&format!("egress/{name}"), |b| {
            b.iter(|| {
                turn ^= 1;
                policy.egress(black_box(&views[turn]))
            });
        });
        c.bench_function(&format!("egress-again/{name}"), |b| b.iter(|| policy.egress(black_box(&views[0]))));
        let mut data = bytes.clone();
        c.bench_function(&format!("clamp-data/{name}"), |b| b.iter(|| mss::clamp(black_box(&mut data), 1420)));
        let syn = packet(v6, 0x02);
        let mut work = syn.clone();
        c.bench_function(&format!("clamp-syn/{name}"), |b| {
            b.iter(|| {
                work[..64].copy_from_slice(&syn[..64]);
                mss::clamp(black_box(&mut work), 1420)
            });
        });
    }
}

criterion_group!(packet_path, benches);
criterion_main!(packet_path);
