//! Buffers of a lane: segments read from the TUN, packets to be written to it.

use tun_rs::{ExpandBuffer, GROTable, IDEAL_BATCH_SIZE, SyncDevice, VIRTIO_NET_HDR_LEN};

use crate::session::{MESSAGE_MAX, SEAL_OVERHEAD};

/// A superpacket coalesced from many packets must fit its first packet's buffer.
const COALESCED_MAX: usize = VIRTIO_NET_HDR_LEN + 65_535;

/// What one read of the TUN gives: a packet, or a superpacket cut into packets.
pub(crate) struct TunSegments {
    whole: Vec<u8>,
    buffers: Vec<Vec<u8>>,
    sizes: Vec<usize>,
    count: usize,
}

impl TunSegments {
    /// For packets of up to `mtu` bytes.
    pub(crate) fn new(mtu: u16) -> Self {
        Self {
            whole: vec![0; COALESCED_MAX],
            buffers: vec![vec![0; usize::from(mtu)]; IDEAL_BATCH_SIZE],
            sizes: vec![0; IDEAL_BATCH_SIZE],
            count: 0,
        }
    }

    /// Makes room for packets of up to `mtu` bytes.
    pub(crate) fn grow(&mut self, mtu: u16) {
        if self.buffers[0].len() < usize::from(mtu) {
            self.buffers.iter_mut().for_each(|b| b.resize(usize::from(mtu), 0));
        }
    }

    /// Reads once; false when there is nothing.
    pub(crate) fn read(&mut self, tun: &SyncDevice) -> std::io::Result<bool> {
        self.count = 0;
        match tun.recv_multiple(&mut self.whole, &mut self.buffers, &mut self.sizes, 0) {
            Ok(n) => {
                self.count = n;
                Ok(n > 0)
            }
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn packet(&mut self, index: usize) -> &mut [u8] {
        &mut self.buffers[index][..self.sizes[index]]
    }
}

/// Packets on their way into the TUN, written with as few writes as their flows allow.
pub(crate) struct TunWrites {
    pool: Vec<Vec<u8>>,
    used: usize,
    gro: GROTable,
}

impl TunWrites {
    pub(crate) fn new() -> Self {
        let pool = (0..IDEAL_BATCH_SIZE).map(|_| Vec::with_capacity(COALESCED_MAX)).collect();
        Self { pool, used: 0, gro: GROTable::new() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.used == self.pool.len()
    }

    /// Room for the packet inside a datagram of `len` bytes. It counts only once [`Self::commit`]ted; not to be called
    /// while full.
    #[inline]
    pub(crate) fn room(&mut self, len: usize) -> &mut [u8] {
        let buffer = &mut self.pool[self.used];
        buffer.buf_resize(VIRTIO_NET_HDR_LEN + len.max(MESSAGE_MAX) + SEAL_OVERHEAD, 0);
        &mut buffer[VIRTIO_NET_HDR_LEN..]
    }

    /// Keeps the first `len` bytes of the last [`Self::room`].
    #[inline]
    pub(crate) fn commit(&mut self, len: usize) {
        self.pool[self.used].truncate(VIRTIO_NET_HDR_LEN + len);
        self.used += 1;
    }

    /// Writes all; the number of packets lost to an error.
    pub(crate) fn flush(&mut self, tun: &SyncDevice) -> u64 {
        let used = std::mem::take(&mut self.used);
        if used == 0 {
            return 0;
        }
        match tun.send_multiple(&mut self.gro, &mut self.pool[..used], VIRTIO_NET_HDR_LEN) {
            Ok(_) => 0,
            Err(error) => {
                tracing::debug!(%error, packets = used, "the TUN refused packets");
                used as u64
            }
        }
    }
}
