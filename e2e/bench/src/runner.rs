//! Takes the subjects in turn, round by round, and keeps what was measured.
//!
//! A round takes every subject once; which comes first moves on with each round, so that none always follows the same one.
//! Where a measure has more rounds than others, subjects that its near goals are not about are in the first ones only.
//! Subjects of a measure stand side by side, idle but for the one that is measured; those whose idling costs something (a
//! crowd of peers) are set up for each of their turns alone.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

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
                Measure::Tcp1 | Measure::Tcp1V6 => 3,
                Measure::RttIdle => 4,
                _ => 1,
            }
    }

    /// In how many of those, from the first on, a subject has its turn: in all where a goal is near that it is part of.
    fn rounds_with(self, measure: Measure, subject: Subject) -> u32 {
        use Subject::{Boringtun, Gotatun, Raw};
        match (measure, subject) {
            (Measure::Tcp1, Raw | Boringtun) | (Measure::RttIdle, Raw | Boringtun | Gotatun) => self.rounds,
            _ => self.rounds_of(measure),
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
    let apart = |measure: &&Measure| measures.contains(measure) && !side_by_side.contains(measure);
    for &measure in Measure::value_variants().iter().filter(apart) {
        attempt(measure, &mut samples, tell, |samples, tell| match measure {
            Measure::Tcp1V6 => over_v6(plan, root, samples, tell),
            Measure::Peers => peers(plan, root, samples, tell),
            Measure::Chain => chains(plan, root, samples, tell),
            Measure::Changes => changes::measure(plan, root, samples, tell),
            Measure::Fair => fair::measure(plan, root, samples, tell),
            Measure::Flood => flood::measure(plan, root, samples, tell),
            _ => bail!("{measure:?} is measured side by side"),
        });
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
        let beds: Vec<&Bed> = beds.iter().filter(|bed| round < plan.rounds_with(measure, bed.subject)).collect();
        for bed in order(&beds, round) {
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
        Measure::Tcp1V6 => Ok(vec![(Figure::Tcp1V6, bed.tcp(1, plan.time)?.rate)]),
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
            bail!("{measure:?} has beds of its own")
        }
    }
}

/// IPv6 inside and outside, beside wireguard-go of the same.
fn over_v6(plan: Plan, root: &Path, samples: &mut Samples, tell: &mut dyn FnMut(&str)) -> Result<()> {
    tell("setting up tunnels of IPv6 over IPv6");
    let beds = Subject::V6.into_iter().map(|subject| Bed::start(subject, root)).collect::<Result<Vec<_>>>()?;
    in_turn(Measure::Tcp1V6, &beds, plan, samples, tell)
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

    #[test]
    fn every_ratio_that_is_near_has_all_rounds() {
        let plan = Plan { time: Duration::from_secs(5), trial: Duration::from_secs(2), rounds: 5 };
        let with = |measure, subject| plan.rounds_with(measure, subject);
        for subject in [Subject::Hawser(1), Subject::Hawser(2), Subject::WireguardGo] {
            assert_eq!([Measure::Tcp1, Measure::RttIdle].map(|m| with(m, subject)), [15, 20], "{subject}");
        }
        assert_eq!([Measure::Tcp1, Measure::RttIdle].map(|m| with(m, Subject::Gotatun)), [15, 5]);
        assert_eq!(Subject::V6.map(|subject| with(Measure::Tcp1V6, subject)), [15, 15]);
        for measure in [Measure::Tcp1, Measure::Tcp8, Measure::RttIdle] {
            assert_eq!(with(measure, Subject::Raw), 5, "{measure:?}: what any measure has at least");
        }
    }
}
