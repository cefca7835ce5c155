//! An outcome in words: a row of the table that people read. Pure.

use super::{Outcome, millis};
use crate::fault::{Bound, Sessions};
use crate::run::{Cost, EVEN_LIMIT, Even};

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

impl Outcome {
    /// The figures of all runs, in the order they were made.
    #[must_use]
    pub fn runs(&self) -> String {
        let figures: Vec<String> = self.figures().iter().map(|figure| format!("{figure:.0}")).collect();
        format!("{}: {} {}", self.fault.id, figures.join(" "), self.fault.bound.unit())
    }

    fn sessions_words(&self) -> String {
        let Bound::NothingLostOver(Sessions { replaced: goal, oldest_s: age }) = self.fault.bound else {
            return String::new();
        };
        let (replaced, oldest) = self.sessions();
        if self.short {
            return format!(
                ", {replaced} sessions replaced, the oldest {oldest} s: too short a run to see them replaced by age"
            );
        }
        let old = if age > 0 { format!(", the oldest {oldest} s (goal {age} s)") } else { String::new() };
        format!(", {replaced} sessions replaced (goal {goal}){old}")
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
        worst += &self.sessions_words();
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
