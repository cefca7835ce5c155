//! The result as tables in Markdown, as `docs/performance.md` has them: a run's own can take their place as they are.

use comfy_table::{ContentArrangement, Table, presets};
use hawser_e2e::report::Row;

use crate::goals::{Bound, goals};
use crate::samples::{Figure, Measure, Samples};
use crate::stats::{median, spread};
use crate::subject::Subject;

/// A row per goal of these measures: median, spread, bound, aim, verdict.
#[must_use]
pub fn results(samples: &Samples, measures: &[Measure]) -> String {
    let mut table = new(["row", "median", "spread", "bound", "aim", "verdict"]);
    for goal in goals().iter().filter(|goal| measures.contains(&goal.figure.measure())) {
        let row = goal.row(samples);
        let unit = if goal.to.is_some() { String::new() } else { format!(" {}", goal.unit()) };
        let value = format!("{}{unit}", number(row.value));
        let spread = format!("{} – {}", number(row.spread[0]), number(row.spread[1]));
        let (sign, bound) = match goal.bound {
            Bound::AtLeast(bound) => ('≥', bound),
            Bound::AtMost(bound) => ('≤', bound),
        };
        let verdict = verdict(&row);
        table.add_row([format!("`{}`", row.id), value, spread, format!("{sign} {bound}"), number(goal.aim), verdict]);
    }
    table.to_string()
}

fn verdict(row: &Row) -> String {
    match (row.runs, row.pass) {
        (0, _) => "NOT MEASURED".to_owned(),
        (_, true) => "met".to_owned(),
        (_, false) => "MISSED".to_owned(),
    }
}

/// The figures themselves: a row per figure and a column per subject, median and spread.
#[must_use]
pub fn figures(samples: &Samples, subjects: &[Subject]) -> String {
    let mut head = vec!["figure".to_owned()];
    head.extend(subjects.iter().map(ToString::to_string));
    let mut table = new(head);
    for figure in Figure::ALL {
        let cell = |subject: &Subject| samples.values(figure, *subject).map_or_else(String::new, summary);
        let cells: Vec<String> = subjects.iter().map(cell).collect();
        if cells.iter().any(|c| !c.is_empty()) {
            table.add_row([vec![format!("{}, {}", figure.title(), figure.unit())], cells].concat());
        }
    }
    table.to_string()
}

/// The figures of subjects that have beds of their own: a row each; empty where there are none.
#[must_use]
pub fn others(samples: &Samples, subjects: &[Subject]) -> String {
    let mut table = new(["figure", "of", "value"]);
    for figure in Figure::ALL {
        for subject in samples.subjects(figure).filter(|subject| !subjects.contains(subject)) {
            let Some(values) = samples.values(figure, subject) else { continue };
            let what = format!("{}, {}", figure.title(), figure.unit());
            table.add_row([what, subject.to_string(), summary(values)]);
        }
    }
    if table.is_empty() { String::new() } else { table.to_string() }
}

fn summary(values: &[f64]) -> String {
    let [low, high] = spread(values);
    format!("{} ({} – {})", number(median(values)), number(low), number(high))
}

/// Three digits that matter.
#[must_use]
pub fn number(value: f64) -> String {
    match value.abs() {
        v if v.is_nan() => "–".to_owned(),
        v if v.is_infinite() => "lost".to_owned(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn new<T: Into<String>>(head: impl IntoIterator<Item = T>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.into_iter().map(Into::into).collect::<Vec<String>>());
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        let shown: Vec<String> =
            [0.1234, 1.234, 12.34, 1234.5, f64::NAN, f64::INFINITY].into_iter().map(number).collect();
        assert_eq!(shown, ["0.123", "1.23", "12.3", "1234", "–", "lost"]);
    }

    #[test]
    fn tables_are_markdown() {
        let mut samples = Samples::default();
        for value in [0.09, 0.11] {
            samples.add(Figure::FloodCpu, Subject::Flooded(1), value);
        }
        let tables = [results(&samples, &[Measure::Flood]), others(&samples, &Subject::ALL)];
        for (table, expected) in tables.iter().zip([
            ["`flood-cpu`", "0.100 cores", "0.090 – 0.110", "≤ 0.25", "0.100", "met"].as_slice(),
            &["CPU time that a flood alone takes, cores", "hawser-1-flooded", "0.100 (0.090 – 0.110)"],
        ]) {
            let cells = |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
            let lines: Vec<_> = table.lines().map(cells).collect();
            assert!(lines[1].iter().all(|cell| cell.chars().all(|c| c == '-')), "{table}");
            assert!(lines.iter().all(|line| line.len() == expected.len()), "{table}");
            assert!(lines.iter().any(|line| line == expected), "{table}");
        }
    }

    #[test]
    fn a_failed_measure_is_shown_as_such() {
        let mut samples = Samples::default();
        samples.add(Figure::Chain, Subject::Chain, 3.0);
        samples.add(Figure::Chain, Subject::BareChain, 6.0);
        let shown = results(&samples, &[Measure::Chain]);
        assert!(shown.contains("0.500") && shown.contains("met") && !shown.contains("tcp1"), "{shown}");
        samples.fail(Measure::Chain, "no route".to_owned());
        let shown = results(&samples, &[Measure::Chain]);
        assert!(shown.contains("NOT MEASURED") && !shown.contains("0.500"), "{shown}");
    }
}
