//! The result as tables on a terminal.

use comfy_table::{ContentArrangement, Table, presets};
use hawser_e2e::report::Row;

use crate::goals::goals;
use crate::samples::{Figure, Measure, Samples};
use crate::stats::{median, spread};
use crate::subject::Subject;

/// A row per goal of these measures: median, spread, bound, aim, verdict.
#[must_use]
pub fn results(samples: &Samples, measures: &[Measure]) -> String {
    let mut table = new(["row", "measure", "median", "spread", "bound", "aim", "verdict"]);
    for goal in goals().iter().filter(|goal| measures.contains(&goal.figure.measure())) {
        let row = goal.row(samples);
        let unit = if goal.to.is_some() { String::new() } else { format!(" {}", goal.unit()) };
        let measure = match goal.to {
            Some(to) => format!("{}, {} : {to}", goal.figure.title(), goal.of),
            None => format!("{}, {}", goal.figure.title(), goal.of),
        };
        let value = format!("{}{unit}", number(row.value));
        let spread = format!("{} – {}", number(row.spread[0]), number(row.spread[1]));
        let verdict = verdict(&row);
        table.add_row([row.id.clone(), measure, value, spread, row.goal, number(goal.aim), verdict]);
    }
    table.to_string()
}

fn verdict(row: &Row) -> String {
    match (row.runs, row.pass) {
        (0, _) => "NOT MEASURED".to_owned(),
        (_, true) => "ok".to_owned(),
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
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
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
    fn a_failed_measure_is_shown_as_such() {
        let mut samples = Samples::default();
        samples.add(Figure::Chain, Subject::Chain, 3.0);
        samples.add(Figure::Chain, Subject::BareChain, 6.0);
        let shown = results(&samples, &[Measure::Chain]);
        assert!(shown.contains("0.500") && shown.contains("ok") && !shown.contains("tcp1"), "{shown}");
        samples.fail(Measure::Chain, "no route".to_owned());
        let shown = results(&samples, &[Measure::Chain]);
        assert!(shown.contains("NOT MEASURED") && !shown.contains("0.500"), "{shown}");
    }
}
