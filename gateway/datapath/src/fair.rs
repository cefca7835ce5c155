//! A short queue for everybody: a peer that sends more than a gateway can take delays its own packets, not others'.
//!
//! All datagrams of a lane and family wait in one socket, first come, first served. Its buffer is large, so that bursts and
//! pauses of the scheduler lose nothing; a peer that keeps it full makes all wait that long. So, as in CoDel (RFC 8289), a
//! queue that *stays* long is shortened, by drops that come faster until it is; but only by drops of those peers that take
//! more than an even share, and of those without mercy where that is not enough. A peer that is alone has the queue for itself.
//!
//! The intervals are those of data centres: where a gateway's own speed is what limits a flow, its ends are near.

use std::time::Duration;

use hawser_liveness::Time;

use crate::forwarding::PathIndex;

/// A wait that is not shortened.
const TARGET: Duration = Duration::from_micros(300);
/// A wait beyond which nothing more of a peer that causes it is taken: it does not slow down for single drops.
const LIMIT: Duration = Duration::from_micros(1500);
/// How long the wait must have been above, and between the first two drops; also what shares are counted over, twice.
const INTERVAL: Duration = Duration::from_millis(4);

/// Who sent less in two intervals fills no queue: what waits then waits for a lane that could not run.
const LEAST: u64 = 256 << 10;

/// What to do with what was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Take,
    /// Drop one datagram of it, so that the sender slows down.
    DropOne,
    /// Drop it.
    DropAll,
}

/// What one peer sent in an interval and in the one before.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    interval: u32,
    bytes: u32,
    before: u32,
}

/// The queue of one socket.
#[derive(Debug, Default)]
pub struct Fair {
    interval: u32,
    ends: Time,
    sent: Vec<Sent>,
    /// Of all peers: bytes and how many there are, in this interval and in the one before.
    total: [u64; 2],
    peers: [u32; 2],
    /// Since when the wait is above the target, and the queue never empty.
    above: Option<Time>,
    drops: u32,
    next_drop: Time,
}

impl Fair {
    /// `bytes` of the peer of a path are received, of which the last `waited` in the socket.
    pub fn handle_received(&mut self, path: PathIndex, bytes: usize, waited: Duration, now: Time) -> Verdict {
        let share = self.count(path, bytes, now);
        if waited < TARGET {
            self.handle_empty();
            return Verdict::Take;
        }
        let since = *self.above.get_or_insert(now);
        if now.since(since) < INTERVAL || !self.is_heavy(share) {
            return Verdict::Take;
        }
        if waited >= LIMIT {
            return Verdict::DropAll;
        }
        if now < self.next_drop {
            return Verdict::Take;
        }
        self.drops += 1;
        self.next_drop = now + INTERVAL.div_f64(f64::from(self.drops).sqrt());
        Verdict::DropOne
    }

    /// Nothing is left in the socket. However long the last datagrams waited, it was for the lane to run, not for others.
    pub fn handle_empty(&mut self) {
        (self.above, self.drops) = (None, 0);
    }

    /// Counts them; what the peer sent lately.
    fn count(&mut self, path: PathIndex, bytes: usize, now: Time) -> u64 {
        if now >= self.ends {
            let next = self.ends + INTERVAL;
            let follows = now < next;
            self.interval = self.interval.wrapping_add(if follows { 1 } else { 2 });
            self.total = [0, if follows { self.total[0] } else { 0 }];
            self.peers = [0, if follows { self.peers[0] } else { 0 }];
            self.ends = if follows { next } else { now + INTERVAL };
        }
        let path = usize::from(path);
        if path >= self.sent.len() {
            self.sent.resize(path + 1, Sent::default());
        }
        let sent = &mut self.sent[path];
        if sent.interval != self.interval || sent.bytes == 0 {
            let before = if sent.interval.wrapping_add(1) == self.interval { sent.bytes } else { 0 };
            *sent = Sent { interval: self.interval, bytes: 0, before };
            self.peers[0] += 1;
        }
        sent.bytes = sent.bytes.saturating_add(bytes as u32);
        self.total[0] += bytes as u64;
        u64::from(sent.bytes) + u64::from(sent.before)
    }

    /// Whether a peer that sent so much fills the queue, and takes more than an even share of it from others.
    fn is_heavy(&self, share: u64) -> bool {
        let peers = u64::from(self.peers[0].max(self.peers[1]));
        share >= LEAST && peers > 1 && share * peers > self.total[0] + self.total[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAVY: PathIndex = 0;
    const LIGHT: PathIndex = 7;
    const STEP: Duration = Duration::from_micros(100);

    /// Both send for a while, one 60,000 bytes each step and the other 100; what became of them.
    fn both(fair: &mut Fair, start: Time, time: Duration, waited: Duration) -> (Vec<Verdict>, Vec<Verdict>) {
        let steps = (time.as_micros() / STEP.as_micros()) as u32;
        let step = |n| {
            let now = start + STEP * n;
            let heavy = fair.handle_received(HEAVY, 60_000, waited, now);
            (heavy, fair.handle_received(LIGHT, 100, waited, now))
        };
        (0..steps).map(step).unzip()
    }

    fn is_taken(verdicts: &[Verdict]) -> bool {
        verdicts.iter().all(|v| *v == Verdict::Take)
    }

    fn start() -> Time {
        Time::from_millis(10_000)
    }

    #[test]
    fn nothing_is_dropped_of_a_short_queue_or_a_short_burst() {
        let mut fair = Fair::default();
        let (heavy, light) = both(&mut fair, start(), INTERVAL * 10, TARGET - STEP);
        assert!(is_taken(&heavy) && is_taken(&light));
        for burst in 10..20 {
            let at = start() + INTERVAL * burst;
            let (heavy, light) = both(&mut fair, at, INTERVAL - STEP, LIMIT * 2);
            assert!(is_taken(&heavy) && is_taken(&light), "it was short in between");
            fair.handle_received(LIGHT, 100, Duration::ZERO, at + (INTERVAL - STEP));
        }
    }

    #[test]
    fn a_wait_for_the_lane_to_run_is_no_queue() {
        let mut fair = Fair::default();
        for n in 0..1000 {
            let verdicts = both(&mut fair, start() + STEP * n, STEP, LIMIT * 2);
            assert!(is_taken(&verdicts.0) && is_taken(&verdicts.1), "{n}");
            fair.handle_empty();
        }
        let late = |n| fair.handle_received(HEAVY, 3000, LIMIT * 10, start() + INTERVAL * 100 + STEP * n);
        assert!(is_taken(&(0..1000).map(late).collect::<Vec<_>>()), "a backlog of little");
    }

    #[test]
    fn a_queue_that_stays_long_costs_the_peer_that_fills_it_more_and_more() {
        let mut fair = Fair::default();
        let (heavy, light) = both(&mut fair, start(), INTERVAL * 17, TARGET * 2);
        assert!(is_taken(&light));
        let drops = |part: &[Verdict]| part.iter().filter(|v| **v == Verdict::DropOne).count();
        let (first, second) = heavy.split_at(heavy.len() / 2);
        assert!(drops(first) >= 7 && drops(second) > 2 * drops(first), "{} {}", drops(first), drops(second));
        assert!(!heavy.contains(&Verdict::DropAll));
    }

    #[test]
    fn a_peer_that_does_not_slow_down_is_cut_to_what_can_be_taken() {
        let mut fair = Fair::default();
        let (heavy, light) = both(&mut fair, start(), INTERVAL * 2, LIMIT);
        assert!(is_taken(&light));
        let first = heavy.iter().position(|v| *v != Verdict::Take).expect("it is dropped");
        assert_eq!(first as u128, INTERVAL.as_micros() / STEP.as_micros());
        assert!(heavy[first..].iter().all(|v| *v == Verdict::DropAll));
    }

    #[test]
    fn a_peer_that_is_alone_again_has_the_queue_for_itself() {
        let mut fair = Fair::default();
        both(&mut fair, start(), INTERVAL * 2, LIMIT);
        let alone = |n| fair.handle_received(HEAVY, 60_000, LIMIT * 2, start() + INTERVAL * 2 + STEP * n);
        let verdicts: Vec<_> = (0..400).map(alone).collect();
        assert!(is_taken(&verdicts[2 * (INTERVAL.as_micros() / STEP.as_micros()) as usize..]));
        assert_eq!(verdicts[0], Verdict::DropAll);
    }

    #[test]
    fn of_peers_that_fill_it_together_none_is_spared_for_long() {
        let mut fair = Fair::default();
        let mut dropped = [0; 3];
        for n in 0..3000_u32 {
            let peer = (n % 3) as usize;
            let bytes = 40_000 + n as usize * 7919 % 20_000;
            let verdict = fair.handle_received(peer as PathIndex, bytes, LIMIT, start() + STEP * n);
            dropped[peer] += u32::from(verdict == Verdict::DropAll);
        }
        assert!(dropped.iter().all(|drops| *drops > 300), "{dropped:?}");
    }
}
