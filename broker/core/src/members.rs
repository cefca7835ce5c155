//! What changes membership, and what of it reaches shards and streams.

use hawser_model::export::Timestamp;
use hawser_model::{ClusterId, PrefixSet};

use crate::changes::RecordChange;
use crate::core::{Core, Event};
use crate::hash::Hash;
use crate::membership::{JoinRequest, Joined};
use crate::record::{Kind, RecordKey};
use crate::refusal::Refusal;
use crate::roster::{How, PublicRoster};
use crate::rules;
use crate::token::{Token, TokenRequest, TokenSeed};

/// One cluster, for an administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub cluster: ClusterId,
    /// Its generation.
    pub generation: u64,
    /// What it routes.
    pub claims: PrefixSet,
    /// Whether it has a stream.
    pub connected: bool,
    /// Its shard's term.
    pub term: u64,
    /// Gateways in its shard.
    pub gateways: usize,
    /// Exports in its shard.
    pub exports: usize,
    /// Whether an administrator revoked it.
    pub revoked: bool,
    /// Seconds since the epoch, 0: never.
    pub last_seen: i64,
}

impl Core {
    /// See [`crate::Roster::create_token`].
    ///
    /// # Errors
    /// As there.
    pub fn create_token(&mut self, request: TokenRequest, seed: &TokenSeed, now: Timestamp) -> Result<Token, Refusal> {
        let token = self.roster.create_token(request, seed, now.0 / 1000)?.clone();
        self.keep_roster();
        Ok(token)
    }

    /// See [`crate::Roster::revoke_token`].
    ///
    /// # Errors
    /// As there.
    pub fn revoke_token(&mut self, id: &str) -> Result<(), Refusal> {
        self.roster.revoke_token(id)?;
        self.keep_roster();
        Ok(())
    }

    /// See [`crate::Roster::join`]. A membership that it replaces ends.
    ///
    /// # Errors
    /// As there.
    pub fn join(&mut self, request: &JoinRequest<'_>, now: Timestamp) -> Result<Joined, Refusal> {
        let joined = self.roster.join(request, now.0 / 1000)?;
        if joined.changed {
            self.roster_changed(std::slice::from_ref(request.cluster));
        }
        Ok(joined)
    }

    /// A cluster leaves.
    ///
    /// # Errors
    /// The identity is no member.
    pub fn leave(&mut self, cluster: &ClusterId, key: &Hash) -> Result<u64, Refusal> {
        self.roster.authenticate(cluster, key)?;
        self.end_membership(cluster, How::Left)
    }

    /// An administrator ends a membership: its streams end, its records go. Returns the roster's revision without it; a
    /// cluster that was revoked already stays so.
    ///
    /// # Errors
    /// No such member.
    pub fn revoke_cluster(&mut self, cluster: &ClusterId) -> Result<u64, Refusal> {
        let already = self.roster.departed().any(|(id, d)| id == cluster && d.how == How::Revoked);
        if already && self.roster.member(cluster).is_none() {
            return Ok(self.roster.revision());
        }
        self.end_membership(cluster, How::Revoked)
    }

    fn end_membership(&mut self, cluster: &ClusterId, how: How) -> Result<u64, Refusal> {
        self.roster.depart(cluster, how)?;
        self.roster_changed(std::slice::from_ref(cluster));
        Ok(self.roster.revision())
    }

    pub(crate) fn adopt(&mut self, seen: &PublicRoster) {
        let before = self.roster.revision();
        let ended = self.roster.adopt(seen);
        if self.roster.revision() != before {
            self.roster_changed(&ended);
        }
    }

    fn keep_roster(&mut self) {
        self.batch.roster = Some(Box::new(self.roster.clone()));
    }

    /// The public roster changed; the shards of `touched` may hold what their clusters may no longer have.
    pub(crate) fn roster_changed(&mut self, touched: &[ClusterId]) {
        self.keep_roster();
        self.events.push(Event::Roster);
        for cluster in touched {
            self.sweep(cluster);
        }
        self.views.values_mut().for_each(|view| view.unsynced = true);
    }

    fn sweep(&mut self, cluster: &ClusterId) {
        let Some(shard) = self.shards.get_mut(cluster) else {
            return;
        };
        let member = self.roster.member(cluster);
        let current = member.filter(|m| m.generation == shard.generation);
        let gone: Vec<RecordKey> = shard
            .records
            .values()
            .filter(|r| current.is_none_or(|m| !rules::still_owned(m, &r.body)))
            .map(|r| r.key.clone())
            .collect();
        if current.is_none() {
            shard.acks.clear();
            if std::mem::take(&mut shard.complete) {
                self.batch.records.push(RecordChange::Incomplete(cluster.clone()));
            }
            if let Some(writer) = shard.writer.take() {
                let reason = self.roster.ended(cluster, shard.generation);
                self.views.remove(&writer.stream);
                self.events.push(Event::End { stream: writer.stream, reason });
                shard.term.live = false;
                self.batch.terms.insert(cluster.clone(), shard.term);
            }
        }
        for key in gone {
            self.withdraw(cluster, &key);
        }
    }

    /// Every member, and those that were revoked.
    #[must_use]
    pub fn summaries(&self) -> Vec<Summary> {
        let members = self.roster.members().map(|(id, m)| (id, m.generation, m.claims.clone(), false));
        let revoked = self
            .roster
            .departed()
            .filter(|(id, d)| d.how == How::Revoked && self.roster.member(id).is_none())
            .map(|(id, d)| (id, d.generation, PrefixSet::default(), true));
        members
            .chain(revoked)
            .map(|(id, generation, claims, revoked)| self.summary(id, generation, claims, revoked))
            .collect()
    }

    fn summary(&self, cluster: &ClusterId, generation: u64, claims: PrefixSet, revoked: bool) -> Summary {
        let shard = self.shards.get(cluster);
        Summary {
            cluster: cluster.clone(),
            generation,
            claims,
            revoked,
            connected: shard.is_some_and(|s| s.writer.is_some()),
            term: shard.map_or(0, |s| s.term.term),
            gateways: shard.map_or(0, |s| s.count(Kind::Gateway)),
            exports: shard.map_or(0, |s| s.count(Kind::Header)),
            last_seen: shard.map_or(0, |s| s.term.seen),
        }
    }
}
