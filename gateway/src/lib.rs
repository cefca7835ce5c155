//! The gateway process: local API in, data plane, status out.
//!
//! It needs nobody else to run: what it was told last is on disk, and packets flow by that until the local API says
//! otherwise. It never talks to the broker.
//!
//! - [`Args`], [`run`]: the process.
//! - `view`, `plan`: the local API's objects, and what follows from them; pure.
//! - `memory`: roster and peers on disk.
//! - `drain`: how far a drain is; `rotation`: when keys are replaced; both pure.
//! - `gateway`: the loop that applies the plan to the tunnel (`hawser-tunnel`); `publish`: this gateway's own object.
//! - `planner`: the last plan; [`heap`]: the memory that all of it takes.
//! - `responder`: answers the route agents (`hawser-route-agent`).
//! - `resolve`: candidates that are names. `state`, `metrics`: what the admin endpoint tells.

mod drain;
mod gateway;
pub mod heap;
mod memory;
mod metrics;
mod plan;
mod planner;
mod publish;
mod resolve;
mod responder;
mod rotation;
mod state;
mod view;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::routing::get;
use axum::{Json, Router};
use hawser_local_api::Client;
use hawser_local_api_directory::{DirectoryApi, SiteArgs};
use hawser_model::defaults::{TUN_DEVICE, WIREGUARD_PORT};
use hawser_telemetry::admin::Server;
use hawser_telemetry::{AdminArgs, Readiness, Shutdown, Tasks};
use hawser_tunnel::LANES_MAX;

use crate::gateway::Gateway;

/// Name of this process: of its state folder and of what it writes.
pub const PROCESS: &str = "gateway";
/// How long the parts may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// The gateway's flags.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Which site and host.
    #[command(flatten)]
    pub site: SiteArgs,
    /// Where metrics and reports are served.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Number of lanes, each a thread with a port of its own [default: one per core, at most 8].
    #[arg(long, env = "HAWSER_LANES", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=LANES_MAX as i64))]
    pub lanes: Option<u8>,
    /// UDP port of the first lane; lane i listens on this plus i.
    #[arg(long, env = "HAWSER_WIREGUARD_PORT", value_name = "PORT", default_value_t = WIREGUARD_PORT)]
    pub port: u16,
}

/// Runs the gateway until it is asked to stop.
///
/// # Errors
/// When it can't start, or when its device is taken from it while it runs.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let Args { site, admin, lanes, port } = args;
    let dir = site.state_dir(PROCESS).context("Failed to make the state folder")?;
    let readiness = Readiness::new();
    let server = Server::bind(&admin.addr(&dir)).await?;
    let api = DirectoryApi::open(&site, PROCESS).await.context("Failed to open the site")?;
    let client = Client::new(api);
    let shared = state::Shared::default();
    shared.lock().node = site.node.to_string();
    let counts = responder::Counts::default();
    let mut registry = hawser_telemetry::metrics::registry(PROCESS);
    metrics::register(&mut registry, &shared, &counts);

    let tunnel = hawser_tunnel::Config {
        node: site.node.clone(),
        device: TUN_DEVICE.to_owned(),
        lanes: lanes.map_or_else(hawser_tunnel::Config::default_lanes, usize::from),
        port,
        keys: dir.clone(),
    };
    let probe_key = site.secrets_dir().join("probe.key");
    let (gateway, resolver) = Gateway::new(client, &dir, tunnel, probe_key, shared.clone(), counts, &readiness);
    let reported = shared.clone();
    let extra = Router::new().route("/report", get(async move || Json(reported.report())));

    let mut tasks = Tasks::new(shutdown.token());
    let token = tasks.token();
    tasks.spawn("admin", server.serve(Arc::new(registry), readiness, extra, token.clone()));
    tasks.spawn("gateway", gateway.run(token));
    tasks.spawn("resolver", resolver);
    tasks.run(DRAIN).await
}
