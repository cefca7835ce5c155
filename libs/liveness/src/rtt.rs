//! Smoothed round trip and its mean deviation, as TCP keeps them (RFC 6298, section 2).

use std::time::Duration;

use crate::time::Time;

/// Samples that [`Rtt::expected`] looks back over.
const RECENT: usize = 4;
/// Answers that come within this time of one count as one sample there.
const BURST: Duration = Duration::from_millis(20);

/// Round trips so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rtt {
    /// Smoothed round trip and mean deviation.
    estimate: Option<(Duration, Duration)>,
    /// The latest samples, in turn.
    recent: [Option<Duration>; RECENT],
    turn: usize,
    /// When the first of the last burst came.
    burst: Option<Time>,
}

impl Rtt {
    /// Takes in the sample of an answer that came at `now`.
    pub(crate) fn sample(&mut self, rtt: Duration, now: Time) {
        match (self.burst.filter(|first| now.since(*first) < BURST), &mut self.recent[self.turn]) {
            (Some(_), Some(least)) => *least = rtt.min(*least),
            _ => {
                self.turn = (self.turn + 1) % RECENT;
                self.recent[self.turn] = Some(rtt);
                self.burst = Some(now);
            }
        }
        self.estimate = Some(match self.estimate {
            None => (rtt, rtt / 2),
            Some((mean, deviation)) => {
                let error = mean.abs_diff(rtt);
                ((mean * 7 + rtt) / 8, (deviation * 3 + error) / 4)
            }
        });
    }

    /// What the next answer should take: the smoothed round trip, but at most twice the least of the latest. A peer that was
    /// held up answers everything at once when it goes on; how long that took says nothing about the path, and however many
    /// answers those are, what was before them is not forgotten.
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

    /// Takes samples in, milliseconds, that come `apart` from each other.
    fn sample(rtt: &mut Rtt, now: &mut Time, samples: &[u64], apart: Duration) {
        for ms in samples {
            *now = *now + apart;
            rtt.sample(Duration::from_millis(*ms), *now);
        }
    }

    const APART: Duration = Duration::from_millis(100);

    #[test]
    fn steady_round_trips_lose_their_deviation_and_a_jump_is_followed() {
        let (mut rtt, mut now) = (Rtt::default(), Time::from_millis(1000));
        assert_eq!(rtt.mean(), None);
        sample(&mut rtt, &mut now, &[10; 100], APART);
        assert_eq!(rtt.mean(), Some(Duration::from_millis(10)));
        assert!(rtt.deviation() < Some(Duration::from_micros(1)), "{rtt:?}");
        sample(&mut rtt, &mut now, &[90; 40], APART);
        let mean = rtt.mean().expect("sampled");
        assert!((Duration::from_millis(85)..=Duration::from_millis(90)).contains(&mean), "{mean:?}");
        assert_eq!(rtt.expected(), rtt.mean());
    }

    #[test]
    fn late_answers_are_forgotten_with_the_next_prompt_one() {
        let (mut rtt, mut now) = (Rtt::default(), Time::from_millis(1000));
        assert_eq!(rtt.expected(), None);
        sample(&mut rtt, &mut now, &[10, 1000, 900, 800, 700, 600, 500], APART);
        assert!(rtt.expected() > Some(Duration::from_millis(300)));
        sample(&mut rtt, &mut now, &[10], APART);
        assert_eq!(rtt.expected(), Some(Duration::from_millis(20)));
    }

    #[test]
    fn a_burst_of_late_answers_is_no_news_of_the_path() {
        let (mut rtt, mut now) = (Rtt::default(), Time::from_millis(1000));
        sample(&mut rtt, &mut now, &[10; 8], APART);
        sample(&mut rtt, &mut now, &[1500, 1400, 1300, 1200, 1100, 1000], Duration::from_millis(1));
        assert!(rtt.mean() > Some(Duration::from_millis(300)), "{rtt:?}");
        assert_eq!(rtt.expected(), Some(Duration::from_millis(20)), "they were all there at once");
        let mut first = Rtt::default();
        sample(&mut first, &mut now, &[1500, 1000, 1200], Duration::from_millis(1));
        assert!(first.expected() >= Some(Duration::from_secs(1)), "nothing better is known: {first:?}");
    }
}
