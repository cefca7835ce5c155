//! The histogram: one line per fault, one bar per class of figures, the bound as a mark. Times are on a logarithmic scale.

use hawser_e2e::svg::{ACCENT, Anchor, FAINT, INK, MISSED, OTHER, Svg};

use crate::fault::Bound;
use crate::outcome::Outcome;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 380.0;
const RIGHT: f64 = 150.0;
const LINE: f64 = 34.0;
const TOP: f64 = 56.0;
/// The scale, milliseconds: up to here everything is one class, from there on [`PER_DECADE`] each.
const FROM: f64 = 2.0;
const TO: f64 = 2_000.0;
const PER_DECADE: f64 = 12.0;

/// The drawing of all rows whose figure is a time, and a line of text for each of the others.
#[must_use]
pub fn histogram(outcomes: &[Outcome]) -> String {
    let height = TOP + LINE * outcomes.len() as f64 + 30.0;
    let mut svg = Svg::new(WIDTH, height, "Time without traffic by fault");
    svg.text([10.0, 24.0], 15, Anchor::Start, INK, "Time without traffic by fault: runs per class, worst run, bound");
    for ms in [2.0, 10.0, 100.0, 400.0, 1_000.0] {
        svg.line([x(ms), TOP - 8.0], [x(ms), height - 26.0], OTHER);
        svg.text([x(ms), height - 10.0], 11, Anchor::Middle, FAINT, &format!("{ms:.0} ms"));
    }
    for (index, outcome) in outcomes.iter().enumerate() {
        row(&mut svg, outcome, TOP + LINE * (index as f64 + 1.0) - 8.0);
    }
    svg.finish()
}

fn row(svg: &mut Svg, outcome: &Outcome, base: f64) {
    svg.text([10.0, base], 12, Anchor::Start, INK, outcome.fault.title);
    let colour = if outcome.passes() { ACCENT } else { MISSED };
    let timed = matches!(outcome.fault.bound, Bound::Silence(_) | Bound::Recovery(_));
    let figures = outcome.figures();
    let (Some(worst), None) = (outcome.worst(), &outcome.error) else {
        svg.text([WIDTH - 10.0, base], 12, Anchor::End, MISSED, "not measured");
        return;
    };
    let text = format!("{worst:.0} {} ({})", outcome.fault.bound.unit(), outcome.goal());
    svg.text([WIDTH - 10.0, base], 12, Anchor::End, colour, &text);
    if !timed {
        return;
    }
    for (class, count) in classes(&figures) {
        let height = (LINE - 10.0) * count as f64 / figures.len() as f64;
        let (left, right) = (x(edge(class)), x(edge(class + 1)));
        svg.rect([left, base - height], [right - left - 1.0, height], colour);
    }
    let limit = x(outcome.fault.bound.limit());
    svg.line([limit, base - LINE + 10.0], [limit, base + 3.0], MISSED);
}

/// Where a time is, as far as the drawing goes.
fn x(ms: f64) -> f64 {
    let share = (ms.clamp(FROM, TO) / FROM).ln() / (TO / FROM).ln();
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

fn edge(class: u32) -> f64 {
    FROM * 10f64.powf(f64::from(class) / PER_DECADE)
}

/// How many figures are in each class that has any.
fn classes(figures: &[f64]) -> Vec<(u32, usize)> {
    let class = |ms: f64| ((ms.clamp(FROM, TO) / FROM).log10() * PER_DECADE).floor() as u32;
    let mut classes: Vec<(u32, usize)> = Vec::new();
    let mut all: Vec<u32> = figures.iter().copied().map(class).collect();
    all.sort_unstable();
    for class in all {
        match classes.last_mut() {
            Some((last, count)) if *last == class => *count += 1,
            _ => classes.push((class, 1)),
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_in_one_class() {
        let figures = [0.1, 2.0, 50.0, 51.0, 90.0, 5_000.0];
        let classes = classes(&figures);
        assert_eq!(classes.iter().map(|(_, count)| count).sum::<usize>(), figures.len());
        assert_eq!(classes[0], (0, 2));
        for (class, _) in classes {
            assert!(x(edge(class)) < x(edge(class + 1)) || edge(class) >= TO, "{class}");
        }
    }
}
