//! One flow's numbered datagrams: how many came back, in what order, the longest time without one. Pure; memory does not
//! grow with time. The sending and receiving half is in [`crate::stream`].

use std::time::Duration;

/// Numbers that are remembered: what comes back after so many later ones were sent counts as lost. At 2 ms apart, 65 s.
const WINDOW: u64 = 1 << 15;
const BITS: u64 = u64::BITS as u64;

/// Counts one flow; times are since the stream began.
#[derive(Debug, Clone)]
pub struct Tally {
    sent: u64,
    /// Bit `n % WINDOW` of number `n`, of the last [`WINDOW`] numbers.
    seen: Vec<u64>,
    highest: Option<u64>,
    received: u64,
    duplicates: u64,
    reordered: u64,
    last: Duration,
    longest_gap: Duration,
    gap_at: Duration,
    /// First and last of the numbers that left the window and had not come back.
    lost: Option<(u64, u64)>,
}

/// What became of one flow, or of all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Datagrams sent.
    pub sent: u64,
    /// Different datagrams that came back.
    pub received: u64,
    /// Datagrams that came back more than once.
    pub duplicates: u64,
    /// Datagrams that came back after a later one.
    pub reordered: u64,
    /// The longest time in which nothing came back.
    pub longest_gap: Duration,
    /// When that began, since the stream did.
    pub gap_at: Duration,
    /// The first and the last number that never came back.
    pub lost_between: Option<(u64, u64)>,
}

impl Flow {
    /// Datagrams that never came back.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

/// Sums of all flows, and the worst gap of any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// Counts of all flows; its gap is that of [`Total::worst`].
    pub all: Flow,
    /// The flow with the longest gap, by its place; none without flows.
    pub worst: Option<usize>,
}

impl Total {
    /// Of these flows.
    #[must_use]
    pub fn of(flows: &[Flow]) -> Self {
        let mut total = Self::default();
        for (index, flow) in flows.iter().enumerate() {
            let all = &mut total.all;
            all.sent += flow.sent;
            all.received += flow.received;
            all.duplicates += flow.duplicates;
            all.reordered += flow.reordered;
            let spans = all.lost_between.into_iter().chain(flow.lost_between);
            all.lost_between = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
            if total.worst.is_none() || flow.longest_gap > all.longest_gap {
                (all.longest_gap, all.gap_at, total.worst) = (flow.longest_gap, flow.gap_at, Some(index));
            }
        }
        total
    }
}

impl Default for Tally {
    fn default() -> Self {
        let words = usize::try_from(WINDOW / BITS).expect("a window fits memory");
        Self {
            sent: 0,
            seen: vec![0; words],
            highest: None,
            received: 0,
            duplicates: 0,
            reordered: 0,
            last: Duration::ZERO,
            longest_gap: Duration::ZERO,
            gap_at: Duration::ZERO,
            lost: None,
        }
    }
}

impl Tally {
    /// A datagram is sent; gives its number.
    pub fn send(&mut self) -> u64 {
        let number = self.sent;
        if let Some(leaving) = number.checked_sub(WINDOW)
            && !self.take(leaving)
        {
            self.lost = Some((self.lost.map_or(leaving, |(first, _)| first), leaving));
        }
        self.sent += 1;
        number
    }

    /// A datagram came back. Numbers that were never sent are somebody else's, those before the window came too late.
    pub fn receive(&mut self, number: u64, at: Duration) {
        if number >= self.sent || number + WINDOW < self.sent {
            return;
        }
        self.pause(at);
        let (word, bit) = place(number);
        if self.seen[word] & bit != 0 {
            self.duplicates += 1;
            return;
        }
        self.seen[word] |= bit;
        self.received += 1;
        self.reordered += u64::from(self.highest.is_some_and(|highest| number < highest));
        self.highest = self.highest.max(Some(number));
    }

    /// Sending ended: a flow that is silent by then has been since it was last heard. What comes back later is counted, and
    /// is no end of a gap.
    pub fn end(&mut self, at: Duration) {
        self.pause(at);
        self.last = Duration::MAX;
    }

    /// How long it has been silent.
    #[must_use]
    pub fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last)
    }

    /// What became of the flow so far.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let oldest = self.sent.saturating_sub(WINDOW);
        let missing = |number: &u64| {
            let (word, bit) = place(*number);
            self.seen[word] & bit == 0
        };
        let within = (oldest..self.sent).find(missing).zip((oldest..self.sent).rev().find(missing));
        let lost_between = self.lost.into_iter().chain(within).reduce(|a, b| (a.0, b.1));
        Flow {
            sent: self.sent,
            received: self.received,
            duplicates: self.duplicates,
            reordered: self.reordered,
            longest_gap: self.longest_gap,
            gap_at: self.gap_at,
            lost_between,
        }
    }

    /// Forgets a number; says whether it had come back.
    fn take(&mut self, number: u64) -> bool {
        let (word, bit) = place(number);
        let was = self.seen[word] & bit != 0;
        self.seen[word] &= !bit;
        was
    }

    fn pause(&mut self, at: Duration) {
        let gap = at.saturating_sub(self.last);
        if gap > self.longest_gap {
            (self.longest_gap, self.gap_at) = (gap, self.last);
        }
        self.last = self.last.max(at);
    }
}

fn place(number: u64) -> (usize, u64) {
    let index = number % WINDOW;
    (usize::try_from(index / BITS).expect("a window fits memory"), 1 << (index % BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn gaps_losses_and_order_are_told_apart() {
        let mut tally = Tally::default();
        (0..10).for_each(|n| assert_eq!(tally.send(), n));
        for (number, at) in [(0, 2), (1, 4), (3, 30), (2, 31), (3, 32), (8, 40), (77, 41)] {
            tally.receive(number, ms(at));
        }
        assert_eq!(tally.silence(ms(48)), ms(8));
        tally.end(ms(50));
        tally.receive(9, ms(500));
        let flow = tally.flow();
        assert_eq!((flow.sent, flow.lost(), flow.duplicates, flow.reordered), (10, 4, 1, 1), "{flow:?}");
        assert_eq!((flow.longest_gap, flow.gap_at, flow.lost_between), (ms(26), ms(4), Some((4, 7))), "{flow:?}");
    }

    #[test]
    fn a_flow_that_falls_silent_is_one_long_gap() {
        let mut tally = Tally::default();
        tally.send();
        tally.receive(0, ms(1));
        tally.send();
        tally.end(ms(900));
        let (silent, other) = (tally.flow(), Flow { sent: 5, received: 4, longest_gap: ms(10), ..Flow::default() });
        assert_eq!(silent.longest_gap, ms(899));
        let total = Total::of(&[other, silent]);
        assert_eq!((total.all.sent, total.all.lost(), total.all.longest_gap, total.worst), (7, 2, ms(899), Some(1)));
    }

    #[test]
    fn a_long_stream_forgets_what_is_old_and_counts_it_once() {
        let mut tally = Tally::default();
        let last = 3 * WINDOW;
        for number in 0..last {
            assert_eq!(tally.send(), number);
            if number != 5 && number != last - 2 {
                tally.receive(number, ms(2 * number));
            }
        }
        let flow = tally.flow();
        assert_eq!((flow.lost(), flow.lost_between), (2, Some((5, last - 2))), "{flow:?}");
        tally.receive(5, ms(2 * last));
        assert_eq!(tally.flow().lost(), 2, "after a minute it is lost");
        tally.receive(last - 2, ms(2 * last));
        assert_eq!((tally.flow().lost(), tally.flow().lost_between), (1, Some((5, 5))));
    }
}
