//! The highest rate that still holds, found by trying. Pure but for the trial.

use anyhow::{Result, ensure};

/// Loss that a rate may have, as a share of the datagrams sent.
pub const LOSS: f64 = 0.001;
/// Steps up and down while only one side is known.
const STRIDE: f64 = 1.5;
/// The search ends when the bounds are this close.
const PRECISION: f64 = 1.04;
/// No search takes longer than this many trials.
const TRIALS: u32 = 20;

/// How a trial went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Rate that arrived, in the unit of the search.
    pub arrived: f64,
    /// Share of the datagrams that did not.
    pub loss: f64,
    /// Whether the sender could not send as fast as asked: no higher rate makes sense.
    pub exhausted: bool,
}

/// The highest rate that arrived with at most [`LOSS`], beginning at `start`.
///
/// # Errors
/// When a trial fails, or no rate above a thousandth of `start` holds.
pub fn highest(start: f64, mut trial: impl FnMut(f64) -> Result<Trial>) -> Result<f64> {
    let (mut rate, mut holds, mut fails) = (start, None, None);
    let mut best: f64 = 0.0;
    for _ in 0..TRIALS {
        let seen = trial(rate)?;
        if seen.loss <= LOSS {
            best = best.max(seen.arrived);
            if seen.exhausted {
                break;
            }
            holds = Some(rate);
        } else {
            fails = Some(rate);
        }
        rate = match (holds, fails) {
            (Some(low), Some(high)) if high / low < PRECISION => break,
            (Some(low), Some(high)) => f64::sqrt(low * high),
            (Some(low), None) => low * STRIDE,
            (None, Some(high)) => high / STRIDE,
            (None, None) => rate,
        };
    }
    ensure!(best > start / 1000.0, "no rate was found that loses at most {LOSS} of its datagrams, down to {rate}");
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(capacity: f64, sender: f64) -> impl FnMut(f64) -> Result<Trial> {
        move |rate| {
            let sent = rate.min(sender);
            let arrived = sent.min(capacity);
            Ok(Trial { arrived, loss: 1.0 - arrived / sent, exhausted: sent < rate })
        }
    }

    #[test]
    fn finds_the_capacity_from_either_side() {
        for start in [10.0, 900.0, 1000.0, 40_000.0] {
            let found = highest(start, link(1000.0, f64::INFINITY)).unwrap();
            assert!((960.0..=1001.0).contains(&found), "{start}: {found}");
        }
    }

    #[test]
    fn the_sender_may_be_the_limit() {
        let found = highest(100.0, link(f64::INFINITY, 700.0)).unwrap();
        assert!((found - 700.0).abs() < 1e-6, "{found}");
    }

    #[test]
    fn trials_are_few_and_a_dead_link_is_an_error() {
        let mut trials = 0;
        highest(250.0, |rate| {
            trials += 1;
            link(3000.0, f64::INFINITY)(rate)
        })
        .unwrap();
        assert!(trials <= 14, "{trials}");
        let dead = highest(250.0, |_| Ok(Trial { arrived: 0.0, loss: 1.0, exhausted: false }));
        assert!(dead.is_err());
    }
}
