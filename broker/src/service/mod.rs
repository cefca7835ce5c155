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
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hawser_broker_core::Refusal;
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
use crate::listen::Peer;
use crate::metrics::Metrics;
use crate::rate::Attempts;

/// Calls at one time on one connection.
const MAX_STREAMS: u32 = 32;

/// Clusters without a stream, and since when.
type Silence = Arc<Vec<(ClusterId, i64)>>;

/// Everything calls need; cheap to clone.
#[derive(Clone)]
pub(crate) struct Services {
    engine: Handle,
    published: Published,
    ca: Arc<Ca>,
    metrics: Metrics,
    attempts: Arc<Mutex<Attempts>>,
    silence: watch::Sender<Silence>,
    /// Cancelled at shutdown, so that streams end.
    token: CancellationToken,
}

impl Services {
    pub(crate) fn new(engine: Handle, published: Published, ca: Arc<Ca>, metrics: Metrics) -> Self {
        let (silence, _) = watch::channel(Silence::default());
        Self { engine, published, ca, metrics, attempts: Arc::default(), silence, token: CancellationToken::new() }
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
        tracing::info!(call, rule = refusal.code.as_str(), %refusal, "refused");
        convert::status(refusal)
    }
}
