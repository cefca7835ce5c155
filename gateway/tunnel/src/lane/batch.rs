//! Sealed packets for one address, collected into one send.

use std::net::SocketAddr;

use crate::session::SEAL_OVERHEAD;
use crate::udp::{SEGMENTS_MAX, SEND_MAX};

/// Sealed datagrams for one address: all of one length but the last, which may be shorter, as `UDP_SEGMENT` wants it.
pub(crate) struct Batch {
    buffer: Vec<u8>,
    used: usize,
    segment: usize,
    count: usize,
    to: Option<SocketAddr>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; SEND_MAX], used: 0, segment: 0, count: 0, to: None }
    }

    /// Whether a packet of `len` bytes to `to` can join what is here.
    #[inline]
    pub(crate) fn fits(&self, to: SocketAddr, len: usize) -> bool {
        let sealed = len + SEAL_OVERHEAD;
        match self.to {
            None => sealed <= self.buffer.len(),
            Some(current) => {
                let whole = self.used == self.count * self.segment;
                current == to
                    && whole
                    && sealed <= self.segment
                    && self.count < SEGMENTS_MAX
                    && self.used + sealed <= self.buffer.len()
            }
        }
    }

    /// Lets `seal` write one datagram; it returns its length or `None` to add nothing.
    #[inline]
    pub(crate) fn push(&mut self, to: SocketAddr, seal: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<&[u8]> {
        let at = self.used;
        let len = seal(&mut self.buffer[at..])?;
        if self.to.is_none() {
            self.to = Some(to);
            self.segment = len;
        }
        self.used += len;
        self.count += 1;
        Some(&self.buffer[at..at + len])
    }

    /// What is to be sent: address, bytes, length of a segment. Empty afterwards, once the borrow ends with [`Self::clear`].
    pub(crate) fn contents(&self) -> Option<(SocketAddr, &[u8], usize)> {
        self.to.map(|to| (to, &self.buffer[..self.used], self.segment))
    }

    pub(crate) fn clear(&mut self) {
        (self.used, self.segment, self.count, self.to) = (0, 0, 0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(len: usize) -> impl FnOnce(&mut [u8]) -> Option<usize> {
        move |out| {
            out[..len + SEAL_OVERHEAD].fill(7);
            Some(len + SEAL_OVERHEAD)
        }
    }

    #[test]
    fn only_what_udp_segment_takes_is_joined() {
        let (a, b): (SocketAddr, SocketAddr) = ("192.0.2.1:1".parse().unwrap(), "192.0.2.1:2".parse().unwrap());
        let mut batch = Batch::new();
        assert!(batch.contents().is_none());
        assert!(batch.fits(a, 1000));
        batch.push(a, seal(1000));
        assert!(batch.fits(a, 1000) && !batch.fits(b, 1000), "one address a batch");
        assert!(!batch.fits(a, 1001), "none may be longer than the first");
        batch.push(a, seal(1000));
        batch.push(a, seal(500));
        assert!(!batch.fits(a, 1000) && !batch.fits(a, 400), "a shorter one is the last");
        let (to, bytes, segment) = batch.contents().unwrap();
        assert_eq!((to, bytes.len(), segment), (a, 2500 + 3 * SEAL_OVERHEAD, 1000 + SEAL_OVERHEAD));
        batch.clear();
        assert!(batch.fits(b, 1400));
    }

    #[test]
    fn it_ends_at_the_kernels_limits() {
        let to: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        let mut batch = Batch::new();
        while batch.fits(to, 20) {
            batch.push(to, seal(20));
        }
        assert_eq!(batch.count, SEGMENTS_MAX);
        batch.clear();
        while batch.fits(to, 1400) {
            batch.push(to, seal(1400));
        }
        assert!(batch.used <= SEND_MAX && batch.used + 1432 > SEND_MAX, "{}", batch.used);
    }
}
