//! What a change of a thousand peers costs a lane: CPU time of its thread, during which its packets wait, as the gateway's own
//! report tells it: the change itself, and 95 of 100 turns from it on, when sessions' timers, handshakes, probes and figures of
//! all those peers are due. A TCP flow runs all the while.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use hawser_api::report::LaneLoadReport;

use crate::hawser::changing_ends;
use crate::iperf::Server;
use crate::runner::Plan;
use crate::samples::{Figure, Samples};
use crate::subject::Subject;

/// One flow's turn; the next follows at once.
const FLOW: Duration = Duration::from_secs(2);

/// What a change took of a gateway's lanes, of the slowest one each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Took {
    /// Changes that each lane had taken over before.
    before: Vec<u64>,
    /// What each lane said last.
    last: Vec<LaneLoadReport>,
    /// To take over the configuration, µs.
    pub change: u64,
    /// What 95 of 100 turns took since, by lane and how many changes it had taken over, µs.
    turns: BTreeMap<(usize, u64), u64>,
    /// The longest turn of control work since the gateway's start, µs.
    pub ever: u64,
}

impl Took {
    /// One that begins now.
    #[must_use]
    pub fn since(before: Vec<LaneLoadReport>) -> Self {
        let changes = before.iter().map(|load| load.changes).collect();
        Self { before: changes, last: before, change: 0, turns: BTreeMap::new(), ever: 0 }
    }

    /// Takes in what the lanes say. More than one change may come of it, each of which begins the lane's own account anew.
    pub fn saw(&mut self, loads: &[LaneLoadReport]) {
        for (lane, (load, before)) in loads.iter().zip(&self.before).enumerate() {
            self.ever = self.ever.max(load.longest_control_us);
            if load.changes > *before {
                self.change = self.change.max(load.last_change_us);
                self.turns.insert((lane, load.changes), load.turn_p95_us);
            }
        }
        self.last = loads.to_vec();
    }

    /// What 95 of 100 turns took from the change on, of the lane and the account where that was longest, µs.
    #[must_use]
    pub fn turn(&self) -> u64 {
        self.turns.values().copied().max().unwrap_or(0)
    }

    /// Whether every lane told of the change and of the turns since.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let all = !self.last.is_empty() && self.last.len() == self.before.len();
        let told = |(load, before): (&LaneLoadReport, &u64)| load.changes > *before && load.turn_p95_us > 0;
        all && self.change > 0 && self.last.iter().zip(&self.before).all(told)
    }
}

/// Adds and removes a thousand peers in every round.
///
/// # Errors
/// When a program is missing, or the gateway does not follow.
pub fn measure(plan: Plan, root: &Path, samples: &mut Samples, tell: &mut dyn FnMut(&str)) -> Result<()> {
    let subject = Subject::Crowded(2);
    tell("setting up a gateway and a thousand to be its peers");
    let ([a, b], mut members) = changing_ends(subject, 2, root)?;
    let server = Server::start(&b.ns, b.inner, root)?;
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let flow = scope.spawn(|| -> Result<()> {
            while running.load(Ordering::Relaxed) {
                server.tcp(&a.ns, a.inner, 1, FLOW)?;
            }
            Ok(())
        });
        let rounds = (0..plan.rounds).try_for_each(|round| -> Result<()> {
            let (added, removed) = (members.change(true)?, members.change(false)?);
            for (figure, value) in [
                (Figure::PeersAdded, added.change),
                (Figure::PeersAddedTurn, added.turn()),
                (Figure::PeersRemoved, removed.change),
                (Figure::PeersRemovedTurn, removed.turn()),
                (Figure::Control, removed.ever),
            ] {
                samples.add(figure, subject, value as f64);
            }
            tell(&format!("round {} of {}: added {added:?}, removed {removed:?}", round + 1, plan.rounds));
            Ok(())
        });
        running.store(false, Ordering::Relaxed);
        let flow = flow.join().expect("the flow does not panic");
        rounds.and(flow)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(changes: u64, last_change_us: u64, turn_p95_us: u64) -> LaneLoadReport {
        let longest_control_us = 5000;
        LaneLoadReport { changes, last_change_us, longest_control_us, turn_p95_us, ..Default::default() }
    }

    #[test]
    fn what_was_before_the_change_does_not_count() {
        let mut took = Took::since(vec![load(3, 700, 900), load(3, 100, 100)]);
        took.saw(&[load(3, 700, 4000), load(4, 20, 30)]);
        assert_eq!((took.change, took.turn(), took.ever, took.is_whole()), (20, 30, 5000, false), "one lane is behind");
        took.saw(&[load(4, 400, 0), load(4, 20, 80)]);
        assert!(!took.is_whole(), "nothing is known of its turns yet");
        took.saw(&[load(4, 400, 410), load(4, 20, 80)]);
        assert_eq!((took.change, took.turn(), took.is_whole()), (400, 410, true));
        took.saw(&[load(4, 400, 90), load(4, 20, 70)]);
        assert_eq!(took.turn(), 90, "the whole account counts, not how it began");
    }

    #[test]
    fn a_second_change_hides_nothing() {
        let mut took = Took::since(vec![load(3, 1, 1)]);
        took.saw(&[load(4, 400, 1200)]);
        took.saw(&[load(5, 3, 7)]);
        assert_eq!((took.change, took.turn(), took.is_whole()), (400, 1200, true));
        assert!(!Took::since(Vec::new()).is_whole());
    }
}
