//! Zero-copy views of IPv4 and IPv6 packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::hash;

/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;
/// ICMP's protocol number.
pub const ICMP: u8 = 1;
/// ICMPv6's protocol number.
pub const ICMPV6: u8 = 58;

/// Extension headers that are walked before a packet counts as malformed.
const MAX_EXTENSIONS: usize = 8;
/// Protocols whose first four bytes are two ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [TCP, UDP, 33, 132, 136];

/// Why bytes are not an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes than its headers say.
    #[error("truncated")]
    Truncated,
    /// Neither IPv4 nor IPv6.
    #[error("neither IPv4 nor IPv6")]
    Version,
    /// A length field contradicts another.
    #[error("a length field contradicts another")]
    Length,
    /// More extension headers than anyone needs.
    #[error("too many extension headers")]
    Extensions,
    /// What the kernel says about offloads contradicts the packet.
    #[error("the offload header contradicts the packet")]
    Offload,
}

/// A view of one packet.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    bytes: &'a [u8],
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    upper: usize,
    fragment: Option<u16>,
}

impl<'a> Packet<'a> {
    /// Reads the headers. Bytes after the packet's own length (padding) are left out of the view.
    ///
    /// # Errors
    /// Where the bytes are not a whole IP packet.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes.first().ok_or(Malformed::Truncated)? >> 4 {
            4 => Self::parse_v4(bytes),
            6 => Self::parse_v6(bytes),
            _ => Err(Malformed::Version),
        }
    }

    fn parse_v4(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let header: &[u8; 20] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        let header_len = usize::from(header[0] & 0xf) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_len < 20 || total < header_len {
            return Err(Malformed::Length);
        }
        let bytes = bytes.get(..total).ok_or(Malformed::Truncated)?;
        let flags = u16::from_be_bytes([header[6], header[7]]);
        let (more, offset) = (flags & 0x2000 != 0, flags & 0x1fff);
        Ok(Self {
            bytes,
            src: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
            dst: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
            protocol: header[9],
            upper: header_len,
            fragment: (more || offset != 0).then_some(offset),
        })
    }

    fn parse_v6(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let header: &[u8; 40] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        let total = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        let bytes = bytes.get(..total).ok_or(Malformed::Truncated)?;
        let (mut protocol, mut upper, mut fragment) = (header[6], 40, None);
        for extension in 0.. {
            let len = match protocol {
                // Hop-by-hop, routing, destination options.
                0 | 43 | 60 => 8 + 8 * usize::from(*bytes.get(upper + 1).ok_or(Malformed::Truncated)?),
                44 => 8,
                _ => break,
            };
            if extension == MAX_EXTENSIONS {
                return Err(Malformed::Extensions);
            }
            let head = bytes.get(upper..upper + len).ok_or(Malformed::Truncated)?;
            let is_fragment = protocol == 44;
            protocol = head[0];
            upper += len;
            if is_fragment {
                fragment = Some(u16::from_be_bytes([head[2], head[3]]) >> 3);
                break;
            }
        }
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&header[at..at + 16]);
            IpAddr::V6(Ipv6Addr::from(octets))
        };
        Ok(Self { bytes, src: address(8), dst: address(24), protocol, upper, fragment })
    }

    /// The whole packet.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its source.
    #[must_use]
    pub fn src(&self) -> IpAddr {
        self.src
    }

    /// Its destination.
    #[must_use]
    pub fn dst(&self) -> IpAddr {
        self.dst
    }

    /// The upper-layer protocol; of an IPv6 fragment, what its fragment header names.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Where the upper-layer header begins (of a later fragment: its data).
    #[must_use]
    pub fn upper_offset(&self) -> usize {
        self.upper
    }

    /// The upper-layer header and what follows.
    #[must_use]
    pub fn upper(&self) -> &'a [u8] {
        self.bytes.get(self.upper..).unwrap_or_default()
    }

    /// The offset of a fragment in units of 8 bytes; nothing for a whole packet.
    #[must_use]
    pub fn fragment(&self) -> Option<u16> {
        self.fragment
    }

    /// Whether IPv4's don't-fragment bit is set; always so in IPv6.
    #[must_use]
    pub fn dont_fragment(&self) -> bool {
        self.src.is_ipv6() || self.bytes[6] & 0x40 != 0
    }

    /// Source and destination port of a whole packet of a protocol that has them.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        if self.fragment.is_some() || !WITH_PORTS.contains(&self.protocol) {
            return None;
        }
        let ports: &[u8; 4] = self.upper().first_chunk()?;
        Some((u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]])))
    }

    /// The hash that all packets of its flow share: addresses, protocol and ports, or without ports for fragments (the
    /// first as the others) and for protocols that have none.
    #[inline]
    #[must_use]
    pub fn flow_hash(&self, seed: u64) -> u64 {
        let (source, destination) = self.ports().unwrap_or_default();
        let rest = u64::from(self.protocol) << 32 | u64::from(source) << 16 | u64::from(destination);
        let state = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                hash::mix(seed, u64::from(src.to_bits()) << 32 | u64::from(dst.to_bits()))
            }
            (src, dst) => [src, dst].iter().fold(seed, |state, addr| {
                let bits = v6_bits(*addr);
                // Both halves on purpose.
                hash::mix(hash::mix(state, (bits >> 64) as u64), bits as u64)
            }),
        };
        hash::finish(hash::mix(state, rest))
    }
}

fn v6_bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}
