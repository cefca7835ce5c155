//! Endpoints of a virtual address as a table of slots: even, the same on every node, and steady when endpoints change.

use sha2::{Digest as _, Sha256};

/// The fewest slots of a table: a share is off by less than one part in this.
pub const MIN_SLOTS: usize = 64;
/// The most slots, and so the most endpoints that one port of a service is balanced over; the rest stay idle.
pub const MAX_SLOTS: usize = 1024;

/// How many slots `endpoints` endpoints get: a power of two, so that the number rarely changes.
#[must_use]
pub fn count(endpoints: usize) -> usize {
    endpoints.saturating_mul(4).next_power_of_two().clamp(MIN_SLOTS, MAX_SLOTS)
}

/// Which endpoint each slot has, as an index into `endpoints`, for a table named `name`. Empty for no endpoints.
///
/// Rendezvous hashing with bounded load: a slot takes the endpoint that scores highest for it and is not full, so shares
/// differ by at most one slot and an endpoint that goes moves its own slots and few others.
#[must_use]
pub fn fill(name: &str, endpoints: &[String]) -> Vec<usize> {
    let used = endpoints.len().min(MAX_SLOTS);
    if used == 0 {
        return Vec::new();
    }
    let slots = count(used);
    let seeds: Vec<u64> = endpoints.iter().take(used).map(|e| seed(name, e)).collect();
    let (share, extra) = (slots / used, slots % used);
    let mut load = vec![0_usize; used];
    let mut full = 0;
    let mut table = Vec::with_capacity(slots);
    for slot in 0..slots {
        let best = (0..used)
            .filter(|&e| load[e] < share || (load[e] == share && full < extra))
            .max_by_key(|&e| (score(seeds[e], slot as u64), e))
            .expect("there are as many places as slots");
        if load[best] == share {
            full += 1;
        }
        load[best] += 1;
        table.push(best);
    }
    table
}

fn seed(name: &str, endpoint: &str) -> u64 {
    let digest = Sha256::new().chain_update(name).chain_update([0]).chain_update(endpoint).finalize();
    digest.iter().take(8).fold(0, |acc, &b| (acc << 8) | u64::from(b))
}

/// A mix of both numbers whose every bit depends on every bit (the finaliser of SplitMix64).
fn score(seed: u64, slot: u64) -> u64 {
    let mut z = seed ^ slot.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
