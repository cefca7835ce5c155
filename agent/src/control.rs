//! The control loop: whenever something changes, and every 30 s, a full pass from all that is known to what is written.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hawser_agent_plan::{Inputs, Plan, Standing, plan};
use hawser_api::labels;
use hawser_local_api::follow::Changes;
use hawser_local_api::{Client, Leadership};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::disk::Disk;
use crate::first_seen::FirstSeen;
use crate::known::{Known, Wish};
use crate::metrics::Metrics;
use crate::sources::Sources;
use crate::writer::Writer;

/// What comes so close together is one pass.
const QUIET: Duration = Duration::from_millis(8);
/// A full pass also without a change.
const RESYNC: Duration = Duration::from_secs(30);
/// When a write failed.
const RETRY: Duration = Duration::from_secs(1);
/// When a batch was full: also the bound on how fast slices are rewritten.
const NEXT_BATCH: Duration = Duration::from_millis(50);

/// What the loop works with.
pub(crate) struct Control {
    pub(crate) client: Client,
    pub(crate) sources: Sources,
    pub(crate) known: watch::Receiver<Option<Known>>,
    pub(crate) wish: watch::Sender<Option<Arc<Wish>>>,
    pub(crate) leadership: Arc<dyn Leadership>,
    pub(crate) disk: Disk,
    /// The site's secrets.
    pub(crate) secrets: PathBuf,
    pub(crate) metrics: Metrics,
    pub(crate) token: CancellationToken,
}

impl Control {
    /// Runs until the token is cancelled, the lead is lost or the local API closes.
    pub(crate) async fn run(mut self) {
        let mut changes = self.sources.changes(QUIET).with(&self.known);
        let mut writer = Writer::new(self.client.clone(), self.metrics.clone());
        let mut first_seen = FirstSeen::load(&self.disk);
        let mut told = Told::default();
        while self.leadership.is_current() {
            let next = Instant::now() + self.pass(&mut writer, &mut first_seen, &mut told).await;
            if !self.wait(&mut changes, next).await {
                return;
            }
        }
    }

    /// Waits for the next pass; false when there is none.
    async fn wait(&self, changes: &mut Changes, next: Instant) -> bool {
        tokio::select! {
            () = self.token.cancelled() => false,
            changed = changes.next() => changed,
            () = tokio::time::sleep_until(next) => true,
            () = lost(Arc::clone(&self.leadership)) => false,
        }
    }

    /// One pass; how long until the next, if nothing changes.
    async fn pass(&mut self, writer: &mut Writer, first_seen: &mut FirstSeen, told: &mut Told) -> Duration {
        let known = self.known.borrow_and_update().clone();
        let (Some(known), Some(local)) = (known, self.sources.take()) else { return RESYNC };
        if known.identity.is_none() && !self.secrets.exists() && was_member(&local) {
            // A missing folder is a missing mount rather than a leave, which keeps the folder.
            told.once("secrets", || tracing::error!(path = %self.secrets.display(), "the secrets are gone; nothing is changed until they are back, or `hawser leave` was run"));
            return RESYNC;
        }
        let now = Timestamp::now();
        first_seen.update(&local.exports, now, &self.disk);
        let plan = plan(&Inputs {
            local: &local,
            identity: known.identity.as_deref(),
            roster: known.roster.as_deref(),
            view: known.view.as_deref(),
            silent: &known.silent,
            link: &known.link,
            uploads: &known.uploads,
            first_seen: first_seen.map(),
            now,
        });
        self.metrics.passes.inc();
        told.plan(&plan, &self.metrics);
        self.wish(&plan, &local);
        if plan.writes.is_empty() || !self.leadership.is_current() {
            return RESYNC;
        }
        tracing::debug!(writes = plan.writes.len(), "pass");
        match writer.run(plan.writes).await {
            outcome if outcome.retry => RETRY,
            outcome if outcome.more => NEXT_BATCH,
            _ => RESYNC,
        }
    }

    fn wish(&self, plan: &Plan, local: &hawser_agent_plan::Local) {
        let applied = local.gateway_nodes.iter().map(|g| {
            let revision = g.status.as_ref().map_or(0, |s| u64::try_from(s.roster_revision).unwrap_or(0));
            (g.spec.node.clone(), revision)
        });
        let applied = applied.collect();
        self.wish.send_if_modified(|wish| {
            let old = wish.as_deref().cloned().unwrap_or_default();
            // No shard from this pass means: leave what is there.
            let shard = match &plan.shard {
                Some(new) if old.shard.as_deref() == Some(new) => old.shard,
                Some(new) => Some(Arc::new(new.clone())),
                None => old.shard,
            };
            let new = Wish { shard, interest: plan.interest.clone(), applied };
            let changed = wish.as_deref() != Some(&new);
            if changed {
                *wish = Some(Arc::new(new));
            }
            changed
        });
    }
}

/// Waits until the lead is lost.
async fn lost(leadership: Arc<dyn Leadership>) {
    while leadership.is_current() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn was_member(local: &hawser_agent_plan::Local) -> bool {
    local.properties.iter().any(|p| p.metadata.name.as_deref() == Some(labels::PROPERTY_CLUSTER_SET))
}

/// What has been logged, so that it is once.
#[derive(Default)]
struct Told {
    standing: Option<Standing>,
    skipped: Vec<String>,
    once: Option<&'static str>,
}

impl Told {
    fn once(&mut self, what: &'static str, log: impl FnOnce()) {
        if self.once.replace(what) != Some(what) {
            log();
        }
    }

    fn plan(&mut self, plan: &Plan, metrics: &Metrics) {
        self.once = None;
        if self.standing.as_ref() != Some(&plan.standing) {
            match &plan.standing {
                Standing::Member => tracing::info!("member of the cluster set"),
                Standing::NotJoined => tracing::info!("not joined: what came from a cluster set is removed"),
                Standing::Out { reason, message } => tracing::warn!(reason, message, "no member any more"),
                Standing::Renamed { message } => tracing::error!(message, "halted"),
            }
            self.standing = Some(plan.standing.clone());
        }
        metrics.skipped.set(i64::try_from(plan.skipped.len()).unwrap_or(i64::MAX));
        if self.skipped != plan.skipped {
            for skipped in plan.skipped.iter().filter(|s| !self.skipped.contains(s)).take(20) {
                tracing::warn!(input = skipped, "left out");
            }
            self.skipped.clone_from(&plan.skipped);
        }
    }
}
