//! Writing files so that a reader sees the old or the new one, never a part, also after a crash.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Replaces a file below `root`, whole and durable. Its folders are made where they are missing.
pub(crate) fn replace(root: &Path, relative: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = root.join(relative);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no file name"));
    };
    folders(root, relative.parent().unwrap_or(Path::new("")))?;
    let unique = NEXT.fetch_add(1, Ordering::Relaxed);
    let fresh = parent.join(format!(".{}.{unique}.tmp", std::process::id()));
    let written = write_new(&fresh, bytes).and_then(|()| fs::rename(&fresh, parent.join(name)));
    if written.is_err() {
        let _gone = fs::remove_file(&fresh);
    }
    written?;
    File::open(parent)?.sync_all()
}

/// Removes a file; none is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    }
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Makes the folders of `relative` below `root`; a link among them is refused, since it could lead anywhere.
pub(crate) fn folders(root: &Path, relative: &Path) -> io::Result<()> {
    let mut path = root.to_owned();
    for part in relative.components() {
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    format!("{} is no folder; move it away", path.display()),
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_folder(&path)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIR_MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(DIR_MODE)),
        Err(error) => Err(error),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes what a writer that crashed left half-written below its own folder.
pub(crate) fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sweep(&entry.path());
        } else if name.starts_with('.') && name.ends_with(".tmp") {
            let _gone = fs::remove_file(entry.path());
        }
    }
}
