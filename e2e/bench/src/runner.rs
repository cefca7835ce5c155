//! Takes the subjects in turn, round by round, and keeps what was measured.
//!
//! A round takes every subject once; which comes first moves on with each round, so that none always follows the same one.
//! Subjects of a measure stand side by side, idle but for the one that is measured; those whose idling costs something (a
//! crowd of peers) are set up for each of their turns alone.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::bed::Bed;
use crate::chain;
use crate::changes;
use crate::fair;
use crate::flood;
use crate::samples::{Figure, Measure, Samples};
use crate::search::highest;
use crate::stats::{median, percentile};
use crate::subject::Subject;

/// How long and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// One measurement.
    pub time: Duration,
    /// One trial of a search.
    pub trial: Duration,
    /// How many rounds, at least.
    pub rounds: u32,
}

impl Plan {
    /// Rounds of a measure: more where goals are nearer than what a round's ratio varies by.
    fn rounds_of(self, measure: Measure) -> u32 {
        self.rounds
            * match measure {
                Measure::Tcp1 => 3,
                Measure::RttIdle => 2,
                _ => 1,
            }
    }
}

/// Flows of each turn beside a thousand peers, which take longer to set up than to measure.
const FLOWS_A_TURN: u32 = 3;

/// Rate that a search begins with when nothing is known, in Mbit/s.
const FIRST_RATE: f64 = 400.0;

/// Runs the measures; `tell` hears what is being done. A measure that fails does not keep the others from being made.
///
/// # Errors
/// When the subjects can't be set up at all.
pub fn run(
    measures: &[Measure],
    subjects: &[Subject],
    plan: Plan,
    root: &Path,
    tell: &mut dyn FnMut(&str),
) -> Result<Samples> {
    let mut samples = Samples::default();
    let side_by_side = [Measure::Tcp1, Measure::Tcp8, Measure::Udp, Measure::RttIdle, Measure::RttLoad];
    if side_by_side.iter().any(|m| measures.contains(m)) {
        let mut beds = Vec::new();
        for &subject in subjects {
            tell(&format!("setting up {subject}"));
            beds.push(Bed::start(subject, root)?);
        }
        for measure in side_by_side.into_iter().filter(|m| measures.contains(m)) {
            attempt(measure, &mut samples, tell, |samples, tell| in_turn(measure, &beds, plan, samples, tell));
        }
    }
    if measures.contains(&Measure::Peers) {
        attempt(Measure::Peers, &mut samples, tell, |samples, tell| peers(plan, root, samples, tell));
    }
    if measures.contains(&Measure::Chain) {
        attempt(Measure::Chain, &mut samples, tell, |samples, tell| chains(plan, root, samples, tell));
    }
    if measures.contains(&Measure::Changes) {
        attempt(Measure::Changes, &mut samples, tell, |samples, tell| changes::measure(plan, root, samples, tell));
    }
    if measures.contains(&Measure::Fair) {
        attempt(Measure::Fair, &mut samples, tell, |samples, tell| fair::measure(plan, root, samples, tell));
    }
    if measures.contains(&Measure::Flood) {
        attempt(Measure::Flood, &mut samples, tell, |samples, tell| flood::measure(plan, root, samples, tell));
    }
    Ok(samples)
}

fn attempt(
    measure: Measure,
    samples: &mut Samples,
    tell: &mut dyn FnMut(&str),
    f: impl FnOnce(&mut Samples, &mut dyn FnMut(&str)) -> Result<()>,
) {
    if let Err(error) = f(samples, tell) {
        tell(&format!("{measure:?} failed: {error:#}"));
        samples.fail(measure, format!("{error:#}"));
    }
}

/// One measure of all beds, round by round.
fn in_turn(
    measure: Measure,
    beds: &[Bed],
    plan: Plan,
    samples: &mut Samples,
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    let rounds = plan.rounds_of(measure);
    for round in 0..rounds {
        for bed in order(beds, round) {
            let values =
                take(measure, bed, plan, samples, tell).with_context(|| format!("{measure:?} of {}", bed.subject))?;
            let mut said = format!("round {} of {rounds}: {}:", round + 1, bed.subject);
            for (figure, value) in values {
                samples.add(figure, bed.subject, value);
                said.push_str(&format!(" {figure} {value:.3} {}", figure.unit()));
            }
            tell(&said);
        }
    }
    Ok(())
}

/// Each round begins with the next one.
pub(crate) fn order<T>(items: &[T], round: u32) -> impl Iterator<Item = &T> {
    let first = round as usize % items.len().max(1);
    items[first..].iter().chain(&items[..first])
}

fn take(
    measure: Measure,
    bed: &Bed,
    plan: Plan,
    samples: &Samples,
    tell: &mut dyn FnMut(&str),
) -> Result<Vec<(Figure, f64)>> {
    match measure {
        Measure::Tcp1 => {
            let tcp = bed.tcp(1, plan.time)?;
            tell(&format!("{} TCP segments were sent again", tcp.retransmits));
            Ok(vec![(Figure::Tcp1, tcp.rate), (Figure::Cpu, tcp.cpu.as_secs_f64() / tcp.amount)])
        }
        Measure::Tcp8 => {
            let rate = bed.tcp(8, plan.time)?.rate;
            let mut values = vec![(Figure::Tcp8, rate)];
            if !bed.a.measured.is_empty() {
                values.push((Figure::Memory, bed.peak_memory()? as f64 / 1e6));
            }
            Ok(values)
        }
        Measure::Udp => {
            let known = samples.values(Figure::Udp, bed.subject).map(median);
            let start = known.map_or(FIRST_RATE, |gigabits| gigabits * 1e3);
            let rate = highest(start, |rate| bed.datagrams(rate, plan.trial))?;
            Ok(vec![(Figure::Udp, rate / 1e3)])
        }
        Measure::RttIdle => {
            let trips = bed.round_trips(plan.time)?.0;
            Ok(vec![(Figure::IdleMedian, median(&trips)), (Figure::IdleP99, percentile(&trips, 0.99))])
        }
        Measure::RttLoad => {
            let trips = bed.round_trips_beside(4, plan.time)?.0;
            Ok(vec![(Figure::LoadP99, percentile(&trips, 0.99))])
        }
        Measure::Peers | Measure::Chain | Measure::Changes | Measure::Fair | Measure::Flood => {
            anyhow::bail!("{measure:?} has beds of its own")
        }
    }
}

/// With and without a thousand idle peers, that answer or also ask, set up anew for each turn.
fn peers(plan: Plan, root: &Path, samples: &mut Samples, tell: &mut dyn FnMut(&str)) -> Result<()> {
    for round in 0..plan.rounds {
        for &subject in order(&[Subject::Hawser(2), Subject::Crowded(2), Subject::Asked(2)], round) {
            // Sites and keys are those of this turn only.
            let dir = tempfile::Builder::new().prefix("peers-").tempdir_in(root)?;
            tell(&format!("round {} of {}: setting up {subject}", round + 1, plan.rounds));
            let bed = Bed::start(subject, dir.path())?;
            let mut rates = Vec::new();
            for _ in 0..FLOWS_A_TURN {
                let rate = bed.tcp(1, plan.time)?.rate;
                samples.add(Figure::Peers, subject, rate);
                rates.push(format!("{rate:.3}"));
            }
            bed.tcp(8, plan.time)?;
            let memory = bed.peak_memory()? as f64 / 1e6;
            samples.add(Figure::PeersMemory, subject, memory);
            let rates = rates.join(", ");
            tell(&format!("round {} of {}: {subject}: {rates} Gbit/s, {memory:.1} MB", round + 1, plan.rounds));
        }
    }
    Ok(())
}

fn chains(plan: Plan, root: &Path, samples: &mut Samples, tell: &mut dyn FnMut(&str)) -> Result<()> {
    tell("setting up the chain");
    let bed = Bed::start(Subject::Chain, root)?;
    for round in 0..plan.rounds {
        for &subject in order(&[Subject::Chain, Subject::BareChain], round) {
            let rate = chain::rate(&bed, subject, 1, plan.time)?;
            samples.add(Figure::Chain, subject, rate);
            tell(&format!("round {} of {}: {subject}: {rate:.3} Gbit/s", round + 1, plan.rounds));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_takes_all_and_begins_with_another() {
        let items = ["a", "b", "c"];
        let rounds: Vec<String> = (0..4).map(|round| order(&items, round).copied().collect()).collect();
        assert_eq!(rounds, ["abc", "bca", "cab", "abc"]);
        assert_eq!(order::<u8>(&[], 3).count(), 0);
    }
}
