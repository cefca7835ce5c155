//! Which file counts for an object, and what that makes of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Id, Tree};
use crate::folder::Class;
use crate::problem::Problem;

/// A file that holds an object; the least counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    generated: bool,
    sequence: u64,
    /// Relative to the site.
    pub(crate) path: PathBuf,
}

impl Tree {
    pub(super) fn link(&mut self, object: &Id, path: &Path, class: &Class, sequence: u64) {
        match class {
            Class::Status(_) => {
                self.statuses.entry(object.clone()).or_default().insert(path.to_owned());
            }
            Class::Operator | Class::Object(_) => {
                self.sources.entry(object.clone()).or_default().insert(source(path, class, sequence));
            }
        }
    }

    pub(super) fn unlink(&mut self, object: &Id, path: &Path, class: &Class, sequence: u64) {
        if *class == Class::Operator || matches!(class, Class::Object(_)) {
            if let Some(sources) = self.sources.get_mut(object) {
                sources.remove(&source(path, class, sequence));
                if sources.is_empty() {
                    self.sources.remove(object);
                }
            }
        } else if let Some(statuses) = self.statuses.get_mut(object) {
            statuses.remove(path);
            if statuses.is_empty() {
                self.statuses.remove(object);
            }
        }
    }

    /// Settles what an object is and tells the board.
    pub(super) fn resolve(&mut self, id: &Id) {
        let sources = self.sources.get(id);
        if sources.is_some_and(|sources| sources.len() > 1) {
            self.conflicts.entry(id.clone()).or_insert(self.scan);
        } else {
            self.settle_conflict(id);
        }
        let first = self.sources.get(id).and_then(BTreeSet::first);
        let object = first.and_then(|source| self.files.get(&source.path)?.objects.get(id).cloned());
        let Some(object) = object else {
            self.board.remove(id.0, &id.1);
            return;
        };
        let object = (*object).clone();
        self.board.set(match self.status(id) {
            Some(status) => object.with_status(Some(status)),
            None => object,
        });
    }

    fn status(&self, id: &Id) -> Option<serde_json::Value> {
        let entries = self.statuses.get(id)?.iter().filter_map(|path| Some((path, self.files.get(path)?)));
        let (_, newest) = entries.max_by_key(|(path, entry)| (entry.id.modified, *path))?;
        newest.objects.get(id)?.status()
    }

    /// Names objects that several files still hold a scan later: a handover from one process to another is over by then.
    pub(super) fn report_conflicts(&mut self) {
        let lasting: Vec<Id> =
            self.conflicts.iter().filter(|(_, since)| **since < self.scan).map(|(id, _)| id.clone()).collect();
        for id in lasting {
            let Some(sources) = self.sources.get(&id) else { continue };
            let mut paths = sources.iter().map(|source| &source.path);
            let Some(winner) = paths.next() else { continue };
            let rule = format!("{} has it too, and that one counts", winner.display());
            let problem = |loser: &PathBuf| Problem {
                object: subject(&id),
                ..Problem::of_file(loser, rule.clone(), "remove it from one of them")
            };
            let problems = paths.map(problem).collect();
            self.problems.set(subject(&id), problems);
        }
    }

    fn settle_conflict(&mut self, id: &Id) {
        if self.conflicts.remove(id).is_some() {
            self.problems.set(subject(id), vec![]);
        }
    }
}

fn subject((kind, key): &Id) -> String {
    format!("{} {key}", kind.kind)
}

fn source(path: &Path, class: &Class, sequence: u64) -> Source {
    Source { generated: *class != Class::Operator, sequence, path: path.to_owned() }
}
