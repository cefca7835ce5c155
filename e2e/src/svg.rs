//! A small SVG writer for the plots of reports: shapes and text on a plain ground, readable in light and dark pages.

use std::fmt::Write as _;

/// Colour of text and axes.
pub const INK: &str = "#1f2933";
/// Colour of what is secondary.
pub const FAINT: &str = "#7b8794";
/// Colour of what the plot is about.
pub const ACCENT: &str = "#0b69a3";
/// Colour of what it is compared with.
pub const OTHER: &str = "#b8c4ce";
/// Colour of what missed its goal.
pub const MISSED: &str = "#c0392b";

/// Where a text's position is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// At its beginning.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

/// A drawing; lengths are in pixels, from the upper left corner.
#[derive(Debug, Clone)]
pub struct Svg {
    body: String,
    width: f64,
    height: f64,
}

impl Svg {
    /// An empty drawing on white ground; `title` is what it is called by those who don't see it.
    #[must_use]
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        let mut svg = Self { body: String::new(), width, height };
        svg.push(&format!("<title>{}</title>", escape(title)));
        svg.rect([0.0, 0.0], [width, height], "#ffffff");
        svg
    }

    /// A filled rectangle.
    pub fn rect(&mut self, at: [f64; 2], size: [f64; 2], fill: &str) {
        let ([x, y], [w, h]) = (at, size.map(|s| s.max(0.0)));
        self.push(&format!(r#"<rect x="{x:.1}" y="{y:.1}" width="{w:.1}" height="{h:.1}" fill="{fill}"/>"#));
    }

    /// A line, 1 pixel wide.
    pub fn line(&mut self, from: [f64; 2], to: [f64; 2], stroke: &str) {
        let ([x1, y1], [x2, y2]) = (from, to);
        self.push(&format!(r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{stroke}"/>"#));
    }

    /// A line of text; its base line is at `at`.
    pub fn text(&mut self, at: [f64; 2], size: u8, anchor: Anchor, fill: &str, text: &str) {
        let [x, y] = at;
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.push(&format!(
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">{text}</text>"#
        ));
    }

    /// The file's content.
    #[must_use]
    pub fn finish(self) -> String {
        let Self { body, width, height } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, sans-serif\" role=\"img\">\n{body}</svg>\n"
        )
    }

    fn push(&mut self, element: &str) {
        // Writing to a string can't fail.
        let _ = writeln!(self.body, "{element}");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_sizes_are_not_negative() {
        let mut svg = Svg::new(100.0, 50.0, "a < b & \"c\"");
        svg.rect([1.0, 2.0], [-3.0, 4.0], ACCENT);
        svg.text([5.0, 6.0], 12, Anchor::End, INK, "<script>");
        svg.line([0.0, 0.0], [1.0, 1.0], FAINT);
        let text = svg.finish();
        assert!(text.contains("<title>a &lt; b &amp; &quot;c&quot;</title>"), "{text}");
        assert!(text.contains(r#"width="0.0" height="4.0""#) && !text.contains("<script>"), "{text}");
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
        assert_eq!(text.matches('<').count(), text.matches('>').count());
    }
}
