//! All chosen rows, in an order that shares ropes and machine well: rows that are repeated one after the other on one rope,
//! then rows with a duration side by side, at last those that need the machine to themselves.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_testbed::process::binary;

use crate::fault::{Fault, Kind};
use crate::faults;
use crate::outcome::Outcome;
use crate::run::once;
use crate::stage::Stage;

/// Runs of a row in which the time until packets are spread over all paths again is measured: each waits for a hold-down, and
/// more of them would not fit into three quarters of an hour.
const EVEN_RUNS: u32 = 5;
/// A run beside its fault, on average over all rows: settling, packets before it, stragglers, the reset. For estimates.
const OVERHEAD: Duration = Duration::from_millis(2_300);
/// Waiting for the spread, about. For estimates.
const EVEN: Duration = Duration::from_secs(5);

/// What is run, how often and how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The rows.
    pub rows: Vec<&'static Fault>,
    /// How often each row without a duration is run.
    pub runs: u32,
    /// How long rows with a duration last at most.
    pub longest: Option<Duration>,
}

impl Plan {
    /// The fewest runs that a row needs to say anything.
    pub const RUNS: u32 = 20;

    /// Whether every row is run as it is meant to be.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let all = faults::all().all(|fault| self.rows.iter().any(|row| row.id == fault.id));
        all && self.runs >= Self::RUNS && self.rows.iter().all(|row| self.length(row) >= row.kind.length())
    }

    /// How long a row takes, about.
    #[must_use]
    pub fn estimate(&self, fault: &Fault) -> Duration {
        match fault.kind {
            Kind::Repeated(length) => {
                let even = if fault.even { EVEN * EVEN_RUNS.min(self.runs) } else { Duration::ZERO };
                (length + fault.after.unwrap_or_default() + OVERHEAD) * self.runs + even
            }
            Kind::Once(_) | Kind::OnceAlone(_) => self.length(fault),
        }
    }

    /// How long all of it takes, about.
    #[must_use]
    pub fn total(&self) -> Duration {
        let shared = self.rows.iter().filter(|f| matches!(f.kind, Kind::Once(_)));
        let longest = shared.map(|f| self.estimate(f)).max().unwrap_or_default();
        let others = self.rows.iter().filter(|f| !matches!(f.kind, Kind::Once(_)));
        longest + others.map(|f| self.estimate(f)).sum::<Duration>()
    }

    fn length(&self, fault: &Fault) -> Duration {
        match fault.kind {
            Kind::Repeated(length) => length,
            Kind::Once(length) | Kind::OnceAlone(length) => self.longest.map_or(length, |longest| longest.min(length)),
        }
    }

    /// Runs everything; gives the rows in the list's order. `say` hears of each row as it is done.
    ///
    /// # Errors
    /// When programs are not built. A row that fails is an outcome.
    pub fn run(&self, say: &(dyn Fn(&Outcome) + Sync)) -> Result<Vec<Outcome>> {
        self.programs()?;
        let mut outcomes = self.repeated(say);
        outcomes.extend(self.side_by_side(say));
        for &fault in self.rows.iter().filter(|f| matches!(f.kind, Kind::OnceAlone(_))) {
            outcomes.push(self.alone(fault, say));
        }
        outcomes.sort_by_key(|o| faults::all().position(|f| f.id == o.fault.id));
        Ok(outcomes)
    }

    fn programs(&self) -> Result<()> {
        for name in ["hawser", "hawser-agent", "hawser-gateway", "hawser-route-agent"] {
            let path = binary(name)?;
            let debug = Path::new(&path).components().any(|c| c.as_os_str() == "debug");
            ensure!(!debug || !self.is_whole(), "{} is not a release build", path.display());
        }
        Ok(())
    }

    /// After an error the next row gets a new stage; the logs of the old one are kept.
    fn repeated(&self, say: &dyn Fn(&Outcome)) -> Vec<Outcome> {
        let mut stage: Option<Stage> = None;
        let mut outcomes = Vec::new();
        for &fault in self.rows.iter().filter(|f| matches!(f.kind, Kind::Repeated(_))) {
            let mut outcome = Outcome::new(fault, false);
            if let Err(error) = self.repeat(&mut stage, &mut outcome) {
                outcome.error = Some(format!("{error:#}"));
                stage = None;
            }
            say(&outcome);
            outcomes.push(outcome);
        }
        if let Some(stage) = stage
            && outcomes.iter().all(Outcome::passes)
        {
            stage.rope.lab.pass();
        }
        outcomes
    }

    fn repeat(&self, stage: &mut Option<Stage>, outcome: &mut Outcome) -> Result<()> {
        let fault = outcome.fault;
        let stage = match stage {
            Some(stage) => stage,
            None => stage.insert(Stage::new("drills", fault.outer).context("Failed to set the stage")?),
        };
        for run in 0..self.runs {
            let even = fault.even && run < EVEN_RUNS;
            let cost = once(stage, fault, run, fault.kind.length(), even);
            outcome.costs.push(cost.with_context(|| format!("run {}", run + 1))?);
        }
        Ok(())
    }

    /// Each on a stage of its own, at the same time.
    fn side_by_side(&self, say: &(dyn Fn(&Outcome) + Sync)) -> Vec<Outcome> {
        let rows: Vec<&'static Fault> = self.rows.iter().copied().filter(|f| matches!(f.kind, Kind::Once(_))).collect();
        thread::scope(|scope| {
            let start = |&fault| (fault, scope.spawn(move || self.alone(fault, say)));
            let running: Vec<_> = rows.iter().map(start).collect();
            let outcome = |(fault, row): (&'static Fault, thread::ScopedJoinHandle<'_, Outcome>)| {
                let panicked =
                    |_| Outcome { error: Some("the drill itself panicked".into()), ..Outcome::new(fault, false) };
                row.join().unwrap_or_else(panicked)
            };
            running.into_iter().map(outcome).collect()
        })
    }

    fn alone(&self, fault: &'static Fault, say: &dyn Fn(&Outcome)) -> Outcome {
        let length = self.length(fault);
        let mut outcome = Outcome::new(fault, length < fault.kind.length());
        let result = Stage::new(fault.id, fault.outer).and_then(|mut stage| {
            outcome.costs.push(once(&mut stage, fault, 0, length, false)?);
            if outcome.passes() {
                stage.rope.lab.pass();
            }
            Ok(())
        });
        outcome.error = result.err().map(|error| format!("{error:#}"));
        say(&outcome);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Plan {
        Plan { rows: faults::all().collect(), runs: Plan::RUNS, longest: None }
    }

    #[test]
    fn everything_takes_less_than_three_quarters_of_an_hour() {
        let (plan, minutes) = (whole(), |d: Duration| d.as_secs() / 60);
        assert!(plan.total() < Duration::from_secs(43 * 60), "about {} minutes", minutes(plan.total()));
    }

    #[test]
    fn only_a_whole_run_is_one() {
        assert!(whole().is_whole());
        assert!(!Plan { runs: 19, ..whole() }.is_whole());
        assert!(!Plan { rows: faults::all().skip(1).collect(), ..whole() }.is_whole());
        assert!(!Plan { longest: Some(Duration::from_secs(60)), ..whole() }.is_whole());
        assert!(Plan { longest: Some(Duration::from_secs(6_000)), ..whole() }.is_whole());
    }
}
