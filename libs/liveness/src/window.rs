//! The probes sent lately: which were answered, which are overdue, how many get lost.

use std::time::Duration;

use crate::Time;

/// Probes remembered; an answer to an older one counts for nothing. Each has its bit in a `u128`.
pub(crate) const SLOTS: usize = 128;
/// Nothing older than this is remembered, microseconds: twice as much has to fit in 32 bits.
const SPAN: u64 = 30 * 60 * 1_000_000;
/// Probes that the loss figure covers.
const LOSS_SPAN: u64 = 100;
/// Probes before the loss figure means anything.
const LOSS_MIN: u32 = 20;

/// A probe that turned out to have arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proof {
    /// When it was sent.
    pub(crate) sent: Time,
    /// Whether it was the first word of it, so that it proves something new.
    pub(crate) new: bool,
}

/// When probes were sent, and what became of them: apart and packed, as there are thousands of paths.
#[derive(Debug, Clone)]
struct Slots {
    /// Microseconds, rounded up, without their upper half.
    sent: [u32; SLOTS],
    /// The peer got it: its answer or a later packet said so.
    heard: u128,
    /// Its answer came.
    answered: u128,
}

/// Probes `first..next`, those from `oldest` on remembered.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    slots: Box<Slots>,
    first: u64,
    oldest: u64,
    next: u64,
    /// Everything below has been proven or superseded by a later proof, or is forgiven.
    settled: u64,
    /// When the last probe was sent, microseconds, rounded up.
    last: u64,
}

impl Window {
    pub(crate) fn new(first: u64) -> Self {
        let slots = Slots { sent: [0; SLOTS], heard: 0, answered: 0 };
        Self { slots: Box::new(slots), first, oldest: first, next: first, settled: first, last: 0 }
    }

    fn slot(seq: u64) -> usize {
        // The remainder is below SLOTS.
        (seq % SLOTS as u64) as usize
    }

    fn bit(seq: u64) -> u128 {
        1 << Self::slot(seq)
    }

    fn knows(&self, seq: u64) -> bool {
        (self.oldest..self.next).contains(&seq)
    }

    /// How long before the last probe a remembered one was sent, microseconds.
    fn age(&self, seq: u64) -> u64 {
        // Less than wraps, so the lower halves tell.
        u64::from((self.last as u32).wrapping_sub(self.slots.sent[Self::slot(seq)]))
    }

    fn sent(&self, seq: u64) -> Time {
        Time::from_nanos((self.last - self.age(seq)) * 1000)
    }

    /// A probe goes out; returns its number.
    pub(crate) fn send(&mut self, now: Time) -> u64 {
        let seq = self.next;
        let before = self.last;
        self.last = now.as_nanos().div_ceil(1000).max(before);
        self.oldest = self.oldest.max((seq + 1).saturating_sub(SLOTS as u64));
        if self.last - before > SPAN {
            self.oldest = seq;
        }
        while self.oldest < seq && self.age(self.oldest) > SPAN {
            self.oldest += 1;
        }
        self.slots.sent[Self::slot(seq)] = self.last as u32;
        self.slots.heard &= !Self::bit(seq);
        self.slots.answered &= !Self::bit(seq);
        self.next += 1;
        seq
    }

    /// Probes sent since the start.
    pub(crate) fn sent_total(&self) -> u64 {
        self.next - self.first
    }

    /// The answer to `seq` came; nothing where that is not one of the probes remembered, or was answered before.
    pub(crate) fn answered(&mut self, seq: u64) -> Option<Proof> {
        if !self.knows(seq) || self.slots.answered & Self::bit(seq) != 0 {
            return None;
        }
        self.slots.answered |= Self::bit(seq);
        Some(self.settle(seq))
    }

    /// The peer says that it got `seq`; nothing where that was known.
    pub(crate) fn heard(&mut self, seq: u64) -> Option<Proof> {
        (self.knows(seq) && self.slots.heard & Self::bit(seq) == 0).then(|| self.settle(seq))
    }

    fn settle(&mut self, seq: u64) -> Proof {
        let new = self.slots.heard & Self::bit(seq) == 0;
        self.slots.heard |= Self::bit(seq);
        self.settled = self.settled.max(seq + 1);
        Proof { sent: self.sent(seq), new }
    }

    /// Probes sent so far are no longer held against the path; answers to them still count.
    pub(crate) fn forgive(&mut self) {
        self.settled = self.next;
    }

    /// The oldest of the probes since the last proof that are remembered.
    fn open(&self) -> u64 {
        self.settled.max(self.oldest)
    }

    /// When the `n`th (from 0) of the probes since the last proof that are remembered was sent, if there are that many.
    pub(crate) fn unanswered(&self, n: u32) -> Option<Time> {
        let seq = self.open() + u64::from(n);
        (seq < self.next).then(|| self.sent(seq))
    }

    /// When the first of the probes since the last proof that were sent at `at` or later was sent.
    pub(crate) fn unanswered_since(&self, at: Time) -> Option<Time> {
        (self.open()..self.next).map(|seq| self.sent(seq)).find(|sent| *sent >= at)
    }

    /// The share of the last 100 probes whose answer is overdue, 0 to 1; nothing while too few were sent.
    pub(crate) fn loss(&self, now: Time, overdue: Duration) -> Option<f64> {
        self.share(Time::START, now, overdue, self.slots.answered)
    }

    /// The share of the probes sent from `since` on, among the last 100, that nothing was heard of.
    pub(crate) fn unproven(&self, since: Time, now: Time, overdue: Duration) -> Option<f64> {
        self.share(since, now, overdue, self.slots.heard)
    }

    /// The share of probes without their bit in `good`, of those with it and those that are overdue.
    fn share(&self, since: Time, now: Time, overdue: Duration, good: u128) -> Option<f64> {
        let oldest = self.next.saturating_sub(LOSS_SPAN).max(self.oldest);
        let (mut done, mut gone) = (0_u32, 0_u32);
        for seq in oldest..self.next {
            let (sent, lost) = (self.sent(seq), good & Self::bit(seq) == 0);
            if sent >= since && (!lost || sent + overdue <= now) {
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

    #[test]
    fn however_long_nothing_is_answered_the_latest_probes_are_known() {
        let mut w = Window::new(1);
        for i in 0..1000 {
            w.send(Time::from_millis(i));
        }
        let kept = SLOTS as u64;
        assert_eq!(w.unanswered(0), Some(Time::from_millis(1000 - kept)));
        assert_eq!(w.unanswered(SLOTS as u32 - 1), Some(Time::from_millis(999)));
        assert_eq!(w.unanswered(SLOTS as u32), None);
    }

    #[test]
    fn times_hold_over_hours_and_what_is_too_old_to_tell_is_forgotten() {
        let mut w = Window::new(1);
        // The longest pause of an idle path, over several times what 32 bits of microseconds hold.
        for i in 0..2_000_u64 {
            let at = Time::from_millis(i * 10_000);
            let seq = w.send(at);
            let others = SLOTS as u64 - 1;
            if i >= others {
                let oldest = w.answered(seq - others).expect("remembered");
                assert_eq!(oldest.sent, Time::from_millis((i - others) * 10_000));
            }
        }
        let mut w = Window::new(1);
        let hour = Duration::from_secs(3600);
        for pause in [Duration::from_secs(1200), hour, 2 * hour, Duration::from_micros(1 << 32)] {
            let mut w = w.clone();
            let (first, second) = (w.send(Time::START + hour), w.send(Time::START + hour + pause));
            let short = pause < hour;
            assert_eq!(w.heard(first).map(|p| p.sent), short.then_some(Time::START + hour), "{pause:?}");
            assert_eq!(w.heard(second).map(|p| p.sent), Some(Time::START + hour + pause), "{pause:?}");
        }
        assert_eq!(w.send(Time::from_nanos(1)), 1);
        assert!(w.answered(1).is_some_and(|p| p.sent == Time::from_nanos(1000)), "rounded up");
    }

    #[test]
    fn a_window_is_small() {
        assert_eq!(size_of::<Slots>(), 544);
    }
}
