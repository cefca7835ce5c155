//! ICMP errors in reply to packets that cannot go on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::Sum;
use crate::packet::{ICMP, ICMPV6, Packet};

/// The longest ICMP error over IPv4 (RFC 1812, 4.3.2.3).
const MAX_V4: usize = 576;
/// What every link of IPv6 takes (RFC 8200, 5): hosts ignore word of less (RFC 8201, 4), and packets of this size always pass.
pub const MIN_MTU_V6: u16 = 1280;
/// The longest ICMP error over IPv6 (RFC 4443, 2.4 c).
const MAX_V6: usize = MIN_MTU_V6 as usize;
/// Hops that a reply may take.
const TTL: u8 = 64;

/// What is wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing leads to its destination.
    Unreachable,
    /// It may not pass.
    Prohibited,
    /// It is larger than this, bytes, and may not be fragmented. Senders over IPv6 are told 1,280 at least.
    TooBig(u16),
}

/// The ICMP error from `from` about `packet`, written over `out`. False, with `out` empty, where none may be sent: about
/// ICMP errors, later fragments, packets that were not sent to or by a single host, or where `from` is of another family.
/// The caller limits the rate ([`crate::Limiter`]).
pub fn reply(packet: &Packet<'_>, trouble: Trouble, from: IpAddr, out: &mut Vec<u8>) -> bool {
    out.clear();
    if packet.fragment().is_some_and(|offset| offset != 0) || is_error(packet) {
        return false;
    }
    match (from, packet.src(), packet.dst()) {
        (IpAddr::V4(from), IpAddr::V4(src), IpAddr::V4(dst)) if is_host_v4(src) && is_host_v4(dst) => {
            reply_v4(packet, trouble, from, src, out);
            true
        }
        (IpAddr::V6(from), IpAddr::V6(src), IpAddr::V6(dst)) if is_host_v6(src) && is_host_v6(dst) => {
            reply_v6(packet, trouble, from, src, out);
            true
        }
        _ => false,
    }
}

fn is_host_v4(addr: Ipv4Addr) -> bool {
    !(addr.is_unspecified() || addr.is_multicast() || addr.is_broadcast() || addr.is_loopback())
}

fn is_host_v6(addr: Ipv6Addr) -> bool {
    !(addr.is_unspecified() || addr.is_multicast() || addr.is_loopback())
}

/// Whether the packet is an ICMP error, or might be.
fn is_error(packet: &Packet<'_>) -> bool {
    match (packet.protocol(), packet.upper().first()) {
        // Requests and replies: echo, timestamp, information, address mask.
        (ICMP, Some(kind)) => !matches!(kind, 0 | 8 | 13..=18),
        (ICMPV6, Some(kind)) => kind & 0x80 == 0,
        (ICMP | ICMPV6, None) => true,
        _ => false,
    }
}

fn reply_v4(packet: &Packet<'_>, trouble: Trouble, from: Ipv4Addr, to: Ipv4Addr, out: &mut Vec<u8>) {
    let (code, rest) = match trouble {
        Trouble::Unreachable => (1, 0),
        Trouble::Prohibited => (13, 0),
        Trouble::TooBig(mtu) => (4, mtu),
    };
    let quoted = &packet.bytes()[..packet.bytes().len().min(MAX_V4 - 28)];
    // At most 576.
    let total = (28 + quoted.len()) as u16;
    out.extend_from_slice(&[0x45, 0xc0]);
    out.extend_from_slice(&total.to_be_bytes());
    out.extend_from_slice(&[0, 0, 0x40, 0, TTL, ICMP, 0, 0]);
    out.extend_from_slice(&from.octets());
    out.extend_from_slice(&to.octets());
    let header = Sum::default().bytes(out).finish();
    out[10..12].copy_from_slice(&header.to_be_bytes());
    out.extend_from_slice(&[3, code, 0, 0, 0, 0]);
    out.extend_from_slice(&rest.to_be_bytes());
    out.extend_from_slice(quoted);
    let sum = Sum::default().bytes(&out[20..]).finish();
    out[22..24].copy_from_slice(&sum.to_be_bytes());
}

fn reply_v6(packet: &Packet<'_>, trouble: Trouble, from: Ipv6Addr, to: Ipv6Addr, out: &mut Vec<u8>) {
    let (kind, code, rest) = match trouble {
        Trouble::Unreachable => (1, 0, 0),
        Trouble::Prohibited => (1, 1, 0),
        Trouble::TooBig(mtu) => (2, 0, u32::from(mtu.max(MIN_MTU_V6))),
    };
    let quoted = &packet.bytes()[..packet.bytes().len().min(MAX_V6 - 48)];
    // At most 1240.
    let len = (8 + quoted.len()) as u16;
    out.extend_from_slice(&[0x60, 0, 0, 0]);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&[ICMPV6, TTL]);
    out.extend_from_slice(&from.octets());
    out.extend_from_slice(&to.octets());
    out.extend_from_slice(&[kind, code, 0, 0]);
    out.extend_from_slice(&rest.to_be_bytes());
    out.extend_from_slice(quoted);
    let sum = Sum::default().pseudo_header(from.into(), to.into(), ICMPV6, u32::from(len)).bytes(&out[40..]).finish();
    out[42..44].copy_from_slice(&sum.to_be_bytes());
}
