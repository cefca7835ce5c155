//! Segmentation offload as a TUN device has it: one read gives a superpacket, many packets of one flow that share their
//! headers, and one write takes one.
//!
//! - [`header`]: what the kernel says beside each of them (virtio 1.2, 5.1.6).
//! - [`split`]: a superpacket into its packets, in place.
//! - [`join`]: packets that follow each other into a superpacket, without moving a byte of what they carry.
//!
//! Reading and writing is the business of `hawser-tunnel`.

pub mod header;
pub mod join;
pub mod split;

pub use header::VnetHeader;
pub use join::Joiner;
pub use split::Splitter;

use crate::packet::{TCP, UDP};

/// An upper-layer protocol that superpackets exist of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP segments.
    Tcp,
    /// UDP datagrams.
    Udp,
}

impl Transport {
    /// Its protocol number.
    #[must_use]
    pub fn protocol(self) -> u8 {
        match self {
            Self::Tcp => TCP,
            Self::Udp => UDP,
        }
    }

    /// Where its checksum is, from the beginning of its header.
    #[must_use]
    pub fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}
