//! What readers are told: their views' next messages, who is silent, who has acknowledged what.

use hawser_model::ClusterId;
use hawser_model::export::Timestamp;

use crate::changes::StoredTerm;
use crate::core::{Core, Event, Out};
use crate::record::Kind;
use crate::refusal::Refusal;
use crate::streams::StreamId;

/// How long a shard is without a stream before its readers are told, seconds: shorter gaps are reconnects.
pub const SILENT_AFTER: i64 = 10;
/// Gateways of one cluster whose acknowledgements are kept.
pub const MAX_ACKS: usize = 5_000;

/// What one cluster has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The cluster.
    pub cluster: ClusterId,
    /// Whether it has a stream.
    pub connected: bool,
    /// The roster revision each of its gateways applies; 0: none so far.
    pub gateways: Vec<(String, u64)>,
}

/// How far a roster revision has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// By cluster.
    pub clusters: Vec<Ack>,
    /// Whether every member is connected and all its gateways apply the revision.
    pub complete: bool,
}

impl Core {
    /// Streams whose readers have something coming.
    pub fn pending(&self) -> impl Iterator<Item = StreamId> {
        self.views.iter().filter(|(_, view)| view.is_pending()).map(|(stream, _)| *stream)
    }

    /// The next messages for the reader of `stream`, at most `max` and one more. Nothing, if it has ended.
    pub fn drain(&mut self, stream: StreamId, max: usize, now: Timestamp) -> Vec<Out> {
        let mut out = Vec::new();
        let Some(mut view) = self.views.remove(&stream) else {
            return out;
        };
        if std::mem::take(&mut view.snapshot) {
            out.push(Out::SnapshotStart { epoch: self.epoch });
        }
        while out.len() < max
            && let Some(id) = view.next()
        {
            let record = self.shards.get(&id.cluster).and_then(|s| s.records.get(&id.key()));
            out.push(match record.filter(|record| view.sees_record(record)) {
                Some(record) => Out::Upsert(record.clone()),
                None => Out::Remove { cluster: id.cluster.clone(), key: id.key(), revision: self.revision },
            });
        }
        if view.is_clean() && std::mem::take(&mut view.unsynced) {
            out.push(Out::Synced {
                interest: view.interest,
                revision: self.revision,
                incomplete: self.incomplete(&view.cluster, now),
                records: self.records().filter(|r| view.sees_record(r)).cloned().collect(),
            });
        }
        self.views.insert(stream, view);
        out
    }

    /// Members other than `reader` whose shard is not complete in this epoch, while readers must keep what they hold.
    fn incomplete(&self, reader: &ClusterId, now: Timestamp) -> Vec<ClusterId> {
        if self.settled(now) {
            return Vec::new();
        }
        let incomplete = |id: &ClusterId| self.shards.get(id).is_none_or(|s| !s.complete);
        self.roster.members().map(|(id, _)| id).filter(|id| *id != reader && incomplete(id)).cloned().collect()
    }

    /// Time passed. True when the last shards that never came back in this epoch have just lost their lease.
    pub fn tick(&mut self, now: Timestamp) -> bool {
        let settled = self.settled(now);
        let newly = settled && !std::mem::replace(&mut self.was_settled, settled);
        if newly {
            self.views.values_mut().for_each(|view| view.unsynced = true);
        }
        newly
    }

    fn settled(&self, now: Timestamp) -> bool {
        now.0 / 1000 >= self.epoch_began.saturating_add(self.limits.settle)
    }

    /// Members without a stream, and since when (seconds since the epoch).
    #[must_use]
    pub fn silent(&self, now: Timestamp) -> Vec<(ClusterId, i64)> {
        let now = now.0 / 1000;
        self.roster
            .members()
            .filter(|(id, _)| self.shards.get(*id).is_none_or(|s| s.writer.is_none()))
            .map(|(id, member)| {
                let since = match self.shards.get(id).map(|s| s.term) {
                    Some(StoredTerm { live: true, .. }) => self.started,
                    Some(StoredTerm { term: 1.., seen, .. }) => seen,
                    Some(_) | None => member.joined,
                };
                (id.clone(), since)
            })
            .filter(|(_, since)| now - since.max(&self.started) >= SILENT_AFTER)
            .collect()
    }

    /// A cluster says which roster revision its gateways apply.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn ack(&mut self, stream: StreamId, gateways: Vec<(String, u64)>) -> Result<(), Refusal> {
        let cluster = self.writer_of(stream)?;
        let Some(shard) = self.shards.get_mut(&cluster) else {
            return Ok(());
        };
        let acks = gateways.into_iter().take(MAX_ACKS).filter(|(node, _)| node.len() <= 253).collect();
        if shard.acks != acks {
            shard.acks = acks;
            self.events.push(Event::Acks);
        }
        Ok(())
    }

    /// How far `revision` has come.
    #[must_use]
    pub fn progress(&self, revision: u64) -> Progress {
        let clusters: Vec<Ack> = self.roster.members().map(|(id, _)| self.ack_of(id)).collect();
        let complete = clusters.iter().all(|c| c.connected && c.gateways.iter().all(|(_, r)| *r >= revision));
        Progress { clusters, complete }
    }

    fn ack_of(&self, cluster: &ClusterId) -> Ack {
        let Some(shard) = self.shards.get(cluster) else {
            return Ack { cluster: cluster.clone(), connected: false, gateways: Vec::new() };
        };
        let gateways = shard.records.keys().filter(|k| k.kind == Kind::Gateway);
        let acked = |node: &str| shard.acks.get(node).copied().unwrap_or(0);
        Ack {
            cluster: cluster.clone(),
            connected: shard.writer.is_some(),
            gateways: gateways.map(|k| (k.name.to_string(), acked(&k.name))).collect(),
        }
    }
}
