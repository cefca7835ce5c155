//! The header in front of each packet of a TUN device with `IFF_VNET_HDR`: `struct virtio_net_hdr`, in the host's byte order.

use super::Transport;
use crate::packet::Malformed;

/// Length of the header.
pub const LEN: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// The first segment may carry CWR.
const GSO_ECN: u8 = 0x80;

/// How a superpacket is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments {
    /// What its packets are.
    pub transport: Transport,
    /// Whether they are IPv6 packets. Of UDP the header does not tell: false when decoded, and of no matter when encoded.
    pub v6: bool,
    /// Bytes of payload in each but the last.
    pub size: u16,
}

/// A checksum that is not complete yet: the field holds the pseudo-header's sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Where the sum begins.
    pub start: u16,
    /// Where the field is, from there.
    pub offset: u16,
}

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// The checksum that is pending, if any.
    pub checksum: Option<Pending>,
    /// How to cut it, if it is a superpacket.
    pub segments: Option<Segments>,
    /// Length of all headers of a superpacket: a hint.
    pub headers: u16,
}

impl VnetHeader {
    /// Reads it.
    ///
    /// # Errors
    /// Where it names a kind of superpacket that was not asked for.
    pub fn decode(bytes: &[u8; LEN]) -> Result<Self, Malformed> {
        let field = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let cut = |transport, v6| Some(Segments { transport, v6, size: field(4) });
        let segments = match bytes[1] & !GSO_ECN {
            GSO_NONE => None,
            GSO_TCP_V4 => cut(Transport::Tcp, false),
            GSO_TCP_V6 => cut(Transport::Tcp, true),
            GSO_UDP_L4 => cut(Transport::Udp, false),
            _ => return Err(Malformed::Offload),
        };
        let checksum = (bytes[0] & NEEDS_CHECKSUM != 0).then(|| Pending { start: field(6), offset: field(8) });
        Ok(Self { checksum, segments, headers: field(2) })
    }

    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let mut put = |at: usize, value: u16| bytes[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        put(2, self.headers);
        if let Some(segments) = self.segments {
            put(4, segments.size);
        }
        if let Some(pending) = self.checksum {
            put(6, pending.start);
            put(8, pending.offset);
        }
        bytes[0] = if self.checksum.is_some() { NEEDS_CHECKSUM } else { 0 };
        bytes[1] = match self.segments {
            None => GSO_NONE,
            Some(Segments { transport: Transport::Udp, .. }) => GSO_UDP_L4,
            Some(Segments { v6: false, .. }) => GSO_TCP_V4,
            Some(Segments { v6: true, .. }) => GSO_TCP_V6,
        };
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let pending = Some(Pending { start: 40, offset: 16 });
        for (transport, v6) in [(Transport::Tcp, false), (Transport::Tcp, true), (Transport::Udp, false)] {
            let segments = Some(Segments { transport, v6, size: 1368 });
            let header = VnetHeader { checksum: pending, segments, headers: 60 };
            assert_eq!(VnetHeader::decode(&header.encode()), Ok(header));
        }
        assert_eq!(VnetHeader::decode(&VnetHeader::default().encode()), Ok(VnetHeader::default()));
    }

    #[test]
    fn unknown_kinds_are_refused_and_ecn_is_no_kind() {
        let mut bytes = [0; LEN];
        bytes[1] = 3; // UDP fragmentation, long gone
        assert_eq!(VnetHeader::decode(&bytes), Err(Malformed::Offload));
        bytes[1] = GSO_TCP_V4 | GSO_ECN;
        assert_eq!(VnetHeader::decode(&bytes).unwrap().segments.unwrap().transport, Transport::Tcp);
    }
}
