//! Machine-readable results: `target/report/<name>.json`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// A report: rows, each with its goal.
#[derive(Debug, Serialize)]
pub struct Report {
    report: String,
    rows: Vec<Row>,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Names the figure.
    pub id: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it should be, e.g. `<=400`.
    pub goal: String,
    /// Whether it is.
    pub pass: bool,
    /// Smallest and largest value measured.
    pub spread: [f64; 2],
    /// How often it was measured.
    pub runs: u32,
}

impl Row {
    /// A figure that could not be measured: it has no value, and misses its goal.
    #[must_use]
    pub fn not_measured(id: &str, unit: &'static str, goal: &str) -> Self {
        // JSON has no NaN; it becomes null there.
        let (value, spread) = (f64::NAN, [f64::NAN; 2]);
        Self { id: id.to_owned(), value, unit, goal: goal.to_owned(), pass: false, spread, runs: 0 }
    }
}

impl Report {
    /// An empty report.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { report: name.to_owned(), rows: Vec::new() }
    }

    /// Adds a figure that was measured once and should be at most `limit`.
    pub fn at_most(&mut self, id: &str, value: f64, unit: &'static str, limit: f64) -> bool {
        let pass = value <= limit;
        let goal = format!("<={limit}");
        self.rows.push(Row { id: id.to_owned(), value, unit, goal, pass, spread: [value, value], runs: 1 });
        pass
    }

    /// Adds a figure.
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Whether every figure is what it should be.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.rows.iter().all(|row| row.pass)
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Writes the report below the build folder and gives its place.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self) -> Result<PathBuf> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        let dir = target.join("report");
        fs::create_dir_all(&dir)?;
        let path = dir.join(format!("{}.json", self.report));
        fs::write(&path, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("Failed to write {}", path.display()))?;
        Ok(path)
    }
}
