//! Buffers of a lane: packets read from the TUN, packets to be written to it.
//!
//! What belongs together in superpackets is decided by `hawser_datapath::offload`; here are the bytes.

use std::io::{self, IoSlice};
use std::ops::Range;

use hawser_datapath::offload::{Joiner, Splitter, VnetHeader, header, join};
use nix::errno::Errno;
use nix::sys::uio::writev;
use nix::unistd;
use tun_rs::SyncDevice;

use super::sources::tun_fd;
use crate::session::MESSAGE_MAX;

/// The longest IP packet.
const PACKET_MAX: usize = 65_535;
/// Packets that wait for one round of writes.
const WAITING_MAX: usize = 512;
/// Room for the packets of a turn's receives: the kernel's sends cut superpackets where they are full, and what follows each
/// other here is joined again.
const ARENA: usize = 2 * PACKET_MAX + WAITING_MAX * HEADROOM;
/// Room for the header before each packet, so that both are one piece.
const HEADROOM: usize = 16;

/// What one read of the TUN gives: a packet, or a superpacket that is cut into packets one after the other.
pub(crate) struct TunPackets {
    buffer: Vec<u8>,
    splitter: Splitter,
    current: Range<usize>,
    count: usize,
    bytes: usize,
}

impl TunPackets {
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; header::LEN + PACKET_MAX],
            splitter: Splitter::empty(),
            current: 0..0,
            count: 0,
            bytes: 0,
        }
    }

    /// Reads once; false when there is nothing. The first packet is at hand then.
    pub(crate) fn read(&mut self, tun: &SyncDevice) -> io::Result<bool> {
        (self.splitter, self.current, self.count) = (Splitter::empty(), 0..0, 0);
        let len = match tun.recv(&mut self.buffer) {
            Ok(len) => len,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return Ok(false),
            Err(e) => return Err(e),
        };
        let malformed = |e| io::Error::new(io::ErrorKind::InvalidData, e);
        let (head, bytes) = self.buffer[..len].split_first_chunk_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
        let header = VnetHeader::decode(head).map_err(malformed)?;
        self.splitter = Splitter::start(&header, bytes).map_err(malformed)?;
        (self.count, self.bytes) = (self.splitter.remaining(), len);
        Ok(self.advance())
    }

    /// How many packets the last read gave.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// How many bytes the last read gave.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Goes on to the next packet; false after the last. The one before is gone.
    #[inline]
    pub(crate) fn advance(&mut self) -> bool {
        match self.splitter.next(&mut self.buffer[header::LEN..]) {
            Some(range) => {
                self.current = range;
                true
            }
            None => false,
        }
    }

    /// The packet at hand.
    #[inline]
    pub(crate) fn packet(&mut self) -> &mut [u8] {
        &mut self.buffer[header::LEN..][self.current.clone()]
    }
}

/// Packets on their way into the TUN, written with as few writes as their flows allow.
pub(crate) struct TunWrites {
    arena: Vec<u8>,
    used: usize,
    joiner: Joiner,
}

impl TunWrites {
    /// `udp` where the device takes superpackets of UDP.
    pub(crate) fn new(udp: bool) -> Self {
        Self { arena: vec![0; ARENA], used: 0, joiner: Joiner::new(WAITING_MAX, udp) }
    }

    /// Whether a datagram of `len` bytes may not fit any more.
    #[inline]
    pub(crate) fn is_full(&self, len: usize) -> bool {
        self.joiner.len() == WAITING_MAX || self.used + HEADROOM + len.max(MESSAGE_MAX) > self.arena.len()
    }

    /// Room for the packet inside a datagram of `len` bytes. It counts only once [`Self::commit`]ted; not to be called
    /// while full.
    #[inline]
    pub(crate) fn room(&mut self, len: usize) -> &mut [u8] {
        &mut self.arena[self.used + HEADROOM..][..len.max(MESSAGE_MAX)]
    }

    /// Keeps the first `len` bytes of the last [`Self::room`].
    #[inline]
    pub(crate) fn commit(&mut self, len: usize) {
        let first = self.used + HEADROOM;
        let range = first..first + len;
        self.joiner.push(&self.arena, range.clone());
        self.used = range.end;
    }

    /// Writes all; the number of packets lost to an error.
    pub(crate) fn flush(&mut self, tun: &SyncDevice) -> u64 {
        if std::mem::take(&mut self.used) == 0 {
            return 0;
        }
        let mut lost = 0;
        self.joiner.drain(&mut self.arena, |arena, header, first, payloads| {
            if let Err(error) = write(tun, arena, header, first, payloads) {
                let packets = payloads.len() + 1;
                tracing::debug!(%error, packets, "the TUN refused packets");
                lost += packets as u64;
            }
        });
        lost
    }
}

/// One write: the header before the first packet, and what follows, from where it is.
fn write(
    tun: &SyncDevice,
    arena: &mut [u8],
    header: &VnetHeader,
    first: Range<usize>,
    payloads: &[Range<usize>],
) -> Result<(), Errno> {
    let begin = first.start - header::LEN;
    arena[begin..first.start].copy_from_slice(&header.encode());
    let first = &arena[begin..first.end];
    // What comes by itself is waited for: the kernel takes one piece sooner than a list of one.
    if payloads.is_empty() {
        return again(|| unistd::write(tun_fd(tun), first));
    }
    let mut parts = [IoSlice::new(&[]); join::PACKETS_MAX];
    parts[0] = IoSlice::new(first);
    for (part, payload) in parts[1..].iter_mut().zip(payloads) {
        *part = IoSlice::new(&arena[payload.clone()]);
    }
    again(|| writev(tun_fd(tun), &parts[..1 + payloads.len()]))
}

/// Writes until no signal comes between.
fn again(mut write: impl FnMut() -> nix::Result<usize>) -> Result<(), Errno> {
    loop {
        match write() {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}
