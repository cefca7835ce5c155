//! The figures as an SVG: a panel per figure, a bar per subject with its spread.

use hawser_e2e::svg::{ACCENT, Anchor, FAINT, INK, OTHER, Svg};

use crate::samples::{Figure, Samples};
use crate::stats::{median, spread};
use crate::subject::Subject;
use crate::table::number;

/// What is drawn, panel by panel, in rows of [`COLUMNS`].
const PANELS: [(Figure, &str); 8] = [
    (Figure::Tcp1, "more is better"),
    (Figure::Tcp8, "more is better"),
    (Figure::Udp, "more is better"),
    (Figure::Cpu, "less is better"),
    (Figure::IdleMedian, "less is better"),
    (Figure::IdleP99, "less is better"),
    (Figure::LoadP99, "less is better"),
    (Figure::Memory, "less is better"),
];
/// Without the wire itself, whose figures would hide the others'.
const SUBJECTS: [Subject; 5] =
    [Subject::Hawser(1), Subject::Hawser(2), Subject::WireguardGo, Subject::Gotatun, Subject::Boringtun];
const COLUMNS: usize = 2;
const PANEL: [f64; 2] = [460.0, 178.0];
const HEAD: f64 = 56.0;
const LABEL: f64 = 110.0;
const BAR: f64 = 16.0;
const PITCH: f64 = 23.0;
/// Room right of the longest bar, for its number.
const NUMBER: f64 = 70.0;

/// The whole plot; `caption` says where and when it was measured.
#[must_use]
pub fn plot(samples: &Samples, caption: &str) -> String {
    let rows = PANELS.len().div_ceil(COLUMNS) as f64;
    let (width, height) = (PANEL[0] * COLUMNS as f64, HEAD + PANEL[1] * rows + 8.0);
    let mut svg = Svg::new(width, height, "Hawser's gateway beside other userspace WireGuard implementations");
    svg.text([16.0, 26.0], 17, Anchor::Start, INK, "Userspace WireGuard side by side: median and spread of all rounds");
    svg.text([16.0, 44.0], 12, Anchor::Start, FAINT, caption);
    for (index, (figure, sense)) in PANELS.into_iter().enumerate() {
        let at = [PANEL[0] * (index % COLUMNS) as f64, HEAD + PANEL[1] * (index / COLUMNS) as f64];
        panel(&mut svg, at, figure, sense, samples);
    }
    svg.finish()
}

fn panel(svg: &mut Svg, at: [f64; 2], figure: Figure, sense: &str, samples: &Samples) {
    let [x, y] = [at[0] + 16.0, at[1]];
    svg.text([x, y + 22.0], 14, Anchor::Start, INK, &format!("{}, {}", figure.title(), figure.unit()));
    svg.text([at[0] + PANEL[0] - 16.0, y + 22.0], 11, Anchor::End, FAINT, sense);
    let values = SUBJECTS.map(|subject| samples.values(figure, subject).unwrap_or_default());
    let finite = values.iter().flat_map(|v| v.iter().copied()).filter(|v| v.is_finite());
    let scale = (PANEL[0] - 32.0 - LABEL - NUMBER) / finite.fold(f64::MIN_POSITIVE, f64::max);
    let (zero, longest) = (x + LABEL, PANEL[0] - 32.0 - LABEL - NUMBER);
    let length = |value: f64| if value.is_finite() { value * scale } else { longest };
    for (index, (subject, values)) in SUBJECTS.iter().zip(values).enumerate() {
        let top = y + 34.0 + PITCH * index as f64;
        let middle = top + BAR / 2.0;
        svg.text([zero - 8.0, middle + 4.0], 12, Anchor::End, INK, &subject.to_string());
        if values.is_empty() {
            svg.text([zero + 4.0, middle + 4.0], 12, Anchor::Start, FAINT, "not measured");
            continue;
        }
        let (value, [low, high]) = (median(values), spread(values).map(length));
        let fill = if matches!(subject, Subject::Hawser(_)) { ACCENT } else { OTHER };
        svg.rect([zero, top], [length(value), BAR], fill);
        svg.line([zero + low, middle], [zero + high, middle], INK);
        for end in [low, high] {
            svg.line([zero + end, middle - 4.0], [zero + end, middle + 4.0], INK);
        }
        let right = zero + high.max(length(value)) + 6.0;
        svg.text([right, middle + 4.0], 12, Anchor::Start, INK, &number(value));
    }
    svg.line([zero, y + 30.0], [zero, y + 34.0 + PITCH * SUBJECTS.len() as f64], FAINT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_within_the_drawing() {
        let mut samples = Samples::default();
        for (i, subject) in SUBJECTS.into_iter().enumerate().skip(1) {
            for value in [1.0, 2.0, f64::INFINITY] {
                samples.add(Figure::LoadP99, subject, value * (i + 1) as f64);
            }
        }
        let text = plot(&samples, "here, now");
        assert!(text.contains("not measured") && text.contains("here, now") && !text.contains("NaN"), "{text}");
        for width in text.split("<rect").skip(2).filter_map(|r| r.split("width=\"").nth(1)?.split('"').next()) {
            let width: f64 = width.parse().unwrap();
            assert!((0.0..PANEL[0]).contains(&width), "{width}");
        }
    }
}
