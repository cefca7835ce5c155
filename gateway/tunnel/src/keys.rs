//! Lane keys on disk: one X25519 key per lane, made on the node, kept over restarts, readable by its owner alone.
//!
//! `lane-<i>.key` is in use; `lane-<i>.next.key`, while it exists, will replace it ([`promote`]). When that may happen is
//! judged by the gateway process; `rotation` brings the lanes to it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519;
use hawser_model::PublicKey;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// A key file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Reading or writing failed.
    #[error("key file {path}: {action} failed")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read it.
    #[error("key file {path} has mode {mode:o}: it must be readable by its owner alone; run chmod 600 on it")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a key.
    #[error("key file {path} does not hold 32 bytes in base64: restore it, or remove it to have a new key made")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no random bytes.
    #[error("the system's random number generator failed")]
    Random,
}

/// A lane's key pair. The secret half is wiped from memory when this is dropped.
pub struct LaneKey {
    pub(crate) secret: x25519::StaticSecret,
    /// The half that peers know.
    pub public: PublicKey,
    /// When the key was made.
    pub created: SystemTime,
}

impl std::fmt::Debug for LaneKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Loads the key of lane `lane` from `dir`, making it first if there is none.
///
/// # Errors
/// When the file can't be read or written, is open to others, or holds no key: a damaged key is never replaced silently,
/// because peers would refuse the new one.
pub fn load_or_create(dir: &Path, lane: usize) -> Result<LaneKey, KeyError> {
    let path = current(dir, lane);
    match open(&path)? {
        Some(file) => load(&path, file),
        None => create(dir, &path),
    }
}

/// Loads the key that will replace lane `lane`'s, if one was made.
///
/// # Errors
/// As [`load_or_create`]: peers may know it already.
pub fn load_next(dir: &Path, lane: usize) -> Result<Option<LaneKey>, KeyError> {
    let path = next(dir, lane);
    open(&path)?.map(|file| load(&path, file)).transpose()
}

/// The same, making it first if there is none.
///
/// # Errors
/// As [`load_or_create`].
pub fn load_or_create_next(dir: &Path, lane: usize) -> Result<LaneKey, KeyError> {
    let made = load_next(dir, lane)?;
    made.map_or_else(|| create(dir, &next(dir, lane)), Ok)
}

/// Puts the next key of lane `lane` in the place of the one in use, which is gone then. Nothing where there is none.
///
/// # Errors
/// When the files can't be written; a crash leaves both keys or the new one alone.
pub fn promote(dir: &Path, lane: usize) -> Result<(), KeyError> {
    let fail = |action| move |source| KeyError::Io { path: next(dir, lane), action, source };
    match fs::rename(next(dir, lane), current(dir, lane)) {
        Ok(()) => File::open(dir).and_then(|d| d.sync_all()).map_err(fail("sync")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(fail("rename")(e)),
    }
}

fn current(dir: &Path, lane: usize) -> PathBuf {
    dir.join(format!("lane-{lane}.key"))
}

fn next(dir: &Path, lane: usize) -> PathBuf {
    dir.join(format!("lane-{lane}.next.key"))
}

fn open(path: &Path) -> Result<Option<File>, KeyError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyError::Io { path: path.to_owned(), action: "open", source }),
    }
}

fn load(path: &Path, file: File) -> Result<LaneKey, KeyError> {
    let fail = |action| move |source| KeyError::Io { path: path.to_owned(), action, source };
    let meta = file.metadata().map_err(fail("stat"))?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Mode { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(64));
    file.take(256).read_to_string(&mut text).map_err(fail("read"))?;
    let malformed = || KeyError::Malformed { path: path.to_owned() };
    let decoded = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| malformed())?);
    let bytes: [u8; 32] = decoded.as_slice().try_into().map_err(|_| malformed())?;
    Ok(from_bytes(&Zeroizing::new(bytes), meta.modified().unwrap_or_else(|_| SystemTime::now())))
}

fn create(dir: &Path, path: &Path) -> Result<LaneKey, KeyError> {
    let fail = |path: &Path, action| {
        let path = path.to_owned();
        move |source| KeyError::Io { path, action, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail(dir, "create folder"))?;
    let mut bytes = Zeroizing::new([0u8; 32]);
    SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| KeyError::Random)?;
    let text = Zeroizing::new(format!("{}\n", STANDARD.encode(bytes.as_slice())));

    // A crash leaves either no key or a whole one: the rename is what makes it exist.
    let draft = path.with_extension("key.new");
    match fs::remove_file(&draft) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(KeyError::Io { path: draft, action: "remove", source }),
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(fail(&draft, "create"))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail(&draft, "write"))?;
    fs::rename(&draft, path).map_err(fail(path, "rename"))?;
    File::open(dir).and_then(|d| d.sync_all()).map_err(fail(dir, "sync"))?;
    Ok(from_bytes(&bytes, SystemTime::now()))
}

fn from_bytes(bytes: &[u8; 32], created: SystemTime) -> LaneKey {
    let secret = x25519::StaticSecret::from(*bytes);
    let public = PublicKey(x25519::PublicKey::from(&secret).to_bytes());
    LaneKey { secret, public, created }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(&dir.path().join("gateway"), 3).unwrap();
        let again = load_or_create(&dir.path().join("gateway"), 3).unwrap();
        assert_eq!(first.public, again.public);
        let other = load_or_create(&dir.path().join("gateway"), 4).unwrap();
        assert_ne!(first.public, other.public);
        let mode = |p: &str| fs::metadata(dir.path().join(p)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("gateway/lane-3.key"), 0o600);
        assert_eq!(mode("gateway"), 0o700);
    }

    #[test]
    fn a_damaged_or_open_key_is_refused_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path(), 0).unwrap();
        let path = dir.path().join("lane-0.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_create(dir.path(), 0), Err(KeyError::Mode { mode: 0o644, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "bm90IGEga2V5\n").unwrap();
        assert!(matches!(load_or_create(dir.path(), 0), Err(KeyError::Malformed { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "bm90IGEga2V5\n");
    }

    #[test]
    fn a_next_key_waits_beside_the_current_one_and_replaces_it_whole() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path(), 0).unwrap();
        assert!(load_next(dir.path(), 0).unwrap().is_none());
        promote(dir.path(), 0).unwrap();
        assert_eq!(load_or_create(dir.path(), 0).unwrap().public, first.public, "there was nothing to replace it");
        let next = load_or_create_next(dir.path(), 0).unwrap();
        assert_ne!(next.public, first.public);
        assert_eq!(load_or_create_next(dir.path(), 0).unwrap().public, next.public, "asked for twice, made once");
        assert_eq!(load_or_create(dir.path(), 0).unwrap().public, first.public, "a restart finds both");
        let mode = fs::metadata(dir.path().join("lane-0.next.key")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        promote(dir.path(), 0).unwrap();
        assert_eq!(load_or_create(dir.path(), 0).unwrap().public, next.public);
        assert!(load_next(dir.path(), 0).unwrap().is_none());
        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(files, ["lane-0.key"], "the old key is nowhere");
    }

    #[test]
    fn the_secret_is_not_in_its_debug_form() {
        let key = from_bytes(&[7; 32], SystemTime::now());
        let shown = format!("{key:?}");
        assert!(!shown.contains("secret"), "{shown}");
        assert!(!shown.contains("0707"), "{shown}");
    }
}
