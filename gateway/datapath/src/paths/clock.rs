//! When a lane's loop does what by the clock. A turn of the loop does one piece of work at most, so that packets wait for no
//! more than that. What the work is, is the loop's: `hawser-tunnel`'s lanes, and those of the simulation.

use std::time::Duration;

use hawser_liveness::Time;

/// Between looks at sessions' own timers.
const TICK: Duration = Duration::from_millis(250);
/// Between publications of figures, and as much more per path; changes are published at once,
const PUBLISH: Duration = Duration::from_millis(250);
const PUBLISH_PER_PATH: Duration = Duration::from_millis(1);
/// but for so long, per path, after the last publication.
const PAUSE_PER_PATH: Duration = Duration::from_micros(50);

/// A piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// None: a configuration was taken over, which was this turn's work.
    Change,
    /// Sessions' own timers.
    Sessions,
    /// Figures and changes are shown to others.
    Publish,
    /// Paths are judged, handshakes begun, probes sent.
    Ask,
}

/// A turn in which something is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// What.
    pub job: Job,
    /// How late the loop is for it.
    pub lag: Duration,
}

/// When what is due. In each turn of the loop, after its packets: [`Self::turn`], the work, [`Self::rest`]; then the loop may
/// wait until [`Self::due`].
#[derive(Debug, Clone)]
pub struct Clock {
    next: Time,
    tick: Time,
    /// When sessions are looked through for handshakes to begin.
    seek: Time,
    publish: Time,
    /// Changes are published no sooner than this.
    published: Time,
    /// When the rest of some look for a better candidate is due.
    pub late: Option<Time>,
    /// A configuration was taken over: that was this turn's work.
    after_change: bool,
    /// Look at once: `next` is no deadline that was missed then.
    requested: bool,
    /// Something is to be published at once.
    changed: bool,
    /// What the last turn did: what is due all the time keeps nothing else from its turn.
    last: Job,
}

impl Clock {
    /// A clock by which all is due at `now`.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self {
            next: now,
            tick: now,
            seek: now,
            publish: now,
            published: now,
            late: None,
            after_change: false,
            requested: true,
            changed: true,
            last: Job::Ask,
        }
    }

    /// Until when the loop may wait for packets.
    #[must_use]
    pub fn due(&self) -> Time {
        if self.requested { Time::START } else { self.next }
    }

    /// Something happened that should be looked at at once.
    pub fn request(&mut self) {
        self.requested = true;
    }

    /// A session may be wanted that was not before.
    pub fn seek(&mut self) {
        (self.requested, self.seek) = (true, Time::START);
    }

    /// Who needs a handshake is looked at again in a while.
    pub fn seek_after(&mut self, pause: Duration, now: Time) {
        self.seek = now + pause;
    }

    /// The same, unless somebody asked meanwhile for a look at once.
    pub fn seek_no_sooner(&mut self, pause: Duration, now: Time) {
        if self.seek > Time::START {
            self.seek = now + pause;
        }
    }

    /// Whether [`Job::Ask`] looks for handshakes to begin.
    #[must_use]
    pub fn seeks(&self, now: Time) -> bool {
        now >= self.seek || self.late.is_some_and(|late| now >= late)
    }

    /// Something is to be published.
    pub fn changed(&mut self) {
        self.changed = true;
    }

    /// A configuration was taken over: all is looked at anew in the next turn.
    pub fn reconfigured(&mut self) {
        (self.after_change, self.changed) = (true, true);
        self.seek();
    }

    /// Figures of so many paths were published; whether there was a change among them.
    pub fn published(&mut self, paths: u32, now: Time) -> bool {
        // A thousand paths that come up one after another are not a thousand rows each time.
        self.published = now + PAUSE_PER_PATH * paths;
        self.publish = now + PUBLISH + PUBLISH_PER_PATH * paths;
        std::mem::take(&mut self.changed)
    }

    /// What is due at `now`. `paths` is when the paths' own next is due, which packets may have made earlier than it was;
    /// `news`: others have found something.
    pub fn turn(&mut self, paths: Option<Time>, news: bool, now: Time) -> Option<Turn> {
        if let Some(paths) = paths {
            // What became due just now is not late.
            self.next = self.next.min(paths.max(now));
        }
        if now < self.next && !self.requested && !news {
            return None;
        }
        let lag = now.since(self.next);
        if std::mem::take(&mut self.after_change) {
            return Some(Turn { job: Job::Change, lag });
        }
        self.requested = false;
        let publish = now >= self.publish || (self.changed && now >= self.published);
        self.last = match self.last {
            Job::Ask | Job::Change if now >= self.tick => Job::Sessions,
            Job::Ask | Job::Change | Job::Sessions if publish => Job::Publish,
            _ => Job::Ask,
        };
        if self.last == Job::Sessions {
            self.tick = now + TICK;
        }
        Some(Turn { job: self.last, lag })
    }

    /// Only a part of this turn's work was done: the next is due when others had their turn.
    pub fn go_on(&mut self, now: Time) {
        match self.last {
            Job::Sessions => self.tick = now,
            Job::Publish => self.publish = now,
            Job::Ask => self.requested = true,
            Job::Change => {}
        }
    }

    /// The work is done; where there is `more`, the next turn comes at once. `paths` is when the paths' own next is due.
    pub fn rest(&mut self, paths: Option<Time>, more: bool, now: Time) {
        if self.changed {
            self.publish = self.publish.min(self.published);
        }
        let dues = [paths, Some(self.tick), Some(self.seek), Some(self.publish), self.late];
        let next = dues.into_iter().flatten().min().unwrap_or(self.tick);
        // What is due already is due now: the loop is not late for it, or silence would prove nothing.
        self.next = next.max(now);
        self.requested |= more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A clock by which nothing is due for 40 ms, and that time.
    fn quiet(now: Time) -> (Clock, Time) {
        let mut clock = Clock::new(now);
        let later = now + 40 * MS;
        (clock.tick, clock.seek, clock.publish) = (later, later, later);
        (clock.changed, clock.requested) = (false, false);
        clock.rest(Some(later), false, now);
        assert_eq!((clock.due(), clock.turn(Some(later), false, now)), (later, None));
        (clock, later)
    }

    #[test]
    fn what_is_due_at_once_does_not_make_the_loop_look_late() {
        let now = Time::from_millis(60_000);
        let (mut clock, later) = quiet(now);
        clock.reconfigured();
        clock.rest(Some(later), false, now);
        assert_eq!(clock.next, now, "a change to be published, a handshake to begin");
    }

    #[test]
    fn what_packets_make_due_earlier_is_done_then_and_not_late() {
        let now = Time::from_millis(60_000);
        let (mut clock, later) = quiet(now);
        let soon = now + 5 * MS;
        assert_eq!(clock.turn(Some(soon), false, now + MS), None);
        assert_eq!(clock.due(), soon, "nobody asked for it");
        assert_eq!(clock.turn(Some(now), false, now + 2 * MS), Some(Turn { job: Job::Ask, lag: Duration::ZERO }));
        clock.rest(Some(later), false, now + 2 * MS);
        // A deadline that was missed stays missed, whatever came up meanwhile.
        let turn = clock.turn(Some(soon), false, later + 9 * MS);
        assert_eq!(turn.map(|turn| turn.lag), Some(9 * MS));
    }

    #[test]
    fn one_piece_of_work_in_a_turn_and_whoever_makes_changes_all_the_time_keeps_nobody_from_asking() {
        let mut now = Time::from_millis(60_000);
        let mut clock = Clock::new(now);
        let mut jobs = Vec::new();
        for _ in 0..20_000 {
            clock.changed();
            let turn = clock.turn(None, false, now).expect("a change is due");
            if turn.job == Job::Publish {
                assert!(clock.published(1, now));
            }
            jobs.push(turn.job);
            clock.rest(None, true, now);
            now = now + MS / 10;
        }
        let count = |job| jobs.iter().filter(|j| **j == job).count();
        assert_eq!(count(Job::Sessions), 8, "every 250 ms of 2 s");
        assert!(count(Job::Ask) >= count(Job::Publish) && count(Job::Publish) > 9_000, "{}", count(Job::Ask));
        let between = jobs.iter().filter(|job| **job != Job::Sessions).collect::<Vec<_>>();
        assert!(between.windows(2).all(|two| two.contains(&&Job::Ask)), "two publications without a look between them");
    }

    #[test]
    fn work_in_parts_lets_everything_else_have_its_turn_and_then_rests() {
        let mut now = Time::from_millis(60_000);
        let mut clock = Clock::new(now);
        let (mut sessions, mut figures, mut jobs) = (5, 9, Vec::new());
        while sessions > 0 || figures > 0 {
            assert!(clock.due() <= now, "the rest is due at once: {jobs:?}");
            let job = clock.turn(None, false, now).expect("something is due").job;
            jobs.push(job);
            let left = match job {
                Job::Sessions => &mut sessions,
                Job::Publish => &mut figures,
                Job::Ask | Job::Change => &mut 1,
            };
            *left -= 1;
            match (job, *left) {
                (Job::Sessions | Job::Publish, 1..) => clock.go_on(now),
                (Job::Publish, 0) => drop(clock.published(1, now)),
                _ => {}
            }
            clock.rest(None, job != Job::Ask, now);
            now = now + MS / 10;
        }
        let first: Vec<_> = jobs.chunks(3).take(5).collect();
        assert!(first.iter().all(|three| **three == [Job::Sessions, Job::Publish, Job::Ask]), "{jobs:?}");
        assert!(jobs[15..].chunks(2).all(|two| two[0] == Job::Publish), "{jobs:?}");
        assert_eq!(clock.turn(None, false, now).map(|turn| turn.job), Some(Job::Ask));
        clock.seek_after(MS * 1000, now);
        clock.rest(None, false, now);
        assert!(clock.due() > now + MS * 100, "all is done");
    }

    #[test]
    fn a_look_that_was_asked_for_is_not_put_off() {
        let now = Time::from_millis(60_000);
        let (mut clock, _) = quiet(now);
        clock.seek_after(MS, now);
        clock.seek_no_sooner(MS * 1000, now);
        assert!(!clock.seeks(now + MS * 999) && clock.seeks(now + MS * 1000));
        clock.seek();
        clock.seek_no_sooner(MS * 1000, now);
        assert!(clock.seeks(now));
    }
}
