//! What can be wrong with a store, and what to do about it.

use std::path::{Path, PathBuf};

/// Why a store can't be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no cluster set in the directory.
    #[error("{}: there is no cluster set here; begin one with `hawser broker init --dir {}`", dir.display(), dir.display())]
    NotInitialised {
        /// The directory.
        dir: PathBuf,
    },
    /// The roster is gone, but the cluster set exists.
    #[error(
        "{}: the roster is missing while {found} exists: members, tokens and revocations would be forgotten, so the broker \
         does not start; put a backup back with `hawser broker restore --dir {} --from FILE`, or begin a new cluster set in an empty \
         directory with `hawser broker init` (all clusters then join again)",
        path.display(),
        dir.display()
    )]
    RosterMissing {
        /// The directory.
        dir: PathBuf,
        /// The roster's file.
        path: PathBuf,
        /// What exists instead.
        found: &'static str,
    },
    /// `create` found something.
    #[error("{}: there is a cluster set here already; choose an empty directory", path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// Another process uses the file.
    #[error("{}: another broker uses this directory; stop it first", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A file is damaged.
    #[error("{}: the file is damaged; {remedy}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
        /// What was found.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file was written by a newer version.
    #[error("{}: format {found} is newer than this broker's ({known}); run the newer version again", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest known.
        known: u64,
    },
    /// Reading or writing failed.
    #[error("{}: {what} failed", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Names `path` and `what` in an error of redb or of the system.
pub(crate) fn failed<E: Into<redb::Error>>(path: &Path, what: &'static str) -> impl FnOnce(E) -> StoreError {
    move |error| StoreError::Io { path: path.to_owned(), what, source: Box::new(error.into()) }
}
