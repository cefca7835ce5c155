//! One cluster's shard: its records, who may write it now (the term), and what it has used of its quotas.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hawser_model::export::Timestamp;

use crate::changes::StoredTerm;
use crate::record::{Kind, Record, RecordKey};
use crate::streams::StreamId;

/// How many live streams a newer one must end within [`DUPLICATE_WINDOW_MS`] to count as a duplicate identity.
const DUPLICATE_FENCINGS: usize = 3;
/// See [`DUPLICATE_FENCINGS`]; milliseconds.
const DUPLICATE_WINDOW_MS: i64 = 60_000;

/// The stream that may write.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) stream: StreamId,
    pub(crate) holder: String,
    /// Keys put since the stream began; none once the shard was completed in it.
    pub(crate) asserted: Option<BTreeSet<RecordKey>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) generation: u64,
    pub(crate) records: BTreeMap<RecordKey, Arc<Record>>,
    pub(crate) bytes: usize,
    /// Whether its owner said in this epoch that everything is there.
    pub(crate) complete: bool,
    pub(crate) writer: Option<Writer>,
    pub(crate) term: StoredTerm,
    pub(crate) bucket: Bucket,
    /// The roster revision each of its gateways applies, by node.
    pub(crate) acks: BTreeMap<String, u64>,
    fencings: VecDeque<i64>,
}

impl Shard {
    /// Puts `record` in force and returns what it replaces.
    pub(crate) fn insert(&mut self, record: Arc<Record>) -> Option<Arc<Record>> {
        self.bytes += record.size();
        let old = self.records.insert(record.key.clone(), record);
        self.bytes -= old.as_ref().map_or(0, |r| r.size());
        old
    }

    pub(crate) fn remove(&mut self, key: &RecordKey) -> Option<Arc<Record>> {
        let old = self.records.remove(key)?;
        self.bytes -= old.size();
        Some(old)
    }

    pub(crate) fn count(&self, kind: Kind) -> usize {
        // Keys are ordered by kind, gateways first: counting them does not look at all the others.
        self.records.keys().skip_while(|k| k.kind < kind).take_while(|k| k.kind == kind).count()
    }

    /// A newer stream ended a live one. True when that has happened so often that two owners must be alternating.
    pub(crate) fn fenced(&mut self, now: Timestamp) -> bool {
        self.fencings.push_back(now.0);
        while self.fencings.len() > DUPLICATE_FENCINGS {
            self.fencings.pop_front();
        }
        self.fencings.len() == DUPLICATE_FENCINGS
            && self.fencings.front().is_some_and(|first| now.0 - first <= DUPLICATE_WINDOW_MS)
    }
}

/// A token bucket in thousandths, filled by time that is passed in.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    level: u64,
    filled: Option<Timestamp>,
}

impl Bucket {
    /// Takes `cost` out if there is that much; `rate` comes in per second, `burst` is the most it holds.
    pub(crate) fn take(&mut self, cost: u32, rate: u32, burst: u32, now: Timestamp) -> bool {
        let (full, cost) = (u64::from(burst) * 1000, u64::from(cost) * 1000);
        let last = self.filled.unwrap_or(now);
        let gained = match self.filled {
            None => full,
            Some(_) => u64::try_from(now.0 - last.0).unwrap_or(0).saturating_mul(u64::from(rate)),
        };
        self.filled = Some(now.max(last));
        self.level = self.level.saturating_add(gained).min(full);
        let enough = self.level >= cost;
        if enough {
            self.level -= cost;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_burst_and_fills_by_time() {
        let mut bucket = Bucket::default();
        let at = |ms: i64| Timestamp(1_000_000 + ms);
        let taken = (0..10).filter(|_| bucket.take(1, 2, 5, at(0))).count();
        assert_eq!(taken, 5);
        assert!(!bucket.take(1, 2, 5, at(499)));
        assert!(bucket.take(1, 2, 5, at(500)));
        assert!(!bucket.take(1, 2, 5, at(0)), "a clock that goes back gives nothing");
        let later = (0..10).filter(|_| bucket.take(1, 2, 5, at(60_000))).count();
        assert_eq!(later, 5);
    }

    #[test]
    fn alternating_owners_are_noticed_and_a_reconnect_is_not() {
        let mut shard = Shard::default();
        let at = |s: i64| Timestamp(s * 1000);
        assert!(!shard.fenced(at(0)));
        assert!(!shard.fenced(at(100)));
        assert!(!shard.fenced(at(200)));
        assert!(!shard.fenced(at(210)));
        assert!(shard.fenced(at(220)));
    }
}
