//! What became of flows, as operators read it: a line per second, a table or JSON at the end. The engine is `hawser-drill`.

use std::time::Duration;

use hawser_drill::stream::Now;
use hawser_drill::{Flow, Total};
use serde::Serialize;

use super::bounds::lost_percent;

/// A flow is called silent after so many packets in a row are missing, and this time at least.
const MISSING: u32 = 10;
/// See [`MISSING`].
const SILENT: Duration = Duration::from_millis(50);

/// A flow's row; of a sum: that of the flow with the longest gap where it is about one flow.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowRow {
    /// The source port.
    pub port: u16,
    /// Packets sent.
    pub sent: u64,
    /// Packets that never came back.
    pub lost: u64,
    /// Share of them, percent.
    pub lost_percent: f64,
    /// Packets that came back more than once.
    pub duplicates: u64,
    /// Packets that came back after a later one.
    pub reordered: u64,
    /// The longest time in which nothing came back, milliseconds.
    pub longest_gap_ms: u64,
    /// When that began, milliseconds since the start.
    pub gap_at_ms: u64,
}

impl FlowRow {
    fn of(flow: &Flow, port: u16) -> Self {
        Self {
            port,
            sent: flow.sent,
            lost: flow.lost(),
            lost_percent: lost_percent(flow),
            duplicates: flow.duplicates,
            reordered: flow.reordered,
            longest_gap_ms: millis(flow.longest_gap),
            gap_at_ms: millis(flow.gap_at),
        }
    }

    /// The cells of a table with [`HEAD`].
    #[must_use]
    pub fn cells(&self, name: String) -> Vec<String> {
        let lost = if self.lost == 0 { "0".to_owned() } else { format!("{} ({:.2} %)", self.lost, self.lost_percent) };
        let gap = format!("{} ms (at {:.1} s)", self.longest_gap_ms, self.gap_at_ms as f64 / 1e3);
        vec![name, self.sent.to_string(), lost, self.duplicates.to_string(), self.reordered.to_string(), gap]
    }
}

/// Heads of the table of flows.
pub const HEAD: [&str; 6] = ["FLOW FROM", "SENT", "LOST", "DUPLICATES", "REORDERED", "LONGEST GAP"];

/// All that was measured.
#[derive(Debug, Clone)]
pub struct Flows {
    /// One per flow.
    pub rows: Vec<FlowRow>,
    /// All together; its port is that of the flow with the longest gap.
    pub total: FlowRow,
    /// The same, as the engine counts.
    pub all: Flow,
}

impl Flows {
    /// Of these flows, sent from these ports.
    #[must_use]
    pub fn new(flows: &[Flow], ports: &[u16]) -> Self {
        let Total { all, worst } = Total::of(flows);
        let worst = worst.and_then(|index| ports.get(index)).copied().unwrap_or(0);
        let rows = flows.iter().zip(ports).map(|(flow, port)| FlowRow::of(flow, *port)).collect();
        Self { rows, total: FlowRow::of(&all, worst), all }
    }
}

/// How it goes, in a line.
#[must_use]
pub fn line(now: &Now, pace: Duration) -> String {
    let limit = SILENT.max(pace * MISSING);
    let (silent, flows) = (now.silence.iter().filter(|silence| **silence > limit).count(), now.flows.len());
    let state = match (silent, now.silence.iter().max()) {
        (1.., Some(longest)) => format!("{silent} of {flows} flows silent, for up to {} ms", longest.as_millis()),
        _ => format!("all {flows} flows answer"),
    };
    let all = Total::of(&now.flows).all;
    let gap = all.longest_gap.as_millis();
    let (seconds, sent, back) = (now.elapsed.as_secs(), all.sent, all.received);
    format!("{seconds:3} s: {sent} sent, {back} back; {state}; longest gap so far {gap} ms")
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_sum_names_the_flow_with_the_longest_gap() {
        let flow = |sent, gap| Flow { sent, received: sent - 1, longest_gap: ms(gap), ..Flow::default() };
        let flows = Flows::new(&[flow(10, 4), flow(10, 90), flow(20, 30)], &[1, 2, 3]);
        assert_eq!((flows.total.port, flows.total.longest_gap_ms, flows.total.lost), (2, 90, 3));
        assert_eq!(flows.rows[2].cells("3".into())[2], "1 (5.00 %)");
        assert_eq!(flows.rows.len(), 3);
    }

    #[test]
    fn a_line_says_who_is_silent() {
        let flow = Flow { sent: 500, received: 490, longest_gap: ms(180), ..Flow::default() };
        let now =
            |silence: [u64; 2]| Now { elapsed: ms(3_004), flows: vec![flow; 2], silence: silence.map(ms).to_vec() };
        assert_eq!(
            line(&now([2, 180]), ms(2)),
            "  3 s: 1000 sent, 980 back; 1 of 2 flows silent, for up to 180 ms; longest gap so far 180 ms"
        );
        assert!(line(&now([2, 50]), ms(2)).contains("all 2 flows answer"));
        assert!(line(&now([2, 180]), ms(20)).contains("all 2 flows answer"));
    }
}
