//! How long a lane's packets wait for its control work: CPU time of its thread, turn by turn.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::status::LaneLoad;

/// Sums up one turn's control work.
#[derive(Debug, Default)]
pub(super) struct Load {
    turn: Duration,
    told: LaneLoad,
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
        self.told.longest_since_change = Duration::ZERO;
    }

    /// Timers ran: the last control work of a turn.
    pub(super) fn timers_ran(&mut self, work: &Work) {
        let turn = std::mem::take(&mut self.turn) + work.took();
        self.told.longest_control = self.told.longest_control.max(turn);
        self.told.longest_since_change = self.told.longest_since_change.max(turn);
    }

    pub(super) fn told(&self) -> LaneLoad {
        self.told
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
        load.timers_ran(&busy());
        let start = load.told();
        assert_eq!(start.longest_since_change, start.longest_control);
        load.changed(&Work::begin());
        assert_eq!(load.told().longest_since_change, Duration::ZERO, "that turn is not over");
        load.timers_ran(&Work::begin());
        let swapped = load.told();
        assert!(swapped.longest_since_change >= swapped.last_change, "its own turn counts: {swapped:?}");
        assert!(swapped.longest_since_change < start.longest_control, "what was before does not: {swapped:?}");
        load.timers_ran(&busy());
        let later = load.told();
        assert!(later.longest_since_change > swapped.longest_since_change, "a later turn: {later:?}");
    }
}
