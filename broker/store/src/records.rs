//! `records.redb`: all clusters' records, which shards are complete, and the epoch.

use std::path::{Path, PathBuf};

use hawser_broker_core::{Kind, RecordChange, RecordKey};
use hawser_model::ClusterId;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::StoredRecord;
use crate::error::{StoreError, failed};
use crate::files::{FORMAT, check_format, create, open, write};

/// Cluster, kind, name.
type Key = (&'static str, u8, &'static str);
/// Generation, revision, claimed creation time (`i64::MIN`: none), encoding.
type Value = (u64, u64, i64, &'static [u8]);

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const EPOCH: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("epoch");
const RECORDS: TableDefinition<'_, Key, Value> = TableDefinition::new("records");
const COMPLETE: TableDefinition<'_, &str, ()> = TableDefinition::new("complete");
const REMEDY: &str = "move the file away and start the broker again: every cluster sends its records anew, and nothing vanishes \
                      meanwhile";

pub(crate) struct RecordsFile {
    database: Database,
    path: PathBuf,
}

/// What the file holds.
pub(crate) struct LoadedRecords {
    pub(crate) epoch: [u8; 16],
    pub(crate) began: i64,
    pub(crate) revision: u64,
    pub(crate) complete: Vec<ClusterId>,
    pub(crate) records: Vec<StoredRecord>,
}

impl RecordsFile {
    pub(crate) fn create(path: &Path, epoch: [u8; 16], now: i64) -> Result<(), StoreError> {
        create(path, |transaction| {
            let mut meta = transaction.open_table(META)?;
            meta.insert("format", FORMAT)?;
            meta.insert("began", u64::try_from(now).unwrap_or(0))?;
            meta.insert("revision", 0)?;
            transaction.open_table(EPOCH)?.insert("epoch", epoch.as_slice())?;
            transaction.open_table(RECORDS)?;
            transaction.open_table(COMPLETE)?;
            Ok(())
        })
    }

    pub(crate) fn open(path: &Path) -> Result<(Self, LoadedRecords), StoreError> {
        let file = Self { database: open(path, REMEDY)?, path: path.to_owned() };
        let meta = |name: &'static str| {
            file.read(move |t| Ok(t.open_table(META)?.get(name)?.map(|v| v.value()))).map(Option::unwrap_or_default)
        };
        check_format(path, meta("format")?)?;
        let epoch = file.read(|t| Ok(t.open_table(EPOCH)?.get("epoch")?.and_then(|v| v.value().try_into().ok())))?;
        let epoch = epoch.ok_or_else(|| file.corrupt("it holds no epoch".into()))?;
        let complete = file.read(|t| {
            let table = t.open_table(COMPLETE)?;
            let names = table.iter()?.map(|row| row.map(|(k, _)| k.value().to_owned()));
            Ok(names.collect::<Result<Vec<_>, _>>()?)
        })?;
        let complete = complete.iter().map(|name| file.cluster(name)).collect::<Result<_, _>>()?;
        let loaded = LoadedRecords {
            epoch,
            began: i64::try_from(meta("began")?).unwrap_or(0),
            revision: meta("revision")?,
            complete,
            records: file.records()?,
        };
        Ok((file, loaded))
    }

    fn records(&self) -> Result<Vec<StoredRecord>, StoreError> {
        let transaction = self.database.begin_read().map_err(failed(&self.path, "reading"))?;
        let broken = |e: redb::Error| self.corrupt(Box::new(e));
        let table = transaction.open_table(RECORDS).map_err(|e| broken(e.into()))?;
        let mut records = Vec::new();
        for row in table.iter().map_err(|e| broken(e.into()))? {
            let (key, value) = row.map_err(|e| broken(e.into()))?;
            let ((cluster, kind, name), (generation, revision, claimed, bytes)) = (key.value(), value.value());
            let kind = Kind::of_number(kind.into()).ok_or_else(|| self.corrupt(format!("kind {kind}").into()))?;
            records.push(StoredRecord {
                cluster: self.cluster(cluster)?,
                key: RecordKey { kind, name: name.into() },
                generation,
                revision,
                claimed: (claimed != i64::MIN).then_some(claimed),
                bytes: bytes.to_vec(),
            });
        }
        Ok(records)
    }

    pub(crate) fn commit(&self, changes: &[RecordChange], revision: u64) -> Result<(), StoreError> {
        write(&self.database, &self.path, |transaction| {
            let mut records = transaction.open_table(RECORDS)?;
            let mut complete = transaction.open_table(COMPLETE)?;
            for change in changes {
                match change {
                    RecordChange::Put(r) => {
                        let key = (r.cluster.as_str(), r.key.kind.number(), &*r.key.name);
                        let claimed = r.claimed.map_or(i64::MIN, |t| t.0);
                        records.insert(key, (r.generation, r.revision, claimed, &*r.encoded.bytes))?;
                    }
                    RecordChange::Delete(cluster, key) => {
                        records.remove((cluster.as_str(), key.kind.number(), &*key.name))?;
                    }
                    RecordChange::Complete(cluster) => {
                        complete.insert(cluster.as_str(), ())?;
                    }
                    RecordChange::Incomplete(cluster) => {
                        complete.remove(cluster.as_str())?;
                    }
                }
            }
            transaction.open_table(META)?.insert("revision", revision)?;
            Ok(())
        })
    }

    fn cluster(&self, name: &str) -> Result<ClusterId, StoreError> {
        ClusterId::new(name).map_err(|e| self.corrupt(Box::new(e)))
    }

    fn read<T>(&self, get: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let transaction = self.database.begin_read().map_err(failed(&self.path, "reading"))?;
        get(&transaction).map_err(|e| self.corrupt(Box::new(e)))
    }

    fn corrupt(&self, source: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), remedy: REMEDY, source }
    }
}
