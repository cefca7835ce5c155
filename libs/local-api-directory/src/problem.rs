//! What is wrong with the site's files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Something wrong with a file, and what to do about it. What was read from the file before stays in force.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, relative to the site.
    pub file: PathBuf,
    /// The line, from 1, where it can be told.
    pub line: Option<u64>,
    /// The object, e.g. `Service shop/web`; empty where it can't be told.
    pub object: String,
    /// The field, e.g. `spec.ports[0].port`; empty where it can't be told.
    pub field: String,
    /// The rule that is broken.
    pub rule: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    pub(crate) fn of_file(file: &Path, rule: impl Into<String>, remedy: &str) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            object: String::new(),
            field: String::new(),
            rule: rule.into(),
            remedy: remedy.to_owned(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        write!(f, ": {}; {}", self.rule, self.remedy)
    }
}

/// The problems there are now, by what they are about (a file, or an object in several); each is logged when it appears.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    by_subject: BTreeMap<String, Vec<Problem>>,
}

impl Problems {
    /// Replaces what is wrong with a file.
    pub(crate) fn of_file(&mut self, file: &Path, problems: Vec<Problem>) {
        self.set(format!("file {}", file.display()), problems);
    }

    /// Replaces what is wrong with a subject.
    pub(crate) fn set(&mut self, subject: String, problems: Vec<Problem>) {
        if problems.is_empty() {
            if self.by_subject.remove(&subject).is_some() {
                tracing::info!(subject, "in order again");
            }
            return;
        }
        let before = self.by_subject.remove(&subject).unwrap_or_default();
        for Problem { file, line, object, field, rule, remedy } in problems.iter().filter(|p| !before.contains(p)) {
            let file = file.display();
            tracing::warn!(%file, line, object, field, rule, remedy, "skipped, the last good version stays in force");
        }
        self.by_subject.insert(subject, problems);
    }

    pub(crate) fn all(&self) -> Vec<Problem> {
        self.by_subject.values().flatten().cloned().collect()
    }
}
