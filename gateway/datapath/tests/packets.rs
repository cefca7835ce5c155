//! Views of packets, MSS clamping and ICMP replies, on packets of both families and on garbage.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::IpAddr;

use hawser_datapath::icmp::{self, Trouble};
use hawser_datapath::{Malformed, Packet, mss};
use proptest::prelude::*;
use support::{flow, ip, packet, tcp, transport_sum};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

fn pairs() -> [(IpAddr, IpAddr); 2] {
    [(ip("10.1.0.5"), ip("10.2.0.9")), (ip("fd01::5"), ip("fd02::9"))]
}

fn mss_of(packet: &[u8]) -> Option<u16> {
    let at = packet.windows(2).position(|w| w == [2, 4])? + 2;
    Some(u16::from_be_bytes([packet[at], packet[at + 1]]))
}

/// Turns a packet into the fragment at `offset` (units of 8 bytes).
fn fragment(bytes: &[u8], offset: u16, more: bool) -> Vec<u8> {
    let flags = u16::from(more);
    if bytes[0] >> 4 == 4 {
        let mut out = bytes.to_vec();
        out[6..8].copy_from_slice(&(offset | flags << 13).to_be_bytes());
        out
    } else {
        let field = (offset << 3 | flags).to_be_bytes();
        let header = [bytes[6], 0, field[0], field[1], 0, 0, 0, 7];
        let view = Packet::parse(bytes).unwrap();
        packet(view.src(), view.dst(), 44, &[&header, &bytes[40..]].concat())
    }
}

#[test]
fn flows_are_told_apart_by_ports_and_fragments_are_not() {
    for (src, dst) in pairs() {
        let hash = |bytes: &[u8]| Packet::parse(bytes).unwrap().flow_hash(7);
        let (a, b) = (flow(src, dst, 1000, 80), flow(src, dst, 1001, 80));
        assert_ne!(hash(&a), hash(&b));
        assert_eq!(hash(&a), hash(&flow(src, dst, 1000, 80)));
        assert_ne!(hash(&a), Packet::parse(&a).unwrap().flow_hash(8), "the seed matters");
        let (first, middle, last) = (fragment(&a, 0, true), fragment(&b, 100, true), fragment(&b, 200, false));
        assert_eq!(hash(&first), hash(&middle));
        assert_eq!(hash(&first), hash(&last));
        let icmp = |kind| hash(&packet(src, dst, if src.is_ipv4() { 1 } else { 58 }, &[kind, 0, 1, 2, 3, 4, 5, 6]));
        assert_eq!(icmp(3), icmp(128), "protocols without ports go by addresses");
    }
}

#[test]
fn extension_headers_are_walked_and_bounded() {
    let (src, dst) = (ip("fd01::5"), ip("fd02::9"));
    let inner = [0x03, 0xe8, 0, 80, 0, 8, 0, 0];
    let chain = |n: usize| {
        let mut upper = Vec::new();
        for i in 0..n {
            upper.extend_from_slice(&[if i + 1 == n { 17 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
        }
        upper.extend_from_slice(&inner);
        packet(src, dst, 60, &upper)
    };
    let bytes = chain(3);
    let view = Packet::parse(&bytes).unwrap();
    assert_eq!((view.protocol(), view.ports(), view.upper_offset()), (17, Some((1000, 80)), 64));
    assert!(Packet::parse(&chain(8)).is_ok());
    assert_eq!(Packet::parse(&chain(9)).err(), Some(Malformed::Extensions));
    let cut = packet(src, dst, 60, &[17, 5, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Packet::parse(&cut).err(), Some(Malformed::Truncated), "a header that claims more than there is");
}

#[test]
fn lengths_must_agree_and_padding_is_left_out() {
    for (src, dst) in pairs() {
        let whole = flow(src, dst, 1, 2);
        for cut in 0..whole.len() {
            assert_eq!(Packet::parse(&whole[..cut]).err(), Some(Malformed::Truncated), "{cut} bytes");
        }
        let padded = [&whole[..], &[0; 30]].concat();
        assert_eq!(Packet::parse(&padded).unwrap().bytes(), whole);
    }
    let mut bad = flow(ip("10.1.0.5"), ip("10.2.0.9"), 1, 2);
    bad[0] = 0x44;
    assert_eq!(Packet::parse(&bad).err(), Some(Malformed::Length));
    bad[0] = 0x55;
    assert_eq!(Packet::parse(&bad).err(), Some(Malformed::Version));
}

#[test]
fn only_syns_that_announce_more_are_clamped() {
    for (src, dst) in pairs() {
        let limit: u16 = if src.is_ipv4() { 1380 } else { 1360 };
        for (flags, announced, expected) in [
            (SYN, 1460_u16, Some(limit)),
            (SYN | ACK, 65535, Some(limit)),
            (SYN, limit, None),
            (SYN, 1000, None),
            (ACK, 1460, None),
        ] {
            let option = [&[2, 4][..], &announced.to_be_bytes()].concat();
            let before = tcp(src, dst, flags, &option);
            let mut after = before.clone();
            assert_eq!(mss::clamp(&mut after, 1420), expected.map(|_| announced));
            assert_eq!(mss_of(&after), Some(expected.unwrap_or(announced)));
            let view = Packet::parse(&after).unwrap();
            assert_eq!(transport_sum(src, dst, 6, view.upper()), 0, "the checksum is right again");
        }
        let mut none = tcp(src, dst, SYN, &[1, 1, 4, 2]);
        assert_eq!(mss::clamp(&mut none, 1420), None, "nothing announced");
        let mut later = fragment(&tcp(src, dst, SYN, &[2, 4, 5, 180]), 8, false);
        assert_eq!(mss::clamp(&mut later, 1420), None, "a later fragment has no header");
        let mut udp = packet(src, dst, 17, &tcp(src, dst, SYN, &[2, 4, 5, 180])[40..]);
        assert_eq!(mss::clamp(&mut udp, 1420), None);
    }
}

#[test]
fn a_syn_behind_ip_options_is_clamped_too() {
    let (src, dst) = pairs()[0];
    for flags in [SYN, ACK] {
        let plain = tcp(src, dst, flags, &[2, 4, 5, 180]);
        let mut with_options = plain.clone();
        with_options.splice(20..20, [1, 1, 1, 0]);
        with_options[0] = 0x46;
        let total = with_options.len() as u16;
        with_options[2..4].copy_from_slice(&total.to_be_bytes());
        let clamped = (flags == SYN).then_some(1460);
        assert_eq!(mss::clamp(&mut with_options, 1420), clamped);
        assert_eq!(mss_of(&with_options), Some(if flags == SYN { 1380 } else { 1460 }));
    }
}

fn option() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![1]),
        Just(vec![4, 2]),
        Just(vec![3, 3, 7]),
        Just(vec![8, 10, 1, 1, 1, 1, 1, 1, 1, 1]),
        any::<u16>().prop_map(|mss| [&[2, 4][..], &mss.to_be_bytes()].concat()),
    ]
}

proptest! {
    /// Against a model that builds the clamped packet from scratch.
    #[test]
    fn clamping_is_building_the_packet_with_a_lower_mss(
        options in proptest::collection::vec(option(), 0..4), mtu in 576_u16..9000, v6: bool,
    ) {
        let (src, dst) = pairs()[usize::from(v6)];
        let limit = (mtu - if v6 { 60 } else { 40 }).max(536);
        let mut first = true;
        let wanted: Vec<u8> = options.iter().flat_map(|option| match option[..] {
            [2, 4, a, b] if std::mem::take(&mut first) => {
                [&[2, 4][..], &u16::from_be_bytes([a, b]).min(limit).to_be_bytes()].concat()
            }
            _ => option.clone(),
        }).collect();
        let mut clamped = tcp(src, dst, SYN, &options.concat());
        mss::clamp(&mut clamped, mtu);
        prop_assert_eq!(clamped, tcp(src, dst, SYN, &wanted));
    }

    #[test]
    fn garbage_is_survived(mut data in proptest::collection::vec(any::<u8>(), 0..200), version in 0_u8..3, mtu: u16) {
        if let Some(first) = data.first_mut().filter(|_| version > 0) {
            *first = if version == 1 { 0x40 | *first & 0xf } else { 0x60 };
        }
        if data.len() >= 60 {
            // Make lengths agree, so that what lies deeper is reached.
            let len = data.len() as u16;
            match version {
                1 => data[2..4].copy_from_slice(&len.to_be_bytes()),
                _ => data[4..6].copy_from_slice(&(len - 40).to_be_bytes()),
            }
        }
        let mut out = Vec::new();
        if let Ok(view) = Packet::parse(&data) {
            let _ = (view.flow_hash(1), view.ports(), view.upper(), view.dont_fragment());
            for from in [ip("10.1.0.1"), ip("fd01::1")] {
                if icmp::reply(&view, Trouble::TooBig(mtu), from, &mut out) {
                    prop_assert!(Packet::parse(&out).is_ok());
                }
            }
        }
        let before = data.len();
        mss::clamp(&mut data, mtu);
        prop_assert_eq!(data.len(), before);
    }

    #[test]
    fn an_icmp_error_is_whole_and_quotes_what_it_is_about(len in 0_usize..3000, v6: bool, kind in 0_usize..3) {
        let (src, dst) = pairs()[usize::from(v6)];
        let from = if v6 { ip("fd01::1") } else { ip("10.1.0.1") };
        let about = packet(src, dst, 17, &vec![9; len]);
        let trouble = [Trouble::Unreachable, Trouble::Prohibited, Trouble::TooBig(1400)][kind];
        let mut out = vec![1, 2, 3];
        prop_assert!(icmp::reply(&Packet::parse(&about).unwrap(), trouble, from, &mut out));
        let view = Packet::parse(&out).unwrap();
        prop_assert_eq!((view.src(), view.dst(), view.bytes().len()), (from, src, out.len()));
        let upper = view.upper();
        let (types, header, limit) = if v6 { ([(1, 0), (1, 1), (2, 0)], 40, 1280) } else { ([(3, 1), (3, 13), (3, 4)], 20, 576) };
        prop_assert_eq!((upper[0], upper[1]), types[kind]);
        prop_assert_eq!(u16::from_be_bytes([upper[6], upper[7]]), if kind == 2 { 1400 } else { 0 });
        prop_assert!(about.starts_with(&upper[8..]) && upper.len() == 8 + about.len().min(limit - header - 8));
        if v6 {
            prop_assert_eq!(transport_sum(from, src, 58, upper), 0);
        } else {
            prop_assert_eq!(hawser_datapath::checksum::Sum::default().bytes(upper).finish(), 0);
            prop_assert_eq!(hawser_datapath::checksum::Sum::default().bytes(&out[..20]).finish(), 0);
        }
    }
}

#[test]
fn nobody_is_told_of_less_than_every_ipv6_link_takes() {
    for (((src, dst), from), least) in pairs().into_iter().zip(["10.1.0.1", "fd01::1"]).zip([0, 1280]) {
        let (about, mut out) = (packet(src, dst, 17, &[9; 1400]), Vec::new());
        for mtu in [576, 1200, 1279, 1280, 1281, 1400] {
            assert!(icmp::reply(&Packet::parse(&about).unwrap(), Trouble::TooBig(mtu), ip(from), &mut out));
            let told = Packet::parse(&out).unwrap().upper()[4..8].try_into().map(u32::from_be_bytes).unwrap();
            assert_eq!(told, u32::from(mtu.max(least)), "{from}");
        }
    }
}

#[test]
fn no_icmp_error_is_sent_about_errors_fragments_and_groups() {
    let mut out = Vec::new();
    let mut replies = |bytes: &[u8], from: &str| {
        icmp::reply(&Packet::parse(bytes).unwrap(), Trouble::Unreachable, ip(from), &mut out)
    };
    for ((src, dst), (from, protocol, error, echo)) in
        pairs().into_iter().zip([("10.1.0.1", 1, 3, 8), ("fd01::1", 58, 1, 128)])
    {
        assert!(replies(&packet(src, dst, protocol, &[echo, 0, 0, 0, 0, 0, 0, 0]), from));
        assert!(!replies(&packet(src, dst, protocol, &[error, 0, 0, 0, 0, 0, 0, 0]), from));
        assert!(!replies(&packet(src, dst, protocol, &[]), from), "it might be one");
        assert!(replies(&fragment(&flow(src, dst, 1, 2), 0, true), from));
        assert!(!replies(&fragment(&flow(src, dst, 1, 2), 1, true), from));
    }
    assert!(!replies(&flow(ip("10.1.0.5"), ip("224.0.0.5"), 1, 2), "10.1.0.1"));
    assert!(!replies(&flow(ip("0.0.0.0"), ip("10.2.0.5"), 1, 2), "10.1.0.1"));
    assert!(!replies(&flow(ip("fd01::5"), ip("ff0e::5"), 1, 2), "fd01::1"));
    assert!(!replies(&flow(ip("10.1.0.5"), ip("10.2.0.5"), 1, 2), "fd01::1"), "of another family");
}
