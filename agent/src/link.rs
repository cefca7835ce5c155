//! Keeps this cluster's stream to the broker: connects, waits out failures, steps back when another agent takes over.
//!
//! One stream's life is in [`crate::stream`]; what is known outlives it, and restarts, on disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use hawser_agent_plan::{Identity, Link, Uplink};
use hawser_broker_client::MemberIdentity;
use hawser_local_api::Leadership;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::disk::Disk;
use crate::end::End;
use crate::known::{Known, Wish};
use crate::metrics::{EndLabels, Metrics};
use crate::reader::Reader;
use crate::roster::Keeper;
use crate::stream::OpenStream;

/// A stream that lasted so long has proven that the broker is well: the next failure starts with short waits again.
const QUIET: Duration = Duration::from_secs(10);
/// How long an agent that was fenced leaves the other alone.
const STEP_BACK: Duration = Duration::from_secs(5);

/// What the link works with.
pub(crate) struct Task {
    pub(crate) identities: watch::Receiver<Option<MemberIdentity>>,
    pub(crate) wish: watch::Receiver<Option<Arc<Wish>>>,
    pub(crate) known: watch::Sender<Option<Known>>,
    pub(crate) leadership: Arc<dyn Leadership>,
    pub(crate) disk: Disk,
    /// Where the site keeps the highest roster for whichever host leads next.
    pub(crate) shared_roster: PathBuf,
    /// Who this is, for messages to people.
    pub(crate) holder: String,
    pub(crate) metrics: Metrics,
    pub(crate) token: CancellationToken,
}

/// What is known of one membership; outlives its streams.
pub(crate) struct State {
    pub(crate) identity: Arc<Identity>,
    pub(crate) keeper: Keeper,
    pub(crate) reader: Reader,
    pub(crate) uplink: Uplink,
}

impl Task {
    /// Runs until the token is cancelled or the lead is lost.
    pub(crate) async fn run(mut self) {
        while !self.token.is_cancelled() && self.leadership.is_current() {
            let current = self.identities.borrow_and_update().clone();
            match current.as_ref().map(|member| (member, plan_identity(member))) {
                Some((member, Ok(identity))) => self.serve(member, identity).await,
                Some((_, Err(error))) => {
                    tracing::error!(error, "the certificate can't be read; leave and join again");
                    self.changed_identity().await;
                }
                None => {
                    self.known.send_replace(Some(Known::default()));
                    self.changed_identity().await;
                }
            }
        }
        self.metrics.connected.set(0);
    }

    async fn changed_identity(&mut self) {
        tokio::select! {
            () = self.token.cancelled() => {}
            changed = self.identities.changed() => if changed.is_err() { self.token.cancelled().await },
            () = tokio::time::sleep(QUIET) => {}
        }
    }

    /// Streams of one membership, one after the other.
    async fn serve(&mut self, member: &MemberIdentity, identity: Identity) {
        let mut state = self.load(member, identity);
        let mut waits = waits();
        loop {
            let Some(member) = self.identities.borrow_and_update().clone().filter(|m| same_membership(m, member))
            else {
                return;
            };
            self.renewed(&member, &mut state);
            let began = Instant::now();
            let end = tokio::select! {
                end = self.stream(&member, &mut state) => Some(end),
                () = self.token.cancelled() => None,
                () = other_membership(self.identities.clone(), &member) => None,
            };
            self.metrics.connected.set(0);
            state.uplink.close();
            self.save(&state).await;
            let Some(end) = end.filter(|_| self.leadership.is_current()) else { return };
            if began.elapsed() > QUIET {
                waits = self::waits();
            }
            let wait = self.report(&end, &mut state, &mut waits);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.token.cancelled() => return,
                () = other_membership(self.identities.clone(), &member) => return,
            }
        }
    }

    fn load(&self, member: &MemberIdentity, identity: Identity) -> State {
        let keeper = Keeper::load(vec![self.disk.roster_path(), self.shared_roster.clone()], member);
        let reader = self.disk.load_view(&identity);
        let state = State {
            identity: Arc::new(identity),
            keeper,
            uplink: Uplink::default(),
            reader: reader.unwrap_or_default(),
        };
        let view = state.reader.position().map(|_| Arc::new(state.reader.view()));
        tracing::info!(
            cluster_set = state.identity.cluster_set,
            cluster = %state.identity.cluster,
            generation = state.identity.generation,
            roster_revision = state.keeper.roster().map(|r| r.revision),
            view_on_disk = view.is_some(),
            "member of a cluster set"
        );
        self.metrics.roster_revision.set(state.keeper.roster().map_or(0, |r| r.revision));
        self.known.send_replace(Some(Known {
            identity: Some(Arc::clone(&state.identity)),
            roster: state.keeper.roster().cloned(),
            view,
            ..Known::default()
        }));
        state
    }

    /// Takes note of a renewed certificate.
    fn renewed(&self, member: &MemberIdentity, state: &mut State) {
        if let Ok(identity) = plan_identity(member) {
            self.metrics.certificate_expires.set(identity.certificate_expires.as_second());
            if identity != *state.identity {
                state.identity = Arc::new(identity);
                self.tell(|k| k.identity = Some(Arc::clone(&state.identity)));
            }
        }
    }

    async fn stream(&self, member: &MemberIdentity, state: &mut State) -> End {
        let mut wish = self.wish.clone();
        let Ok(first) = wish.wait_for(Option::is_some).await.map(|w| w.clone().unwrap_or_default()) else {
            return End::LostLead;
        };
        // A stream fences whoever had one before: only the leader may open it.
        if !self.leadership.is_current() {
            return End::LostLead;
        }
        match OpenStream::open(self, member, state, &first).await {
            Ok(mut stream) => stream.run(wish).await,
            Err(end) => end,
        }
    }

    /// Tells why a stream ended, and how long to wait.
    fn report(&self, end: &End, state: &mut State, waits: &mut ExponentialBackoff) -> Duration {
        let wait = full_jitter(waits.next().unwrap_or(Duration::from_secs(10)));
        let (reason, message) = end.words();
        self.metrics.streams_ended.get_or_create(&EndLabels { reason }).inc();
        let wait = match end {
            End::Mismatch => {
                self.metrics.mismatches.inc();
                state.reader.forget_position();
                tracing::warn!("the view disagrees with the broker's; asking for all of it again");
                return wait;
            }
            End::Fenced { .. } => STEP_BACK + full_jitter(STEP_BACK),
            End::Unreachable(_) | End::Refused(_) | End::Lost(_) | End::LostLead => wait,
        };
        let before = self.known.borrow().as_ref().map(|k| k.link.clone()).unwrap_or_default();
        let since = match before {
            Link::Unreachable { since, reason: old, .. } => {
                if old != reason {
                    tracing::warn!(reason, %message, "no stream to the broker");
                }
                since
            }
            Link::Connecting | Link::Connected => {
                tracing::warn!(reason, %message, "no stream to the broker");
                Timestamp::now()
            }
        };
        self.tell(|k| k.link = Link::Unreachable { reason, message, since });
        wait
    }

    /// Changes what the control loop knows; told only where that changed something.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Known)) {
        self.known.send_if_modified(|known| {
            let known = known.get_or_insert_default();
            let before = known.clone();
            change(known);
            !known.is_same(&before)
        });
    }

    /// Keeps the view.
    pub(crate) async fn save(&self, state: &State) {
        let (disk, bytes) = (self.disk.clone(), Disk::encode_view(&state.identity, &state.reader));
        let saved = tokio::task::spawn_blocking(move || bytes.and_then(|bytes| disk.save_view(&bytes))).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "the view can't be kept on disk: a restart without the broker would not have it");
        }
    }
}

/// Waits until the identity is another membership's, or gone.
async fn other_membership(mut identities: watch::Receiver<Option<MemberIdentity>>, member: &MemberIdentity) {
    let other = |now: &Option<MemberIdentity>| !now.as_ref().is_some_and(|now| same_membership(now, member));
    if identities.wait_for(other).await.is_err() {
        std::future::pending::<()>().await; // nobody follows the identity any more: the process is ending
    }
}

fn same_membership(a: &MemberIdentity, b: &MemberIdentity) -> bool {
    (&a.info.cluster_set, &a.info.cluster_id, a.info.generation, &a.ca)
        == (&b.info.cluster_set, &b.info.cluster_id, b.info.generation, &b.ca)
}

fn plan_identity(member: &MemberIdentity) -> Result<Identity, String> {
    let expires = member.not_after().map_err(|e| e.to_string())?;
    Ok(Identity {
        cluster_set: member.info.cluster_set.clone(),
        cluster: member.info.cluster_id.clone(),
        generation: member.info.generation,
        namespaces: member.info.namespaces.clone(),
        certificate_expires: Timestamp::try_from(expires).map_err(|e| e.to_string())?,
    })
}

/// 0.2 s, doubling to 10 s.
fn waits() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(10))
        .without_max_times()
        .build()
}

/// Anything up to `most`: agents that lost their broker together do not come back together.
pub(crate) fn full_jitter(most: Duration) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    // A fresh `RandomState` is seeded by the system; nothing here needs more than that.
    let part = RandomState::new().hash_one(()) >> 11;
    most.mul_f64(part as f64 / (1u64 << 53) as f64)
}
