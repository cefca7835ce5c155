//! The two files, opened, created and written together.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hawser_broker_core::{Batch, Roster, StoredTerm};
use hawser_model::ClusterId;
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, Durability, StorageError, WriteTransaction};

use crate::error::{StoreError, failed};
use crate::records::RecordsFile;
use crate::roster::RosterFile;
use crate::{Store, Stored};

/// The format of both files.
pub(crate) const FORMAT: u64 = 1;

/// The embedded store: `roster.redb` and `records.redb` in one directory, which only one process can open.
pub struct RedbStore {
    roster: RosterFile,
    records: RecordsFile,
}

impl std::fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedbStore")
    }
}

impl RedbStore {
    /// Begins a cluster set in `dir`, which is made (0700) where it does not exist.
    ///
    /// # Errors
    /// There is one already; the files can't be written.
    pub fn create(dir: &Path, roster: &Roster, epoch: [u8; 16], now: i64) -> Result<(), StoreError> {
        Self::restore(dir, roster, &BTreeMap::new(), epoch, now)
    }

    /// As [`Self::create`], with the terms that a backup holds. The records are not there yet: their owners send them.
    ///
    /// # Errors
    /// As there.
    pub fn restore(
        dir: &Path,
        roster: &Roster,
        terms: &BTreeMap<ClusterId, StoredTerm>,
        epoch: [u8; 16],
        now: i64,
    ) -> Result<(), StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| StoreError::Io {
            path: dir.to_owned(),
            what: "making the directory",
            source: Box::new(e),
        })?;
        for path in [roster_path(dir), records_path(dir)] {
            if path.exists() {
                return Err(StoreError::Exists { path });
            }
        }
        RecordsFile::create(&records_path(dir), epoch, now)?;
        RosterFile::create(&roster_path(dir), roster, terms)?;
        sync_dir(dir)
    }

    /// The roster and the terms of a cluster set whose broker does not run.
    ///
    /// # Errors
    /// As [`Self::open`]; [`StoreError::InUse`] while a broker runs.
    pub fn read_roster(dir: &Path) -> Result<(Roster, BTreeMap<ClusterId, StoredTerm>), StoreError> {
        let (_, roster, terms) = RosterFile::open(&existing_roster(dir)?)?;
        Ok((roster, terms))
    }

    /// Checks that no broker has the files in `dir` open, whatever state they are in.
    ///
    /// # Errors
    /// [`StoreError::InUse`].
    pub fn check_unused(dir: &Path) -> Result<(), StoreError> {
        for path in [roster_path(dir), records_path(dir)] {
            if path.exists()
                && let Err(error @ StoreError::InUse { .. }) = open(&path, "")
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Opens the cluster set in `dir`. Where the records are gone, a new `epoch` begins.
    ///
    /// # Errors
    /// There is none; its roster is missing; a file is damaged, in use or of a newer format.
    pub fn open(dir: &Path, epoch: [u8; 16], now: i64) -> Result<(Self, Stored), StoreError> {
        let (roster, records) = (existing_roster(dir)?, records_path(dir));
        let (roster, held, terms) = RosterFile::open(&roster)?;
        let new_epoch = !records.exists();
        if new_epoch {
            RecordsFile::create(&records, epoch, now)?;
            sync_dir(dir)?;
        }
        let (records, loaded) = RecordsFile::open(&records)?;
        let stored = Stored {
            roster: held,
            terms,
            epoch: loaded.epoch,
            new_epoch,
            epoch_began: loaded.began,
            revision: loaded.revision,
            complete: loaded.complete,
            records: loaded.records,
        };
        Ok((Self { roster, records }, stored))
    }
}

impl Store for RedbStore {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if batch.roster.is_some() || !batch.terms.is_empty() {
            self.roster.commit(batch.roster.as_deref(), &batch.terms)?;
        }
        if !batch.records.is_empty() {
            self.records.commit(&batch.records, batch.revision)?;
        }
        Ok(())
    }
}

/// Where the roster is; an error that says what to do where it is not.
fn existing_roster(dir: &Path) -> Result<PathBuf, StoreError> {
    let roster = roster_path(dir);
    if roster.exists() {
        return Ok(roster);
    }
    let found = [("records.redb", records_path(dir)), ("the CA (ca.key)", dir.join("ca.key"))]
        .into_iter()
        .find_map(|(name, path)| path.exists().then_some(name));
    Err(match found {
        Some(found) => StoreError::RosterMissing { dir: dir.to_owned(), path: roster, found },
        None => StoreError::NotInitialised { dir: dir.to_owned() },
    })
}

fn roster_path(dir: &Path) -> PathBuf {
    dir.join("roster.redb")
}

fn records_path(dir: &Path) -> PathBuf {
    dir.join("records.redb")
}

/// Creates a database file (0600), complete under its name or not there at all.
pub(crate) fn create(
    path: &Path,
    fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), StoreError> {
    let fresh = path.with_extension("new");
    let io = |what| move |e: std::io::Error| StoreError::Io { path: path.to_owned(), what, source: Box::new(e) };
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io("removing an unfinished file")(error));
        }
        Ok(()) | Err(_) => {}
    }
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&fresh).map_err(io("creating"))?;
    let backend = FileBackend::new(file).map_err(failed(path, "creating"))?;
    let database = Database::builder().create_with_backend(backend).map_err(failed(path, "creating"))?;
    write(&database, path, fill)?;
    drop(database);
    std::fs::rename(&fresh, path).map_err(io("naming"))
}

/// Opens a database file after checking all of it.
pub(crate) fn open(path: &Path, remedy: &'static str) -> Result<Database, StoreError> {
    let corrupt = |source| StoreError::Corrupt { path: path.to_owned(), remedy, source };
    Database::builder().set_check_integrity_on_open(true).open(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        DatabaseError::Storage(StorageError::Io(ref io))
            if io.kind() != std::io::ErrorKind::InvalidData && io.kind() != std::io::ErrorKind::UnexpectedEof =>
        {
            failed(path, "opening")(error)
        }
        other => corrupt(Box::new(other)),
    })
}

/// One durable transaction.
pub(crate) fn write(
    database: &Database,
    path: &Path,
    fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), StoreError> {
    let mut transaction = database.begin_write().map_err(failed(path, "beginning a write"))?;
    transaction.set_durability(Durability::Immediate).map_err(failed(path, "beginning a write"))?;
    fill(&transaction).map_err(failed(path, "writing"))?;
    transaction.commit().map_err(failed(path, "committing"))
}

pub(crate) fn check_format(path: &Path, found: u64) -> Result<(), StoreError> {
    if found > FORMAT {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: FORMAT });
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let sync = || File::open(dir)?.sync_all();
    sync().map_err(|e: std::io::Error| StoreError::Io { path: dir.to_owned(), what: "syncing", source: Box::new(e) })
}
