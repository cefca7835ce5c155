//! One stream to the broker, from `Hello` to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hawser_agent_plan::{Link, Shard, Upload};
use hawser_broker_client::{Error, MemberIdentity, member};
use hawser_model::ClusterId;
use hawser_proto::v1::sync_request::Message as Up;
use hawser_proto::v1::sync_response::Message as Down;
use hawser_proto::{VERSION, v1};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::convert;
use crate::end::End;
use crate::known::Wish;
use crate::link::{State, Task};
use crate::reader::Step;
use crate::roster::Outcome;

/// Writes under way at once.
const WINDOW: usize = 128;
/// Room for these and for everything else that may be waiting to be sent.
const QUEUE: usize = WINDOW + 64;
/// Results and views are shown together when they come close together.
const GATHER: Duration = Duration::from_millis(3);
/// A view that changed is on disk so much later.
const SAVE_AFTER: Duration = Duration::from_millis(200);
/// How long connecting and saying hello may take.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// How often the lead and retries are looked at.
const TICK: Duration = Duration::from_secs(1);

/// An open stream.
pub(crate) struct OpenStream<'a> {
    task: &'a Task,
    member: &'a MemberIdentity,
    state: &'a mut State,
    up: mpsc::Sender<v1::SyncRequest>,
    down: Streaming<v1::SyncResponse>,
    /// What the uplink was last given.
    shard: Option<Arc<Shard>>,
    /// The interest's generation and namespaces, as sent.
    interest: (u64, BTreeSet<String>),
    applied: BTreeMap<String, u64>,
    /// When to show results; none: nothing new.
    show: Option<Instant>,
    save: Option<Instant>,
}

impl<'a> OpenStream<'a> {
    /// Connects, says hello and hears welcome.
    pub(crate) async fn open(
        task: &'a Task,
        member: &'a MemberIdentity,
        state: &'a mut State,
        wish: &Wish,
    ) -> Result<Self, End> {
        let open = async {
            let mut stream = Self::connect(task, member, state, wish).await?;
            stream.welcome().await.map(|()| stream)
        };
        let late = |_| Err(End::Unreachable(format!("the broker did not answer within {OPEN_WITHIN:?}")));
        tokio::time::timeout(OPEN_WITHIN, open).await.unwrap_or_else(late)
    }

    async fn connect(
        task: &'a Task,
        member: &'a MemberIdentity,
        state: &'a mut State,
        wish: &Wish,
    ) -> Result<Self, End> {
        let mut client = member::connect(member).await.map_err(|e| match e {
            Error::Refused(status) => End::of_status(&status),
            e => End::Unreachable(e.to_string()),
        })?;
        // A view is resumed with the interest it was made for; the present one follows.
        let namespaces = state.reader.position().map_or_else(|| wish.interest.clone(), |p| p.namespaces.clone());
        let interest = (1, namespaces);
        state.reader.interest(interest.0, interest.1.clone());
        let (up, queue) = mpsc::channel(QUEUE);
        let hello = v1::SyncRequest { message: Some(Up::Hello(hello(task, state, &interest))) };
        up.try_send(hello).map_err(|e| End::Lost(e.to_string()))?;
        let down = client.sync(ReceiverStream::new(queue)).await.map_err(|s| End::of_status(&s))?.into_inner();
        Ok(Self {
            task,
            member,
            state,
            up,
            down,
            shard: None,
            interest,
            applied: BTreeMap::new(),
            show: None,
            save: None,
        })
    }

    /// Runs until the stream ends.
    pub(crate) async fn run(&mut self, mut wish: watch::Receiver<Option<Arc<Wish>>>) -> End {
        let mut tick = tokio::time::interval(TICK);
        let end = loop {
            let mark = wish.borrow_and_update().clone().unwrap_or_default();
            self.follow(&mark);
            let end = tokio::select! {
                message = self.down.message() => match message {
                    Ok(Some(message)) => self.take(message).err(),
                    Ok(None) => Some(End::Lost("the broker ended the stream".to_owned())),
                    Err(status) => Some(End::of_status(&status)),
                },
                changed = wish.changed() => changed.err().map(|_| End::LostLead),
                () = at(self.show) => { self.publish(); None }
                () = at(self.save) => { self.save = None; self.task.save(self.state).await; None }
                _ = tick.tick() => (!self.task.leadership.is_current()).then_some(End::LostLead),
            };
            if let Some(end) = end {
                break end;
            }
        };
        self.publish();
        end
    }

    async fn welcome(&mut self) -> Result<(), End> {
        let first = self.down.message().await.map_err(|s| End::of_status(&s))?;
        let Some(v1::SyncResponse { message: Some(Down::Welcome(welcome)) }) = first else {
            return Err(End::Lost("the broker did not say welcome first".to_owned()));
        };
        if welcome.cluster_set != self.state.identity.cluster_set {
            return Err(End::Refused(format!("it is the broker of the cluster set {:?}", welcome.cluster_set)));
        }
        tracing::info!(term = welcome.term, version = welcome.version, "connected to the broker");
        self.state.uplink.open();
        self.on_roster();
        self.task.metrics.connected.set(1);
        self.task.tell(|k| k.link = Link::Connected);
        Ok(())
    }

    /// Sends what is wanted and not yet sent. Nothing here waits: what finds no room goes with the next tick or answer.
    fn follow(&mut self, wish: &Wish) {
        if let Some(shard) = &wish.shard
            && !self.shard.as_ref().is_some_and(|known| Arc::ptr_eq(known, shard))
        {
            self.shard = Some(Arc::clone(shard));
            self.task.metrics.shard_records.set(i64::try_from(shard.records.len()).unwrap_or(i64::MAX));
            self.state.uplink.set_desired(shard);
        }
        if wish.interest != self.interest.1 {
            let generation = self.interest.0 + 1;
            let namespaces = wish.interest.iter().cloned().collect();
            if self.send(Up::Interest(v1::Interest { generation, namespaces })) {
                self.interest = (generation, wish.interest.clone());
                self.state.reader.interest(generation, wish.interest.clone());
            }
        }
        if wish.applied != self.applied {
            let gateways =
                wish.applied.iter().map(|(node, revision)| v1::GatewayAck { node: node.clone(), revision: *revision });
            if self.send(Up::RosterAck(v1::RosterAck { gateways: gateways.collect() })) {
                self.applied.clone_from(&wish.applied);
            }
        }
        let room = WINDOW.min(self.up.capacity().saturating_sub(8));
        let ops = self.state.uplink.poll(Timestamp::now(), room);
        if !ops.is_empty() {
            self.gather();
        }
        for (sequence, op) in ops {
            if let Err(error) = self.up.try_send(convert::request(sequence, op)) {
                // The stream is about to end: the next one asserts everything again.
                tracing::debug!(%error, "write not sent");
            }
        }
    }

    fn send(&self, message: Up) -> bool {
        self.up.try_send(v1::SyncRequest { message: Some(message) }).is_ok()
    }

    fn take(&mut self, response: v1::SyncResponse) -> Result<(), End> {
        let Some(message) = response.message else { return Ok(()) }; // of a later version
        match message {
            Down::Welcome(_) => {}
            Down::Roster(signed) => self.roster(signed),
            Down::SnapshotStart(start) => self.state.reader.snapshot_start(start),
            Down::Upsert(upsert) => {
                if let Err(error) = self.state.reader.upsert(upsert) {
                    tracing::warn!(error, "record left out");
                }
            }
            Down::Remove(remove) => self.state.reader.remove(&remove),
            Down::Synced(synced) => self.synced(&synced)?,
            Down::WriteResult(result) => self.result(result),
            Down::Fenced(f) => return Err(End::Fenced { holder: f.holder, term: f.newer_term }),
            Down::Silent(silent) => self.silent(&silent),
        }
        Ok(())
    }

    fn roster(&mut self, signed: v1::SignedRoster) {
        match self.state.keeper.offer(signed, self.member) {
            Outcome::Taken => {
                let roster = self.state.keeper.roster().cloned();
                let revision = roster.as_ref().map_or(0, |r| r.revision);
                tracing::info!(revision, members = roster.as_ref().map_or(0, |r| r.members.len()), "new roster");
                self.task.metrics.roster_revision.set(revision);
                self.task.tell(|k| k.roster = roster);
                self.on_roster();
            }
            Outcome::Known => {}
            Outcome::Refused(error) => tracing::warn!(error, "roster refused"),
        }
    }

    fn on_roster(&mut self) {
        let identity = &self.state.identity;
        let own = (identity.cluster.clone(), identity.generation);
        if let Some(claim) = self.state.keeper.roster().and_then(|r| r.members.get(&own)) {
            self.state.uplink.set_on_roster(claim.clone());
        }
    }

    fn synced(&mut self, synced: &v1::Synced) -> Result<(), End> {
        match self.state.reader.synced(synced) {
            Step::More => {}
            Step::Unchanged => self.save = self.save.or_else(|| Some(Instant::now() + SAVE_AFTER)),
            Step::Synced => {
                let view = Arc::new(self.state.reader.view());
                self.task.metrics.view_records.set(i64::try_from(synced.count).unwrap_or(i64::MAX));
                tracing::debug!(revision = synced.revision, records = synced.count, incomplete = ?synced.incomplete, "view synced");
                self.task.tell(|k| k.view = Some(view));
                self.save = self.save.or_else(|| Some(Instant::now() + SAVE_AFTER));
            }
            Step::Mismatch => return Err(End::Mismatch),
        }
        Ok(())
    }

    fn result(&mut self, result: v1::WriteResult) {
        let refusal = result.refusal.map(convert::refusal);
        if let Some(r) = self.state.uplink.on_result(result.sequence, refusal, Timestamp::now()) {
            tracing::warn!(
                object = r.object,
                field = r.field,
                rule = r.rule,
                remedy = r.remedy,
                "the broker refused a write"
            );
        }
        self.gather();
    }

    fn silent(&self, silent: &v1::Silent) {
        let shards = silent
            .shards
            .iter()
            .filter_map(|s| Some((ClusterId::new(&s.cluster_id).ok()?, Timestamp::from_second(s.since).ok()?)));
        let shards: BTreeMap<ClusterId, Timestamp> = shards.collect();
        self.task.tell(|k| k.silent = shards);
    }

    fn gather(&mut self) {
        self.show = self.show.or_else(|| Some(Instant::now() + GATHER));
    }

    fn publish(&mut self) {
        self.show = None;
        let uploads = self.state.uplink.uploads();
        let refused = uploads.records.values().filter(|u| matches!(u, Upload::Refused(_))).count();
        self.task.metrics.refused.set(i64::try_from(refused).unwrap_or(i64::MAX));
        self.task.tell(|k| {
            if *k.uploads != uploads {
                k.uploads = Arc::new(uploads);
            }
        });
    }
}

fn hello(task: &Task, state: &State, interest: &(u64, BTreeSet<String>)) -> v1::Hello {
    v1::Hello {
        version: VERSION,
        features: Vec::new(),
        generation: state.identity.generation,
        highest_roster: state.keeper.signed().cloned(),
        resume: state.reader.position().map(|p| v1::Resume { epoch: p.epoch.clone(), revision: p.revision }),
        interest: Some(v1::Interest { generation: interest.0, namespaces: interest.1.iter().cloned().collect() }),
        now: Timestamp::now().as_second(),
        holder: task.holder.clone(),
    }
}

/// Waits until then; for ever where there is no such time.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
