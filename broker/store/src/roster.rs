//! `roster.redb`: the roster as JSON, and the shards' terms.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hawser_broker_core::{Roster, StoredTerm};
use hawser_model::ClusterId;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::error::{StoreError, failed};
use crate::files::{FORMAT, check_format, create, open, write};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const ROSTER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("roster");
const TERMS: TableDefinition<'_, &str, (u64, i64, bool)> = TableDefinition::new("terms");
const REMEDY: &str = "put a backup back with `hawser broker restore --force`, or begin a new cluster set in an empty directory with \
                      `hawser broker init`";

pub(crate) struct RosterFile {
    database: Database,
    path: PathBuf,
}

impl RosterFile {
    pub(crate) fn create(
        path: &Path,
        roster: &Roster,
        terms: &BTreeMap<ClusterId, StoredTerm>,
    ) -> Result<(), StoreError> {
        let json = encode(path, roster)?;
        create(path, |transaction| {
            transaction.open_table(META)?.insert("format", FORMAT)?;
            transaction.open_table(ROSTER)?.insert("roster", json.as_slice())?;
            insert_terms(transaction, terms)
        })
    }

    pub(crate) fn open(path: &Path) -> Result<(Self, Roster, BTreeMap<ClusterId, StoredTerm>), StoreError> {
        let file = Self { database: open(path, REMEDY)?, path: path.to_owned() };
        let format = file.read(|t| Ok(t.open_table(META)?.get("format")?.map(|v| v.value())))?;
        check_format(path, format.unwrap_or(0))?;
        let json = file.read(|t| Ok(t.open_table(ROSTER)?.get("roster")?.map(|v| v.value().to_vec())))?;
        let json = json.ok_or_else(|| file.corrupt("it holds no roster".into()))?;
        let roster = serde_json::from_slice(&json).map_err(|e| file.corrupt(Box::new(e)))?;
        let raw = file.read(|t| {
            let table = t.open_table(TERMS)?;
            let rows = table.iter()?.map(|row| row.map(|(k, v)| (k.value().to_owned(), v.value())));
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })?;
        let terms = raw.into_iter().map(|(cluster, (term, seen, live))| {
            Ok((ClusterId::new(cluster).map_err(|e| file.corrupt(Box::new(e)))?, StoredTerm { term, seen, live }))
        });
        let terms = terms.collect::<Result<_, StoreError>>()?;
        Ok((file, roster, terms))
    }

    pub(crate) fn commit(
        &self,
        roster: Option<&Roster>,
        terms: &BTreeMap<ClusterId, StoredTerm>,
    ) -> Result<(), StoreError> {
        let json = roster.map(|r| encode(&self.path, r)).transpose()?;
        write(&self.database, &self.path, |transaction| {
            if let Some(json) = &json {
                transaction.open_table(ROSTER)?.insert("roster", json.as_slice())?;
            }
            insert_terms(transaction, terms)
        })
    }

    fn read<T>(&self, get: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let transaction = self.database.begin_read().map_err(failed(&self.path, "reading"))?;
        get(&transaction).map_err(|e| self.corrupt(Box::new(e)))
    }

    fn corrupt(&self, source: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), remedy: REMEDY, source }
    }
}

fn insert_terms(transaction: &WriteTransaction, terms: &BTreeMap<ClusterId, StoredTerm>) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(TERMS)?;
    for (cluster, term) in terms {
        table.insert(cluster.as_str(), (term.term, term.seen, term.live))?;
    }
    Ok(())
}

fn encode(path: &Path, roster: &Roster) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(roster).map_err(|e| StoreError::Io {
        path: path.to_owned(),
        what: "encoding the roster",
        source: Box::new(e),
    })
}
