//! What to send of the own shard, in which order, and what came of it.
//!
//! Every stream re-asserts the whole shard: the claim where the roster's differs, then all records, then `Complete`; after
//! that only changes go up. A refusal touches its own record alone and is tried again later, since its cause may lie
//! elsewhere (a claim, a quota).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hawser_model::PrefixSet;
use jiff::{SignedDuration, Timestamp};

use crate::shard::{Record, RecordId, Refusal, Shard, Upload, Uploads};

/// How long a refused write rests before it is tried again unchanged.
pub const RETRY_REFUSED: SignedDuration = SignedDuration::from_secs(30);

/// A message to the broker. The sequence comes back with its result.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Replaces the prefix claim.
    Claim(PrefixSet),
    /// Writes a record.
    Put(RecordId, Arc<Record>),
    /// Removes a record.
    Delete(RecordId),
    /// Says that all records have been put.
    Complete,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Claim,
    Record(RecordId),
    Complete,
}

/// The state of one stream's upward half.
#[derive(Debug, Default)]
pub struct Uplink {
    desired: Arc<Shard>,
    /// The claim on the roster; none before the first roster.
    on_roster: Option<PrefixSet>,
    sequence: u64,
    in_flight: BTreeMap<u64, (Target, Option<Arc<Record>>)>,
    flying: BTreeSet<RecordId>,
    /// Records whose last answered version differs from the desired one, or that were never answered.
    dirty: BTreeSet<RecordId>,
    /// What this stream's broker holds, as far as it answered.
    answered: BTreeMap<RecordId, Option<Arc<Record>>>,
    refused: BTreeMap<RecordId, (Refusal, Timestamp)>,
    /// Records of which some version was acknowledged in this or an earlier stream.
    durable: BTreeSet<RecordId>,
    claim: ClaimState,
    /// Whether the desired shard was derived from a whole local view, so that `Complete` may be said.
    known: bool,
    completed: bool,
    open: bool,
}

#[derive(Debug, Default, Clone, PartialEq)]
enum ClaimState {
    #[default]
    Idle,
    Flying(PrefixSet),
    Accepted(PrefixSet),
    Refused(PrefixSet, Refusal, Timestamp),
}

impl Uplink {
    /// A new stream is open: everything is asserted again.
    pub fn open(&mut self) {
        self.close();
        self.open = true;
        self.dirty = self.desired.records.keys().cloned().collect();
        self.answered.clear();
        self.refused.clear();
        self.claim = ClaimState::Idle;
        self.completed = false;
    }

    /// The stream is gone: what was under way is unknown.
    pub fn close(&mut self) {
        self.open = false;
        self.in_flight.clear();
        self.flying.clear();
        if let ClaimState::Flying(_) = self.claim {
            self.claim = ClaimState::Idle;
        }
    }

    /// The claim that the roster holds for this cluster.
    pub fn set_on_roster(&mut self, claim: PrefixSet) {
        if self.on_roster.as_ref() != Some(&claim) {
            self.on_roster = Some(claim);
            if let ClaimState::Accepted(_) = self.claim {
                self.claim = ClaimState::Idle;
            }
        }
    }

    /// The shard as it should be, derived from a whole local view.
    pub fn set_desired(&mut self, shard: &Arc<Shard>) {
        self.known = true;
        let old = std::mem::replace(&mut self.desired, Arc::clone(shard));
        for (id, record) in &shard.records {
            if old.records.get(id) != Some(record) {
                self.dirty.insert(id.clone());
                self.refused.remove(id);
            }
        }
        for id in old.records.keys().filter(|id| !shard.records.contains_key(*id)) {
            self.dirty.insert(id.clone());
            self.refused.remove(id);
        }
        if old.claims != shard.claims {
            if !matches!(self.claim, ClaimState::Flying(_)) {
                self.claim = ClaimState::Idle;
            }
            // A record may have been refused for lying outside the claim.
            self.dirty.extend(std::mem::take(&mut self.refused).into_keys());
        }
    }

    /// The next messages, as many as may be under way at once (`window`).
    pub fn poll(&mut self, now: Timestamp, window: usize) -> Vec<(u64, Op)> {
        if !self.open || !self.known {
            return Vec::new();
        }
        self.retry(now);
        let mut ops = Vec::new();
        if let Some(claim) = self.wanted_claim() {
            self.claim = ClaimState::Flying(claim.clone());
            ops.push((self.track(Target::Claim, None), Op::Claim(claim)));
        }
        if matches!(self.claim, ClaimState::Flying(_)) {
            return ops; // records are judged by the claim, so its result comes first
        }
        let ready: Vec<RecordId> = self
            .dirty
            .iter()
            .filter(|id| !self.flying.contains(*id))
            .take(window.saturating_sub(self.in_flight.len()))
            .cloned()
            .collect();
        for id in ready {
            self.dirty.remove(&id);
            ops.extend(self.send(id));
        }
        if self.dirty.is_empty() && self.in_flight.is_empty() && !self.completed {
            self.completed = true;
            ops.push((self.track(Target::Complete, None), Op::Complete));
        }
        ops
    }

    /// The broker's answer to `sequence`. Returns what was refused, for the log.
    pub fn on_result(&mut self, sequence: u64, refusal: Option<Refusal>, now: Timestamp) -> Option<Refusal> {
        let (target, record) = self.in_flight.remove(&sequence)?;
        match target {
            Target::Complete => {}
            Target::Claim => {
                if let ClaimState::Flying(claim) = std::mem::take(&mut self.claim) {
                    self.claim = match &refusal {
                        _ if claim != self.desired.claims => ClaimState::Idle,
                        None => ClaimState::Accepted(claim),
                        Some(refusal) => ClaimState::Refused(claim, refusal.clone(), now),
                    };
                }
            }
            Target::Record(id) => {
                self.flying.remove(&id);
                let newest = self.desired.records.get(&id) == record.as_ref();
                match &refusal {
                    None => {
                        self.refused.remove(&id);
                        if record.is_some() {
                            self.durable.insert(id.clone());
                        } else {
                            self.durable.remove(&id);
                        }
                        self.answered.insert(id.clone(), record);
                    }
                    Some(refusal) if newest => {
                        self.refused.insert(id.clone(), (refusal.clone(), now));
                    }
                    Some(_) => {}
                }
                if !newest {
                    self.dirty.insert(id);
                }
            }
        }
        refusal
    }

    /// How the records stand.
    #[must_use]
    pub fn uploads(&self) -> Uploads {
        let state = |id: &RecordId| match self.refused.get(id) {
            Some((refusal, _)) => Upload::Refused(refusal.clone()),
            None if self.durable.contains(id) => Upload::Durable,
            None => Upload::Pending,
        };
        let claim = match &self.claim {
            ClaimState::Idle => None,
            ClaimState::Flying(_) => Some(Upload::Pending),
            ClaimState::Accepted(_) => Some(Upload::Durable),
            ClaimState::Refused(_, refusal, _) => Some(Upload::Refused(refusal.clone())),
        };
        let known = self.desired.records.keys().filter(|id| self.open || self.durable.contains(*id));
        Uploads { records: known.map(|id| (id.clone(), state(id))).collect(), claim }
    }

    /// When [`Self::poll`] has something to try again; none: when something changes.
    #[must_use]
    pub fn next_retry(&self) -> Option<Timestamp> {
        let claim = match &self.claim {
            ClaimState::Refused(_, _, at) => Some(*at),
            ClaimState::Idle | ClaimState::Flying(_) | ClaimState::Accepted(_) => None,
        };
        self.refused.values().map(|(_, at)| *at).chain(claim).min().map(|at| at + RETRY_REFUSED)
    }

    fn retry(&mut self, now: Timestamp) {
        let due = |at: Timestamp| at + RETRY_REFUSED <= now;
        let ids: Vec<RecordId> =
            self.refused.iter().filter(|(_, (_, at))| due(*at)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            if let Some((_, at)) = self.refused.get_mut(&id) {
                *at = now; // the refusal stands until the next answer
            }
            self.dirty.insert(id);
        }
        if matches!(&self.claim, ClaimState::Refused(_, _, at) if due(*at)) {
            self.claim = ClaimState::Idle;
        }
    }

    fn wanted_claim(&self) -> Option<PrefixSet> {
        let wanted = &self.desired.claims;
        let stale = self.on_roster.as_ref().is_some_and(|c| c != wanted);
        (stale && self.claim == ClaimState::Idle && !wanted.is_empty()).then(|| wanted.clone())
    }

    fn send(&mut self, id: RecordId) -> Option<(u64, Op)> {
        let record = self.desired.records.get(&id).cloned();
        let op = match &record {
            Some(record) => {
                if self.answered.get(&id).is_some_and(|held| held.as_ref() == Some(record)) {
                    return None;
                }
                Op::Put(id.clone(), Arc::clone(record))
            }
            // Before `Complete` a record that was not put is gone by itself.
            None if !self.completed && !self.answered.contains_key(&id) => return None,
            None => Op::Delete(id.clone()),
        };
        self.flying.insert(id.clone());
        Some((self.track(Target::Record(id), record), op))
    }

    fn track(&mut self, target: Target, record: Option<Arc<Record>>) -> u64 {
        self.sequence += 1;
        self.in_flight.insert(self.sequence, (target, record));
        self.sequence
    }
}

#[cfg(test)]
mod tests;
