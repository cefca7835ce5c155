//! Work that grows with the number of peers, done in parts: packets that wait go between, each part has a turn of its own.

use std::ops::Range;

/// Sessions or paths in a part: each takes a few µs where its memory was not touched for long.
const PART: usize = 64;

/// A walk over all of something, by index.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Where it goes on; none between two of them.
    next: Option<usize>,
}

impl Round {
    /// Whether it has begun and is not over.
    pub(super) fn is_under_way(&self) -> bool {
        self.next.is_some()
    }

    /// What to do now, of `all`; there may be fewer than last time.
    pub(super) fn part(&self, all: usize) -> Range<usize> {
        let from = self.next.unwrap_or(0).min(all);
        from..(from + PART).min(all)
    }

    /// All before `next` was done; true when some of `all` is left.
    pub(super) fn stop(&mut self, next: usize, all: usize) -> bool {
        let more = next < all;
        self.next = more.then_some(next);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_one_has_its_turn_once_whatever_a_part_got_done() {
        let (all, mut seen, mut round) = (3 * PART + 7, Vec::new(), Round::default());
        loop {
            let part = round.part(all);
            assert!(part.len() <= PART && round.is_under_way() == (part.start > 0), "{part:?}");
            let done = part.start + (part.len() / 2).max(1);
            seen.extend(part.start..done);
            if !round.stop(done, all) {
                break;
            }
        }
        assert_eq!(seen, (0..all).collect::<Vec<_>>());
        assert!(!round.is_under_way() && round.part(all).start == 0, "the next begins anew");
    }

    #[test]
    fn one_that_got_nothing_done_yet_has_begun_all_the_same() {
        let mut round = Round::default();
        assert!(round.stop(0, 10) && round.is_under_way());
        assert!(!round.stop(10, 10) && !round.is_under_way());
    }

    #[test]
    fn what_went_meanwhile_is_not_looked_for() {
        let mut round = Round::default();
        assert!(round.stop(200, 1000));
        assert_eq!(round.part(150), 150..150);
        assert!(!round.stop(150, 150) && !round.is_under_way());
        assert_eq!(round.part(0), 0..0);
    }
}
