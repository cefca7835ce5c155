//! Smoothed round trip and its mean deviation, as TCP keeps them (RFC 6298, section 2).

use std::time::Duration;

/// Samples that [`Rtt::expected`] looks back over.
const RECENT: usize = 4;

/// Round trips so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rtt {
    /// Smoothed round trip and mean deviation.
    estimate: Option<(Duration, Duration)>,
    /// The latest samples, in turn.
    recent: [Option<Duration>; RECENT],
    turn: usize,
}

impl Rtt {
    /// Takes a sample in.
    pub(crate) fn sample(&mut self, rtt: Duration) {
        self.recent[self.turn % RECENT] = Some(rtt);
        self.turn = (self.turn + 1) % RECENT;
        self.estimate = Some(match self.estimate {
            None => (rtt, rtt / 2),
            Some((mean, deviation)) => {
                let error = mean.abs_diff(rtt);
                ((mean * 7 + rtt) / 8, (deviation * 3 + error) / 4)
            }
        });
    }

    /// What the next answer should take: the smoothed round trip, but at most twice the least of the latest. A peer that was
    /// held up answers everything at once when it goes on; how long that took says nothing about the path.
    pub(crate) fn expected(&self) -> Option<Duration> {
        let least = self.recent.iter().flatten().min()?;
        self.mean().map(|mean| mean.min(*least * 2))
    }

    /// The smoothed round trip.
    pub(crate) fn mean(&self) -> Option<Duration> {
        self.estimate.map(|(mean, _)| mean)
    }

    /// Its mean deviation.
    pub(crate) fn deviation(&self) -> Option<Duration> {
        self.estimate.map(|(_, deviation)| deviation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_round_trips_lose_their_deviation_and_a_jump_is_followed() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.mean(), None);
        for _ in 0..100 {
            rtt.sample(Duration::from_millis(10));
        }
        assert_eq!(rtt.mean(), Some(Duration::from_millis(10)));
        assert!(rtt.deviation() < Some(Duration::from_micros(1)), "{rtt:?}");
        for _ in 0..40 {
            rtt.sample(Duration::from_millis(90));
        }
        let mean = rtt.mean().expect("sampled");
        assert!((Duration::from_millis(85)..=Duration::from_millis(90)).contains(&mean), "{mean:?}");
        assert_eq!(rtt.expected(), rtt.mean());
    }

    #[test]
    fn a_burst_of_late_answers_is_forgotten_with_the_next_prompt_one() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.expected(), None);
        for ms in [10, 1000, 900, 800, 700, 600, 500] {
            rtt.sample(Duration::from_millis(ms));
        }
        assert!(rtt.expected() > Some(Duration::from_millis(300)));
        rtt.sample(Duration::from_millis(10));
        assert_eq!(rtt.expected(), Some(Duration::from_millis(20)));
    }
}
