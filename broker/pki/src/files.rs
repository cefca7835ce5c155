//! Files that must not be half-written or readable by others.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use crate::Error;

/// More than any file of ours: a mistaken path (`/dev/zero`) must not fill the memory.
const MAX_BYTES: u64 = 1 << 20;

/// Makes a directory (0700) and those above it.
///
/// # Errors
/// When it can't be made.
pub fn private_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("make", path))
}

/// Writes a file that only its owner reads (0600): whole or not at all, and on disk when this returns.
///
/// # Errors
/// When it can't be written; what was there before is then still there.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    static UNIQUE: AtomicU64 = AtomicU64::new(0);
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io_error("write", path)(io::ErrorKind::InvalidInput.into()))?;
    let unique = UNIQUE.fetch_add(1, Ordering::Relaxed);
    let temporary = dir.join(format!(".{}.{}.{unique}", name.to_string_lossy(), std::process::id()));
    let written = write_and_rename(&temporary, path, dir, bytes);
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(io_error("write", path))
}

fn write_and_rename(temporary: &Path, path: &Path, dir: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    File::open(dir)?.sync_all()
}

/// Removes a file; none is fine.
///
/// # Errors
/// When it is there and can't be removed.
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// All of a file, wiped from memory when dropped.
///
/// # Errors
/// When it can't be read or is larger than 1 MiB.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(io_error("read", path))?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::File { path: path.to_owned(), rule: format!("it must not exceed {MAX_BYTES} bytes") });
    }
    Ok(bytes)
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}
