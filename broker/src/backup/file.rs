//! The file of a backup: a line with the format, a line with the SHA-256 of all that follows, one JSON document.
//!
//! It holds the CA's key: whoever has it is the authority of the cluster set.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use hawser_broker_core::{Hash, Roster, StoredTerm};
use hawser_broker_pki::Ca;
use hawser_model::ClusterId;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::state::{Settings, write_private};

/// What the first line begins with; the format's number follows.
const MAGIC: &str = "hawser-broker-backup ";
/// The format written here.
const FORMAT: u32 = 1;
/// More than any roster takes: a mistaken path (`/dev/zero`) must not fill the memory.
const MAX_BYTES: u64 = 256 << 20;

/// Why a file can't be used as a backup.
#[derive(Debug, thiserror::Error)]
#[error("{}: {rule}; {remedy}", path.display())]
pub struct BackupError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub rule: String,
    /// What to do.
    pub remedy: &'static str,
    /// Whether there is no such file.
    pub missing: bool,
}

/// What the broker keeps besides its clusters' records.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Contents {
    /// When it was made, seconds since the epoch.
    pub(crate) made: i64,
    pub(crate) settings: Settings,
    /// `ca.crt`, PEM.
    pub(crate) ca_certificate: String,
    /// `ca.key`, PEM.
    pub(crate) ca_key: String,
    pub(crate) roster: Roster,
    pub(crate) terms: BTreeMap<ClusterId, StoredTerm>,
}

impl Drop for Contents {
    fn drop(&mut self) {
        self.ca_key.zeroize();
    }
}

impl fmt::Debug for Contents {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").field("made", &self.made).field("set", &self.roster.set()).finish_non_exhaustive()
    }
}

impl Contents {
    /// Writes the file: 0600, whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        self.ca(path)?;
        let json = Zeroizing::new(serde_json::to_vec(self)?);
        let head = format!("{MAGIC}{FORMAT}\nsha256 {}\n", Hash::of(&json));
        let bytes = Zeroizing::new([head.as_bytes(), &json].concat());
        Ok(write_private(path, &bytes)?)
    }

    /// Reads a file and checks that it is whole and that its parts belong together.
    pub(crate) fn read(path: &Path) -> Result<Self, BackupError> {
        let bytes = read_bounded(path)?;
        let (first, rest) = line(&bytes).ok_or_else(|| foreign(path))?;
        let format = first.strip_prefix(MAGIC).and_then(|n| n.parse::<u32>().ok()).ok_or_else(|| foreign(path))?;
        if format != FORMAT {
            let rule = format!("it has format {format}, and this version reads {FORMAT}");
            return Err(error(path, rule, "restore it with the version that made it, or a newer one"));
        }
        let sum = line(rest).and_then(|(sum, json)| Some((sum.strip_prefix("sha256 ")?, json)));
        let (sum, json) = sum.ok_or_else(|| damaged(path, "its checksum is missing"))?;
        if Hash::of(json).to_string() != sum {
            return Err(damaged(path, "its checksum does not match: it was cut or changed"));
        }
        let contents: Self = serde_json::from_slice(json).map_err(|e| damaged(path, &e.to_string()))?;
        contents.ca(path)?;
        Ok(contents)
    }

    /// The CA, which must be that of the roster and the settings.
    fn ca(&self, path: &Path) -> Result<Ca, BackupError> {
        let ca = Ca::from_pem(&self.ca_certificate, &self.ca_key, path).map_err(|e| damaged(path, &e.to_string()))?;
        let (set, roster, settings) = (ca.set(), self.roster.set(), &self.settings.cluster_set);
        if set != roster || set != settings {
            let rule =
                format!("the CA is of the cluster set {set:?}, the roster of {roster:?}, broker.json of {settings:?}");
            return Err(error(path, rule, "put the files of one cluster set together"));
        }
        Ok(ca)
    }
}

fn read_bounded(path: &Path) -> Result<Zeroizing<Vec<u8>>, BackupError> {
    let failed = |e: std::io::Error| BackupError {
        path: path.to_owned(),
        rule: e.to_string(),
        remedy: "name a file that `hawser broker backup` made",
        missing: e.kind() == std::io::ErrorKind::NotFound,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES { Err(foreign(path)) } else { Ok(bytes) }
}

/// The first line, which must be text, and what follows it.
fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

fn foreign(path: &Path) -> BackupError {
    error(path, "it is no backup of a broker".to_owned(), "name a file that `hawser broker backup` made")
}

fn damaged(path: &Path, rule: &str) -> BackupError {
    error(path, format!("the backup is damaged: {rule}"), "use another backup; nothing was changed")
}

fn error(path: &Path, rule: String, remedy: &'static str) -> BackupError {
    BackupError { path: path.to_owned(), rule, remedy, missing: false }
}
