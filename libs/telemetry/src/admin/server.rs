//! Answering: at most [`MAX_CONNECTIONS`] at a time, each with a deadline for its headers, so that a stuck or hostile
//! client costs a slot for a few seconds and nothing else.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::AdminAddr;
use super::listener::{BindError, Listener};
use crate::Readiness;

const MAX_CONNECTIONS: usize = 64;
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_secs(2);

/// A bound admin endpoint.
pub struct Server {
    listener: Listener,
    local: AdminAddr,
}

impl Server {
    /// Takes the address. A unix socket that a dead process left behind is replaced; the folder it is in is made (0700).
    ///
    /// # Errors
    /// When the address is in use or can't be had; the error names it.
    pub async fn bind(addr: &AdminAddr) -> Result<Self, BindError> {
        let listener = Listener::bind(addr).await?;
        let local = listener.local().unwrap_or_else(|_| addr.clone());
        tracing::debug!(admin = %local, "admin endpoint bound");
        Ok(Self { listener, local })
    }

    /// Where it listens, with the port that was given where 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> &AdminAddr {
        &self.local
    }

    /// Answers until the token is cancelled, then lets open requests finish for two seconds. A unix socket's file goes with it.
    ///
    /// # Errors
    /// None at present: connections that fail are their clients' matter.
    pub async fn serve(
        self,
        registry: Arc<Registry>,
        readiness: Readiness,
        extra: Router,
        token: CancellationToken,
    ) -> anyhow::Result<()> {
        let app = router(registry, readiness).merge(extra);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let graceful = GracefulShutdown::new();
        let mut builder = Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE).max_buf_size(64 * 1024);
        loop {
            let accepted = tokio::select! {
                () = token.cancelled() => break,
                accepted = self.accept(&slots) => accepted,
            };
            let (permit, stream) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "admin endpoint can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let service = TowerToHyperService::new(app.clone());
            let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "admin connection ended");
                }
                drop(permit);
            });
        }
        let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
        Ok(())
    }

    async fn accept(
        &self,
        slots: &Arc<Semaphore>,
    ) -> std::io::Result<(tokio::sync::OwnedSemaphorePermit, super::listener::Connection)> {
        let permit = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
        Ok((permit, self.listener.accept().await?))
    }
}

fn router(registry: Arc<Registry>, readiness: Readiness) -> Router {
    let metrics = get(async move || {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text)),
            Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, format!("metrics can't be written: {error}\n"))),
        }
    });
    let ready = get(async move || match readiness.pending().as_slice() {
        [] => (StatusCode::OK, "ready\n".to_owned()),
        pending => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", pending.join(", "))),
    });
    Router::new().route("/metrics", metrics).route("/ready", ready).route("/live", get(async || "live\n"))
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
