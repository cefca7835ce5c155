//! The agent process: this cluster's records up, the others' down. It touches no packet and no secret but its own identity.
//!
//! - `control`: the loop; what it decides is `hawser-agent-plan`'s. `sources` in, `writer` out.
//! - `link`, `stream`, `end`: the stream to the broker; `reader`: what came down it; `roster`: the highest signed roster;
//!   `known`: what control loop and link tell each other.
//! - `renew`: the certificate; `disk`: what outlives a restart; `first_seen`: the ages of exports.
//!
//! The other end of the stream is `broker/`. Gateways and route agents read what this process writes into the local API.

mod control;
mod convert;
mod disk;
mod end;
mod first_seen;
mod known;
mod link;
mod metrics;
mod reader;
mod renew;
mod roster;
mod sources;
mod stream;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hawser_broker_client::{IdentityDir, MemberIdentity};
use hawser_local_api::{Client, Leadership, LocalApi};
use hawser_local_api_directory::{DirectoryApi, SiteArgs};
use hawser_telemetry::{AdminArgs, LogArgs, Readiness, Shutdown, Tasks, admin, metrics as telemetry};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::sources::Sources;

/// This process's name: of its state, its lead, and what it writes.
pub const PROCESS: &str = "agent";
/// How long parts may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// The agent's command line.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the local API, this node and its state are.
    #[command(flatten)]
    pub site: SiteArgs,
    /// Where the admin endpoint is.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What an agent works with, however the process was started.
pub struct Setup {
    /// The local API.
    pub api: Arc<dyn LocalApi>,
    /// The member's identity.
    pub secrets: IdentityDir,
    /// This process's own folder.
    pub state: PathBuf,
    /// Who this is, for messages to people: the node's name.
    pub holder: String,
}

/// Runs the agent of a site until `shutdown`.
///
/// # Errors
/// When the site, the state or the admin endpoint can't be opened.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let state = args.site.state_dir(PROCESS).context("make the state folder")?;
    let server = admin::Server::bind(&args.admin.addr(&state)).await?;
    let api = DirectoryApi::open(&args.site, PROCESS).await?;
    let setup =
        Setup { api, secrets: IdentityDir::new(args.site.secrets_dir()), state, holder: args.site.node.to_string() };
    let mut registry = telemetry::registry(PROCESS);
    let readiness = Readiness::new();
    let mut tasks = Tasks::new(shutdown.token());
    let agent = Agent::new(setup, &mut registry, &readiness)?;
    let token = tasks.token();
    tasks.spawn("agent", async move { agent.run(token).await });
    let token = tasks.token();
    tasks.spawn("admin", async move {
        server.serve(Arc::new(registry), readiness, axum::Router::new(), token).await?;
        Ok(())
    });
    tasks.run(DRAIN).await
}

/// An agent, ready to run.
pub struct Agent {
    setup: Setup,
    disk: Disk,
    metrics: Metrics,
    ready: hawser_telemetry::ReadyHandle,
}

impl Agent {
    /// Opens the state and makes the metrics known.
    ///
    /// # Errors
    /// When the state can't be opened.
    pub fn new(
        setup: Setup,
        registry: &mut prometheus_client::registry::Registry,
        readiness: &Readiness,
    ) -> anyhow::Result<Self> {
        let disk = Disk::open(&setup.state).with_context(|| format!("open the state {}", setup.state.display()))?;
        let metrics = Metrics::default();
        metrics.register(registry);
        Ok(Self { setup, disk, metrics, ready: readiness.handle("local-api") })
    }

    /// Runs until the token is cancelled: waits for the lead, works while it has it.
    ///
    /// # Errors
    /// When the local API is closed.
    pub async fn run(self, token: CancellationToken) -> anyhow::Result<()> {
        let client = Client::new(Arc::clone(&self.setup.api));
        let mut sources = Sources::new(&client);
        let Some(listed) = unless_cancelled(token.clone(), sources.listed()).await else { return Ok(()) };
        listed.context("list the local API's objects")?;
        self.ready.ready();
        let Some(identities) = unless_cancelled(token.clone(), identities(&self.setup.secrets)).await else {
            return Ok(());
        };
        while let Some(lead) = unless_cancelled(token.clone(), self.setup.api.lead(PROCESS)).await {
            let leadership: Arc<dyn Leadership> = Arc::from(lead.context("wait for the lead")?);
            tracing::info!(holder = self.setup.holder, "leading");
            self.metrics.leading.set(1);
            let term = Term {
                client: client.clone(),
                sources: sources.clone(),
                identities: identities.clone(),
                leadership,
                token: token.child_token(),
            };
            term.run(&self.setup, &self.disk, &self.metrics).await;
            self.metrics.leading.set(0);
            if !token.is_cancelled() {
                tracing::warn!(holder = self.setup.holder, "the lead is lost; waiting for it again");
            }
        }
        Ok(())
    }
}

/// What comes of `work`; none if the token is cancelled before.
async fn unless_cancelled<T>(token: CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = token.cancelled() => None,
        done = work => Some(done),
    }
}

/// Follows the identity, from the moment at which it can be read: what can't be read is not the same as what is not there.
async fn identities(dir: &IdentityDir) -> watch::Receiver<Option<MemberIdentity>> {
    let mut complaint = String::new();
    loop {
        match dir.load() {
            Ok(_) => return dir.watch(),
            Err(error) => {
                let text = error.to_string();
                if text != complaint {
                    tracing::error!(error = text, "the identity can't be read; nothing is changed until it can");
                    complaint = text;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// One stretch of leading.
struct Term {
    client: Client,
    sources: Sources,
    identities: watch::Receiver<Option<MemberIdentity>>,
    leadership: Arc<dyn Leadership>,
    token: CancellationToken,
}

impl Term {
    async fn run(self, setup: &Setup, disk: &Disk, metrics: &Metrics) {
        let (wish, wishes) = watch::channel(None);
        let (known_sender, known) = watch::channel(None);
        let link = link::Task {
            identities: self.identities.clone(),
            wish: wishes,
            known: known_sender,
            leadership: Arc::clone(&self.leadership),
            disk: disk.clone(),
            shared_roster: setup.secrets.path().join("roster"),
            holder: setup.holder.clone(),
            metrics: metrics.clone(),
            token: self.token.clone(),
        };
        let control = Control {
            client: self.client,
            sources: self.sources,
            known,
            wish,
            leadership: Arc::clone(&self.leadership),
            disk: disk.clone(),
            secrets: setup.secrets.path().to_owned(),
            metrics: metrics.clone(),
            token: self.token.clone(),
        };
        let renew =
            renew::run(setup.secrets.clone(), self.identities, self.leadership, metrics.clone(), self.token.clone());
        let token = self.token.clone();
        let control = async move {
            control.run().await;
            token.cancel(); // the link ends with the loop that feeds it
        };
        tokio::join!(link.run(), control, renew);
    }
}
