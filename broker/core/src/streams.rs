//! Streams: who opens one, which ends by it, what its reader is told, who is silent, who has acknowledged what.

use std::collections::BTreeSet;
use std::sync::Arc;

use hawser_model::ClusterId;
use hawser_model::export::Timestamp;
use hawser_model::id::is_dns_label;

use crate::changes::StoredTerm;
use crate::core::{Core, Event, Out};
use crate::hash::Hash;
use crate::record::{Kind, RecordId};
use crate::refusal::{Code, Refusal};
use crate::roster::PublicRoster;
use crate::shard::Writer;
use crate::view::{MAX_NAMESPACES, View};

/// How far a member's clock may be off, seconds.
pub const MAX_SKEW: i64 = 300;
/// How long a shard is without a stream before its readers are told, seconds: shorter gaps are reconnects.
pub const SILENT_AFTER: i64 = 10;
/// Gateways of one cluster whose acknowledgements are kept.
pub const MAX_ACKS: usize = 5_000;

/// One stream of one process life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// What a stream opens with.
#[derive(Debug, Clone)]
pub struct Hello {
    /// The generation its sender believes to be.
    pub generation: u64,
    /// Who holds the cluster's agent lease.
    pub holder: String,
    /// The sender's clock, seconds since the epoch.
    pub now: i64,
    /// The highest revision it has seen, its signature checked.
    pub highest: Option<PublicRoster>,
    /// The epoch and revision at which its view stands.
    pub resume: Option<(Vec<u8>, u64)>,
    /// The generation of its interest, and the namespaces.
    pub interest: (u64, Vec<String>),
}

/// The stream is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its id, for all further operations.
    pub stream: StreamId,
    /// The shard's term.
    pub term: u64,
    /// The records' epoch.
    pub epoch: [u8; 16],
    /// The cluster set.
    pub set: String,
}

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
    /// Opens a stream for the identity (`cluster`, `key`). An older one of the same cluster ends.
    ///
    /// # Errors
    /// No member, wrong generation, clock too far off.
    pub fn open(&mut self, cluster: &ClusterId, key: &Hash, hello: Hello, now: Timestamp) -> Result<Opened, Refusal> {
        let object = format!("cluster {cluster}");
        let skew = hello.now.saturating_sub(now.0 / 1000);
        if skew.saturating_abs() > MAX_SKEW {
            let way = if skew > 0 { "ahead of" } else { "behind" };
            let rule =
                format!("its agent's clock is {} s {way} the broker's; at most {MAX_SKEW} s", skew.saturating_abs());
            return Err(Refusal::new(
                Code::Clock,
                object,
                "now",
                rule,
                "correct the clock of that cluster or of the broker",
            ));
        }
        self.roster.authenticate(cluster, key)?;
        if let Some(seen) = &hello.highest {
            self.adopt(seen);
        }
        let member = self.roster.authenticate(cluster, key)?;
        if member.generation != hello.generation {
            return Err(Refusal::new(
                Code::Unauthenticated,
                object,
                "generation",
                format!("it is generation {}, not {}", member.generation, hello.generation),
                "restart the agent, or join again",
            ));
        }
        let generation = member.generation;
        let opened = self.take_shard(cluster, generation, hello.holder, now);
        self.add_view(opened.stream, cluster, hello.interest, hello.resume);
        Ok(opened)
    }

    fn take_shard(&mut self, cluster: &ClusterId, generation: u64, holder: String, now: Timestamp) -> Opened {
        self.next_stream += 1;
        let stream = StreamId(self.next_stream);
        let shard = self.shards.entry(cluster.clone()).or_default();
        let term = StoredTerm { term: shard.term.term + 1, seen: now.0 / 1000, live: true };
        (shard.generation, shard.term) = (generation, term);
        let writer = Writer { stream, holder: holder.clone(), asserted: Some(BTreeSet::new()) };
        if let Some(old) = shard.writer.replace(writer) {
            if shard.fenced(now) {
                let holders = (old.holder, holder.clone());
                self.events.push(Event::DuplicateIdentity { cluster: cluster.clone(), holders });
            }
            self.views.remove(&old.stream);
            self.events.push(Event::Fenced { stream: old.stream, newer_term: term.term, holder });
        }
        self.batch.terms.insert(cluster.clone(), term);
        Opened { stream, term: term.term, epoch: self.epoch, set: self.roster.set().to_owned() }
    }

    fn add_view(
        &mut self,
        stream: StreamId,
        cluster: &ClusterId,
        (interest, namespaces): (u64, Vec<String>),
        resume: Option<(Vec<u8>, u64)>,
    ) {
        let mut view = View::new(cluster.clone(), interest, namespaces_of(namespaces));
        let since = resume.filter(|(epoch, r)| epoch[..] == self.epoch[..] && *r <= self.revision).map(|(_, r)| r);
        match since.and_then(|r| self.tombstones.since(r).map(|gone| (r, gone))) {
            Some((revision, gone)) => {
                gone.for_each(|id| view.touch(id));
                self.records().filter(|r| r.revision > revision).for_each(|r| view.touch(&r.id()));
            }
            None => {
                view.snapshot = true;
                self.records().for_each(|r| view.touch(&r.id()));
            }
        }
        self.views.insert(stream, view);
    }

    /// A stream has ended.
    pub fn close(&mut self, stream: StreamId, now: Timestamp) {
        let Some(view) = self.views.remove(&stream) else {
            return;
        };
        if let Some(shard) = self.shards.get_mut(&view.cluster).filter(|s| holds(s.writer.as_ref(), stream)) {
            shard.writer = None;
            shard.term.seen = now.0 / 1000;
            shard.term.live = false;
            self.batch.terms.insert(view.cluster, shard.term);
        }
    }

    /// The reader's interest changed.
    ///
    /// # Errors
    /// The stream has ended; its writes quota is used up.
    pub fn interest(
        &mut self,
        stream: StreamId,
        generation: u64,
        namespaces: Vec<String>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let namespaces = namespaces_of(namespaces);
        let cluster = self.writer_of(stream)?;
        self.charge(&cluster, "interest", 100, now)?;
        let Some(mut view) = self.views.remove(&stream) else {
            return Ok(());
        };
        let ids: Vec<RecordId> = self
            .records()
            .map(|r| r.id())
            .filter(|id| {
                id.cluster != view.cluster
                    && id.key().namespace().is_some_and(|ns| namespaces.contains(ns) != view.namespaces.contains(ns))
            })
            .collect();
        (view.interest, view.namespaces, view.unsynced) = (generation, namespaces, true);
        ids.into_iter().for_each(|id| view.mark(id));
        self.views.insert(stream, view);
        Ok(())
    }

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
            out.push(match record.filter(|_| view.sees(&id)) {
                Some(record) => Out::Upsert(record.clone()),
                None => Out::Remove { cluster: id.cluster.clone(), key: id.key(), revision: self.revision },
            });
        }
        if view.is_clean() && std::mem::take(&mut view.unsynced) {
            out.push(Out::Synced {
                interest: view.interest,
                revision: self.revision,
                incomplete: self.incomplete(&view.cluster, now),
                records: self.records().filter(|r| view.sees(&r.id())).cloned().collect(),
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

pub(crate) fn holds(writer: Option<&Writer>, stream: StreamId) -> bool {
    writer.is_some_and(|w| w.stream == stream)
}

/// Names that can't be a namespace are left out: no export can be in them.
fn namespaces_of(names: Vec<String>) -> BTreeSet<Arc<str>> {
    names.into_iter().filter(|n| is_dns_label(n)).take(MAX_NAMESPACES).map(Into::into).collect()
}
