//! The broker's whole state, and what all operations on it share. The operations are in [`crate::members`],
//! [`crate::streams`], `write` and [`crate::readers`].

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_model::export::Timestamp;
use hawser_model::{ClusterId, PublicKey};

use crate::changes::{Batch, Loaded, RecordChange, StoredTerm};
use crate::record::{Body, Record, RecordKey};
use crate::refusal::Refusal;
use crate::roster::Roster;
use crate::rules;
use crate::shard::Shard;
use crate::streams::StreamId;
use crate::view::{Tombstones, View};

/// Quotas per cluster, and bounds of the whole.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Records per cluster.
    pub records: usize,
    /// Gateways per cluster, which are among its records: every gateway of the others holds tunnels to each.
    pub gateways: usize,
    /// Bytes of records per cluster.
    pub bytes: usize,
    /// Writes per second and cluster; a whole shard may come at once.
    pub writes_per_second: u32,
    /// How long after a loss of records readers keep shards that have not come back, seconds.
    pub settle: i64,
    /// Deleted keys remembered for readers that resume.
    pub tombstones: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            records: 20_000,
            gateways: 256,
            bytes: 64 << 20,
            writes_per_second: 2_000,
            settle: 900,
            tombstones: 50_000,
        }
    }
}

/// Something a stream or an operator has to be told, once the batch that holds its cause is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The public roster changed: sign and publish it.
    Roster,
    /// A stream's membership ended.
    End {
        /// The stream.
        stream: StreamId,
        /// Why.
        reason: Refusal,
    },
    /// A newer stream of the same cluster ended this one.
    Fenced {
        /// The stream that ended.
        stream: StreamId,
        /// The term of the newer.
        newer_term: u64,
        /// Who opened the newer.
        holder: String,
    },
    /// Two owners of one identity end each other's streams.
    DuplicateIdentity {
        /// The cluster.
        cluster: ClusterId,
        /// Who held the older and who the newer stream.
        holders: (String, String),
    },
    /// Acknowledgements changed.
    Acks,
}

/// A message for a reader.
#[derive(Debug, Clone, PartialEq)]
pub enum Out {
    /// What follows replaces what the reader holds.
    SnapshotStart {
        /// The records' epoch.
        epoch: [u8; 16],
    },
    /// The record's present content.
    Upsert(Arc<Record>),
    /// It is gone.
    Remove {
        /// Whose it was.
        cluster: ClusterId,
        /// Its key.
        key: RecordKey,
        /// The revision at which it is known to be gone.
        revision: u64,
    },
    /// The reader has everything.
    Synced {
        /// The interest it is complete for.
        interest: u64,
        /// Where a resumed view continues.
        revision: u64,
        /// Members whose shard is not complete in this epoch.
        incomplete: Vec<ClusterId>,
        /// The reader's view.
        records: Vec<Arc<Record>>,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Core {
    pub(crate) roster: Roster,
    pub(crate) shards: BTreeMap<ClusterId, Shard>,
    pub(crate) views: BTreeMap<StreamId, View>,
    /// Lane keys in force, whose they are, and in how many places.
    pub(crate) keys: BTreeMap<PublicKey, (ClusterId, u32)>,
    pub(crate) tombstones: Tombstones,
    pub(crate) epoch: [u8; 16],
    pub(crate) epoch_began: i64,
    pub(crate) was_settled: bool,
    pub(crate) revision: u64,
    pub(crate) started: i64,
    pub(crate) next_stream: u64,
    pub(crate) limits: Limits,
    pub(crate) batch: Batch,
    pub(crate) events: Vec<Event>,
}

impl Core {
    /// Takes up what a store holds. Records that their cluster may no longer have are dropped.
    #[must_use]
    pub fn new(loaded: Loaded, limits: Limits, now: Timestamp) -> Self {
        let mut core = Self {
            roster: loaded.roster,
            shards: BTreeMap::new(),
            views: BTreeMap::new(),
            keys: BTreeMap::new(),
            tombstones: Tombstones::new(loaded.revision, limits.tombstones),
            epoch: loaded.epoch,
            epoch_began: loaded.epoch_began,
            was_settled: false,
            revision: loaded.revision,
            started: now.0 / 1000,
            next_stream: 0,
            limits,
            batch: Batch::default(),
            events: vec![Event::Roster],
        };
        for (cluster, term) in loaded.terms {
            core.shards.entry(cluster).or_default().term = term;
        }
        for record in loaded.records {
            core.restore(record);
        }
        for cluster in loaded.complete {
            core.shards.entry(cluster).or_default().complete = true;
        }
        core.was_settled = now.0 / 1000 >= core.epoch_began.saturating_add(core.limits.settle);
        core
    }

    fn restore(&mut self, record: Record) {
        let owner = self.roster.member(&record.cluster);
        let record = Arc::new(record);
        if owner.is_some_and(|m| m.generation == record.generation && rules::still_owned(m, &record.body)) {
            self.index_keys(&record, true);
            let shard = self.shards.entry(record.cluster.clone()).or_default();
            shard.generation = record.generation;
            shard.insert(record);
        } else {
            self.batch.records.push(RecordChange::Delete(record.cluster.clone(), record.key.clone()));
        }
    }

    /// The roster.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The terms of all shards, as a backup keeps them.
    #[must_use]
    pub fn terms(&self) -> BTreeMap<ClusterId, StoredTerm> {
        self.shards.iter().map(|(id, shard)| (id.clone(), shard.term)).collect()
    }

    /// The records' epoch.
    #[must_use]
    pub fn epoch(&self) -> [u8; 16] {
        self.epoch
    }

    /// The records' revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many streams are open.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.views.len()
    }

    /// All records in force.
    pub fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.shards.values().flat_map(|shard| shard.records.values())
    }

    /// What has changed since the last call. Nobody may learn of it before it is durable.
    pub fn take_batch(&mut self) -> Batch {
        self.batch.revision = self.revision;
        std::mem::take(&mut self.batch)
    }

    /// What has happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Takes a record out of force.
    pub(crate) fn withdraw(&mut self, cluster: &ClusterId, key: &RecordKey) -> bool {
        let Some(old) = self.shards.get_mut(cluster).and_then(|shard| shard.remove(key)) else {
            return false;
        };
        self.revision += 1;
        let id = old.id();
        self.index_keys(&old, false);
        self.views.values_mut().for_each(|view| view.touch(&id));
        self.tombstones.push(self.revision, id);
        self.batch.records.push(RecordChange::Delete(cluster.clone(), key.clone()));
        true
    }

    /// Counts a gateway record's lane keys in or out.
    pub(crate) fn index_keys(&mut self, record: &Record, present: bool) {
        let Body::Gateway(gateway) = &record.body else {
            return;
        };
        for key in gateway.lanes.iter().flat_map(|l| [Some(l.public_key), l.next_public_key]).flatten() {
            let entry = self.keys.entry(key).or_insert_with(|| (record.cluster.clone(), 0));
            entry.1 = if present { entry.1 + 1 } else { entry.1.saturating_sub(1) };
            if entry.1 == 0 {
                self.keys.remove(&key);
            }
        }
    }
}
