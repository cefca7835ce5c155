//! `hawser broker serve`: opens, binds, serves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hawser_broker_core::{Core, Limits, Loaded, Record};
use hawser_broker_pki::{BROKER_DAYS, Ca, ServerCertificate, server_config};
use hawser_broker_store::{RedbStore, Stored, StoredRecord};
use hawser_model::export::Timestamp;
use hawser_telemetry::{AdminArgs, Readiness, Shutdown, Tasks, admin, metrics};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::listen::{self, Acceptor};
use crate::metrics::Metrics;
use crate::service::Services;
use crate::state::{self, Settings};
use crate::{backup, convert};

/// Time that calls get to finish at shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// How often the broker replaces its own certificate.
const OWN_CERTIFICATE: Duration = Duration::from_secs(30 * 86_400);

/// `broker serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// The broker's directory, as `init` made it.
    #[arg(long, env = "HAWSER_BROKER_DIR", value_name = "DIR", default_value = "/var/lib/hawser/broker")]
    pub dir: PathBuf,
    /// Where to listen; repeatable.
    #[arg(
        long,
        env = "HAWSER_BROKER_LISTEN",
        value_name = "ADDR:PORT",
        value_delimiter = ',',
        default_value = "[::]:7443"
    )]
    pub listen: Vec<SocketAddr>,
    /// About the admin endpoint; by default `DIR/admin.sock`.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// A broker that holds its store and ports, and serves once [`Bound::run`] is awaited.
pub struct Bound {
    addresses: Vec<SocketAddr>,
    listeners: Vec<TcpListener>,
    admin: admin::Server,
    backup: backup::Server,
    engine: Engine,
    services: Services,
    certificate: Arc<ServerCertificate>,
    ca: Arc<Ca>,
    settings: Settings,
    registry: Registry,
    metrics: Metrics,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Serves until `shutdown` is requested.
///
/// # Errors
/// A store that can't be opened (its roster is missing, it is in use), a port in use; later, a store that can't be written.
pub async fn serve(args: ServeArgs, shutdown: Shutdown) -> anyhow::Result<()> {
    bind(&args).await?.run(shutdown.token()).await
}

/// Opens the store and takes the ports; nothing is answered yet.
///
/// # Errors
/// As [`serve`].
pub async fn bind(args: &ServeArgs) -> anyhow::Result<Bound> {
    let ServeArgs { dir, listen, admin } = args;
    let now = state::now();
    let (store, stored) = RedbStore::open(dir, state::random()?, state::unix(now))?;
    let ca = Arc::new(Ca::load(dir)?);
    let settings = Settings::load(&dir.join("broker.json"))?;
    let mut registry = metrics::registry("broker");
    let metrics = Metrics::register(&mut registry);
    let core = core(stored, state::timestamp(now));
    let (engine, handle, published) = Engine::new(core, Box::new(store), ca.clone(), metrics.clone())?;
    let issued = ca.issue_broker(&settings.brokers, now, BROKER_DAYS)?;
    let certificate = ServerCertificate::new(&issued, ca.certificate())?;

    let mut listeners = Vec::new();
    for addr in listen {
        listeners.push(listen::bind(*addr).with_context(|| format!("can't listen on {addr}"))?);
    }
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    let admin = admin::Server::bind(&admin.addr(dir)).await?;
    let backup = backup::Server::bind(dir, handle.clone()).await?;
    let services = Services::new(handle, published, ca.clone(), metrics.clone());
    Ok(Bound { addresses, listeners, admin, backup, engine, services, certificate, ca, settings, registry, metrics })
}

impl Bound {
    /// Where it listens, in the order of `--listen`, with the ports given where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until the token is cancelled, then lets calls finish.
    ///
    /// # Errors
    /// The store can't be written any more.
    pub async fn run(self, token: CancellationToken) -> anyhow::Result<()> {
        let Self {
            addresses,
            listeners,
            admin,
            backup,
            engine,
            services,
            certificate,
            ca,
            settings,
            registry,
            metrics,
        } = self;
        let readiness = Readiness::new();
        let ready = readiness.handle("listening");
        let mut tasks = Tasks::new(token);
        let token = tasks.token();

        let engine = engine.start()?;
        tasks.spawn("engine", async move { engine.await.context("the engine panicked")? });
        let tls = server_config(ca.certificate(), certificate.clone())?;
        let (acceptor, accepted) = Acceptor::new(TlsAcceptor::from(Arc::new(tls)), metrics);
        for listener in listeners {
            tasks.spawn("listener", acceptor.clone().run(listener, token.clone()));
        }
        drop(acceptor);
        tasks.spawn("ticker", services.ticker(token.clone()));
        tasks.spawn("grpc", services.serve(ReceiverStream::new(accepted), token.clone()));
        tasks.spawn("certificate", renew_own(certificate, ca, settings, token.clone()));
        tasks.spawn("admin", admin.serve(Arc::new(registry), readiness, axum::Router::new(), token.clone()));
        tasks.spawn("backup", backup.run(token.clone()));
        drop(ready);
        tracing::info!(?addresses, "serving");
        tasks.run(DRAIN).await
    }
}

/// Records that can't be read any more are left out: their owners send them again.
fn core(stored: Stored, now: Timestamp) -> Core {
    if stored.new_epoch {
        tracing::warn!("the records were not there: a new epoch begins, members send theirs again");
    }
    let mut records = Vec::with_capacity(stored.records.len());
    for StoredRecord { cluster, key, generation, revision, claimed, bytes } in stored.records {
        match convert::stored_body(&cluster, &bytes) {
            Ok(body) => records.push(Record {
                cluster,
                generation,
                key,
                body,
                encoded: hawser_broker_core::Encoded::new(bytes),
                claimed: claimed.map(Timestamp),
                revision,
            }),
            Err(error) => tracing::warn!(%cluster, record = %key, %error, "stored record left out"),
        }
    }
    let loaded = Loaded {
        roster: stored.roster,
        terms: stored.terms,
        epoch: stored.epoch,
        epoch_began: stored.epoch_began,
        revision: stored.revision,
        complete: stored.complete,
        records,
    };
    Core::new(loaded, Limits::default(), now)
}

async fn renew_own(
    certificate: Arc<ServerCertificate>,
    ca: Arc<Ca>,
    settings: Settings,
    token: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            () = tokio::time::sleep(OWN_CERTIFICATE) => {}
        }
        let issued = ca.issue_broker(&settings.brokers, state::now(), BROKER_DAYS)?;
        certificate.replace(&issued, ca.certificate())?;
        tracing::debug!("own certificate replaced");
    }
}
