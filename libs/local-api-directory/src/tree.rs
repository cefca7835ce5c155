//! The site's files as last read, and which of them counts for each object.
//!
//! An object has one owner: an operator's file wins over a process's, else the first one seen. Statuses of processes are
//! merged in; the newest counts.

mod owner;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hawser_local_api::board::Board;
use hawser_local_api::{Key, Kind, Object};

pub(crate) use self::owner::Source;
use crate::folder::{Class, SECRETS};
use crate::problem::{Problem, Problems};
use crate::read::{self, FileId, MAX_FILE, Parsed};

const MAX_FILES: usize = 100_000;
const MAX_DEPTH: usize = 16;
/// A file of the operator's that changed this recently may be half-written, one that vanished may be coming back: editors
/// replace files by removing them first.
const SETTLE: Duration = Duration::from_millis(100);

type Id = (Kind, Key);

/// See the module's head.
pub(crate) struct Tree {
    site: PathBuf,
    board: Arc<Board>,
    files: BTreeMap<PathBuf, Entry>,
    /// The files that hold an object, the one that counts first.
    sources: HashMap<Id, BTreeSet<Source>>,
    /// The files that hold a status of an object.
    statuses: HashMap<Id, BTreeSet<PathBuf>>,
    /// Folders seen, to be watched.
    dirs: BTreeSet<PathBuf>,
    problems: Problems,
    /// Objects that several files hold, with the number of the scan that found it.
    conflicts: BTreeMap<Id, u64>,
    next_sequence: u64,
    scan: u64,
    /// Some file has not settled: look again soon.
    unsettled: bool,
    too_many: bool,
    max_files: usize,
}

struct Entry {
    id: FileId,
    class: Class,
    objects: BTreeMap<Id, Arc<Object>>,
    sequence: u64,
    seen_in_scan: u64,
    missing_since: Option<Instant>,
}

impl Tree {
    pub(crate) fn new(site: PathBuf, board: Arc<Board>) -> Self {
        Self {
            site,
            board,
            files: BTreeMap::new(),
            sources: HashMap::new(),
            statuses: HashMap::new(),
            dirs: BTreeSet::new(),
            problems: Problems::default(),
            conflicts: BTreeMap::new(),
            next_sequence: 0,
            scan: 0,
            unsettled: false,
            too_many: false,
            max_files: MAX_FILES,
        }
    }

    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.problems.all()
    }

    pub(crate) fn dirs(&self) -> &BTreeSet<PathBuf> {
        &self.dirs
    }

    pub(crate) fn is_unsettled(&self) -> bool {
        self.unsettled
    }

    /// The files that hold an object, the one that counts first.
    pub(crate) fn sources(&self, kind: Kind, key: &Key) -> Vec<Source> {
        self.sources.get(&(kind, key.clone())).map(|sources| sources.iter().cloned().collect()).unwrap_or_default()
    }

    /// The files that hold a status of an object.
    pub(crate) fn statuses(&self, kind: Kind, key: &Key) -> Vec<PathBuf> {
        self.statuses.get(&(kind, key.clone())).map(|paths| paths.iter().cloned().collect()).unwrap_or_default()
    }

    /// Statuses of objects that don't exist.
    pub(crate) fn orphans(&self) -> Vec<PathBuf> {
        let orphan = |id: &&Id| !self.sources.contains_key(*id);
        self.statuses.keys().filter(orphan).flat_map(|id| &self.statuses[id]).cloned().collect()
    }

    /// Looks at everything. The first time, files count as first seen in the order of their age.
    pub(crate) fn refresh_all(&mut self) {
        self.scan += 1;
        self.unsettled = false;
        self.too_many = false;
        self.dirs.clear();
        let mut found = Vec::new();
        self.list(Path::new(""), 0, &mut found);
        let first = self.scan == 1;
        if first {
            found.sort_by_cached_key(|path| {
                (read::locate(&self.site, path).map(|(_, id)| id.modified).ok(), path.clone())
            });
        }
        for path in &found {
            self.refresh(path, first);
        }
        let scan = self.scan;
        let unseen = |(path, entry): (&PathBuf, &Entry)| (entry.seen_in_scan != scan).then(|| path.clone());
        for path in self.files.iter().filter_map(unseen).collect::<Vec<_>>() {
            self.refresh(&path, false);
        }
        let rule = format!("there are more than {} files; the others are not read", self.max_files);
        let root = Path::new(".");
        let problem = Problem::of_file(root, rule, "move files that are no manifests out of the site");
        self.problems.of_file(root, if self.too_many { vec![problem] } else { vec![] });
        self.report_conflicts();
    }

    /// Looks at one folder and what is below it.
    pub(crate) fn refresh_dir(&mut self, dir: &Path) {
        if is_foreign(dir) {
            return;
        }
        let mut found = Vec::new();
        self.list(dir, dir.components().count(), &mut found);
        let below = self.files.range(dir.to_owned()..).map(|(path, _)| path).take_while(|path| path.starts_with(dir));
        found.extend(below.cloned().collect::<Vec<_>>());
        for path in found {
            self.refresh(&path, false);
        }
    }

    /// Lists the manifests below a folder.
    fn list(&mut self, dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        let entries = match fs::read_dir(self.site.join(dir)) {
            Ok(entries) => entries,
            Err(error) => {
                let problem = Problem::of_file(dir, format!("it can't be listed: {error}"), "make it readable");
                let gone = error.kind() == io::ErrorKind::NotFound && depth > 0;
                return self.problems.of_file(dir, if gone { vec![] } else { vec![problem] });
            }
        };
        self.problems.of_file(dir, vec![]);
        self.dirs.insert(dir.to_owned());
        for entry in entries.flatten() {
            let path = dir.join(entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                if depth < MAX_DEPTH && !is_foreign(&path) {
                    self.list(&path, depth + 1, found);
                }
            } else if is_manifest(&path) && found.len() <= self.max_files {
                found.push(path);
            }
        }
    }

    /// Looks at one file, also when it seems unchanged where `sure` says that it is complete.
    pub(crate) fn refresh(&mut self, path: &Path, sure: bool) {
        if !is_manifest(path) || is_foreign(path) {
            return;
        }
        let scan = self.scan;
        let located = match read::locate(&self.site, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.vanished(path),
            other => other,
        };
        let class = Class::of(path);
        if let Some(entry) = self.files.get_mut(path) {
            entry.seen_in_scan = scan;
            entry.missing_since = None;
            if !sure && located.as_ref().is_ok_and(|(_, id)| *id == entry.id) {
                return;
            }
        }
        if !self.files.contains_key(path) && self.files.len() >= self.max_files {
            self.too_many = true;
            return;
        }
        if !sure && class == Class::Operator && located.as_ref().is_ok_and(|(_, id)| is_fresh(*id)) {
            self.unsettled = true;
            return;
        }
        let (text, id) = match located.and_then(|(file, _)| read::text(&file)) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.vanished(path),
            Err(error) => {
                let remedy = format!("make it a readable UTF-8 file of at most {MAX_FILE} bytes inside the site");
                return self.take(
                    path,
                    class,
                    None,
                    Parsed::failed(Problem::of_file(path, error.to_string(), &remedy)),
                );
            }
        };
        let had_objects = self.files.get(path).is_some_and(|entry| !entry.objects.is_empty());
        let parsed = if class == Class::Operator && had_objects && text.trim().is_empty() {
            Parsed::failed(Problem::of_file(path, "it is empty now", "delete the file to remove its objects"))
        } else {
            read::parse(path, &class, &text)
        };
        self.take(path, class, Some(id), parsed);
    }

    /// Puts what was read of a file in place of what it held.
    fn take(&mut self, path: &Path, class: Class, id: Option<FileId>, parsed: Parsed) {
        let old = self.files.remove(path);
        let sequence = old.as_ref().map_or_else(
            || {
                self.next_sequence += 1;
                self.next_sequence
            },
            |entry| entry.sequence,
        );
        let before = old.as_ref().map(|entry| entry.objects.clone()).unwrap_or_default();
        let mut objects: BTreeMap<Id, Arc<Object>> = parsed
            .objects
            .into_iter()
            .map(|(object, _)| ((object.kind, object.key.clone()), Arc::new(object)))
            .collect();
        for (id, object) in &before {
            if (parsed.unknown || parsed.bad.contains(id)) && !objects.contains_key(id) {
                objects.insert(id.clone(), Arc::clone(object));
            }
        }
        self.problems.of_file(path, parsed.problems);
        let touched: BTreeSet<Id> = before.keys().chain(objects.keys()).cloned().collect();
        let Some(id) = id.or_else(|| old.map(|entry| entry.id)) else { return };
        for object in before.keys().filter(|object| !objects.contains_key(*object)) {
            self.unlink(object, path, &class, sequence);
        }
        for object in objects.keys() {
            self.link(object, path, &class, sequence);
        }
        let seen_in_scan = self.scan;
        self.files.insert(path.to_owned(), Entry { id, class, objects, sequence, seen_in_scan, missing_since: None });
        for object in touched {
            self.resolve(&object);
        }
    }

    /// A file isn't there. The operator's get a moment to come back.
    fn vanished(&mut self, path: &Path) {
        let Some(entry) = self.files.get_mut(path) else {
            self.problems.of_file(path, vec![]);
            return;
        };
        if entry.class == Class::Operator && entry.missing_since.get_or_insert_with(Instant::now).elapsed() < SETTLE {
            self.unsettled = true;
            return;
        }
        let Some(entry) = self.files.remove(path) else { return };
        for object in entry.objects.keys() {
            self.unlink(object, path, &entry.class, entry.sequence);
        }
        self.problems.of_file(path, vec![]);
        for object in entry.objects.keys() {
            self.resolve(object);
        }
    }
}

/// Hidden files are editors' and our own temporary ones.
fn is_manifest(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Hidden folders, and the secrets.
fn is_foreign(path: &Path) -> bool {
    path.starts_with(SECRETS) || path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
}

fn is_fresh(id: FileId) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let age = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX) - id.modified;
    (0..i128::try_from(SETTLE.as_nanos()).unwrap_or(0)).contains(&age)
}
