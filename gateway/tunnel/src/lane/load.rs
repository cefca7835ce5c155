//! How long a lane's packets wait for its control work: CPU time of its thread, turn by turn.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::status::LaneLoad;

/// Sums up one turn's control work.
#[derive(Debug, Default)]
pub(super) struct Load {
    turn: Duration,
    told: LaneLoad,
    /// Turns since the last configuration was taken over.
    since: Spread,
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// A piece of work under way.
pub(super) struct Work(Duration);

impl Work {
    pub(super) fn begin() -> Self {
        Self(thread_time())
    }

    fn took(&self) -> Duration {
        thread_time().saturating_sub(self.0)
    }
}

impl Load {
    /// A configuration was taken over.
    pub(super) fn changed(&mut self, work: &Work) {
        let took = work.took();
        self.turn += took;
        self.told.changes += 1;
        self.told.last_change = took;
        self.told.longest_change = self.told.longest_change.max(took);
        self.since = Spread::default();
    }

    /// Timers ran: the last control work of a turn.
    pub(super) fn timers_ran(&mut self, work: &Work) {
        let turn = std::mem::take(&mut self.turn) + work.took();
        self.told.longest_control = self.told.longest_control.max(turn);
        self.since.add(turn);
    }

    pub(super) fn told(&self) -> LaneLoad {
        LaneLoad { turn_p95: self.since.percentile(95), ..self.told }
    }
}

/// Buckets of [`Spread`]: from 1 µs to a second, eight to the doubling.
const BUCKETS: usize = 161;
/// Fewer turns tell nothing of percentiles.
const ENOUGH: u32 = 20;

/// How many turns took how long.
#[derive(Debug)]
struct Spread([u32; BUCKETS]);

impl Default for Spread {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Spread {
    fn add(&mut self, turn: Duration) {
        let micros = turn.as_secs_f64() * 1e6;
        let bucket = (micros.max(1.0).log2() * 8.0).ceil() as usize;
        self.0[bucket.min(BUCKETS - 1)] += 1;
    }

    /// What so many of a hundred turns took at most; 9 % too much at worst. Zero of a few turns.
    fn percentile(&self, percent: u32) -> Duration {
        let all: u32 = self.0.iter().sum();
        if all < ENOUGH {
            return Duration::ZERO;
        }
        let mut left = (u64::from(all) * u64::from(percent)).div_ceil(100);
        let reached = |count: &u32| {
            left = left.saturating_sub(u64::from(*count));
            left == 0
        };
        let bucket = self.0.iter().position(reached).unwrap_or(BUCKETS - 1);
        Duration::from_secs_f64((bucket as f64 / 8.0).exp2() / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Work {
        let work = Work::begin();
        let sum = (0..2_000_000_u64).fold(0, |sum: u64, i| std::hint::black_box(sum.wrapping_add(i)));
        assert_ne!(sum, 0);
        work
    }

    #[test]
    fn a_turn_is_what_changed_and_its_timers_together() {
        let mut load = Load::default();
        let work = busy();
        load.changed(&work);
        load.timers_ran(&work);
        let told = load.told();
        assert_eq!((told.changes, told.last_change), (1, told.longest_change));
        assert!(told.longest_change > Duration::ZERO && told.longest_control > told.longest_change, "{told:?}");
        load.timers_ran(&Work::begin());
        assert_eq!(load.told().longest_control, told.longest_control, "the longest stays");
    }

    #[test]
    fn a_change_begins_anew_and_counts_with_what_follows() {
        let mut load = Load::default();
        (0..ENOUGH).for_each(|_| load.timers_ran(&busy()));
        let start = load.told().turn_p95;
        assert!(start > Duration::from_micros(10), "{start:?}");
        load.changed(&busy());
        assert_eq!(load.told().turn_p95, Duration::ZERO, "nothing is known of the turns since");
        (1..ENOUGH).for_each(|_| load.timers_ran(&Work::begin()));
        assert_eq!(load.told().turn_p95, Duration::ZERO, "few turns tell nothing");
        load.timers_ran(&Work::begin());
        let since = load.told().turn_p95;
        assert!(since > Duration::ZERO && since < start, "{since:?} after {start:?}");
    }

    #[test]
    fn ninety_five_of_a_hundred_turns() {
        let mut spread = Spread::default();
        (1..=100).for_each(|micros| spread.add(Duration::from_micros(micros * 10)));
        let near = |percent, micros: f64| {
            let found = spread.percentile(percent).as_secs_f64() * 1e6;
            assert!(found >= micros && found <= micros * 1.1, "{percent} %: {found} µs, not {micros}");
        };
        [(50, 500.0), (95, 950.0), (100, 1000.0)].into_iter().for_each(|(percent, micros)| near(percent, micros));
        spread.add(Duration::from_secs(100));
        assert!(spread.percentile(100) >= Duration::from_secs(1), "the last bucket takes all that is longer");
    }
}
