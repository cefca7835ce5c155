//! The probes sent lately: which were answered, which are overdue, how many get lost.

use std::time::Duration;

use crate::Time;

/// Probes remembered; an answer to an older one counts for nothing.
const SLOTS: usize = 128;
/// Probes that the loss figure covers.
const LOSS_SPAN: u64 = 100;
/// Probes before the loss figure means anything.
const LOSS_MIN: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Pending,
    /// The peer got it, as a later packet of its said; the answer itself did not come.
    Heard,
    Answered,
}

/// A probe that turned out to have arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proof {
    /// When it was sent.
    pub(crate) sent: Time,
    /// Whether it was the first word of it, so that it proves something new.
    pub(crate) new: bool,
}

/// When probes were sent, and what became of them: apart, as there are a thousand paths and no room to waste.
#[derive(Debug, Clone)]
struct Slots {
    sent: [Time; SLOTS],
    outcome: [Outcome; SLOTS],
}

/// Probes `first..next`, the last [`SLOTS`] of them kept.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    slots: Box<Slots>,
    first: u64,
    next: u64,
    /// Everything below has been proven or superseded by a later proof, or is forgiven.
    settled: u64,
}

impl Window {
    pub(crate) fn new(first: u64) -> Self {
        let slots = Slots { sent: [Time::START; SLOTS], outcome: [Outcome::Pending; SLOTS] };
        Self { slots: Box::new(slots), first, next: first, settled: first }
    }

    fn slot(seq: u64) -> usize {
        // The remainder is below SLOTS.
        (seq % SLOTS as u64) as usize
    }

    fn knows(&self, seq: u64) -> bool {
        seq >= self.first && seq < self.next && self.next - seq <= SLOTS as u64
    }

    /// A probe goes out; returns its number.
    pub(crate) fn send(&mut self, now: Time) -> u64 {
        let seq = self.next;
        let slot = Self::slot(seq);
        (self.slots.sent[slot], self.slots.outcome[slot]) = (now, Outcome::Pending);
        self.next += 1;
        seq
    }

    /// Probes sent since the start.
    pub(crate) fn sent_total(&self) -> u64 {
        self.next - self.first
    }

    /// The answer to `seq` came; nothing where that is not one of the probes remembered, or was answered before.
    pub(crate) fn answered(&mut self, seq: u64) -> Option<Proof> {
        self.settle(seq, Outcome::Answered)
    }

    /// The peer says that it got `seq`; nothing where that was known.
    pub(crate) fn heard(&mut self, seq: u64) -> Option<Proof> {
        self.settle(seq, Outcome::Heard)
    }

    fn settle(&mut self, seq: u64, outcome: Outcome) -> Option<Proof> {
        if !self.knows(seq) {
            return None;
        }
        let slot = Self::slot(seq);
        let (sent, before) = (self.slots.sent[slot], self.slots.outcome[slot]);
        if before == Outcome::Answered || before == outcome {
            return None;
        }
        self.slots.outcome[slot] = outcome;
        self.settled = self.settled.max(seq + 1);
        Some(Proof { sent, new: before == Outcome::Pending })
    }

    /// Probes sent so far are no longer held against the path; answers to them still count.
    pub(crate) fn forgive(&mut self) {
        self.settled = self.next;
    }

    /// When the `n`th (from 0) of the probes since the last proof was sent, if that many were.
    pub(crate) fn unanswered(&self, n: u32) -> Option<Time> {
        let seq = self.settled + u64::from(n);
        self.knows(seq).then(|| self.slots.sent[Self::slot(seq)])
    }

    /// When the first of the probes since the last proof that were sent at `at` or later was sent.
    pub(crate) fn unanswered_since(&self, at: Time) -> Option<Time> {
        let oldest = self.settled.max(self.next.saturating_sub(SLOTS as u64));
        (oldest..self.next).map(|seq| self.slots.sent[Self::slot(seq)]).find(|sent| *sent >= at)
    }

    /// The share of the last 100 probes whose answer is overdue, 0 to 1; nothing while too few were sent.
    pub(crate) fn loss(&self, now: Time, overdue: Duration) -> Option<f64> {
        self.share(Time::START, |sent, outcome| match outcome {
            Outcome::Answered => Some(false),
            Outcome::Heard | Outcome::Pending => (sent + overdue <= now).then_some(true),
        })
    }

    /// The share of the probes sent from `since` on, among the last 100, that nothing was heard of.
    pub(crate) fn unproven(&self, since: Time, now: Time, overdue: Duration) -> Option<f64> {
        self.share(since, |sent, outcome| match outcome {
            Outcome::Answered | Outcome::Heard => Some(false),
            Outcome::Pending => (sent + overdue <= now).then_some(true),
        })
    }

    fn share(&self, since: Time, lost: impl Fn(Time, Outcome) -> Option<bool>) -> Option<f64> {
        let oldest = self.next.saturating_sub(LOSS_SPAN).max(self.first);
        let (mut done, mut gone) = (0_u32, 0_u32);
        let slot = |seq| (self.slots.sent[Self::slot(seq)], self.slots.outcome[Self::slot(seq)]);
        for (sent, outcome) in (oldest..self.next).map(slot).filter(|(sent, _)| *sent >= since) {
            if let Some(lost) = lost(sent, outcome) {
                done += 1;
                gone += u32::from(lost);
            }
        }
        (done >= LOSS_MIN).then(|| f64::from(gone) / f64::from(done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_proof_supersedes_earlier_probes_but_they_stay_lost() {
        let mut w = Window::new(7);
        for i in 0..30 {
            assert_eq!(w.send(Time::from_millis(i)), 7 + i);
        }
        assert_eq!(w.unanswered(0), Some(Time::from_millis(0)));
        assert!(w.answered(7 + 9).is_some_and(|p| p.new && p.sent == Time::from_millis(9)));
        assert!(w.answered(7 + 9).is_none(), "an answer counts once");
        assert_eq!(w.unanswered(0), Some(Time::from_millis(10)));
        assert_eq!(w.unanswered(20), None);
        let loss = w.loss(Time::from_millis(1000), Duration::from_millis(20)).expect("30 probes");
        assert!((loss - 29.0 / 30.0).abs() < 1e-9, "{loss}");
    }

    #[test]
    fn strangers_and_the_forgotten_prove_nothing() {
        let mut w = Window::new(1000);
        for i in 0..300 {
            w.send(Time::from_millis(i));
        }
        for seq in [0, 999, 1000, 1171, 1300, u64::MAX] {
            assert!(w.answered(seq).is_none(), "{seq}");
        }
        assert!(w.answered(1172).is_some());
        assert!(w.heard(1299).is_some_and(|p| p.new));
        assert!(w.answered(1299).is_some_and(|p| !p.new), "a round trip all the same");
    }
}
