//! The Internet checksum (RFC 1071) and its update when few bytes change (RFC 1624).

use std::net::IpAddr;

/// Bytes that are summed side by side.
const BLOCK: usize = 64;

/// A ones' complement sum in the making.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes that begin at an even offset.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let mut sum = self.0 + if blocks.is_empty() { 0 } else { u64::from(bulk(blocks)) };
        let mut words = rest.chunks_exact(2);
        for word in &mut words {
            sum += u64::from(u16::from_be_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            sum += u64::from(u16::from_be_bytes([*last, 0]));
        }
        Self(sum)
    }

    /// Adds the pseudo-header of an upper-layer packet of `len` bytes.
    #[must_use]
    pub fn pseudo_header(self, src: IpAddr, dst: IpAddr, protocol: u8, len: u32) -> Self {
        let addresses = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.bytes(&src.octets()).bytes(&dst.octets()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.bytes(&src.octets()).bytes(&dst.octets()),
            // Never sent; any sum is as wrong as another.
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => self,
        };
        addresses.bytes(&len.to_be_bytes()).bytes(&[0, protocol])
    }

    /// The checksum to put into the packet; zero over data that includes a correct one.
    #[must_use]
    pub fn finish(self) -> u16 {
        !fold(self.0)
    }
}

/// The folded sum of whole blocks. The sum of native words, swapped, is the sum of big-endian ones (RFC 1071, 2 (B)).
#[multiversion::multiversion(targets("x86_64+avx2"))]
fn bulk(blocks: &[[u8; BLOCK]]) -> u16 {
    let mut lanes = [0_u64; BLOCK / 4];
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    u16::from_be(fold(lanes.iter().sum()))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // At most 0xffff after the loop.
    sum as u16
}

/// The checksum `old` after the 16-bit value `from` became `to`; `odd` where the value began at an odd offset.
#[must_use]
pub fn update(old: u16, from: u16, to: u16, odd: bool) -> u16 {
    let (from, to) = if odd { (from.swap_bytes(), to.swap_bytes()) } else { (from, to) };
    !fold(u64::from(!old) + u64::from(!from) + u64::from(to))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_update_is_the_same_as_summing_again(
            mut data in proptest::collection::vec(any::<u8>(), 8..100), at: prop::sample::Index, to: u16,
        ) {
            // The first two bytes stand for the checksum field; a zero sum of all-zero data is the one ambiguous case.
            data[0] = 0;
            data[1] = 0;
            data[2] |= 1;
            let at = 2 + at.index(data.len() - 3);
            let old = Sum::default().bytes(&data).finish();
            let from = u16::from_be_bytes([data[at], data[at + 1]]);
            let updated = update(old, from, to, at % 2 == 1);
            data[at..at + 2].copy_from_slice(&to.to_be_bytes());
            data[..2].copy_from_slice(&updated.to_be_bytes());
            prop_assert_eq!(Sum::default().bytes(&data).finish(), 0);
        }

        #[test]
        fn a_naive_sum_agrees(data: Vec<u8>) {
            let mut naive = 0_u32;
            for (i, byte) in data.iter().enumerate() {
                naive += u32::from(*byte) << if i % 2 == 0 { 8 } else { 0 };
                naive = (naive & 0xffff) + (naive >> 16);
            }
            prop_assert_eq!(Sum::default().bytes(&data).finish(), !(naive as u16));
        }
    }
}
