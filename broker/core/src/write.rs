//! What the holder of a shard may do to it: put, delete, complete, claim. Every refusal leaves all as it was.

use std::sync::Arc;

use hawser_model::age::{FirstSeen, first_seen};
use hawser_model::export::Timestamp;
use hawser_model::{ClusterId, Gateway, PrefixSet};

use crate::changes::RecordChange;
use crate::core::Core;
use crate::record::{Body, Encoded, Kind, Record, RecordKey};
use crate::refusal::{Code, Refusal};
use crate::rules;
use crate::streams::{StreamId, holds};

impl Core {
    /// Puts a record in force. `encode` gives its canonical bytes; equal content is no change and costs nothing.
    /// Returns whether anything changed.
    ///
    /// # Errors
    /// A newer stream holds the shard; the record breaks a rule; a quota is used up.
    pub fn put(
        &mut self,
        stream: StreamId,
        mut body: Body,
        encode: impl FnOnce(&Body) -> Vec<u8>,
        now: Timestamp,
    ) -> Result<bool, Refusal> {
        let cluster = self.writer_of(stream)?;
        let key = body.key();
        self.assert_key(&cluster, &key);
        let claimed = self.accept(&cluster, &key, &mut body, now)?;
        let encoded = Encoded::new(encode(&body));
        let shard = self.shards.get(&cluster).expect("a writer has a shard");
        let old = shard.records.get(&key);
        if old.is_some_and(|r| r.encoded.hash == encoded.hash) {
            return Ok(false);
        }
        let object = || format!("{key} of cluster {cluster}");
        let size = encoded.bytes.len() + key.name.len();
        if key.kind == Kind::Gateway && old.is_none() && shard.count(Kind::Gateway) >= self.limits.gateways {
            let rule = format!("the cluster has its {} gateways already", self.limits.gateways);
            return Err(Refusal::new(Code::Quota, object(), "gateways", rule, "make fewer nodes gateways"));
        }
        self.check_quota(&cluster, object(), old.map_or(0, |r| r.size()), size, old.is_none())?;
        self.charge(&cluster, &object(), 1, now)?;
        self.revision += 1;
        let (generation, revision) = (self.shards[&cluster].generation, self.revision);
        self.enforce(Record { cluster, generation, key, body, encoded, claimed, revision });
        Ok(true)
    }

    /// All rules for a record's content; bounds an export's age. Returns the age its owner claims.
    fn accept(
        &self,
        cluster: &ClusterId,
        key: &RecordKey,
        body: &mut Body,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Refusal> {
        let Some(member) = self.roster.member(cluster) else {
            return Err(self.roster.ended(cluster, 0));
        };
        rules::check(cluster, member, body)?;
        match body {
            Body::Gateway(gateway) => self.check_keys(cluster, gateway).map(|()| None),
            Body::Endpoints(_) => Ok(None),
            Body::Header(header) => {
                let known =
                    match self.shards.get(cluster).and_then(|s| s.records.get(key)).map(|r| (&r.body, r.claimed)) {
                        Some((Body::Header(old), Some(claimed))) => Some(FirstSeen { claimed, effective: old.created }),
                        Some(_) | None => None,
                    };
                let seen = first_seen(header.created, known, now).map_err(|e| {
                    Refusal::new(
                        Code::Clock,
                        format!("{key} of cluster {cluster}"),
                        "creationTimestamp",
                        format!("it is {} s ahead of the broker's clock; at most 300 s", e.ahead_ms / 1000),
                        "correct the clock of the exporting cluster",
                    )
                })?;
                header.created = seen.effective;
                Ok(Some(seen.claimed))
            }
        }
    }

    /// A lane key belongs to one cluster: peers tell by it who sent a packet.
    fn check_keys(&self, cluster: &ClusterId, gateway: &Gateway) -> Result<(), Refusal> {
        for (i, lane) in gateway.lanes.iter().enumerate() {
            let keys = [Some(lane.public_key), lane.next_public_key];
            let owners = keys.iter().flatten().filter_map(|key| self.keys.get(key));
            if let Some((other, _)) = owners.into_iter().find(|(owner, _)| owner != cluster) {
                return Err(Refusal::new(
                    Code::Conflict,
                    format!("gateway {} of cluster {cluster}", gateway.node),
                    format!("lanes[{i}].publicKey"),
                    format!("cluster {other} has a gateway with the same key"),
                    "delete the keys in the gateway's state directory and restart it; never copy a state directory",
                ));
            }
        }
        Ok(())
    }

    fn check_quota(
        &self,
        cluster: &ClusterId,
        object: String,
        before: usize,
        after: usize,
        new: bool,
    ) -> Result<(), Refusal> {
        let shard = self.shards.get(cluster).expect("a writer has a shard");
        let (records, bytes) = (self.limits.records, self.limits.bytes);
        let refuse =
            |field: &str, rule: String, remedy: &str| Err(Refusal::new(Code::Quota, object, field, rule, remedy));
        if after > rules::MAX_RECORD {
            return refuse(
                "size",
                format!("{after} bytes; at most {}", rules::MAX_RECORD),
                "split the Service, or export fewer endpoints",
            );
        }
        if new && shard.records.len() >= records {
            return refuse(
                "records",
                format!("the cluster has its {records} records already"),
                "export fewer services",
            );
        }
        if shard.bytes - before + after > bytes {
            return refuse(
                "bytes",
                format!("the cluster would exceed its {bytes} bytes"),
                "export fewer services or endpoints",
            );
        }
        Ok(())
    }

    fn enforce(&mut self, record: Record) {
        let record = Arc::new(record);
        let shard = self.shards.get_mut(&record.cluster).expect("a writer has a shard");
        if let Some(asserted) = shard.writer.as_mut().and_then(|w| w.asserted.as_mut()) {
            asserted.insert(record.key.clone());
        }
        let old = shard.insert(record.clone());
        if let Some(old) = old {
            self.index_keys(&old, false);
        }
        self.index_keys(&record, true);
        let id = record.id();
        self.views.values_mut().for_each(|view| view.touch(&id));
        self.batch.records.push(RecordChange::Put(record));
    }

    /// Takes a record out of force; one that is not there is gone already.
    ///
    /// # Errors
    /// A newer stream holds the shard; the writes quota is used up.
    pub fn delete(&mut self, stream: StreamId, key: &RecordKey, now: Timestamp) -> Result<bool, Refusal> {
        let cluster = self.writer_of(stream)?;
        if !self.shards[&cluster].records.contains_key(key) {
            return Ok(false);
        }
        self.charge(&cluster, &format!("{key} of cluster {cluster}"), 1, now)?;
        Ok(self.withdraw(&cluster, key))
    }

    /// Everything has been put since the stream began: what was not is gone.
    ///
    /// # Errors
    /// A newer stream holds the shard.
    pub fn complete(&mut self, stream: StreamId) -> Result<(), Refusal> {
        let cluster = self.writer_of(stream)?;
        let shard = self.shards.get_mut(&cluster).expect("a writer has a shard");
        let asserted = shard.writer.as_mut().and_then(|w| w.asserted.take());
        if !std::mem::replace(&mut shard.complete, true) {
            self.batch.records.push(RecordChange::Complete(cluster.clone()));
            self.views.values_mut().for_each(|view| view.unsynced = true);
        }
        let Some(asserted) = asserted else {
            return Ok(());
        };
        let gone: Vec<RecordKey> = shard.records.keys().filter(|k| !asserted.contains(*k)).cloned().collect();
        for key in gone {
            self.withdraw(&cluster, &key);
        }
        Ok(())
    }

    /// Replaces the cluster's prefix claims; records that lie outside the new ones go.
    ///
    /// # Errors
    /// A newer stream holds the shard; the claims break a rule; the writes quota is used up.
    pub fn claim(&mut self, stream: StreamId, claims: &PrefixSet, now: Timestamp) -> Result<bool, Refusal> {
        let cluster = self.writer_of(stream)?;
        self.charge(&cluster, &format!("cluster {cluster}"), 100, now)?;
        let changed = self.roster.claim(&cluster, claims)?;
        if changed {
            self.roster_changed(&[cluster]);
        }
        Ok(changed)
    }

    /// The cluster whose shard `stream` may write.
    pub(crate) fn writer_of(&self, stream: StreamId) -> Result<ClusterId, Refusal> {
        let view = self.views.get(&stream).map(|v| &v.cluster);
        let held = view.filter(|id| self.shards.get(*id).is_some_and(|s| holds(s.writer.as_ref(), stream)));
        held.cloned().ok_or_else(|| {
            Refusal::new(
                Code::Fenced,
                "shard",
                "term",
                "this stream's term has ended: a newer stream holds the shard, or the membership has ended",
                "stop writing; open a new stream only after renewing the agent's lease",
            )
        })
    }

    /// A record that its owner tried to put is not dropped when the shard is completed: the last good one stays.
    fn assert_key(&mut self, cluster: &ClusterId, key: &RecordKey) {
        let Some(shard) = self.shards.get_mut(cluster).filter(|s| s.records.contains_key(key)) else {
            return;
        };
        if let Some(asserted) = shard.writer.as_mut().and_then(|w| w.asserted.as_mut()) {
            asserted.insert(key.clone());
        }
    }

    /// Takes `cost` writes out of the cluster's quota.
    pub(crate) fn charge(
        &mut self,
        cluster: &ClusterId,
        object: &str,
        cost: u32,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let rate = self.limits.writes_per_second;
        let burst = u32::try_from(self.limits.records).unwrap_or(u32::MAX).max(rate);
        let shard = self.shards.get_mut(cluster).expect("a writer has a shard");
        if shard.bucket.take(cost, rate, burst, now) {
            return Ok(());
        }
        Err(Refusal::new(
            Code::Quota,
            object,
            "writes",
            format!("the cluster has used its {rate} writes per second"),
            "wait a second and write it again; look for what changes so often",
        ))
    }
}
