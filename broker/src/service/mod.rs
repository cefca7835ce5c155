//! The gRPC services: `members` for clusters, `admin` for administrators, `sync` for the stream of an agent.
//!
//! `auth` turns a connection's certificate into a caller. Whether a cluster still is a member is asked of the core in the
//! same step as the operation itself.

mod admin;
mod auth;
mod members;
mod stream;
mod sync;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_broker_core::{Code, Hash, Refusal};
use hawser_broker_pki::Ca;
use hawser_model::ClusterId;
use hawser_proto::MAX_MESSAGE;
use hawser_proto::v1::admin_server::AdminServer;
use hawser_proto::v1::broker_server::BrokerServer;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Server;

use crate::convert;
use crate::engine::{Handle, Published};
use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::rate::Limiter;

/// Calls at one time on one connection.
const MAX_STREAMS: u32 = 8;

/// Clusters without a stream, and since when.
type Silence = Arc<Vec<(ClusterId, i64)>>;

/// Everything calls need; cheap to clone.
#[derive(Clone)]
pub(crate) struct Services {
    engine: Handle,
    published: Published,
    ca: Arc<Ca>,
    metrics: Metrics,
    limits: Arc<Limits>,
    silence: watch::Sender<Silence>,
    /// Cancelled at shutdown, so that streams end.
    token: CancellationToken,
}

/// How often callers may ask for what costs the broker more than reading the question.
struct Limits {
    /// Joins by source: guessing tokens is hopeless anyway, this keeps it cheap.
    joins: Limiter<ipnet::IpNet>,
    /// Streams and renewals by key: a stream begins with a look at all records, a renewal makes signatures.
    members: Limiter<Hash>,
    /// Lines in the log by call; the rest is in the metrics only.
    lines: Limiter<&'static str>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            joins: Limiter::new(30, Duration::from_secs(1)),
            members: Limiter::new(20, Duration::from_secs(2)),
            lines: Limiter::new(100, Duration::from_secs(1)),
        }
    }
}

impl Services {
    pub(crate) fn new(engine: Handle, published: Published, ca: Arc<Ca>, metrics: Metrics) -> Self {
        let (silence, _) = watch::channel(Silence::default());
        Self { engine, published, ca, metrics, limits: Arc::default(), silence, token: CancellationToken::new() }
    }

    /// Serves the connections that come until the token is cancelled; streams end then, other calls finish.
    pub(crate) async fn serve(
        self,
        incoming: ReceiverStream<io::Result<Peer>>,
        token: CancellationToken,
    ) -> anyhow::Result<()> {
        let streams = self.token.clone();
        let broker = BrokerServer::new(self.clone()).max_decoding_message_size(MAX_MESSAGE);
        let admin = AdminServer::new(self).max_decoding_message_size(64 * 1024);
        let ended = async move {
            token.cancelled().await;
            streams.cancel();
        };
        Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(5)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .http2_max_header_list_size(16 * 1024)
            .max_concurrent_streams(Some(MAX_STREAMS))
            .add_service(broker)
            .add_service(admin)
            .serve_with_incoming_shutdown(incoming, ended)
            .await?;
        Ok(())
    }

    /// Tells the core that time passes, and readers who is silent.
    pub(crate) fn ticker(&self, token: CancellationToken) -> impl Future<Output = anyhow::Result<()>> + Send + 'static {
        let (engine, silence) = (self.engine.clone(), self.silence.clone());
        async move {
            let mut interval = tokio::time::interval(Duration::from_secs(1));
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = token.cancelled() => return Ok(()),
                    _ = interval.tick() => {}
                }
                let silent = engine.call(|state, now| {
                    if state.core.tick(now) {
                        tracing::info!("shards that did not come back after the loss of records have lost their lease");
                    }
                    state.core.silent(now)
                });
                let Ok(silent) = silent.await else {
                    return Ok(());
                };
                silence.send_if_modified(|old| {
                    let changed = **old != silent;
                    if changed {
                        *old = Arc::new(silent);
                    }
                    changed
                });
            }
        }
    }

    /// Counts a refusal and puts it into a status.
    fn refuse(&self, call: &'static str, refusal: Refusal) -> Status {
        self.metrics.refused(call, refusal.code);
        if self.limits.lines.allow(call, Instant::now()) {
            tracing::info!(call, rule = refusal.code.as_str(), %refusal, "refused");
        }
        convert::status(refusal)
    }

    /// Counts a stream or a renewal of a member.
    fn limit_member(&self, call: &'static str, member: &auth::Member) -> Result<(), Status> {
        if self.limits.members.allow(member.key, Instant::now()) {
            return Ok(());
        }
        let refusal = Refusal::new(
            Code::Quota,
            format!("cluster {}", member.cluster),
            "calls",
            "it opens streams or renews too often; one every 2 s, 20 at once",
            "wait a minute; look for agents that end each other's streams",
        );
        Err(self.refuse(call, refusal))
    }
}
