//! All runs of a fault against its bound: the worst counts. Pure.

use std::time::Duration;

use hawser_e2e::report::{Report, Row};

use crate::fault::{Bound, Fault};
use crate::run::{Cost, EVEN_LIMIT, Even};

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
}

impl Outcome {
    /// What the bound is about, of each run.
    #[must_use]
    pub fn figures(&self) -> Vec<f64> {
        let figure = |cost: &Cost| match self.fault.bound {
            Bound::Silence(_) => millis(cost.loss.longest_gap),
            Bound::NothingLost | Bound::NothingLostOver(_) => cost.loss.lost() as f64,
            Bound::Steady(_) => f64::from(cost.changes),
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
        let sessions = match bound {
            Bound::NothingLostOver(sessions) => self.sessions() >= sessions,
            _ => true,
        };
        self.error.is_none() && worst && loss && sessions && self.broken() == 0 && self.even() != Even::Never
    }

    /// The largest share of packets lost one way, in percent.
    #[must_use]
    pub fn lost_percent(&self) -> f64 {
        100.0 * self.costs.iter().flat_map(|c| c.lost_share).fold(0.0, f64::max)
    }

    /// Sessions that were replaced, in the run with the fewest.
    fn sessions(&self) -> u32 {
        self.costs.iter().map(|c| c.rekeys).min().unwrap_or(0)
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
        if let Bound::NothingLostOver(sessions) = bound {
            report.add(once("sessions-replaced", f64::from(self.sessions()), "sessions", None));
            let missing = f64::from(sessions.saturating_sub(self.sessions()));
            report.add(once("sessions-missing", missing, "sessions", Some(0.0)));
        }
        let longest = self.costs.iter().map(|c| millis(c.loss.longest_gap)).fold(0.0, f64::max);
        report.add(once("without-traffic", longest, "ms", None));
        report.add(once("lost", self.sum(|c| c.loss.lost()) as f64, "packets", None));
        report.add(once("duplicates", self.sum(|c| c.loss.duplicates) as f64, "packets", None));
        report.add(once("reordered", self.sum(|c| c.loss.reordered) as f64, "packets", None));
        match self.even() {
            Even::NotAsked => {}
            Even::After(time) => report.add(once("until-even", millis(time), "ms", None)),
            Even::Never => report.add(Row::not_measured(&format!("{id}:until-even"), "ms", "told")),
        }
    }

    /// The figures of all runs, in the order they were made.
    #[must_use]
    pub fn runs(&self) -> String {
        let figures: Vec<String> = self.figures().iter().map(|figure| format!("{figure:.0}")).collect();
        format!("{}: {} {}", self.fault.id, figures.join(" "), self.fault.bound.unit())
    }

    /// The row for people; the heads are [`HEAD`].
    #[must_use]
    pub fn cells(&self) -> Vec<String> {
        let Self { fault, costs, error, .. } = self;
        let number = |of: fn(&Cost) -> u64| self.sum(of).to_string();
        if let Some(error) = error {
            let told = format!("not measured: {error}");
            return vec![fault.id.into(), fault.title.into(), told, self.goal(), "ERROR".into()];
        }
        let unit = fault.bound.unit();
        let measure = if fault.bound.measure().starts_with(unit) { "" } else { fault.bound.measure() };
        let mut worst = format!("{:.0} {unit} {measure}", self.worst().unwrap_or(f64::NAN)).trim_end().to_owned();
        if let Some(goal) = self.loss_goal() {
            worst += &format!(", {:.1} % lost one way (goal {goal:.0} %)", self.lost_percent());
        }
        if let Bound::NothingLostOver(sessions) = fault.bound {
            worst += &format!(", {} sessions replaced (goal {sessions})", self.sessions());
        }
        let longest = costs.iter().map(|c| c.loss.longest_gap).max().unwrap_or_default();
        vec![
            fault.id.into(),
            fault.title.into(),
            worst,
            self.goal(),
            if self.passes() { "ok".into() } else { "MISSED".into() },
            costs.len().to_string(),
            format!("{:.0} ms", millis(longest)),
            number(|c| c.loss.lost()),
            number(|c| c.loss.duplicates),
            number(|c| c.loss.reordered),
            if self.broken() == 0 { "all lived".into() } else { format!("{} broke", self.broken()) },
            match self.even() {
                Even::NotAsked => "-".into(),
                Even::After(time) => format!("{:.1} s", time.as_secs_f64()),
                Even::Never => format!("not after {EVEN_LIMIT:?}"),
            },
        ]
    }
}

/// Heads of the table.
pub const HEAD: [&str; 12] = [
    "ROW",
    "FAULT",
    "WORST",
    "GOAL",
    "",
    "RUNS",
    "LONGEST GAP",
    "LOST",
    "DUPLICATES",
    "REORDERED",
    "TCP",
    "EVEN AGAIN",
];

fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults;

    fn outcome(id: &str, costs: Vec<Cost>, error: Option<&str>) -> Outcome {
        let fault = faults::all().find(|f| f.id == id).unwrap();
        Outcome { fault, costs, error: error.map(str::to_owned) }
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
        let few = vec![Cost { rekeys: 3, ..gap(1) }];
        assert!(!outcome("rekey", few, None).passes(), "too few sessions were replaced to say so");
    }
}
