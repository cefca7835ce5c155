//! What goes to stdout, and errors. Data is a table or JSON; nothing else is ever written to stdout.

use std::ffi::OsString;
use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use serde_json::json;

use crate::exit::Failure;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One JSON document.
    Json,
}

impl Output {
    /// What a command line that can't be parsed asks for.
    #[must_use]
    pub fn guess(argv: &[OsString]) -> Self {
        let words: Vec<_> = argv.iter().map(|a| a.to_string_lossy()).collect();
        let pair = words.windows(2).any(|w| matches!(&*w[0], "-o" | "--output") && w[1] == "json");
        let joined = words.iter().any(|w| matches!(&**w, "-ojson" | "-o=json" | "--output=json"));
        let from_env = std::env::var_os("HAWSER_OUTPUT").is_some_and(|v| v == "json");
        if pair || joined || from_env { Self::Json } else { Self::Table }
    }
}

/// Prints data: `value` as JSON, or `text` for people (nothing where it is empty).
pub fn data(output: Output, value: &impl Serialize, text: &str) {
    match output {
        Output::Json => print(&serde_json::to_string_pretty(value).expect("our documents serialise")),
        Output::Table if text.is_empty() => {}
        Output::Table => print(text),
    }
}

/// Columns without lines, as wide as they must be.
#[must_use]
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Prints a failure to stderr.
pub fn failure(output: Output, failure: &Failure) {
    let text = match output {
        Output::Table => {
            let remedy = failure.remedy.as_deref().filter(|remedy| !failure.message.contains(remedy));
            let remedy = remedy.map(|remedy| format!("\n       {remedy}")).unwrap_or_default();
            format!("error: {}{remedy}", failure.message)
        }
        Output::Json => {
            let mut document = json!({ "error": failure });
            document["error"]["code"] = failure.exit.as_str().into();
            document["error"]["exitCode"] = (failure.exit as u8).into();
            document.to_string()
        }
    };
    let _ = writeln!(io::stderr(), "{text}");
}

/// A reader that went away (`hawser status | head -1`) is no error.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}
