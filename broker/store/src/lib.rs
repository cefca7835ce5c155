//! Where the broker keeps its roster and its clusters' records.
//!
//! What [`Store::commit`] took is durable when it returns; the broker's one engine thread gathers concurrent writes into
//! one [`Batch`], so that they share one fsync, and acknowledges them afterwards. It blocks and knows no runtime.
//!
//! - [`RedbStore`]: two files in one directory. The *roster* is precious; the *records* are sent again by their owners when
//!   they are lost, under a new epoch.
//!
//! What the changes mean is in `hawser-broker-core`; the files hold records as the bytes that went over the wire.

mod error;
mod files;
mod records;
mod roster;

pub use error::StoreError;
pub use files::RedbStore;

use std::collections::BTreeMap;

use hawser_broker_core::{Batch, RecordKey, Roster, StoredTerm};
use hawser_model::ClusterId;

/// Keeps batches.
pub trait Store: Send + 'static {
    /// Makes a batch durable: first its roster and terms, then its records.
    ///
    /// # Errors
    /// Nothing of what failed may be acknowledged; the caller should end, and start again from what is stored.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError>;
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Whose it is.
    pub cluster: ClusterId,
    /// Its key.
    pub key: RecordKey,
    /// Which membership wrote it.
    pub generation: u64,
    /// The revision that put it in force.
    pub revision: u64,
    /// The creation time that its owner claims, milliseconds since the epoch.
    pub claimed: Option<i64>,
    /// Its encoding.
    pub bytes: Vec<u8>,
}

/// Everything a store held when it was opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The roster.
    pub roster: Roster,
    /// Terms by cluster.
    pub terms: BTreeMap<ClusterId, StoredTerm>,
    /// Names this incarnation of the records.
    pub epoch: [u8; 16],
    /// Whether the records were not there, so that the epoch is new.
    pub new_epoch: bool,
    /// When the epoch began, seconds since the epoch.
    pub epoch_began: i64,
    /// The last revision.
    pub revision: u64,
    /// Shards that are complete in this epoch.
    pub complete: Vec<ClusterId>,
    /// All records.
    pub records: Vec<StoredRecord>,
}
