//! The numbers of liveness.

use std::time::Duration;

/// What a path's life is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Probes, which can always be sent.
    Probes,
    /// Probes, which can be sent only while a session exists ([`Path::handle_session`](crate::Path::handle_session)).
    ProbesInSession,
    /// The session alone: the peer does not answer probes.
    SessionOnly,
}

/// How often a path without suspicion is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Every [`Config::interval`].
    Normal,
    /// Every [`Config::idle_interval`]: idle peers and second lanes.
    Idle,
}

/// The numbers of one path. [`Config::default`] holds the ones that Hawser runs with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// What it is judged by.
    pub mode: Mode,
    /// Between probes, normally.
    pub interval: Duration,
    /// Between probes at the idle pace.
    pub idle_interval: Duration,
    /// Probes at the idle pace are sent at whole multiples of this, so that those of many paths go together.
    pub idle_grain: Duration,
    /// Between probes of a suspect; longer where round trips are so long that too many would be under way.
    pub suspect_interval: Duration,
    /// An answer is missed after this or two round trips, whichever is longer.
    pub min_miss: Duration,
    /// Silence before a path is down.
    pub silence: Duration,
    /// Probes overdue before a path is down, at least.
    pub min_unanswered: u32,
    /// The same on a path that loses much anyway, at most.
    pub max_unanswered: u32,
    /// Chance at which a lossy path may be taken for a dead one, per suspicion: sets the count between the two above.
    pub false_alarm: f64,
    /// Two refusals of different packets within this are a verdict.
    pub refusal_window: Duration,
    /// Between changes of the peer's drain that are taken in.
    pub drain_apart: Duration,
    /// The first hold-down.
    pub hold_min: Duration,
    /// The longest hold-down.
    pub hold_max: Duration,
    /// Time up that takes back one doubling of the hold-down.
    pub hold_decay: Duration,
    /// Number of the first probe; random where an earlier run's probes may still be echoed.
    pub first_seq: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Probes,
            interval: Duration::from_millis(100),
            idle_interval: Duration::from_secs(1),
            idle_grain: Duration::from_millis(50),
            suspect_interval: Duration::from_millis(20),
            min_miss: Duration::from_millis(20),
            silence: Duration::from_millis(300),
            min_unanswered: 8,
            max_unanswered: 25,
            false_alarm: 1e-9,
            refusal_window: Duration::from_millis(200),
            drain_apart: Duration::from_millis(100),
            hold_min: Duration::from_secs(5),
            hold_max: Duration::from_secs(60),
            hold_decay: Duration::from_secs(60),
            first_seq: 1,
        }
    }
}

/// Between probes of all idle paths together, and the longest that one of them waits.
const IDLE_APART: Duration = Duration::from_millis(4);
const IDLE_MAX: Duration = Duration::from_secs(10);

impl Config {
    /// The same for one of so many paths: where there are many, idle ones are probed more rarely, so that all together take
    /// no more of the processor than 250 do. A path that carries packets is not idle.
    #[must_use]
    pub fn among(self, paths: usize) -> Self {
        let spread = IDLE_APART.saturating_mul(u32::try_from(paths).unwrap_or(u32::MAX)).min(IDLE_MAX);
        Self { idle_interval: self.idle_interval.max(spread), ..self }
    }

    /// Overdue probes that make a verdict on a path that loses `loss` (0 to 1) of its probes while it lives.
    #[must_use]
    pub fn unanswered_for(&self, loss: f64) -> u32 {
        if loss <= 0.0 {
            return self.min_unanswered;
        }
        if loss >= 1.0 {
            return self.max_unanswered;
        }
        let needed = (self.false_alarm.ln() / loss.ln()).ceil();
        // Clamped to the range of the two bounds, so the cast loses nothing.
        needed.clamp(f64::from(self.min_unanswered), f64::from(self.max_unanswered)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_idle_paths_share_what_some_take() {
        let idle = |paths| Config::default().among(paths).idle_interval;
        let expected = [1, 1, 4, 10, 10].map(Duration::from_secs);
        assert_eq!([0, 250, 1000, 5000, 65_000].map(idle), expected);
    }

    #[test]
    fn more_loss_needs_more_silence_within_bounds() {
        let cfg = Config::default();
        let counts: Vec<u32> = [0.0, 0.01, 0.05, 0.2, 0.36, 0.9, 1.0].iter().map(|&l| cfg.unanswered_for(l)).collect();
        assert_eq!(counts, [8, 8, 8, 13, 21, 25, 25]);
    }
}
