//! Spreading a cluster's flows over its paths: which paths are used, and a bucket table filled by rendezvous hash.

use std::cmp::Ordering;
use std::time::Duration;

use hawser_liveness::State;

use crate::forwarding::PathIndex;
use crate::hash;

/// The most buckets of a table.
const MAX_BUCKETS: usize = 8192;
/// Buckets per path, so that shares come out even: the deviation of a share is about one in the root of this.
const PER_PATH: usize = 1024;
/// Buckets of a cluster with one path: there is nothing to spread.
const SINGLE: usize = 2;

/// A path as selection sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Its index.
    pub index: PathIndex,
    /// Its identity: the same in every run, so that flows keep their paths.
    pub key: u64,
    /// How it stands.
    pub state: State,
    /// Whether its gateway asks to be left alone.
    pub draining: bool,
    /// Its share against the others'.
    pub weight: u16,
    /// Share of probes lost, 0 to 1.
    pub loss: f64,
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
}

/// The paths that carry a cluster's traffic: those up or suspect, without the draining ones while there are others;
/// lacking those, the best one in hold-down; else none.
#[must_use]
pub fn usable(paths: &[Choice]) -> Vec<Choice> {
    let live = |drained: bool| paths.iter().filter(move |p| p.state.is_live() && (drained || !p.draining)).copied();
    let first: Vec<Choice> = live(false).collect();
    if !first.is_empty() {
        return first;
    }
    let second: Vec<Choice> = live(true).collect();
    if !second.is_empty() {
        return second;
    }
    paths.iter().filter(|p| p.state == State::Held).copied().min_by(better_held).into_iter().collect()
}

/// The paths that are nearest to a preferred prefix and fit to carry it; none where the rest of the cluster must.
#[must_use]
pub fn usable_preferred(paths: &[Choice]) -> Vec<Choice> {
    paths.iter().filter(|p| p.state.is_live() && !p.draining).copied().collect()
}

fn better_held(a: &Choice, b: &Choice) -> Ordering {
    let rtt = |p: &Choice| p.rtt.unwrap_or(Duration::MAX);
    a.draining.cmp(&b.draining).then(a.loss.total_cmp(&b.loss)).then(rtt(a).cmp(&rtt(b))).then(a.key.cmp(&b.key))
}

/// A table from buckets to paths; empty where no path is usable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buckets {
    paths: Box<[PathIndex]>,
    shift: u32,
}

impl Buckets {
    /// Fills a table with `usable` paths. `configured` is how many the cluster has in any state: the table's size, and
    /// with it every flow's bucket, does not change as paths come and go.
    #[must_use]
    pub fn new(usable: &[Choice], configured: usize) -> Self {
        if usable.is_empty() {
            return Self::default();
        }
        let size = match configured.max(usable.len()) {
            1 => SINGLE,
            several => (several * PER_PATH).next_power_of_two().min(MAX_BUCKETS),
        };
        let alike = usable.iter().all(|p| p.weight == usable[0].weight);
        let winner = if alike { winner_of_equals } else { winner };
        let paths = (0..size as u64).map(|bucket| winner(usable, bucket)).collect();
        Self { paths, shift: u64::BITS - size.trailing_zeros() }
    }

    /// The path of a flow.
    #[inline]
    #[must_use]
    pub fn get(&self, flow: u64) -> Option<PathIndex> {
        if self.paths.is_empty() {
            return None;
        }
        self.paths.get((flow >> self.shift) as usize).copied()
    }

    /// The paths of all buckets.
    pub fn iter(&self) -> impl Iterator<Item = PathIndex> {
        self.paths.iter().copied()
    }
}

/// What a path brings along for a bucket: 53 random bits, which depend on that path and the bucket alone.
fn lot(path: &Choice, bucket: u64) -> u64 {
    hash::finish(hash::mix(path.key, bucket)) >> 11
}

/// The path with the best claim to a bucket: a claim depends on that path and the bucket alone, so that a path that goes
/// leaves all other buckets as they are.
fn winner(paths: &[Choice], bucket: u64) -> PathIndex {
    let claim = |p: &Choice| {
        let uniform = lot(p, bucket) as f64 / (1_u64 << 53) as f64;
        // The exponential distribution with the weight as its rate: the least of several is each with its share.
        -(uniform + f64::MIN_POSITIVE).ln() / f64::from(p.weight.max(1))
    };
    let best = paths.iter().min_by(|a, b| claim(a).total_cmp(&claim(b)).then(a.key.cmp(&b.key)));
    best.map_or(PathIndex::MAX, |p| p.index)
}

/// The same where all weights are equal: the logarithm changes no order.
fn winner_of_equals(paths: &[Choice], bucket: u64) -> PathIndex {
    let best = paths.iter().max_by_key(|p| (lot(p, bucket), std::cmp::Reverse(p.key)));
    best.map_or(PathIndex::MAX, |p| p.index)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    pub(crate) fn choice(index: PathIndex, state: State) -> Choice {
        let key = hash::bytes(0, &index.to_be_bytes());
        Choice { index, key, state, draining: false, weight: 1, loss: 0.0, rtt: None }
    }

    fn shares(buckets: &Buckets) -> BTreeMap<PathIndex, usize> {
        buckets.iter().fold(BTreeMap::new(), |mut shares, path| {
            *shares.entry(path).or_default() += 1;
            shares
        })
    }

    #[test]
    fn shares_follow_weights() {
        let mut paths: Vec<Choice> = (0..4).map(|i| choice(i, State::Up)).collect();
        paths[3].weight = 3;
        let shares = shares(&Buckets::new(&paths, 64));
        let total: usize = shares.values().sum();
        assert_eq!(total, MAX_BUCKETS);
        for (path, share) in shares {
            let expected = if path == 3 { total / 2 } else { total / 6 };
            assert!(share.abs_diff(expected) < total / 20, "{path} has {share} of {total}");
        }
    }

    #[test]
    fn selection_prefers_live_then_draining_then_the_best_held() {
        let mut paths: Vec<Choice> = [State::Down, State::Held, State::Held, State::Unknown]
            .into_iter()
            .zip(0..)
            .map(|(s, i)| choice(i, s))
            .collect();
        paths[1].loss = 0.1;
        let chosen = |paths: &[Choice]| usable(paths).iter().map(|p| p.index).collect::<Vec<_>>();
        assert_eq!(chosen(&paths), [2]);
        paths[2].draining = true;
        assert_eq!(chosen(&paths), [1]);
        paths[3] = Choice { draining: true, ..choice(3, State::Up) };
        assert_eq!(chosen(&paths), [3], "a draining one is better than one in hold-down");
        paths[0].state = State::Suspect;
        assert_eq!(chosen(&paths), [0]);
        assert!(chosen(&paths[..0]).is_empty());
    }

    proptest! {
        #[test]
        fn losing_a_path_moves_only_its_flows(n in 2_u16..20, lost: prop::sample::Index, flows: Vec<u64>) {
            let all: Vec<Choice> = (0..n).map(|i| choice(i, State::Up)).collect();
            let lost = lost.index(usize::from(n)) as u16;
            let rest: Vec<Choice> = all.iter().filter(|p| p.index != lost).copied().collect();
            let (before, after) = (Buckets::new(&all, all.len()), Buckets::new(&rest, all.len()));
            for flow in flows {
                let (was, is) = (before.get(flow), after.get(flow));
                prop_assert!(is.is_some_and(|p| p != lost));
                prop_assert!(was == Some(lost) || was == is, "{was:?} became {is:?}");
            }
        }

        #[test]
        fn equal_weights_choose_as_any_weights_do(n in 1_u16..9, bucket: u64) {
            let paths: Vec<Choice> = (0..n).map(|i| choice(i, State::Up)).collect();
            prop_assert_eq!(winner(&paths, bucket), winner_of_equals(&paths, bucket));
        }

        #[test]
        fn the_order_of_paths_changes_nothing(n in 1_u16..20, rotate: prop::sample::Index) {
            let mut paths: Vec<Choice> = (0..n).map(|i| choice(i, State::Up)).collect();
            let before = Buckets::new(&paths, 20);
            paths.rotate_left(rotate.index(usize::from(n)));
            prop_assert_eq!(before, Buckets::new(&paths, 20));
        }
    }
}
