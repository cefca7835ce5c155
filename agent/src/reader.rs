//! The downward half of a stream: messages in, a synced view out.
//!
//! Nothing shows before the broker said `Synced` and count and digest agree. After the broker lost its records, members that
//! have not come back yet keep what was known of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hawser_agent_plan::{RemoteShard, View};
use hawser_model::ClusterId;
use hawser_proto::digest::{Entry, Hash, digest, record_hash, record_key};
use hawser_proto::v1;

/// Names a record: cluster, kind, name.
type Id = (String, i32, String);

/// A record as it came and as it is used; the latter is missing where it broke a rule.
#[derive(Debug, Clone)]
struct Held {
    /// Which membership of the cluster wrote it.
    generation: u64,
    raw: Arc<v1::Record>,
    hash: Hash,
    revision: u64,
    parsed: Option<Arc<hawser_proto::Record>>,
}

/// Where a view stands, for resuming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) epoch: Vec<u8>,
    pub(crate) revision: u64,
    /// The namespaces that the view covers.
    pub(crate) namespaces: BTreeSet<String>,
}

/// What the broker said about the other members.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    epoch: Vec<u8>,
    /// What the broker's present epoch holds.
    sent: BTreeMap<Id, Held>,
    /// What was known before and is kept while its cluster is incomplete.
    kept: BTreeMap<Id, Held>,
    position: Option<Position>,
    /// Interests sent on this stream and not yet synced, with the one in force.
    interest: (u64, BTreeSet<String>),
    /// Whether records came since the last `Synced`.
    moved: bool,
}

/// What a message came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing to show yet.
    More,
    /// The view is complete, and differs from the last one.
    Synced,
    /// The view is complete and as before.
    Unchanged,
    /// Count or digest disagree: everything has to be sent again.
    Mismatch,
}

impl Reader {
    /// Where the view stands; none: there is none to resume.
    pub(crate) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// A stream begins, or goes on, with this interest: nothing shows until it is synced.
    pub(crate) fn interest(&mut self, generation: u64, namespaces: BTreeSet<String>) {
        self.interest = (generation, namespaces);
    }

    /// Forgets where the view stands, so that the next stream begins with a snapshot; what is shown stays.
    pub(crate) fn forget_position(&mut self) {
        self.position = None;
    }

    /// Everything that follows replaces what the broker sent so far.
    pub(crate) fn snapshot_start(&mut self, message: v1::SnapshotStart) {
        // Later knowledge wins where both epochs have it.
        let sent = std::mem::take(&mut self.sent);
        self.kept.extend(sent);
        self.epoch = message.epoch;
        self.position = None;
        self.moved = true;
    }

    /// A record. The error is for the log: the record is held, so that the digest agrees, but not used.
    pub(crate) fn upsert(&mut self, message: v1::Upsert) -> Result<(), String> {
        self.moved = true;
        let record = message.record.unwrap_or_default();
        let Some(key) = record_key(&record) else {
            return Err(format!(
                "record {:?} of cluster {}: body: no kind that is known here; update this agent",
                record.name, message.cluster_id
            ));
        };
        let hash = record_hash(&record);
        let id = (message.cluster_id, key.kind, key.name);
        let raw = Arc::new(record);
        let parsed = ClusterId::new(&id.0).map_err(|e| e.to_string()).and_then(|cluster| {
            hawser_proto::Record::from_proto(&cluster, (*raw).clone()).map_err(|e| format!("cluster {}: {e}", id.0))
        });
        let (parsed, result) = match parsed {
            Ok(parsed) => (Some(Arc::new(parsed)), Ok(())),
            Err(e) => (None, Err(e)),
        };
        self.kept.remove(&id);
        self.sent.insert(id, Held { generation: message.generation, raw, hash, revision: message.revision, parsed });
        result
    }

    /// A record is gone.
    pub(crate) fn remove(&mut self, message: &v1::Remove) {
        self.moved = true;
        let key = message.key.clone().unwrap_or_default();
        let id = (message.cluster_id.clone(), key.kind, key.name);
        self.sent.remove(&id);
        self.kept.remove(&id);
    }

    /// The broker has sent everything.
    pub(crate) fn synced(&mut self, message: &v1::Synced) -> Step {
        if message.interest_generation != self.interest.0 {
            return Step::More; // another follows for the interest in force
        }
        if message.count != self.sent.len() as u64 || message.digest != self.digest() {
            self.position = None;
            return Step::Mismatch;
        }
        let incomplete: BTreeSet<String> = message.incomplete.iter().cloned().collect();
        let before = self.kept.len();
        self.kept.retain(|id, _| incomplete.contains(&id.0));
        let position =
            Position { epoch: self.epoch.clone(), revision: message.revision, namespaces: self.interest.1.clone() };
        let same_namespaces = self.position.as_ref().is_some_and(|p| p.namespaces == position.namespaces);
        let changed = std::mem::take(&mut self.moved) || self.kept.len() != before || !same_namespaces;
        self.position = Some(position);
        if changed { Step::Synced } else { Step::Unchanged }
    }

    fn digest(&self) -> Hash {
        digest(self.sent.iter().map(|((cluster, kind, name), held)| Entry {
            cluster,
            generation: held.generation,
            kind: *kind,
            name,
            hash: held.hash,
        }))
    }

    /// The view as it may be used. Only right after [`Step::Synced`], or after [`crate::disk`] restored it.
    pub(crate) fn view(&self) -> View {
        let mut view = View {
            namespaces: self.position.as_ref().map(|p| p.namespaces.clone()).unwrap_or_default(),
            ..View::default()
        };
        // What was sent in this epoch goes over what was kept.
        for ((cluster, _, _), held) in self.kept.iter().chain(&self.sent) {
            if let (Ok(cluster), Some(record)) = (ClusterId::new(cluster), &held.parsed) {
                add(view.shards.entry((cluster, held.generation)).or_default(), record);
            }
        }
        view
    }

    /// Whether records came since the view was last complete.
    pub(crate) fn is_moving(&self) -> bool {
        self.moved
    }

    /// All records with whether the present epoch sent them, for the disk.
    pub(crate) fn records(&self) -> impl Iterator<Item = (bool, v1::Upsert)> {
        let upsert = |((cluster, _, _), held): (&Id, &Held)| v1::Upsert {
            cluster_id: cluster.clone(),
            generation: held.generation,
            record: Some((*held.raw).clone()),
            revision: held.revision,
        };
        let sent = self.sent.iter().map(move |r| (true, upsert(r)));
        sent.chain(self.kept.iter().map(move |r| (false, upsert(r))))
    }

    /// A view that was on disk.
    pub(crate) fn restore(position: Position, records: impl IntoIterator<Item = (bool, v1::Upsert)>) -> Self {
        let mut reader = Self { epoch: position.epoch.clone(), ..Self::default() };
        let mut kept = Self::default();
        for (sent, upsert) in records {
            let to = if sent { &mut reader } else { &mut kept };
            if let Err(error) = to.upsert(upsert) {
                tracing::warn!(error, "record on disk left out");
            }
        }
        reader.kept = kept.sent;
        reader.position = Some(position);
        reader.moved = false;
        reader
    }
}

fn add(shard: &mut RemoteShard, record: &hawser_proto::Record) {
    match record {
        hawser_proto::Record::Gateway(g) => {
            shard.gateways.insert(g.node.clone(), Arc::new(g.clone()));
        }
        hawser_proto::Record::ExportHeader(h) => {
            shard.headers.insert(h.service.clone(), Arc::new(h.clone()));
        }
        hawser_proto::Record::ExportEndpoints(e) => {
            shard.endpoints.insert(e.service.clone(), Arc::new(e.clone()));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
