//! Clamping the maximum segment size that TCP SYNs announce, so that segments fit the path.

use crate::checksum;
use crate::packet::{Packet, TCP};

const SYN: u8 = 0x02;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
/// The least that is ever written: what IPv6's minimum MTU leaves, and more than any stack refuses.
const MIN_MSS: u16 = 536;

/// Lowers the MSS that a SYN announces to what packets of `mtu` bytes carry. Returns what it announced before, if that was
/// more. The TCP checksum must be complete (no offload pending); it is updated.
pub fn clamp(bytes: &mut [u8], mtu: u16) -> Option<u16> {
    // Most packets are no SYNs: look at as little as possible.
    let (Found { tcp, value: field }, limit) = find(bytes, mtu)?;
    let old = u16::from_be_bytes([bytes[field], bytes[field + 1]]);
    if old <= limit {
        return None;
    }
    let sum = u16::from_be_bytes([bytes[tcp + 16], bytes[tcp + 17]]);
    let updated = checksum::update(sum, old, limit, (field - tcp) % 2 == 1);
    bytes[field..field + 2].copy_from_slice(&limit.to_be_bytes());
    bytes[tcp + 16..tcp + 18].copy_from_slice(&updated.to_be_bytes());
    Some(old)
}

/// Where a SYN's TCP header and MSS value are.
struct Found {
    tcp: usize,
    value: usize,
}

fn find(bytes: &[u8], mtu: u16) -> Option<(Found, u16)> {
    // Without options and extension headers, the flags are where they always are.
    let other = match bytes.first()? >> 4 {
        4 => *bytes.get(9)? != TCP || (bytes[0] == 0x45 && bytes.get(33)? & SYN == 0),
        6 => match *bytes.get(6)? {
            TCP => bytes.get(53)? & SYN == 0,
            next => !matches!(next, 0 | 43 | 44 | 60),
        },
        _ => true,
    };
    if other {
        return None;
    }
    let packet = Packet::parse(bytes).ok()?;
    if packet.protocol() != TCP || packet.fragment().is_some_and(|offset| offset != 0) {
        return None;
    }
    let tcp = packet.upper();
    let header_len = usize::from(tcp.get(12)? >> 4) * 4;
    if tcp.get(13)? & SYN == 0 || header_len < 20 {
        return None;
    }
    let value = packet.upper_offset() + mss_option(tcp.get(..header_len)?)?;
    let headers = if packet.src().is_ipv4() { 40 } else { 60 };
    let limit = mtu.saturating_sub(headers).max(MIN_MSS);
    Some((Found { tcp: packet.upper_offset(), value }, limit))
}

/// The offset of the MSS value in a TCP header.
fn mss_option(header: &[u8]) -> Option<usize> {
    let mut at = 20;
    loop {
        match *header.get(at)? {
            OPTION_END => return None,
            OPTION_NOP => at += 1,
            kind => {
                let len = usize::from(*header.get(at + 1)?);
                if len < 2 || at + len > header.len() {
                    return None;
                }
                if kind == OPTION_MSS {
                    return (len == 4).then_some(at + 2);
                }
                at += len;
            }
        }
    }
}
