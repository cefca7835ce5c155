//! What the agent keeps on disk, so that it starts without the broker: the highest roster, the last synced view, when exports
//! were first seen. Files are replaced whole, 0600.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hawser_agent_plan::Identity;
use hawser_model::ServiceName;
use hawser_model::age::FirstSeen;
use hawser_model::export::Timestamp;
use hawser_proto::v1;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::reader::{Position, Reader};

/// More than any view may take: a file beyond that is not ours.
const MAX_FILE: u64 = 512 << 20;

/// A process's folder.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    dir: PathBuf,
}

/// What a view's file begins with, one line of JSON; the rest is length-delimited `Upsert`s.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ViewHead {
    format: u32,
    cluster_set: String,
    cluster: String,
    generation: u64,
    /// Hexadecimal.
    epoch: String,
    revision: u64,
    namespaces: BTreeSet<String>,
    /// Records of the broker's epoch; those after them were kept from an earlier one.
    sent: usize,
    kept: usize,
}

const FORMAT: u32 = 1;

impl Disk {
    /// Opens (or makes) the folder.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    pub(crate) fn roster_path(&self) -> PathBuf {
        self.dir.join("roster")
    }

    /// The last synced view of this membership; none: there is none, or it is another's or damaged.
    pub(crate) fn load_view(&self, identity: &Identity) -> Option<Reader> {
        let path = self.dir.join("view");
        match read_view(&path, identity) {
            Ok(reader) => reader,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the view on disk can't be used, the broker will send it again");
                None
            }
        }
    }

    /// The reader's view as a file; nothing where it is not complete at this moment.
    pub(crate) fn encode_view(identity: &Identity, reader: &Reader) -> io::Result<Vec<u8>> {
        let Some(position) = reader.position().filter(|_| !reader.is_moving()) else { return Ok(Vec::new()) };
        let records: Vec<(bool, v1::Upsert)> = reader.records().collect();
        let sent = records.iter().filter(|(sent, _)| *sent).count();
        let head = ViewHead {
            format: FORMAT,
            cluster_set: identity.cluster_set.clone(),
            cluster: identity.cluster.to_string(),
            generation: identity.generation,
            epoch: to_hex(&position.epoch),
            revision: position.revision,
            namespaces: position.namespaces.clone(),
            sent,
            kept: records.len() - sent,
        };
        let mut bytes = serde_json::to_vec(&head)?;
        bytes.push(b'\n');
        for (_, upsert) in records {
            upsert.encode_length_delimited(&mut bytes).map_err(io::Error::other)?;
        }
        Ok(bytes)
    }

    /// Keeps a view; nothing leaves the file as it is.
    pub(crate) fn save_view(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() { Ok(()) } else { replace(&self.dir.join("view"), bytes) }
    }

    /// When exports were first seen.
    pub(crate) fn load_first_seen(&self) -> BTreeMap<ServiceName, FirstSeen> {
        let path = self.dir.join("first-seen.json");
        let read =
            || -> io::Result<BTreeMap<String, (i64, i64)>> { Ok(serde_json::from_slice(&read_bounded(&path)?)?) };
        let seen = |(claimed, effective)| FirstSeen { claimed: Timestamp(claimed), effective: Timestamp(effective) };
        match read() {
            Ok(map) => map.into_iter().filter_map(|(k, v)| Some((k.parse().ok()?, seen(v)))).collect(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "when exports were first seen is lost, their creation times count");
                BTreeMap::new()
            }
        }
    }

    /// Keeps them.
    pub(crate) fn save_first_seen(&self, seen: &BTreeMap<ServiceName, FirstSeen>) -> io::Result<()> {
        let map: BTreeMap<String, (i64, i64)> =
            seen.iter().map(|(k, v)| (k.to_string(), (v.claimed.0, v.effective.0))).collect();
        replace(&self.dir.join("first-seen.json"), &serde_json::to_vec(&map)?)
    }
}

fn read_view(path: &Path, identity: &Identity) -> io::Result<Option<Reader>> {
    let bytes = match read_bounded(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| bad("it has no first line"))?;
    let (head, rest) = bytes.split_at(end);
    let head: ViewHead = serde_json::from_slice(head)?;
    let own = (&head.cluster_set, head.cluster.as_str(), head.generation);
    if head.format != FORMAT || own != (&identity.cluster_set, identity.cluster.as_str(), identity.generation) {
        return Ok(None);
    }
    let mut rest = rest.get(1..).unwrap_or_default();
    let mut records = Vec::new();
    while !rest.is_empty() {
        let upsert = v1::Upsert::decode_length_delimited(&mut rest).map_err(|e| bad(&e.to_string()))?;
        records.push((records.len() < head.sent, upsert));
    }
    if records.len() != head.sent + head.kept {
        return Err(bad("it ends too early"));
    }
    let epoch = from_hex(&head.epoch).ok_or_else(|| bad("its epoch is not hexadecimal"))?;
    let position = Position { epoch, revision: head.revision, namespaces: head.namespaces };
    Ok(Some(Reader::restore(position, records)))
}

/// Reads a file of bounded size.
pub(crate) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes are more than {MAX_FILE}")));
    }
    fs::read(path)
}

/// Replaces a file whole: a reader sees the old or the new one, also after a power cut.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("a path without a folder"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(dir)?.sync_all()
    };
    let result = write();
    if result.is_err() {
        // The rename may have happened; if not, the leftover must go.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    digits.len().is_multiple_of(2).then(|| digits.chunks_exact(2).map(|p| p[0] << 4 | p[1]).collect())
}

#[cfg(test)]
mod tests;
