//! Streams: who opens one, which one ends by it, what its reader is interested in.

use std::collections::BTreeSet;
use std::sync::Arc;

use hawser_model::ClusterId;
use hawser_model::export::Timestamp;
use hawser_model::id::is_dns_label;

use crate::changes::StoredTerm;
use crate::core::{Core, Event};
use crate::hash::Hash;
use crate::record::RecordId;
use crate::refusal::{Code, Refusal};
use crate::roster::PublicRoster;
use crate::shard::Writer;
use crate::view::{MAX_NAMESPACES, View};

/// How far a member's clock may be off, seconds.
pub const MAX_SKEW: i64 = 300;

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
        // What the CA signed is true whoever presents it, also a cluster that this roster does not know.
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
                    && id.namespace().is_some_and(|ns| namespaces.contains(ns) != view.namespaces.contains(ns))
            })
            .collect();
        (view.interest, view.namespaces, view.unsynced) = (generation, namespaces, true);
        ids.into_iter().for_each(|id| view.mark(id));
        self.views.insert(stream, view);
        Ok(())
    }
}

pub(crate) fn holds(writer: Option<&Writer>, stream: StreamId) -> bool {
    writer.is_some_and(|w| w.stream == stream)
}

/// Names that can't be a namespace are left out: no export can be in them.
fn namespaces_of(names: Vec<String>) -> BTreeSet<Arc<str>> {
    names.into_iter().filter(|n| is_dns_label(n)).take(MAX_NAMESPACES).map(Into::into).collect()
}
