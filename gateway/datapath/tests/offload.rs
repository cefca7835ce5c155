//! Superpackets: what is cut is what the kernel would have sent one by one, and joining it again gives the same bytes.

use std::net::IpAddr;

use hawser_datapath::checksum::Sum;
use hawser_datapath::offload::header::{Pending, Segments, VnetHeader};
use hawser_datapath::offload::{Joiner, Splitter, Transport};
use hawser_datapath::packet::Packet;
use proptest::prelude::*;

/// Header and bytes as the kernel hands a superpacket over: lengths of the whole, checksum of the pseudo-header only.
fn superpacket(transport: Transport, v6: bool, options: usize, payload: &[u8], size: u16) -> (VnetHeader, Vec<u8>) {
    let upper = if v6 { 40 } else { 20 };
    let headers = upper + if transport == Transport::Tcp { 20 + options } else { 8 };
    let total = headers + payload.len();
    let mut p = vec![0; headers];
    let (src, dst): (IpAddr, IpAddr) = if v6 {
        p[0] = 0x60;
        p[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
        p[6..8].copy_from_slice(&[transport.protocol(), 64]);
        p[8..24].copy_from_slice(&[0xfd; 16]);
        p[24..40].copy_from_slice(&[0xfc; 16]);
        ([0xfd; 16].into(), [0xfc; 16].into())
    } else {
        p[..10].copy_from_slice(&[
            0x45,
            0,
            (total >> 8) as u8,
            total as u8,
            0xff,
            0xfe,
            0,
            0,
            64,
            transport.protocol(),
        ]);
        p[12..20].copy_from_slice(&[10, 1, 0, 1, 10, 2, 0, 2]);
        ([10, 1, 0, 1].into(), [10, 2, 0, 2].into())
    };
    let len = (total - upper) as u16;
    p[upper..upper + 4].copy_from_slice(&[0x1f, 0x90, 0x23, 0x28]);
    match transport {
        Transport::Tcp => {
            p[upper + 4..upper + 8].copy_from_slice(&0xffff_ff00_u32.to_be_bytes());
            p[upper + 8..upper + 16].copy_from_slice(&[1, 2, 3, 4, ((20 + options) * 4) as u8, 0x18, 0, 99]);
        }
        Transport::Udp => p[upper + 4..upper + 6].copy_from_slice(&len.to_be_bytes()),
    }
    let pseudo = !Sum::default().pseudo_header(src, dst, transport.protocol(), u32::from(len)).finish();
    let at = upper + transport.checksum_offset();
    p[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    p.extend_from_slice(payload);
    let checksum = Some(Pending { start: upper as u16, offset: transport.checksum_offset() as u16 });
    let segments = Some(Segments { transport, v6, size });
    (VnetHeader { checksum, segments, headers: headers as u16 }, p)
}

fn split(header: &VnetHeader, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let mut splitter = Splitter::start(header, &mut bytes).expect("a superpacket");
    let expected = splitter.remaining();
    let mut packets = Vec::new();
    while let Some(range) = splitter.next(&mut bytes) {
        packets.push(bytes[range].to_vec());
        assert_eq!(splitter.remaining(), expected - packets.len());
    }
    packets
}

/// What is written for these packets, each as header and bytes.
fn join(packets: &[Vec<u8>], udp: bool) -> Vec<(VnetHeader, Vec<u8>)> {
    let (mut buffer, mut joiner, mut writes) = (Vec::new(), Joiner::new(packets.len(), udp), Vec::new());
    for packet in packets {
        let at = buffer.len();
        buffer.extend_from_slice(packet);
        joiner.push(&buffer, at..buffer.len());
    }
    assert_eq!(joiner.len(), packets.len());
    joiner.drain(&mut buffer, |buffer, header, first, payloads| {
        let parts = std::iter::once(&first).chain(payloads).map(|range| &buffer[range.clone()]);
        writes.push((*header, parts.collect::<Vec<_>>().concat()));
    });
    assert!(joiner.is_empty());
    writes
}

/// Length fields, header checksum and transport checksum.
fn assert_whole(packet: &[u8]) {
    let parsed = Packet::parse(packet).expect("an IP packet");
    assert_eq!(parsed.bytes().len(), packet.len());
    if packet[0] >> 4 == 4 {
        assert_eq!(Sum::default().bytes(&packet[..20]).finish(), 0, "header checksum");
    }
    let len = parsed.upper().len() as u32;
    let pseudo = Sum::default().pseudo_header(parsed.src(), parsed.dst(), parsed.protocol(), len);
    assert_eq!(pseudo.bytes(parsed.upper()).finish(), 0, "transport checksum");
}

fn any_transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)]
}

proptest! {
    #[test]
    fn what_is_cut_is_whole_and_joins_to_the_same_bytes(
        transport in any_transport(), v6: bool, options in 0..=10_usize, size in 1..1500_u16, count in 1..64_usize,
        last in any::<prop::sample::Index>(),
    ) {
        let len = usize::from(size) * (count - 1) + 1 + last.index(usize::from(size));
        let payload: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
        prop_assume!(len < 65_000);
        let (header, bytes) = superpacket(transport, v6, options * 4, &payload, size);
        let packets = split(&header, &bytes);
        prop_assert_eq!(packets.len(), count);
        for packet in &packets {
            assert_whole(packet);
        }
        let carried: Vec<u8> = packets.iter().flat_map(|p| p[usize::from(header.headers)..].to_vec()).collect();
        prop_assert_eq!(carried, payload);
        let writes = join(&packets, true);
        prop_assert_eq!(writes.len(), 1);
        if count > 1 {
            // IPv4's header checksum is not kept by the kernel either.
            let mut expected = bytes;
            if !v6 {
                let sum = Sum::default().bytes(&expected[..20]).finish();
                expected[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            prop_assert_eq!(&writes[0], &(header, expected));
        } else {
            prop_assert_eq!(&writes[0], &(VnetHeader::default(), packets[0].clone()));
        }
    }

    #[test]
    fn nothing_makes_the_splitter_panic(head: [u8; 10], mut bytes in prop::collection::vec(any::<u8>(), 0..200), v: bool) {
        if let Some(first) = bytes.first_mut() {
            *first = if v { 0x45 } else { 0x60 };
        }
        if let Ok(header) = VnetHeader::decode(&head)
            && let Ok(mut splitter) = Splitter::start(&header, &mut bytes)
        {
            while splitter.next(&mut bytes).is_some() {}
        }
    }

    #[test]
    fn what_can_not_be_joined_comes_out_as_it_is(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..20), heads in prop::collection::vec(0..4_u8, 20),
    ) {
        let packets: Vec<Vec<u8>> = packets.into_iter().zip(heads).map(|(mut p, kind)| {
            for (byte, value) in p.iter_mut().zip([0x45, 0, 0, 60]) {
                *byte = if kind == 0 { *byte } else { value };
            }
            p
        }).collect();
        // Random checksums hold about never: nothing is joined, and nothing is lost.
        let written: Vec<Vec<u8>> = join(&packets, true).into_iter().map(|(_, bytes)| bytes).collect();
        prop_assert_eq!(written, packets);
    }
}

#[test]
fn only_the_last_packet_is_pushed_and_sequence_numbers_wrap() {
    let (header, bytes) = superpacket(Transport::Tcp, false, 12, &[7; 3000], 1000);
    let packets = split(&header, &bytes);
    let flags: Vec<u8> = packets.iter().map(|p| p[33]).collect();
    assert_eq!(flags, [0x10, 0x10, 0x18]);
    let sequence = |p: &Vec<u8>| u32::from_be_bytes([p[24], p[25], p[26], p[27]]);
    assert_eq!(packets.iter().map(sequence).collect::<Vec<_>>(), [0xffff_ff00, 744, 1744]);
    let ids: Vec<[u8; 2]> = packets.iter().map(|p| [p[4], p[5]]).collect();
    assert_eq!(ids, [[0xff, 0xfe], [0xff, 0xff], [0, 0]]);
}

#[test]
fn a_pending_checksum_of_one_packet_is_completed() {
    for transport in [Transport::Tcp, Transport::Udp] {
        for v6 in [false, true] {
            let (mut header, bytes) = superpacket(transport, v6, 0, &[9; 333], 1000);
            header.segments = None;
            let packets = split(&header, &bytes);
            assert_eq!(packets.len(), 1);
            let mut whole = packets[0].clone();
            if !v6 {
                let sum = Sum::default().bytes(&whole[..20]).finish();
                whole[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            assert_whole(&whole);
        }
    }
}

/// A superpacket that is routed by way of the address in its header: to `last`, which its routing header or option names.
fn routed(transport: Transport, v6: bool) -> (VnetHeader, Vec<u8>, IpAddr) {
    let (mut header, mut bytes) = superpacket(transport, v6, 0, &[3; 2500], 1000);
    let upper = if v6 { 40 } else { 20 };
    let (routing, first, last): (Vec<u8>, IpAddr, IpAddr) = if v6 {
        // Type 2 (RFC 6275, 6.4), one segment left.
        let head = [transport.protocol(), 2, 2, 1, 0, 0, 0, 0];
        ([&head[..], &[0xfb; 16]].concat(), [0xfc; 16].into(), [0xfb; 16].into())
    } else {
        // Loose source route (RFC 791, 3.1), one address left, and the end of options.
        (vec![131, 7, 4, 10, 3, 0, 3, 0], [10, 2, 0, 2].into(), [10, 3, 0, 3].into())
    };
    let total = (bytes.len() + routing.len()) as u16;
    if v6 {
        bytes[4..6].copy_from_slice(&(total - 40).to_be_bytes());
        bytes[6] = 43;
    } else {
        bytes[0] = 0x47;
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
    }
    let len = (bytes.len() - upper) as u32;
    let src: IpAddr = if v6 { [0xfd; 16].into() } else { [10, 1, 0, 1].into() };
    let at = upper + transport.checksum_offset();
    let pseudo = |dst| !Sum::default().pseudo_header(src, dst, transport.protocol(), len).finish();
    assert_eq!(bytes[at..at + 2], pseudo(first).to_be_bytes());
    bytes[at..at + 2].copy_from_slice(&pseudo(last).to_be_bytes());
    bytes.splice(upper..upper, routing.iter().copied());
    let grown = routing.len() as u16;
    header.headers += grown;
    header.checksum = header.checksum.map(|pending| Pending { start: pending.start + grown, ..pending });
    (header, bytes, last)
}

#[test]
fn what_is_routed_by_way_of_others_has_the_checksums_of_its_last_destination() {
    for transport in [Transport::Tcp, Transport::Udp] {
        for v6 in [false, true] {
            let (header, bytes, last) = routed(transport, v6);
            let packets = split(&header, &bytes);
            assert_eq!(packets.len(), 3);
            for packet in &packets {
                let parsed = Packet::parse(packet).expect("an IP packet");
                assert_ne!(parsed.dst(), last);
                let len = parsed.upper().len() as u32;
                let sum = Sum::default().pseudo_header(parsed.src(), last, transport.protocol(), len);
                assert_eq!(sum.bytes(parsed.upper()).finish(), 0, "{transport:?}, IPv6: {v6}");
            }
        }
    }
}

#[test]
fn a_superpacket_without_a_pending_checksum_is_summed_by_its_addresses() {
    for v6 in [false, true] {
        let (mut header, mut bytes) = superpacket(Transport::Tcp, v6, 0, &[3; 2500], 1000);
        header.checksum = None;
        let at = if v6 { 56 } else { 36 };
        bytes[at..at + 2].fill(0xab);
        split(&header, &bytes).iter().for_each(|packet| assert_whole(packet));
    }
}

/// Every change of one byte of the second packet that the sender's kernel could not have made ends the superpacket.
#[test]
fn packets_that_differ_are_not_joined() {
    for v6 in [false, true] {
        let (header, bytes) = superpacket(Transport::Tcp, v6, 12, &[7; 2000], 1000);
        let packets = split(&header, &bytes);
        assert_eq!(join(&packets, true).len(), 1);
        for at in 0..packets[1].len() {
            let mut changed = packets.clone();
            changed[1][at] ^= 0x40;
            let writes = join(&changed, true);
            assert_eq!(writes.len(), 2, "byte {at} changed, IPv6: {v6}");
            assert_eq!(writes.iter().map(|(_, b)| b.clone()).collect::<Vec<_>>(), changed, "byte {at}");
        }
        let mut wrong = packets.clone();
        *wrong[0].last_mut().unwrap() ^= 1;
        assert_eq!(join(&wrong, true).len(), 2, "the first packet's checksum is wrong");
    }
}

#[test]
fn datagrams_are_joined_only_where_the_device_takes_them() {
    let (header, bytes) = superpacket(Transport::Udp, false, 0, &[1; 2500], 1000);
    let packets = split(&header, &bytes);
    assert_eq!(join(&packets, true).len(), 1);
    assert_eq!(join(&packets, false).len(), 3);
    let mut without = packets;
    without.iter_mut().for_each(|p| p[26..28].fill(0));
    assert_eq!(join(&without, true).len(), 3, "without a checksum nothing says that they are right");
}

#[test]
fn a_short_packet_is_the_last_of_its_superpacket() {
    let (header, bytes) = superpacket(Transport::Udp, false, 0, &[1; 2500], 1000);
    let mut packets = split(&header, &bytes);
    let again = packets.clone();
    packets.extend(again);
    let writes = join(&packets, true);
    assert_eq!(writes.len(), 2, "{writes:?}");
}
