//! The broker process: admits clusters, checks who owns what, hands records to who may see them.
//!
//! A thin shell around `hawser-broker-core`, which decides everything:
//!
//! - [`init`]: begins a cluster set: CA, roster, first administrator.
//! - [`backup`], [`restore`]: what the broker alone knows, to one file and back.
//! - [`serve`]: opens the store, listens, serves until shutdown.
//! - `engine`: one thread that owns the core and the store; all operations go through it in batches, answered when durable.
//! - `listen`: TCP, TLS, limits on connections; `peer`: one of them, and who is at its other end; `rate`, `share`: limits.
//! - `service`: the gRPC services; `service::sync` is the stream of an agent.
//!
//! Its clients are `libs/broker-client`, by way of `agent/` and `cli/`; certificates are `broker/pki`'s, files
//! `broker/store`'s.

mod backup;
mod convert;
mod engine;
mod init;
mod listen;
mod metrics;
mod peer;
mod rate;
mod restore;
mod serve;
mod service;
mod share;
mod state;

pub use backup::{BackupArgs, BackupError, Saved, backup};
pub use hawser_broker_store::StoreError;
pub use init::{InitArgs, Initialised, init};
pub use restore::{InTheWay, RestoreArgs, Restored, restore};
pub use serve::{Bound, ServeArgs, bind, serve};

use hawser_telemetry::{LogArgs, Shutdown};

/// `hawser-broker`: the exchange of one cluster set.
#[derive(Debug, clap::Parser)]
#[command(name = "hawser-broker", version)]
pub struct Args {
    /// About logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the broker process can do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Begin a cluster set: make its CA, its roster and the first administrator's identity.
    Init(InitArgs),
    /// Serve a cluster set.
    Serve(ServeArgs),
    /// Write CA, roster and settings into one file; the broker may run.
    Backup(BackupArgs),
    /// Put a backup in place, so that a broker starts from it.
    Restore(RestoreArgs),
}

/// Runs the process until it is done or `shutdown` is requested.
///
/// # Errors
/// What [`init`] or [`serve`] return.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let Args { log: _, command } = args;
    match command {
        Command::Init(args) => {
            let done = init(&args)?;
            tracing::info!(set = %done.set, admin = %done.admin_dir.display(), ca_pin = %done.ca_pin, "cluster set begun");
            Ok(())
        }
        Command::Serve(args) => serve(args, shutdown).await,
        Command::Backup(args) => {
            let Saved { set, revision, members, .. } = backup(&args).await?;
            tracing::info!(set, roster_revision = revision, members, file = %args.out.display(), "backed up");
            Ok(())
        }
        Command::Restore(args) => {
            let Restored { saved, void_tokens, replaced, .. } = restore(&args)?;
            let Saved { set, revision, members, made } = saved;
            tracing::info!(set, roster_revision = revision, members, made, void_tokens, ?replaced, "restored");
            Ok(())
        }
    }
}
