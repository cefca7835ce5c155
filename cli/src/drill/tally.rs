//! One flow's numbered probes: how many came back, in what order, and the longest time without one. Pure.

use std::time::Duration;

use serde::Serialize;

/// What became of a flow's probes. Times are since the drill began.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    sent: u64,
    seen: Vec<bool>,
    highest: Option<usize>,
    received: u64,
    duplicates: u64,
    reordered: u64,
    last: Duration,
    longest_gap: Duration,
    gap_at: Duration,
}

/// A flow's row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowRow {
    /// Its source port; 0 in a sum.
    pub port: u16,
    /// Probes sent.
    pub sent: u64,
    /// Probes that never came back.
    pub lost: u64,
    /// Probes that came back more than once.
    pub duplicates: u64,
    /// Probes that came back after a later one.
    pub reordered: u64,
    /// The longest time between two that came back, milliseconds.
    pub longest_gap_ms: u64,
    /// When that began, milliseconds since the start.
    pub gap_at_ms: u64,
}

impl Tally {
    /// A probe was sent; gives its number.
    pub fn send(&mut self) -> u64 {
        self.sent += 1;
        self.sent - 1
    }

    /// A probe came back. Numbers that were never sent are somebody else's.
    pub fn receive(&mut self, number: u64, at: Duration) {
        let Some(index) = usize::try_from(number).ok().filter(|_| number < self.sent) else { return };
        self.pause(at);
        if self.seen.len() <= index {
            self.seen.resize(index + 1, false);
        }
        if std::mem::replace(&mut self.seen[index], true) {
            self.duplicates += 1;
            return;
        }
        self.received += 1;
        if self.highest.is_some_and(|highest| index < highest) {
            self.reordered += 1;
        }
        self.highest = self.highest.max(Some(index));
    }

    fn pause(&mut self, at: Duration) {
        let gap = at.saturating_sub(self.last);
        if gap > self.longest_gap {
            (self.longest_gap, self.gap_at) = (gap, self.last);
        }
        self.last = at;
    }

    /// Sending ended: a flow that is silent by then has been since it was last heard.
    pub fn end(&mut self, at: Duration) {
        self.pause(at);
    }

    /// The row of a flow from `port`.
    #[must_use]
    pub fn row(&self, port: u16) -> FlowRow {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        FlowRow {
            port,
            sent: self.sent,
            lost: self.sent - self.received,
            duplicates: self.duplicates,
            reordered: self.reordered,
            longest_gap_ms: millis(self.longest_gap),
            gap_at_ms: millis(self.gap_at),
        }
    }
}

/// All flows together: sums, and the worst gap of any.
#[must_use]
pub fn sum(rows: &[FlowRow]) -> FlowRow {
    let worst = rows.iter().max_by_key(|r| r.longest_gap_ms).copied().unwrap_or_default();
    FlowRow {
        port: 0,
        sent: rows.iter().map(|r| r.sent).sum(),
        lost: rows.iter().map(|r| r.lost).sum(),
        duplicates: rows.iter().map(|r| r.duplicates).sum(),
        reordered: rows.iter().map(|r| r.reordered).sum(),
        longest_gap_ms: worst.longest_gap_ms,
        gap_at_ms: worst.gap_at_ms,
    }
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
        tally.end(ms(50));
        let row = tally.row(4000);
        assert_eq!((row.sent, row.lost, row.duplicates, row.reordered), (10, 5, 1, 1), "{row:?}");
        assert_eq!((row.longest_gap_ms, row.gap_at_ms), (26, 4), "{row:?}");
    }

    #[test]
    fn a_flow_that_never_comes_back_is_one_long_gap() {
        let mut tally = Tally::default();
        tally.send();
        tally.receive(0, ms(1));
        tally.send();
        tally.end(ms(900));
        assert_eq!(tally.row(1).longest_gap_ms, 899);
        let other = FlowRow { sent: 5, lost: 1, longest_gap_ms: 10, ..FlowRow::default() };
        let sum = sum(&[tally.row(1), other]);
        assert_eq!((sum.sent, sum.lost, sum.longest_gap_ms, sum.gap_at_ms), (7, 2, 899, 1));
    }
}
