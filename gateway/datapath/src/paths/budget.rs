//! How many probes a lane sends: many paths share a pace, so that asking them never is what keeps them from answering.
//! Suspects have one of their own: few of them are judged as fast beside a thousand others as alone, and where all are in
//! doubt at once, verdicts take longer and mean as much.

use std::time::Duration;

use hawser_liveness::{State, Time};

use crate::limit::Tokens;

/// Between probes of a lane to suspects, and between those to others, on average: 5,000 a second.
const APART: Duration = Duration::from_micros(200);
/// What may be sent at once, after the first, after a while of less.
const BURST: u32 = 50;

/// Both budgets of a lane.
#[derive(Debug, Clone, Default)]
pub(crate) struct Budgets {
    suspects: Budget,
    others: Budget,
}

/// From when on a path may send the probe that is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    at: Time,
    suspect: bool,
}

impl Budgets {
    /// From when on a path in that state may send what is due at `now`; `claim` keeps its place until the caller takes it.
    pub(crate) fn claim(&mut self, claim: &mut Option<Claim>, state: State, now: Time) -> Time {
        let suspect = state == State::Suspect;
        if let Some(held) = claim.filter(|held| held.suspect == suspect) {
            return held.at;
        }
        let at = if suspect { self.suspects.claim(now) } else { self.others.claim(now) };
        *claim = Some(Claim { at, suspect });
        at
    }
}

/// Hands out times to probe at, in the order of asking.
#[derive(Debug, Clone, Default)]
struct Budget(Tokens);

impl Budget {
    /// The time from which on the next probe may be sent: `now`, unless many were asked for before it.
    fn claim(&mut self, now: Time) -> Time {
        self.0.reserve(now, APART, BURST + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_what_exceeds_it_at_an_even_pace() {
        let (mut budget, now) = (Budget::default(), Time::from_millis(5000));
        let claims: Vec<Duration> = (0..2000).map(|_| budget.claim(now).since(now)).collect();
        assert!(claims[..=BURST as usize].iter().all(Duration::is_zero), "{claims:?}");
        assert_eq!(claims[BURST as usize + 1], APART);
        assert!(claims.is_sorted());
        assert_eq!(claims[1999], APART * (1999 - BURST));
        let later = Time::from_millis(6000);
        assert_eq!(budget.claim(later), later, "the burst is there again");
    }

    #[test]
    fn two_hundred_paths_at_the_normal_pace_never_wait() {
        let mut budget = Budget::default();
        for ms in (0..10_000).step_by(100) {
            for path in 0..200 {
                let now = Time::from_millis(ms) + Duration::from_micros(path * 500);
                assert_eq!(budget.claim(now), now);
            }
        }
    }
}
