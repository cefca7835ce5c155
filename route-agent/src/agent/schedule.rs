//! When there is a pass, why, and whether the fast way may come between. Pure: `agent` does what is said here.

use std::time::{Duration, Instant};

/// Between full passes while nothing changes.
const PERIOD: Duration = Duration::from_secs(10);
/// Between full passes while the kernel refuses something.
const RETRY: Duration = Duration::from_secs(1);
/// What comes in this time is one pass.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Passes that are broken off one after the other, at most.
const BROKEN_MAX: u32 = 3;

/// Why there is a pass; the later ones cover the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// It is time: what is found to be different, somebody else did.
    Period,
    /// Objects changed, which may not be about the kernel at all.
    Objects,
    /// Devices or addresses changed, or something was refused: the kernel is to be looked at.
    Host,
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// The kernel is as it should be; it was looked at.
    Converged,
    /// There was nothing to do in the kernel.
    Nothing,
    /// The kernel refused something.
    Refused,
    /// Gateways changed meanwhile, which is more urgent.
    Broken,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Schedule {
    due: Option<(Instant, Cause)>,
    /// When the kernel was last looked at.
    looked: Instant,
    broken: u32,
}

impl Schedule {
    /// The first pass is due now.
    pub(super) fn new(now: Instant) -> Self {
        Self { due: Some((now, Cause::Host)), looked: now, broken: 0 }
    }

    /// There is a reason for a pass.
    pub(super) fn note(&mut self, cause: Cause, now: Instant) {
        let new = (now + DEBOUNCE, cause);
        self.due = Some(self.due.map_or(new, |(at, other)| (at.min(new.0), other.max(cause))));
    }

    /// When the next pass is due.
    pub(super) fn at(&self) -> Instant {
        self.due.map_or(self.looked + PERIOD, |(at, _)| at)
    }

    /// The pass that is due begins: why. However often objects change, the kernel is looked at every [`PERIOD`].
    pub(super) fn begin(&mut self, now: Instant) -> Cause {
        let cause = match self.due.take() {
            None => Cause::Period,
            Some((_, Cause::Objects)) if now >= self.looked + PERIOD => Cause::Host,
            Some((_, cause)) => cause,
        };
        if cause != Cause::Objects {
            // Whatever comes of it.
            self.looked = now;
        }
        cause
    }

    /// Whether the pass may be broken off: not time and again.
    pub(super) fn may_break(&self) -> bool {
        self.broken < BROKEN_MAX
    }

    /// The pass ended.
    pub(super) fn end(&mut self, passed: Passed, now: Instant) {
        match passed {
            Passed::Nothing => {}
            Passed::Broken => {
                self.broken += 1;
                self.note(Cause::Host, now);
            }
            Passed::Converged => (self.looked, self.broken) = (now, 0),
            Passed::Refused => {
                (self.looked, self.broken) = (now, 0);
                self.due = Some((now + RETRY, Cause::Host));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(start: Instant) -> Schedule {
        let mut schedule = Schedule::new(start);
        assert_eq!((schedule.at(), schedule.begin(start)), (start, Cause::Host));
        schedule.end(Passed::Converged, start);
        schedule
    }

    #[test]
    fn what_comes_together_is_one_pass_that_covers_all_of_it() {
        let start = Instant::now();
        let mut schedule = begun(start);
        assert_eq!(schedule.at(), start + PERIOD);
        schedule.note(Cause::Host, start);
        schedule.note(Cause::Objects, start + DEBOUNCE / 2);
        assert_eq!((schedule.at(), schedule.begin(start + DEBOUNCE)), (start + DEBOUNCE, Cause::Host));
        schedule.end(Passed::Converged, start + DEBOUNCE);
        assert_eq!(schedule.begin(schedule.at()), Cause::Period);
    }

    #[test]
    fn the_kernel_is_looked_at_in_time_however_often_objects_change() {
        let start = Instant::now();
        let mut schedule = begun(start);
        let mut causes = Vec::new();
        for second in 1..=12 {
            let now = start + Duration::from_secs(second);
            schedule.note(Cause::Objects, now);
            let cause = schedule.begin(schedule.at());
            causes.push(cause);
            schedule.end(if cause == Cause::Objects { Passed::Nothing } else { Passed::Converged }, now);
        }
        let looks: Vec<usize> = (0..causes.len()).filter(|&at| causes[at] == Cause::Host).collect();
        assert_eq!(looks, [9], "{causes:?}");
    }

    #[test]
    fn a_pass_that_found_nothing_to_go_by_comes_again_after_the_period() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let mut begun = Vec::new();
        for _ in 0..3 {
            let now = schedule.at();
            begun.push(now - start);
            schedule.begin(now);
            schedule.end(Passed::Nothing, now);
        }
        assert_eq!(begun, [Duration::ZERO, PERIOD, 2 * PERIOD]);
    }

    #[test]
    fn a_pass_is_broken_off_some_times_and_then_comes_to_its_end() {
        let start = Instant::now();
        let mut schedule = begun(start);
        schedule.note(Cause::Objects, start);
        let mut broken = 0;
        while schedule.may_break() {
            schedule.begin(schedule.at());
            schedule.end(Passed::Broken, start);
            broken += 1;
        }
        assert_eq!((broken, schedule.begin(schedule.at())), (3, Cause::Host), "what it left undone is looked at");
        schedule.end(Passed::Refused, start);
        assert!(schedule.may_break());
        assert_eq!((schedule.at(), schedule.begin(schedule.at())), (start + RETRY, Cause::Host));
    }
}
