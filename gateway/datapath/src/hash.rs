//! A small fast hash for spreading flows: not for adversaries, the same on every machine.

const K: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

/// Mixes `word` into `state`: a full product folded onto itself, so that every input bit reaches every output bit.
#[inline]
#[must_use]
pub fn mix(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word ^ K[0]) * u128::from(word.rotate_left(32) ^ K[1]);
    // Both halves on purpose.
    (product as u64) ^ ((product >> 64) as u64)
}

/// Spreads a finished state over all bits, the upper ones above all.
#[inline]
#[must_use]
pub fn finish(state: u64) -> u64 {
    let x = (state ^ (state >> 32)).wrapping_mul(K[1]);
    let x = (x ^ (x >> 29)).wrapping_mul(K[0]);
    x ^ (x >> 32)
}

/// The hash of some bytes: for identities, not for packets.
#[must_use]
pub fn bytes(seed: u64, data: &[u8]) -> u64 {
    let mut state = mix(seed, data.len() as u64);
    for chunk in data.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = mix(state, u64::from_le_bytes(word));
    }
    finish(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_inputs_spread_evenly() {
        let mut buckets = [0_u32; 256];
        for i in 0..256_000_u64 {
            buckets[(finish(mix(mix(1, 0x0a00_0001_0a01_0000 + i % 16), i / 16)) >> 56) as usize] += 1;
        }
        let (least, most) = (buckets.iter().min().unwrap(), buckets.iter().max().unwrap());
        assert!(*least > 850 && *most < 1150, "of 1000 expected: {least} to {most}");
    }
}
