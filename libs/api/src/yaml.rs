//! Manifests as YAML text: several documents in a file, errors with the line they are on. `lines` finds fields.

mod lines;

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;
use serde_saphyr::{Localizer, Location, MessageFormatter as _};

pub use lines::line_of;

/// A document of a YAML file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document<'a> {
    /// The line of the file that it begins on, from 1.
    pub line: u64,
    /// Its text.
    pub text: &'a str,
}

/// Text that is no YAML, or not the YAML that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {rule}")]
pub struct YamlError {
    /// The line of the file, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
    /// What is wrong there.
    pub rule: String,
}

/// The documents of a file, so that a bad one does not take the others with it. Documents of comments and blank lines only
/// are left out.
pub fn documents(text: &str) -> impl Iterator<Item = Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut cuts = vec![(0, 1)];
    let mut at = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if at > 0 && is_marker(line) {
            cuts.push((at, number));
        }
        at += line.len();
    }
    let ends: Vec<usize> = cuts.iter().skip(1).map(|&(start, _)| start).chain([text.len()]).collect();
    cuts.into_iter()
        .zip(ends)
        .map(|((start, line), end)| Document { line, text: &text[start..end] })
        .filter(|document| !is_blank(document.text))
}

/// Reads one document.
///
/// # Errors
/// With the line in the file and the rule that is broken.
pub fn parse(document: Document<'_>) -> Result<Value, YamlError> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    serde_saphyr::from_str_with_options(document.text, options).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
        let rule =
            serde_saphyr::DefaultMessageFormatter.with_localizer(&WithoutPlace).format_message(&error).into_owned();
        YamlError { line: document.line + line - 1, column, rule }
    })
}

/// A value that can't be written as YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("can't be written as YAML: {0}")]
pub struct Unwritable(String);

/// Writes a value as one document.
///
/// # Errors
/// When the value has no YAML form, e.g. a map whose keys are no strings.
pub fn to_string<T: Serialize>(value: &T) -> Result<String, Unwritable> {
    // By way of JSON, so that absent fields and key order are as the API has them.
    let value: Value = serde_json::to_value(value).map_err(|error| Unwritable(error.to_string()))?;
    serde_saphyr::to_string(&value).map_err(|error| Unwritable(error.to_string()))
}

/// The place is in the error's fields already.
struct WithoutPlace;

impl Localizer for WithoutPlace {
    fn attach_location<'a>(&self, base: Cow<'a, str>, _: Location) -> Cow<'a, str> {
        base
    }
}

/// `---` at the beginning of a line always starts a document, even inside a scalar.
fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn is_blank(text: &str) -> bool {
    text.lines().enumerate().all(|(number, line)| {
        let line = if number == 0 && is_marker(line) { &line[3..] } else { line };
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "..."
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bad_document_leaves_the_others() {
        let text = "# head\nkind: A\n---\nkind: [\n--- # three\nkind: C\n---\n# nothing\n---\n";
        let documents: Vec<_> = documents(text).collect();
        assert_eq!(documents.iter().map(|d| d.line).collect::<Vec<_>>(), [1, 3, 5]);
        let parsed: Vec<_> = documents.iter().map(|d| parse(*d)).collect();
        assert_eq!(parsed[0], Ok(json!({"kind": "A"})));
        assert_eq!(parsed[2], Ok(json!({"kind": "C"})));
        let error = parsed[1].clone().unwrap_err();
        assert!((4..=5).contains(&error.line), "{error}");
    }

    #[test]
    fn an_error_names_its_line_and_rule() {
        let text = "a: 1\n---\n\nport: 80\nname: x\nport: 81\n";
        let document = documents(text).nth(1).unwrap();
        let error = parse(document).unwrap_err();
        assert_eq!(error.line, 6, "{error}");
        assert!(error.rule.contains("duplicate") && !error.rule.contains("line"), "{error}");
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let nasty = json!({
            "strings": ["true", "no", "1", "1.0", "0x10", "null", "~", "", " a ", "a: b", "- x", "#c", "a\nb\n", "---", "…", "'\"", "2026-01-01"],
            "numbers": [0, -1, 1.5, 4_294_967_296_u64], "flags": [true, false], "none": null, "empty": {"list": [], "map": {}},
        });
        let text = to_string(&nasty).unwrap();
        let read: Vec<Value> = documents(&text).map(|d| parse(d).unwrap()).collect();
        assert_eq!(read, [nasty], "{text}");
    }

    #[test]
    fn aliases_do_not_explode() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let refs = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
        }
        let document = documents(&text).next().unwrap();
        assert!(parse(document).is_err());
    }
}
