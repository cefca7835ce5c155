//! How often a message is said that nobody answers: each datagram may be lost, and the next question may be 100 ms away.

use std::time::{Duration, Instant};

const TIMES: u32 = 3;
const GAP: Duration = Duration::from_millis(10);

/// A message that is being said: when next, and how often still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeats {
    at: Instant,
    left: u32,
}

impl Repeats {
    /// One that is to be said from `now` on.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { at: now, left: TIMES }
    }

    /// When it is due.
    #[must_use]
    pub fn at(self) -> Instant {
        self.at
    }

    /// What is left once it was said; nothing after the last time.
    #[must_use]
    pub fn said(self) -> Option<Self> {
        let left = self.left - 1;
        (left > 0).then_some(Self { at: self.at + GAP, left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_said_three_times() {
        let start = Instant::now();
        let all = std::iter::successors(Some(Repeats::new(start)), |repeats| repeats.said());
        let at: Vec<u128> = all.map(|repeats| (repeats.at() - start).as_millis()).collect();
        assert_eq!(at, [0, 10, 20]);
    }
}
