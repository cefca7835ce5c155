//! Packets that come one by one and often are waited for together.
//!
//! A lane that is woken for each of them keeps their sender from sending the next where both run on one core, and to be
//! woken costs more than a packet. So it does what network cards do (interrupt moderation): it lets some tens of microseconds
//! of them come together. A question and its answer pass a lane in opposite directions, in turns; nobody is kept waiting by
//! what passes in one direction only.
//!
//! Handshakes in a flood come together for longer, in a lane that has nothing else to do: traffic ends that at once.

use std::time::Duration;

use hawser_liveness::Time;

/// Where a turn's packets came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// The TUN device.
    Out,
    /// The sockets.
    In,
}

/// How much a turn took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Nothing,
    /// Handshake messages only, of more than are answered; there may be more at once.
    Flood {
        more: bool,
    },
    /// A single packet.
    One(Direction),
    /// Several.
    Some,
    /// So many that there may be more at once.
    Many,
}

/// How long they come together.
const NAP: Duration = Duration::from_micros(50);
/// Turns with a packet each that are a stream's,
const RUN: u32 = 32;
/// if they follow each other as soon as this.
const NEAR: Duration = Duration::from_micros(100);

/// How long handshakes of a flood come together,
const FLOOD_NAP: Duration = Duration::from_millis(2);
/// so long after the last packet.
const QUIET: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Naps {
    stream: Stream,
    /// When the last turn with a packet began.
    packets_at: Time,
}

/// Whether packets come one by one.
#[derive(Debug, Default)]
enum Stream {
    /// No turn is like the one before it.
    #[default]
    Awake,
    /// The last turns were alike: where their packets came from, how many turns, when the last one began.
    Run(Direction, u32, Time),
    /// Packets are let come together.
    Napping,
}

impl Naps {
    /// How long to sleep after a turn that began at `at`, if at all.
    #[inline]
    pub(super) fn after(&mut self, taken: Taken, at: Time) -> Option<Duration> {
        match taken {
            Taken::Nothing => {}
            Taken::Flood { more } => return (!more && at.since(self.packets_at) >= QUIET).then_some(FLOOD_NAP),
            Taken::One(_) | Taken::Some | Taken::Many => self.packets_at = at,
        }
        self.stream.turn(taken, at);
        matches!(self.stream, Stream::Napping).then_some(NAP)
    }
}

impl Stream {
    #[inline]
    fn turn(&mut self, taken: Taken, at: Time) {
        *self = match (taken, &*self) {
            (Taken::Nothing, &Self::Run(from, count, last)) => Self::Run(from, count, last),
            (Taken::Some, Self::Napping) => Self::Napping,
            (Taken::One(from), &Self::Run(before, count, last)) if from == before && at.since(last) < NEAR => {
                if count + 1 < RUN { Self::Run(from, count + 1, at) } else { Self::Napping }
            }
            (Taken::One(from), _) => Self::Run(from, 1, at),
            _ => Self::Awake,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{In, Out};
    use super::Taken::{Many, Nothing, One, Some as Several};
    use super::*;

    const FLOOD: Taken = Taken::Flood { more: false };

    #[derive(Default)]
    struct Lane {
        naps: Naps,
        now: Time,
    }

    impl Lane {
        /// Turns of these kinds, so many microseconds apart; after how many of them there was a nap.
        fn turns(&mut self, apart: u64, turns: impl IntoIterator<Item = Taken>) -> usize {
            let nap = |taken: &Taken| {
                self.now = self.now + Duration::from_micros(apart);
                self.naps.after(*taken, self.now).is_some()
            };
            turns.into_iter().filter(nap).count()
        }
    }

    fn stream(direction: Direction, count: usize) -> impl Iterator<Item = Taken> {
        std::iter::repeat_n(One(direction), count)
    }

    #[test]
    fn a_stream_in_one_direction_comes_together_as_long_as_several_do() {
        for direction in [In, Out] {
            let mut lane = Lane::default();
            assert_eq!(lane.turns(20, stream(direction, 31)), 0, "not yet a stream");
            assert_eq!(lane.turns(120, [One(direction)]), 0, "too long after");
            assert_eq!(lane.turns(20, stream(direction, 31)), 1);
            assert_eq!(lane.turns(70, [Several; 10]), 10);
            assert_eq!(lane.turns(70, [One(direction), Several, Several]), 0, "in vain");
        }
    }

    #[test]
    fn questions_and_answers_wait_for_nothing() {
        let mut lane = Lane::default();
        assert_eq!(lane.turns(20, [One(Out), One(In)].into_iter().cycle().take(10_000)), 0);
        assert_eq!(lane.turns(120, stream(Out, 10_000)), 0, "nor does what is rare");
        assert_eq!(lane.turns(5, [Many; 1000]), 0, "or comes together by itself");
    }

    #[test]
    fn a_stream_that_is_not_as_fast_pays_for_a_nap_in_a_run() {
        let mut lane = Lane::default();
        assert_eq!(lane.turns(90, stream(In, 320)), 10);
    }

    #[test]
    fn timers_are_no_reason_to_go_on_or_to_begin_anew() {
        let mut lane = Lane::default();
        let with_timers = stream(Out, 32).flat_map(|one| [Nothing, one]);
        assert_eq!(lane.turns(20, with_timers), 1);
        assert_eq!(lane.turns(20, [Several, Nothing, Several]), 1);
    }

    #[test]
    fn a_flood_comes_together_where_there_is_nothing_else() {
        let mut lane = Lane::default();
        assert_eq!(lane.turns(2_000, [FLOOD; 100]), 100 - 2, "not before it has been quiet");
        assert_eq!(lane.turns(5, [Taken::Flood { more: true }; 100]), 0);
        for packets in [One(In), Several, Many] {
            assert_eq!(lane.turns(2_000, [packets, FLOOD, FLOOD]), 0);
            assert_eq!(lane.turns(5_000, [Nothing, FLOOD]), 1);
        }
    }

    #[test]
    fn a_flood_is_no_streams_end() {
        let mut lane = Lane::default();
        let beside = stream(In, 32).flat_map(|one| [FLOOD, one]);
        assert_eq!(lane.turns(20, beside), 1);
        assert_eq!(lane.turns(70, [Several, FLOOD, Several]), 2);
    }

    #[test]
    fn naps_end_with_a_full_turn() {
        let mut lane = Lane::default();
        assert_eq!(lane.turns(20, stream(Out, 32)), 1);
        assert_eq!(lane.turns(20, [Many, Several]), 0);
    }
}
