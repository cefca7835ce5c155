//! What the figures should be, and the rows that say whether they are.

use hawser_e2e::report::Row;

use crate::samples::{Figure, Measure, Samples};
use crate::stats::{median, ratios, spread};
use crate::subject::Subject;

/// On which side of a number a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// At least.
    AtLeast(f64),
    /// At most.
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">={bound}"),
            Self::AtMost(bound) => write!(f, "<={bound}"),
        }
    }
}

/// One goal: of a figure's value, or of its ratio to another subject's in the same round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    /// The figure.
    pub figure: Figure,
    /// Whose.
    pub of: Subject,
    /// To whose, if it is a ratio.
    pub to: Option<Subject>,
    /// What it must be.
    pub bound: Bound,
    /// What it would better be.
    pub aim: f64,
}

/// Every goal, in the order of the table.
#[must_use]
pub fn goals() -> Vec<Goal> {
    use Bound::{AtLeast, AtMost};
    use Subject::{Apart, Discarding, Flooded, Shared};
    use Subject::{BareChain, Boringtun, Chain, Crowded, Gotatun, Hawser, HawserV6, WireguardGo, WireguardGoV6};
    let mut goals = Vec::new();
    for lanes in [1, 2] {
        let of = Hawser(lanes);
        let mut ratio = |figure, to, bound, aim| goals.push(Goal { figure, of, to: Some(to), bound, aim });
        ratio(Figure::Tcp1, WireguardGo, AtLeast(2.0), 2.5);
        ratio(Figure::Tcp1, Gotatun, AtLeast(4.0), 6.0);
        ratio(Figure::Tcp1, Boringtun, AtLeast(6.0), 10.0);
        ratio(Figure::Tcp8, WireguardGo, AtLeast(2.0), 2.5);
        ratio(Figure::Udp, WireguardGo, AtLeast(1.5), 2.0);
        ratio(Figure::Cpu, WireguardGo, AtMost(0.55), 0.45);
        ratio(Figure::IdleMedian, WireguardGo, AtMost(0.5), 0.4);
        ratio(Figure::IdleP99, WireguardGo, AtMost(0.5), 0.4);
        ratio(Figure::LoadP99, WireguardGo, AtMost(0.5), 0.3);
        goals.push(Goal { figure: Figure::Memory, of, to: None, bound: AtMost(12.0), aim: 8.0 });
    }
    let (of, to) = (HawserV6(1), Some(WireguardGoV6));
    goals.push(Goal { figure: Figure::Tcp1V6, of, to, bound: AtLeast(2.0), aim: 2.5 });
    let crowded = Crowded(2);
    goals.push(Goal { figure: Figure::PeersMemory, of: crowded, to: None, bound: AtMost(64.0), aim: 32.0 });
    goals.push(Goal { figure: Figure::Peers, of: crowded, to: Some(Hawser(2)), bound: AtLeast(0.95), aim: 1.0 });
    let changes = [Figure::PeersAdded, Figure::PeersAddedTurn, Figure::PeersRemoved, Figure::PeersRemovedTurn];
    for figure in changes {
        goals.push(Goal { figure, of: crowded, to: None, bound: AtMost(1000.0), aim: 500.0 });
    }
    goals.push(Goal { figure: Figure::Chain, of: Chain, to: Some(BareChain), bound: AtLeast(0.3), aim: 0.4 });
    for lanes in [1, 2] {
        let (of, to) = (Shared(lanes), Some(Apart(lanes)));
        goals.push(Goal { figure: Figure::Fair, of, to, bound: AtMost(2.0), aim: 1.2 });
        let (of, to) = (Flooded(lanes), Some(Discarding(lanes)));
        for figure in [Figure::Flood, Figure::FloodOne, Figure::FloodCookie] {
            goals.push(Goal { figure, of, to, bound: AtLeast(0.8), aim: 0.95 });
        }
        for figure in [Figure::FloodCpu, Figure::FloodCookieCpu] {
            goals.push(Goal { figure, of, to: None, bound: AtMost(0.25), aim: 0.1 });
        }
    }
    goals
}

impl Goal {
    /// Its name: the figure, `@2` where it is of two lanes beside one, and what it is a ratio to.
    #[must_use]
    pub fn id(&self) -> String {
        use Subject::{Flooded, Hawser, Shared};
        let lanes = if matches!(self.of, Hawser(2) | Shared(2) | Flooded(2)) { "@2" } else { "" };
        match (self.figure, self.to) {
            (Figure::Peers, _) => "peers:1-peer".to_owned(),
            (Figure::Chain, _) => "chain:vxlan".to_owned(),
            (Figure::Tcp1V6, _) => "tcp1-v6:wireguard-go".to_owned(),
            (figure, Some(Subject::Apart(_))) => format!("{figure}{lanes}:apart"),
            (figure, Some(Subject::Discarding(_))) => format!("{figure}{lanes}:discarding"),
            (figure, Some(to)) => format!("{figure}{lanes}:{to}"),
            (figure, None) => format!("{figure}{lanes}"),
        }
    }

    /// Its unit.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        if self.to.is_some() { "ratio" } else { self.figure.unit() }
    }

    /// The values of all rounds.
    #[must_use]
    pub fn values(&self, samples: &Samples) -> Option<Vec<f64>> {
        let of = samples.values(self.figure, self.of)?;
        match self.to {
            Some(to) => Some(ratios(of, samples.values(self.figure, to)?)),
            None => Some(of.to_vec()),
        }
    }

    /// The row of the report: median, smallest and largest of the rounds.
    #[must_use]
    pub fn row(&self, samples: &Samples) -> Row {
        let (id, goal) = (self.id(), self.bound.to_string());
        let Some(values) = self.values(samples) else { return Row::not_measured(&id, self.unit(), &goal) };
        let value = median(&values);
        let pass = self.bound.holds(value);
        Row { id, value, unit: self.unit(), goal, pass, spread: spread(&values), runs: values.len() as u32 }
    }
}

/// The rows of the goals of these measures, then the figures that they come from, which have no goal.
#[must_use]
pub fn rows(samples: &Samples, measures: &[Measure]) -> Vec<Row> {
    let wanted = goals().into_iter().filter(|goal| measures.contains(&goal.figure.measure()));
    let mut rows: Vec<Row> = wanted.map(|goal| goal.row(samples)).collect();
    for figure in Figure::ALL {
        for subject in samples.subjects(figure) {
            let Some(values) = samples.values(figure, subject) else { continue };
            rows.push(Row {
                id: format!("{figure}={subject}"),
                value: median(values),
                unit: figure.unit(),
                goal: "none".to_owned(),
                pass: true,
                spread: spread(values),
                runs: values.len() as u32,
            });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_goal_has_a_name_of_its_own() {
        let goals = goals();
        let ids: BTreeSet<String> = goals.iter().map(Goal::id).collect();
        assert_eq!(ids.len(), goals.len(), "{ids:?}");
        assert!(ids.contains("tcp1:wireguard-go") && ids.contains("tcp1@2:wireguard-go") && ids.contains("rss"));
        for id in ["tcp1-v6:wireguard-go", "peers-added-turn", "flood-cpu", "flood-cpu@2", "flood-cookie@2:discarding"]
        {
            assert!(ids.contains(id), "{id} in {ids:?}");
        }
    }

    #[test]
    fn a_ratio_is_made_within_a_round() {
        let mut samples = Samples::default();
        for (own, other) in [(4.0, 2.0), (3.0, 1.0), (1.0, 0.25)] {
            samples.add(Figure::Tcp1, Subject::Hawser(1), own);
            samples.add(Figure::Tcp1, Subject::WireguardGo, other);
        }
        let row = goals()[0].row(&samples);
        assert_eq!((row.id.as_str(), row.runs, row.pass), ("tcp1:wireguard-go", 3, true));
        assert_eq!((row.value.to_bits(), row.spread), (3.0_f64.to_bits(), [2.0, 4.0]));
    }

    #[test]
    fn what_failed_is_a_missed_goal_and_not_an_absence() {
        let mut samples = Samples::default();
        samples.add(Figure::Tcp1, Subject::Hawser(1), 4.0);
        samples.fail(Measure::Tcp1, "iperf3 died".to_owned());
        let rows = rows(&samples, &[Measure::Tcp1, Measure::Chain]);
        assert_eq!(rows.len(), 9, "three ratios and CPU time, of one lane and two, and the chain");
        assert!(rows.iter().all(|row| !row.pass && row.runs == 0 && row.value.is_nan()));
    }

    #[test]
    fn bounds_have_two_sides() {
        assert!(Bound::AtLeast(2.0).holds(2.0) && !Bound::AtLeast(2.0).holds(1.99));
        assert!(Bound::AtMost(0.5).holds(0.5) && !Bound::AtMost(0.5).holds(f64::NAN));
        assert_eq!(Bound::AtMost(0.55).to_string(), "<=0.55");
    }
}
