//! The whole rope: two sites and a broker on real processes in the testbed, for scenarios and the demo.
//!
//! - [`rope`]: what every scenario starts from.
//! - [`report`]: what is measured, as `target/report/<name>.json`.
//! - [`machine`]: whether figures measured on it mean anything.
//! - [`svg`]: plots of reports.
//! - [`story`]: the demo, step by step.
//!
//! Scenarios are in `tests/`, by what they are about. Hosts, wires and traffic are in `hawser-testbed`.

pub mod machine;
pub mod report;
pub mod rope;
pub mod story;
pub mod svg;

pub use rope::Rope;

/// Prints a measured figure past the test runner's capture, so that it is seen when the scenario passes, too.
pub fn figure(text: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    // Nobody to tell is no reason to fail.
    let _ = writeln!(std::io::stdout(), "    {text}");
}
