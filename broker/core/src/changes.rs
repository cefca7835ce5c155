//! What an operation changed that must outlive the process, and what a store gives back at start.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_model::ClusterId;
use serde::{Deserialize, Serialize};

use crate::record::{Record, RecordKey};
use crate::roster::Roster;

/// A shard's term, durable so that it only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTerm {
    /// The term of the last stream.
    pub term: u64,
    /// When that stream opened or ended, seconds since the epoch.
    pub seen: i64,
    /// Whether it was open when this was written.
    pub live: bool,
}

/// A change of the records.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordChange {
    /// In force from now on.
    Put(Arc<Record>),
    /// No longer.
    Delete(ClusterId, RecordKey),
    /// The shard is complete in this epoch.
    Complete(ClusterId),
    /// It is not: its membership ended.
    Incomplete(ClusterId),
}

/// Everything that changed since the last batch. The roster's part is made durable before the records'.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The whole roster, if it changed.
    pub roster: Option<Box<Roster>>,
    /// Terms that changed; they belong with the roster.
    pub terms: BTreeMap<ClusterId, StoredTerm>,
    /// Changes of records, in order.
    pub records: Vec<RecordChange>,
    /// The revision of the last of them.
    pub revision: u64,
}

impl Batch {
    /// Whether there is nothing to make durable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roster.is_none() && self.terms.is_empty() && self.records.is_empty()
    }
}

/// What a store holds at start.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The roster.
    pub roster: Roster,
    /// Terms by cluster.
    pub terms: BTreeMap<ClusterId, StoredTerm>,
    /// Names this incarnation of the records.
    pub epoch: [u8; 16],
    /// When the epoch began, seconds since the epoch.
    pub epoch_began: i64,
    /// The last revision given.
    pub revision: u64,
    /// Shards that are complete in this epoch.
    pub complete: Vec<ClusterId>,
    /// All records.
    pub records: Vec<Record>,
}
