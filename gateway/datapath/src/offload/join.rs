//! Packets that follow each other into superpackets. Only what the kernel's own receive offload would join is joined: one
//! flow, nothing but sequence number, push flag and checksum differing, every checksum right.

use std::ops::Range;

use super::Transport;
use super::header::{Pending, Segments, VnetHeader};
use crate::checksum::Sum;
use crate::packet::{TCP, UDP};

/// Most packets of one superpacket: what every kernel takes of UDP, and what fills an IP packet of usual segments.
pub const PACKETS_MAX: usize = 64;
/// Most bytes of one superpacket.
const BYTES_MAX: usize = 65_535;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// Where packets lie in the buffer that they were opened into, and which of them belong together.
#[derive(Debug, Default)]
pub struct Joiner {
    chains: Vec<Chain>,
    /// Payloads of all packets but the first of each chain, in order.
    payloads: Vec<Range<usize>>,
    udp: bool,
}

/// One write: the first packet, and the payloads that go on.
#[derive(Debug, Clone)]
struct Chain {
    first: Range<usize>,
    payloads: Range<usize>,
    /// None where it can't grow by any packet.
    shape: Option<Shape>,
}

/// What the packets of a chain share.
#[derive(Debug, Clone, Copy)]
struct Shape {
    transport: Transport,
    /// Where the transport's header begins.
    upper: usize,
    /// Where the payload begins.
    headers: usize,
    /// Payload of each packet but the last.
    size: usize,
    /// Payload of all.
    total: usize,
    packets: usize,
    /// A short packet or a push is the last one.
    closed: bool,
    /// The push flag of the last one.
    push: u8,
    /// Whether the first packet's checksum was looked at.
    checked: bool,
}

impl Joiner {
    /// For at most `packets` at a time; `udp` where the device takes superpackets of UDP.
    #[must_use]
    pub fn new(packets: usize, udp: bool) -> Self {
        Self { chains: Vec::with_capacity(packets), payloads: Vec::with_capacity(packets), udp }
    }

    /// Packets that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chains.len() + self.payloads.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Takes the packet at `range` of `buffer` in.
    #[inline]
    pub fn push(&mut self, buffer: &[u8], range: Range<usize>) {
        let packet = &buffer[range.clone()];
        let shape = Shape::of(packet).filter(|shape| self.udp || shape.transport == Transport::Tcp);
        if let (Some(own), Some(chain)) = (&shape, self.chains.last_mut())
            && chain.grow(buffer, packet, own)
        {
            self.payloads.push(range.start + own.headers..range.end);
            chain.payloads.end = self.payloads.len();
            return;
        }
        let none = self.payloads.len()..self.payloads.len();
        self.chains.push(Chain { first: range, payloads: none, shape });
    }

    /// Gives every superpacket to `write` as header, first packet and payloads, and forgets them. Headers in `buffer` are
    /// made those of the superpackets; what is before a first packet is `write`'s to use.
    pub fn drain(
        &mut self,
        buffer: &mut [u8],
        mut write: impl FnMut(&mut [u8], &VnetHeader, Range<usize>, &[Range<usize>]),
    ) {
        for chain in &self.chains {
            let payloads = &self.payloads[chain.payloads.clone()];
            let header = match &chain.shape {
                Some(shape) if !payloads.is_empty() => shape.finish(&mut buffer[chain.first.clone()]),
                _ => VnetHeader::default(),
            };
            write(buffer, &header, chain.first.clone(), payloads);
        }
        self.chains.clear();
        self.payloads.clear();
    }
}

impl Chain {
    /// Whether `packet` goes on where this one ends; it is counted in then.
    #[inline]
    fn grow(&mut self, buffer: &[u8], packet: &[u8], own: &Shape) -> bool {
        let Some(shape) = &mut self.shape else { return false };
        let first = &buffer[self.first.clone()];
        if shape.closed
            || own.size > shape.size
            || shape.packets == PACKETS_MAX
            || shape.headers + shape.total + own.size > BYTES_MAX
            || !shape.goes_on(first, packet, own)
        {
            return false;
        }
        if !shape.checked {
            shape.checked = shape.checksum_holds(first);
            shape.closed = !shape.checked;
        }
        if shape.closed || !own.checksum_holds(packet) {
            return false;
        }
        shape.closed = own.closed || own.size < shape.size;
        shape.push = own.push;
        shape.total += own.size;
        shape.packets += 1;
        true
    }
}

impl Shape {
    /// Of a packet that may begin or go on with a superpacket.
    #[inline]
    fn of(packet: &[u8]) -> Option<Self> {
        let (protocol, upper, len) = match packet.first()? {
            // No options, no fragment.
            0x45 if packet.len() >= 28 && [packet[6] & 0x3f, packet[7]] == [0, 0] => {
                if Sum::default().bytes(&packet[..20]).finish() != 0 {
                    return None;
                }
                (packet[9], 20, be(packet, 2))
            }
            first if first >> 4 == 6 && packet.len() >= 48 => (packet[6], 40, 40 + be(packet, 4)),
            _ => return None,
        };
        if len != packet.len() {
            return None;
        }
        let (transport, headers, push) = match protocol {
            TCP => {
                let header = usize::from(packet.get(upper + 12)? >> 4) * 4;
                let flags = packet.get(upper + 13)?;
                if flags & !PSH != ACK || header < 20 {
                    return None;
                }
                (Transport::Tcp, upper + header, flags & PSH)
            }
            UDP if be(packet, upper + 4) == len - upper && be(packet, upper + 6) != 0 => (Transport::Udp, upper + 8, 0),
            _ => return None,
        };
        let size = len.checked_sub(headers).filter(|size| *size > 0)?;
        Some(Self { transport, upper, headers, size, total: size, packets: 1, closed: push != 0, push, checked: false })
    }

    /// Whether everything but length, sequence, push flag and checksum is as in the first packet, and the sequence follows.
    #[inline]
    fn goes_on(&self, first: &[u8], next: &[u8], own: &Self) -> bool {
        if (own.upper, own.headers, own.transport) != (self.upper, self.headers, self.transport) {
            return false;
        }
        let same = |range: Range<usize>| first[range.clone()] == next[range];
        let network = match self.upper {
            // Who may be fragmented has numbers that count.
            20 if first[6] & 0x40 == 0 && be(next, 4) != (be(first, 4) + self.packets) & 0xffff => false,
            20 => same(0..2) && same(6..10) && same(12..20),
            _ => same(0..4) && same(6..40),
        };
        let upper = self.upper;
        network
            && same(upper..upper + 4)
            && match self.transport {
                Transport::Udp => true,
                Transport::Tcp => {
                    let sequence =
                        |p: &[u8]| u32::from_be_bytes([p[upper + 4], p[upper + 5], p[upper + 6], p[upper + 7]]);
                    // At most 65,535 bytes.
                    sequence(next) == sequence(first).wrapping_add(self.total as u32)
                        && same(upper + 8..upper + 13)
                        && same(upper + 14..upper + 16)
                        && same(upper + 18..self.headers)
                }
            }
    }

    #[inline]
    fn checksum_holds(&self, packet: &[u8]) -> bool {
        self.pseudo(packet, packet.len() - self.upper).bytes(&packet[self.upper..]).finish() == 0
    }

    /// The pseudo-header of `len` bytes from the transport's header on.
    #[inline]
    fn pseudo(&self, packet: &[u8], len: usize) -> Sum {
        let addresses = if self.upper == 20 { 12..20 } else { 8..40 };
        // At most 65,535 bytes.
        Sum::default()
            .bytes(&packet[addresses])
            .bytes(&[0, self.transport.protocol()])
            .bytes(&(len as u16).to_be_bytes())
    }

    /// Makes the first packet's headers those of all, and tells the kernel how to cut them.
    fn finish(&self, first: &mut [u8]) -> VnetHeader {
        let total = self.headers + self.total;
        // At most 65,535 bytes.
        let upper_len = total - self.upper;
        if self.upper == 20 {
            put(first, 2, total as u16);
            put(first, 10, 0);
            let sum = Sum::default().bytes(&first[..20]).finish();
            put(first, 10, sum);
        } else {
            put(first, 4, (total - 40) as u16);
        }
        let upper = self.upper;
        match self.transport {
            Transport::Tcp => first[upper + 13] |= self.push,
            Transport::Udp => put(first, upper + 4, upper_len as u16),
        }
        let pseudo = !self.pseudo(first, upper_len).finish();
        put(first, upper + self.transport.checksum_offset(), pseudo);
        VnetHeader {
            checksum: Some(Pending { start: upper as u16, offset: self.transport.checksum_offset() as u16 }),
            segments: Some(Segments { transport: self.transport, v6: upper == 40, size: self.size as u16 }),
            headers: self.headers as u16,
        }
    }
}

fn be(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
