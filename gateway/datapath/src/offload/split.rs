//! A superpacket into its packets, in place: each packet's headers are written over the end of the one before, which must be
//! done with by then.

use std::ops::Range;

use super::Transport;
use super::header::{Pending, VnetHeader};
use crate::checksum::Sum;
use crate::packet::{Malformed, Packet};

/// Longest headers of a superpacket; more than IPv6 with extensions and TCP with all its options.
const HEADERS_MAX: usize = 256;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Cuts what one read of the device gave. It gives positions, and never holds the bytes.
#[derive(Debug, Clone)]
pub struct Splitter {
    /// Where the next packet's payload begins; beyond `end` when there is none.
    at: usize,
    end: usize,
    size: usize,
    index: u32,
    /// None where the bytes are one packet as they are.
    cut: Option<Cut>,
}

/// What all packets of a superpacket share.
#[derive(Debug, Clone)]
struct Cut {
    transport: Transport,
    headers: [u8; HEADERS_MAX],
    len: usize,
    /// Where the transport's header begins.
    upper: usize,
    /// The pseudo-header, without the length.
    pseudo: Sum,
}

impl Splitter {
    /// Nothing to give.
    #[must_use]
    pub fn empty() -> Self {
        Self { at: 1, end: 0, size: 0, index: 0, cut: None }
    }

    /// Takes `bytes` on, which follow `header`. A checksum that is pending is made complete.
    ///
    /// # Errors
    /// Where they contradict each other.
    pub fn start(header: &VnetHeader, bytes: &mut [u8]) -> Result<Self, Malformed> {
        let Some(segments) = header.segments else {
            if let Some(pending) = header.checksum {
                complete(bytes, pending)?;
            }
            return Ok(Self { at: 0, end: bytes.len(), size: bytes.len().max(1), index: 0, cut: None });
        };
        let cut = Cut::new(bytes, segments.transport, header.checksum)?;
        if segments.size == 0 || cut.len >= bytes.len() {
            return Err(Malformed::Offload);
        }
        Ok(Self { at: cut.len, end: bytes.len(), size: usize::from(segments.size), index: 0, cut: Some(cut) })
    }

    /// How many packets are still to come.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.end.saturating_sub(self.at).div_ceil(self.size.max(1))
    }

    /// Makes the next packet whole and tells where in `bytes` it is; those before are overwritten.
    #[inline]
    pub fn next(&mut self, bytes: &mut [u8]) -> Option<Range<usize>> {
        if self.at >= self.end {
            return None;
        }
        let payload = self.at..(self.at + self.size).min(self.end);
        self.at = payload.end;
        let Some(cut) = &self.cut else { return Some(payload) };
        let range = payload.start - cut.len..payload.end;
        let last = payload.end == self.end;
        cut.finish(&mut bytes[range.clone()], self.index, self.size, last);
        self.index += 1;
        Some(range)
    }
}

impl Cut {
    fn new(bytes: &[u8], transport: Transport, pending: Option<Pending>) -> Result<Self, Malformed> {
        let packet = Packet::parse(bytes)?;
        let upper = packet.upper_offset();
        let len = upper
            + match transport {
                Transport::Tcp => usize::from(packet.upper().get(12).ok_or(Malformed::Truncated)? >> 4) * 4,
                Transport::Udp => 8,
            };
        let least = match transport {
            Transport::Tcp => 20,
            Transport::Udp => 8,
        };
        let whole = packet.bytes().len() == bytes.len() && packet.fragment().is_none();
        if packet.protocol() != transport.protocol() || !whole || len < upper + least || len > HEADERS_MAX {
            return Err(Malformed::Offload);
        }
        let mut headers = [0; HEADERS_MAX];
        headers[..len].copy_from_slice(bytes.get(..len).ok_or(Malformed::Truncated)?);
        let pseudo = pseudo(&packet, transport, pending);
        let sum = upper + transport.checksum_offset();
        headers[sum..sum + 2].fill(0);
        if packet.src().is_ipv4() {
            headers[10..12].fill(0);
        }
        Ok(Self { transport, headers, len, upper, pseudo })
    }

    /// Writes the headers of packet `index` in front of its payload.
    #[inline]
    fn finish(&self, packet: &mut [u8], index: u32, size: usize, last: bool) {
        let total = packet.len();
        packet[..self.len].copy_from_slice(&self.headers[..self.len]);
        // A superpacket has at most 65,535 bytes.
        if packet[0] >> 4 == 4 {
            put(packet, 2, total as u16);
            let id = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(index as u16);
            put(packet, 4, id);
            let header = usize::from(packet[0] & 0xf) * 4;
            let sum = Sum::default().bytes(&packet[..header]).finish();
            put(packet, 10, sum);
        } else {
            put(packet, 4, (total - 40) as u16);
        }
        let upper = &mut packet[self.upper..];
        let len = upper.len() as u16;
        match self.transport {
            Transport::Tcp => {
                let first = u32::from_be_bytes([upper[4], upper[5], upper[6], upper[7]]);
                let sequence = first.wrapping_add(index.wrapping_mul(size as u32));
                upper[4..8].copy_from_slice(&sequence.to_be_bytes());
                if !last {
                    upper[13] &= !(FIN | PSH);
                }
                if index > 0 {
                    upper[13] &= !CWR;
                }
            }
            Transport::Udp => put(upper, 4, len),
        }
        let sum = self.pseudo.bytes(&len.to_be_bytes()).bytes(upper).finish();
        put(upper, self.transport.checksum_offset(), non_zero(self.transport, sum));
    }
}

/// The sum of a superpacket's pseudo-header, without the length. The kernel has left it in the checksum field, length included:
/// where a packet is routed by way of others, the final destination is in no place that all kinds of routing share (RFC 8200,
/// 8.1).
fn pseudo(packet: &Packet<'_>, transport: Transport, pending: Option<Pending>) -> Sum {
    let (upper, at) = (packet.upper(), transport.checksum_offset());
    let left = pending.filter(|p| (usize::from(p.start), usize::from(p.offset)) == (packet.upper_offset(), at));
    match left.and_then(|_| upper.get(at..at + 2)) {
        // At most 65,535 bytes; in ones' complement, the inverse is taken away.
        Some(sum) => Sum::default().bytes(sum).bytes(&(!(upper.len() as u16)).to_be_bytes()),
        None => Sum::default().pseudo_header(packet.src(), packet.dst(), transport.protocol(), 0),
    }
}

/// UDP says zero where there is no checksum; all ones mean the same sum (RFC 768).
fn non_zero(transport: Transport, sum: u16) -> u16 {
    if transport == Transport::Udp && sum == 0 { 0xffff } else { sum }
}

/// Completes the one checksum of a packet.
fn complete(bytes: &mut [u8], pending: Pending) -> Result<(), Malformed> {
    let upper = bytes.get_mut(usize::from(pending.start)..).ok_or(Malformed::Offload)?;
    let at = usize::from(pending.offset);
    if upper.len() < at + 2 {
        return Err(Malformed::Offload);
    }
    let sum = Sum::default().bytes(upper).finish();
    // Zero means "none" in UDP; in all others all ones are as good.
    put(upper, at, if sum == 0 { 0xffff } else { sum });
    Ok(())
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
