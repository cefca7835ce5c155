//! Packets and clusters for tests.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::IpAddr;

use hawser_datapath::checksum::Sum;
use hawser_datapath::{PathState, Selector};
use hawser_model::{ClusterId, Gateway, Lane, NodeName, PrefixSet, PublicKey, RemoteCluster};

/// Tells a selector how all paths stand; whether a table was filled anew.
pub(crate) fn update(selector: &mut Selector, states: &[PathState]) -> bool {
    selector.update((0..).take(states.len()), |path| states[usize::from(path)])
}

pub(crate) fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

/// An IP packet without options or extension headers.
pub(crate) fn packet(src: IpAddr, dst: IpAddr, protocol: u8, upper: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total = u16::try_from(20 + upper.len()).unwrap();
            out.extend_from_slice(&[0x45, 0]);
            out.extend_from_slice(&total.to_be_bytes());
            out.extend_from_slice(&[0, 1, 0, 0, 64, protocol, 0, 0]);
            out.extend_from_slice(&src.octets());
            out.extend_from_slice(&dst.octets());
            let sum = Sum::default().bytes(&out).finish();
            out[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            out.extend_from_slice(&[0x60, 0, 0, 0]);
            out.extend_from_slice(&u16::try_from(upper.len()).unwrap().to_be_bytes());
            out.extend_from_slice(&[protocol, 64]);
            out.extend_from_slice(&src.octets());
            out.extend_from_slice(&dst.octets());
        }
        _ => panic!("{src} and {dst} are of two families"),
    }
    out.extend_from_slice(upper);
    out
}

/// A packet with two ports, as UDP's header begins.
pub(crate) fn flow(src: IpAddr, dst: IpAddr, source: u16, destination: u16) -> Vec<u8> {
    let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    packet(src, dst, 17, &[&ports[..], &[0, 8, 0, 0]].concat())
}

/// A TCP segment with these flags and options (padded to 4 bytes), its checksum right.
pub(crate) fn tcp(src: IpAddr, dst: IpAddr, flags: u8, options: &[u8]) -> Vec<u8> {
    let mut options = options.to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    let offset = u8::try_from((20 + options.len()) / 4).unwrap() << 4;
    let mut header = vec![0x30, 0x39, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, offset, flags, 0xff, 0xff, 0, 0, 0, 0];
    header.extend_from_slice(&options);
    let sum = transport_sum(src, dst, 6, &header);
    header[16..18].copy_from_slice(&sum.to_be_bytes());
    packet(src, dst, 6, &header)
}

/// The checksum over an upper-layer packet: what to put in, or zero where it is already right.
pub(crate) fn transport_sum(src: IpAddr, dst: IpAddr, protocol: u8, upper: &[u8]) -> u16 {
    let len = u32::try_from(upper.len()).unwrap();
    Sum::default().pseudo_header(src, dst, protocol, len).bytes(upper).finish()
}

/// A gateway with `lanes` lanes, its keys made from its name.
pub(crate) fn gateway(node: &str, lanes: u16, preferred: &[&str]) -> Gateway {
    let lane = |i: u16| {
        let mut key = [0; 32];
        key[..node.len()].copy_from_slice(node.as_bytes());
        key[31] = i as u8;
        Lane { public_key: PublicKey(key), port: 51820 + i, next_public_key: None }
    };
    Gateway {
        node: NodeName::new(node).unwrap(),
        lanes: (0..lanes).map(lane).collect(),
        candidates: Vec::new(),
        preferred: preferred.iter().map(|s| s.parse().unwrap()).collect(),
        probes: true,
    }
}

pub(crate) fn prefixes(nets: &[&str]) -> PrefixSet {
    nets.iter().map(|s| s.parse().unwrap()).collect()
}

pub(crate) fn cluster(id: &str, nets: &[&str], gateways: Vec<Gateway>) -> RemoteCluster {
    RemoteCluster { id: ClusterId::new(id).unwrap(), generation: 1, prefixes: prefixes(nets), gateways }
}
