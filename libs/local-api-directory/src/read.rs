//! Reading one file: bounded, never through a link out of the site, document by document.

use std::collections::BTreeSet;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hawser_api::yaml::{self, Document};
use hawser_local_api::value::MAX_OBJECT_BYTES;
use hawser_local_api::{Error, Key, Kind, Object, Resource, client};
use nix::fcntl::OFlag;
use serde_json::Value;

use crate::folder::{Class, SECRETS};
use crate::problem::Problem;

/// The longest file that is read, bytes.
pub(crate) const MAX_FILE: u64 = MAX_OBJECT_BYTES as u64;

/// Tells whether a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
    len: u64,
    /// Unix time, nanoseconds.
    pub(crate) modified: i128,
    changed: i128,
}

impl From<&Metadata> for FileId {
    fn from(meta: &Metadata) -> Self {
        let nanos = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            len: meta.len(),
            modified: nanos(meta.mtime(), meta.mtime_nsec()),
            changed: nanos(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// Finds the file behind a path; a link must lead to a file of the site that is no secret.
pub(crate) fn locate(site: &Path, relative: &Path) -> io::Result<(PathBuf, FileId)> {
    let path = site.join(relative);
    let meta = fs::symlink_metadata(&path)?;
    if !meta.is_symlink() {
        return Ok((path, FileId::from(&meta)));
    }
    let target = fs::canonicalize(&path)?;
    match target.strip_prefix(site) {
        Ok(inside) if !inside.starts_with(SECRETS) => {
            let id = FileId::from(&fs::symlink_metadata(&target)?);
            Ok((target, id))
        }
        Ok(_) | Err(_) => Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is a link out of the site")),
    }
}

/// Reads a file that [`locate`] found.
pub(crate) fn text(path: &Path) -> io::Result<(String, FileId)> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut text = String::new();
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {MAX_FILE} bytes")));
    }
    Ok((text, FileId::from(&meta)))
}

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) objects: Vec<(Object, u64)>,
    pub(crate) problems: Vec<Problem>,
    /// Objects whose document is bad: an earlier version of them stays.
    pub(crate) bad: BTreeSet<(Kind, Key)>,
    /// Some document doesn't tell what it is: every earlier object of the file may be the one it means.
    pub(crate) unknown: bool,
}

impl Parsed {
    /// Nothing could be read.
    pub(crate) fn failed(problem: Problem) -> Self {
        Self { problems: vec![problem], unknown: true, ..Self::default() }
    }
}

/// Reads a file's documents. The operator's are checked against their types as well, so that a mistake is named with its line.
pub(crate) fn parse(file: &Path, class: &Class, text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut seen = BTreeSet::new();
    for document in yaml::documents(text) {
        let problem = |line, object: String, field: &str, rule: String, remedy: &str| Problem {
            file: file.to_owned(),
            line: Some(line),
            object,
            field: field.to_owned(),
            rule,
            remedy: remedy.to_owned(),
        };
        let value = match yaml::parse(document) {
            Ok(value) => value,
            Err(error) => {
                parsed.unknown = true;
                parsed.problems.push(problem(error.line, String::new(), "", error.rule, "correct the YAML there"));
                continue;
            }
        };
        let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind_name) = (field("apiVersion"), field("kind"));
        let Some(kind) = Kind::named(&api_version, &kind_name) else {
            let rule = format!("{api_version:?} {kind_name:?} is no apiVersion and kind that a site has");
            let remedy = "correct them, or keep other manifests outside the site";
            parsed.problems.push(problem(document.line, String::new(), "kind", rule, remedy));
            parsed.unknown |= api_version.is_empty() || kind_name.is_empty();
            continue;
        };
        let object = match Object::from_value(kind, value) {
            Ok(object) => object,
            Err(error) => {
                let (field, rule, remedy) = parts(error);
                parsed.unknown = true;
                parsed.problems.push(problem(document.line, kind.kind.to_owned(), &field, rule, &remedy));
                continue;
            }
        };
        let name = format!("{} {}", kind.kind, object.key);
        if *class == Class::Operator
            && let Err(error) = check(&object, document)
        {
            parsed.bad.insert((kind, object.key));
            parsed.problems.push(problem(error.line, name, &error.field, error.rule, "correct the field"));
            continue;
        }
        if seen.insert((kind, object.key.clone())) {
            parsed.objects.push((object, document.line));
        } else {
            let rule = "it is there twice in this file; the first one counts".to_owned();
            parsed.problems.push(problem(document.line, name, "metadata.name", rule, "remove or rename one of them"));
        }
    }
    parsed
}

fn parts(error: Error) -> (String, String, String) {
    match error {
        Error::Invalid { field, rule, remedy, .. } => (field, rule, remedy),
        other @ (Error::Owned { .. } | Error::NotFound { .. } | Error::Storage { .. } | Error::Closed) => {
            (String::new(), other.to_string(), "correct it".to_owned())
        }
    }
}

struct Mistake {
    line: u64,
    field: String,
    rule: String,
}

/// Reads the object as its type; where that fails, finds the line in its text.
fn check(object: &Object, document: Document<'_>) -> Result<(), Mistake> {
    struct Check<'a>(&'a Object, Document<'a>);
    impl client::ForType for Check<'_> {
        type Output = Result<(), Mistake>;
        fn run<K: Resource>(self) -> Self::Output {
            let Err(error) = hawser_local_api::parse::<K>(self.0) else { return Ok(()) };
            let line = yaml::line_of(self.1, &error.field).unwrap_or(self.1.line);
            Err(Mistake { line, field: error.field, rule: error.rule })
        }
    }
    client::with_type(object.kind, Check(object, document)).unwrap_or(Ok(()))
}
