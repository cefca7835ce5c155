//! When to start the next handshake.

use std::time::Duration;

use hawser_liveness::Time;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);

/// Handshake attempts with one peer lane: at once, then ever more slowly, spread out so that peers of a restarted gateway
/// don't come in step.
#[derive(Debug, Clone)]
pub(crate) struct Attempts {
    next: Time,
    delay: Duration,
    /// Share of the delay that is added, in 256ths; changes with each attempt.
    jitter: u8,
}

impl Attempts {
    /// The first is due at `now`; `seed` tells peers apart.
    pub(crate) fn new(now: Time, seed: u8) -> Self {
        Self { next: now, delay: FIRST, jitter: seed }
    }

    pub(crate) fn due(&self, now: Time) -> bool {
        now >= self.next
    }

    /// One was made.
    pub(crate) fn made(&mut self, now: Time) {
        let extra = self.delay / 4 * u32::from(self.jitter) / 256;
        self.jitter = self.jitter.wrapping_mul(5).wrapping_add(113);
        self.next = now + self.delay + extra;
        self.delay = (self.delay * 2).min(LONGEST);
    }

    /// One succeeded: the next failure is again met at once.
    pub(crate) fn succeeded(&mut self) {
        self.delay = FIRST;
        self.next = Time::START;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_back_off_and_start_over() {
        let mut now = Time::from_millis(10);
        let mut attempts = Attempts::new(now, 77);
        let mut gaps = Vec::new();
        for _ in 0..8 {
            assert!(attempts.due(now));
            attempts.made(now);
            assert!(!attempts.due(now));
            gaps.push(attempts.next.since(now));
            now = attempts.next;
        }
        assert!(gaps.windows(2).all(|w| w[1] * 2 > w[0]), "{gaps:?}");
        assert!(gaps[0] >= FIRST && gaps[0] < FIRST * 2, "{gaps:?}");
        assert!(gaps[7] >= LONGEST && gaps[7] < LONGEST * 2, "{gaps:?}");
        attempts.succeeded();
        assert!(attempts.due(now));
        attempts.made(now);
        assert!(attempts.next.since(now) < FIRST * 2);
    }
}
