//! What one reader still has to be told: dirty keys instead of queued messages, so that a slow reader gets the latest value
//! of each and costs at most one key per record.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use hawser_model::ClusterId;

use crate::record::{Kind, Record, RecordId};

/// Namespaces one reader can be interested in.
pub const MAX_NAMESPACES: usize = 10_000;

/// One reader's view.
#[derive(Debug)]
pub(crate) struct View {
    /// The reader.
    pub(crate) cluster: ClusterId,
    /// The generation of its interest.
    pub(crate) interest: u64,
    pub(crate) namespaces: BTreeSet<Arc<str>>,
    /// Whether a snapshot has to be announced first.
    pub(crate) snapshot: bool,
    /// Whether `Synced` is due once nothing is dirty.
    pub(crate) unsynced: bool,
    dirty: BTreeSet<RecordId>,
    cursor: Option<RecordId>,
}

impl View {
    pub(crate) fn new(cluster: ClusterId, interest: u64, namespaces: BTreeSet<Arc<str>>) -> Self {
        Self { cluster, interest, namespaces, snapshot: false, unsynced: true, dirty: BTreeSet::new(), cursor: None }
    }

    /// Whether the reader may see that record: gateways of all others, exports in its namespaces.
    pub(crate) fn sees(&self, cluster: &ClusterId, kind: Kind, namespace: Option<&str>) -> bool {
        *cluster != self.cluster
            && match kind {
                Kind::Gateway => true,
                Kind::Header | Kind::Endpoints => namespace.is_some_and(|name| self.namespaces.contains(name)),
            }
    }

    /// As [`Self::sees`].
    pub(crate) fn sees_record(&self, record: &Record) -> bool {
        self.sees(&record.cluster, record.key.kind, record.key.namespace())
    }

    /// A record changed or went.
    pub(crate) fn touch(&mut self, id: &RecordId) {
        if self.sees(&id.cluster, id.kind, id.namespace()) {
            self.mark(id.clone());
        }
    }

    /// The reader has to be told about `id`, if only that it is gone.
    pub(crate) fn mark(&mut self, id: RecordId) {
        self.dirty.insert(id);
        self.unsynced = true;
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.snapshot || self.unsynced || !self.dirty.is_empty()
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    /// The next dirty key, round and round: a key that changes all the time does not starve those behind it.
    pub(crate) fn next(&mut self) -> Option<RecordId> {
        let after = match &self.cursor {
            Some(cursor) => self.dirty.range((Bound::Excluded(cursor), Bound::Unbounded)).next(),
            None => None,
        };
        let id = after.or_else(|| self.dirty.first())?.clone();
        self.dirty.remove(&id);
        self.cursor = Some(id.clone());
        Some(id)
    }
}

/// Keys that went, with the revision at which they did, so that a reader can resume. Bounded: older ones are forgotten, and
/// whoever stands before them gets a snapshot.
#[derive(Debug)]
pub(crate) struct Tombstones {
    log: VecDeque<(u64, RecordId)>,
    floor: u64,
    limit: usize,
}

impl Tombstones {
    /// An empty log that knows everything since `floor`.
    pub(crate) fn new(floor: u64, limit: usize) -> Self {
        Self { log: VecDeque::new(), floor, limit }
    }

    pub(crate) fn push(&mut self, revision: u64, id: RecordId) {
        self.log.push_back((revision, id));
        if self.log.len() > self.limit
            && let Some((revision, _)) = self.log.pop_front()
        {
            self.floor = revision;
        }
    }

    /// What went after `revision`; none where the log does not reach back so far.
    pub(crate) fn since(&self, revision: u64) -> Option<impl Iterator<Item = &RecordId>> {
        let first = self.log.partition_point(|(r, _)| *r <= revision);
        (revision >= self.floor).then(|| self.log.range(first..).map(|(_, id)| id))
    }
}
