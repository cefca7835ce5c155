//! Finds what stays from one configuration to the next, by hashes made beforehand. Whoever finds something compares it in
//! full: hashes may meet, by chance or on purpose, and then cost a comparison more and nothing else.

use crate::hash;
use crate::paths::slot::PathInfo;

/// Where things of a list are, by hash.
#[derive(Debug)]
pub(crate) struct Places(Vec<(u64, usize)>);

impl Places {
    pub(crate) fn new(hashes: impl Iterator<Item = u64>) -> Self {
        let mut sorted: Vec<(u64, usize)> = hashes.zip(0..).collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    /// Everything with that hash, in the order of the list.
    pub(crate) fn find(&self, hash: u64) -> impl Iterator<Item = usize> {
        let first = self.0.partition_point(|(h, _)| *h < hash);
        self.0[first..].iter().take_while(move |(h, _)| *h == hash).map(|(_, place)| *place)
    }
}

/// The hash of a path, whatever its peer's key: that may be replaced.
pub(crate) fn path_hash(info: &PathInfo) -> u64 {
    let name = hash::bytes(cluster_hash(info.cluster.as_str(), info.generation), info.gateway.as_str().as_bytes());
    hash::mix(name, u64::from(info.remote_lane))
}

/// The hash of a cluster.
pub(crate) fn cluster_hash(id: &str, generation: u64) -> u64 {
    hash::mix(hash::bytes(0, id.as_bytes()), generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_all_of_a_hash_and_nothing_else() {
        let places = Places::new([5, 1, 5, u64::MAX, 5].into_iter());
        let find = |hash| places.find(hash).collect::<Vec<_>>();
        assert_eq!((find(5), find(1), find(u64::MAX)), (vec![0, 2, 4], vec![1], vec![3]));
        assert_eq!((find(0), find(2)), (vec![], vec![]));
    }
}
