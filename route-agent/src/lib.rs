//! The route agent process: keeps one node's kernel as the plan wants it, asks the gateways how they are, answers DNS.
//!
//! What decides is in `hawser-route-plan`, what changes the kernel in `hawser-route-kernel`, the zone in `hawser-dns`, the
//! verdicts about gateways in `hawser-liveness`. Here they are fed and connected:
//!
//! - [`view`]: the local API's objects, all kinds together.
//! - [`objects`]: those as plan input and zone input. Pure.
//! - [`probe`], with its [`socket`]: node probes and notices; gives what is known of each gateway.
//! - [`agent`]: the loop that brings plan and kernel together.
//! - [`names`]: the zone, and its server on the addresses that the loop has made.
//! - [`metrics`].
//!
//! The kernel's state outlives the process: a restart changes what differs and nothing else. It goes when the cluster is no
//! member any more.

mod agent;
mod devices;
mod metrics;
mod names;
mod objects;
mod probe;
mod socket;
mod view;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hawser_local_api::Client;
use hawser_local_api_directory::{DirectoryApi, SiteArgs};
use hawser_route_kernel::Kernel;
use hawser_route_kernel::monitor::Monitor;
use hawser_telemetry::{AdminArgs, LogArgs, Readiness, Shutdown, Tasks, admin};
use tokio::sync::{mpsc, watch};

/// The process's name: in state folders, generated folders and metrics.
pub const PROCESS: &str = "route-agent";
/// How long parts may take to end.
const DRAIN: Duration = Duration::from_secs(3);

/// Keeps this node's routes, NAT exemption, virtual addresses and multi-cluster names.
#[derive(Debug, clap::Parser)]
#[command(name = "hawser-route-agent", version)]
pub struct Args {
    /// Which site and node.
    #[command(flatten)]
    pub site: SiteArgs,
    /// The admin endpoint.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs until `shutdown` asks to end. The kernel keeps what it has then.
///
/// # Errors
/// When the site, the admin endpoint or the kernel can't be opened, or a part of the process fails.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let state = args.site.state_dir(PROCESS).context("Failed to make the state folder")?;
    let admin = admin::Server::bind(&args.admin.addr(&state)).await?;
    let readiness = Readiness::new();
    let directory = DirectoryApi::open(&args.site, PROCESS).await.context("Failed to open the site")?;
    let client = Client::new(directory);
    let kernel = Kernel::open()?;
    let monitor = Monitor::open()?;

    let mut registry = hawser_telemetry::metrics::registry(PROCESS);
    let dns_counters = Arc::new(hawser_dns::Counters::default());
    let metrics = metrics::Metrics::register(&mut registry, Arc::clone(&dns_counters));
    let (asked, to_ask) = watch::channel(probe::Asked::default());
    let (gateways, seen) = watch::channel(Arc::default());
    let (gone, notices) = mpsc::channel(8);
    let (events, heard) = mpsc::unbounded_channel();
    let (served, to_serve) = watch::channel(names::Served::default());

    let mut tasks = Tasks::new(shutdown.token());
    let key = args.site.secrets_dir().join("probe.key");
    let prober = probe::Prober::new(args.site.node.clone(), key, to_ask, notices, gateways, metrics.clone());
    tasks.spawn("probes", stopped_by(tasks.token(), prober.run()));
    tasks.spawn("devices", stopped_by(tasks.token(), devices::run(monitor, gone, events)));
    let agent = agent::Agent::new(agent::Parts {
        node: args.site.node.clone(),
        views: view::Views::follow(&client),
        kernel,
        devices: heard,
        gateways: seen,
        asked,
        names: names::Names::new(served),
        metrics,
        readiness: readiness.clone(),
    });
    tasks.spawn("routes", stopped_by(tasks.token(), agent.run()));
    tasks.spawn("names", names::run(to_serve, dns_counters, readiness.handle("dns"), tasks.token()));
    tasks.spawn("admin", admin.serve(Arc::new(registry), readiness, axum::Router::new(), tasks.token()));
    tasks.run(DRAIN).await
}

/// Ends a part that has nothing to finish as soon as the process should end.
async fn stopped_by(
    token: tokio_util::sync::CancellationToken,
    part: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        // First, as the other parts' ends are no failures then.
        biased;
        () = token.cancelled() => Ok(()),
        ended = part => ended,
    }
}
