//! All runs of a fault against its bound: the worst counts. `cells` is the table for people. Pure.

mod cells;

use std::time::Duration;

use hawser_e2e::report::{Report, Row};

pub use self::cells::HEAD;
use crate::fault::{Bound, Fault, Sessions};
use crate::run::{Cost, Even};

/// Users may lose that much more than the underlay does, in percent of all packets.
const LOSS_MARGIN: f64 = 1.0;

/// A row: what was measured, or why nothing was.
#[derive(Debug)]
pub struct Outcome {
    /// What was caused.
    pub fault: &'static Fault,
    /// One per run.
    pub costs: Vec<Cost>,
    /// Why it could not be measured (to the end): an error, never a pass.
    pub error: Option<String>,
    /// It lasted less long than it is meant to: what only time brings is told, and not asked for.
    pub short: bool,
}

impl Outcome {
    /// Nothing was measured yet.
    #[must_use]
    pub fn new(fault: &'static Fault, short: bool) -> Self {
        Self { fault, costs: Vec::new(), error: None, short }
    }

    /// What the bound is about, of each run.
    #[must_use]
    pub fn figures(&self) -> Vec<f64> {
        let figure = |cost: &Cost| match self.fault.bound {
            Bound::Silence(_) => millis(cost.loss.longest_gap),
            Bound::NothingLost | Bound::NothingLostOver(_) => cost.loss.lost() as f64,
            Bound::Steady(_) => f64::from(cost.told.changes.max(cost.told.failovers)),
            Bound::Recovery(_) => millis(cost.recovery),
        };
        self.costs.iter().map(figure).collect()
    }

    /// The worst figure.
    #[must_use]
    pub fn worst(&self) -> Option<f64> {
        self.figures().into_iter().reduce(f64::max)
    }

    /// Whether everything that the row asks for holds in every run.
    #[must_use]
    pub fn passes(&self) -> bool {
        let bound = self.fault.bound;
        let worst = self.worst().is_some_and(|worst| worst <= bound.limit());
        let loss = self.loss_goal().is_none_or(|goal| self.lost_percent() <= goal);
        let sessions = self.sessions_goal().is_none_or(|goal| {
            let (replaced, oldest) = self.sessions();
            replaced >= goal.replaced && oldest >= goal.oldest_s
        });
        self.error.is_none() && worst && loss && sessions && self.broken() == 0 && self.even() != Even::Never
    }

    /// The largest share of packets lost one way, in percent.
    #[must_use]
    pub fn lost_percent(&self) -> f64 {
        100.0 * self.costs.iter().flat_map(|c| c.lost_share).fold(0.0, f64::max)
    }

    /// Sessions that were replaced, and the oldest one's age in seconds, in the run with the fewest and in that with the youngest.
    fn sessions(&self) -> (u32, u64) {
        let replaced = self.costs.iter().map(|c| c.told.rekeys).min();
        let oldest = self.costs.iter().map(|c| c.told.oldest_s).min();
        (replaced.unwrap_or(0), oldest.unwrap_or(0))
    }

    /// What is asked for of sessions, where the row lasted long enough to ask.
    fn sessions_goal(&self) -> Option<Sessions> {
        match self.fault.bound {
            Bound::NothingLostOver(sessions) if !self.short => Some(sessions),
            _ => None,
        }
    }

    fn loss_goal(&self) -> Option<f64> {
        match self.fault.bound {
            Bound::Steady(Some(percent)) => Some(f64::from(percent) + LOSS_MARGIN),
            _ => None,
        }
    }

    /// Connections that broke, of all runs.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.sum(|c| c.broken as u64)
    }

    /// The largest share of CPU time that the machine's host did not give, of all runs, in percent.
    #[must_use]
    pub fn stolen_percent(&self) -> f64 {
        100.0 * self.costs.iter().map(|c| c.stolen).fold(0.0, f64::max)
    }

    /// A sum over all runs.
    pub fn sum(&self, of: impl Fn(&Cost) -> u64) -> u64 {
        self.costs.iter().map(of).sum()
    }

    /// The longest time until packets were spread over all paths again.
    #[must_use]
    pub fn even(&self) -> Even {
        let rank = |even: &Even| match even {
            Even::NotAsked => (0, Duration::ZERO),
            Even::After(time) => (1, *time),
            Even::Never => (2, Duration::ZERO),
        };
        self.costs.iter().map(|c| c.even).max_by_key(rank).unwrap_or_default()
    }

    /// The bound, as reports write it.
    #[must_use]
    pub fn goal(&self) -> String {
        format!("<={}", self.fault.bound.limit())
    }

    /// Adds this row and what is told beside it.
    pub fn report(&self, report: &mut Report) {
        let (id, bound) = (self.fault.id, self.fault.bound);
        let figures = self.figures();
        let (Some(worst), None) = (self.worst(), &self.error) else {
            report.add(Row::not_measured(id, bound.unit(), &self.goal()));
            return;
        };
        let row = |name: &str, value: f64, unit: &'static str, goal: Option<f64>, spread: [f64; 2]| Row {
            id: if name.is_empty() { id.to_owned() } else { format!("{id}:{name}") },
            value,
            unit,
            goal: goal.map_or_else(|| "told".to_owned(), |goal| format!("<={goal}")),
            pass: goal.is_none_or(|goal| value <= goal),
            spread,
            runs: u32::try_from(self.costs.len()).unwrap_or(u32::MAX),
        };
        let once = |name: &str, value: f64, unit: &'static str, goal: Option<f64>| {
            row(name, value, unit, goal, [value, value])
        };
        let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
        report.add(row("", worst, bound.unit(), Some(bound.limit()), [least, worst]));
        report.add(once("connections-broken", self.broken() as f64, "connections", Some(0.0)));
        if let Some(goal) = self.loss_goal() {
            report.add(once("lost-one-way", self.lost_percent(), "%", Some(goal)));
        }
        if matches!(bound, Bound::NothingLostOver(_)) {
            let (replaced, oldest) = self.sessions();
            report.add(once("sessions-replaced", f64::from(replaced), "sessions", None));
            report.add(once("oldest-session", oldest as f64, "s", None));
            if let Some(goal) = self.sessions_goal() {
                let missing = goal.replaced.saturating_sub(replaced);
                let too_young = goal.oldest_s.saturating_sub(oldest);
                report.add(once("sessions-missing", f64::from(missing), "sessions", Some(0.0)));
                report.add(once("oldest-session-too-young", too_young as f64, "s", Some(0.0)));
            }
        }
        let longest = self.costs.iter().map(|c| millis(c.loss.longest_gap)).fold(0.0, f64::max);
        report.add(once("without-traffic", longest, "ms", None));
        report.add(once("lost", self.sum(|c| c.loss.lost()) as f64, "packets", None));
        report.add(once("duplicates", self.sum(|c| c.loss.duplicates) as f64, "packets", None));
        report.add(once("reordered", self.sum(|c| c.loss.reordered) as f64, "packets", None));
        report.add(once("stolen", self.stolen_percent(), "%", None));
        match self.even() {
            Even::NotAsked => {}
            Even::After(time) => report.add(once("until-even", millis(time), "ms", None)),
            Even::Never => report.add(Row::not_measured(&format!("{id}:until-even"), "ms", "told")),
        }
    }
}

fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults;
    use crate::watch::Told;

    fn outcome(id: &str, costs: Vec<Cost>, error: Option<&str>) -> Outcome {
        let fault = faults::all().find(|f| f.id == id).unwrap();
        Outcome { costs, error: error.map(str::to_owned), ..Outcome::new(fault, false) }
    }

    fn gap(ms: u64) -> Cost {
        let mut cost = Cost::default();
        (cost.loss.sent, cost.loss.received, cost.loss.longest_gap) = (100, 100, Duration::from_millis(ms));
        cost
    }

    #[test]
    fn the_worst_run_decides() {
        let good = outcome("kill-near", vec![gap(20), gap(99)], None);
        assert!(good.passes());
        let mut report = Report::new("drills");
        good.report(&mut report);
        assert_eq!((report.rows()[0].value, report.rows()[0].spread), (99.0, [20.0, 99.0]));
        assert!(!outcome("kill-near", vec![gap(20), gap(101)], None).passes());
        let broken = Cost { broken: 1, ..gap(1) };
        assert!(!outcome("kill-near", vec![broken], None).passes(), "a connection broke");
    }

    #[test]
    fn a_busy_host_is_told_and_excuses_nothing() {
        let stolen = |ms, stolen| Cost { stolen, ..gap(ms) };
        let busy = outcome("kill-near", vec![stolen(101, 0.33), stolen(20, 0.02)], None);
        let mut report = Report::new("drills");
        busy.report(&mut report);
        let row = report.rows().iter().find(|row| row.id == "kill-near:stolen").unwrap();
        assert_eq!((row.value, row.unit), (33.0, "%"));
        assert!(!busy.passes());
    }

    #[test]
    fn what_was_not_measured_is_no_pass() {
        for costs in [vec![], vec![gap(1)]] {
            let outcome = outcome("kill-near", costs, Some("why"));
            assert!(!outcome.passes());
            let mut report = Report::new("drills");
            outcome.report(&mut report);
            let [row] = report.rows() else { panic!("{report:?}") };
            assert!(!row.pass && row.value.is_nan(), "{row:?}");
        }
        assert!(!outcome("kill-near", vec![], None).passes(), "no run at all");
    }

    #[test]
    fn users_lose_little_more_than_the_underlay() {
        let lost = |share: f64| vec![Cost { lost_share: [0.05, share], ..gap(1) }];
        assert!(outcome("loss-5", lost(0.059), None).passes());
        assert!(!outcome("loss-5", lost(0.061), None).passes());
    }

    #[test]
    fn a_lane_that_gave_a_path_up_is_a_change() {
        let told = |told: Told| outcome("cpu", vec![Cost { told, ..gap(1) }], None);
        assert!(told(Told::default()).passes());
        assert!(!told(Told { failovers: 1, ..Told::default() }).passes(), "its sibling may live");
        assert!(!told(Told { changes: 1, ..Told::default() }).passes());
    }

    #[test]
    fn sessions_are_replaced_by_age_or_the_row_says_nothing() {
        let rekey = |rekeys, oldest_s, short| {
            let told = Told { rekeys, oldest_s, ..Told::default() };
            Outcome { short, ..outcome("rekey", vec![Cost { told, ..gap(1) }], None) }
        };
        assert!(rekey(20, 100, false).passes());
        assert!(!rekey(19, 120, false).passes(), "too few");
        assert!(!rekey(280, 31, false).passes(), "by something else than age");
        let short = rekey(0, 12, true);
        assert!(short.passes() && short.cells()[2].contains("too short a run"), "{:?}", short.cells());
        let mut report = Report::new("drills");
        rekey(19, 90, false).report(&mut report);
        let failed: Vec<&str> = report.rows().iter().filter(|row| !row.pass).map(|row| row.id.as_str()).collect();
        assert_eq!(failed, ["rekey:sessions-missing", "rekey:oldest-session-too-young"]);
    }
}
