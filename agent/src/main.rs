//! The `hawser-agent` process.

use clap::Parser;
use hawser_telemetry::Shutdown;

/// Hawser's agent: sends this cluster's gateways and exports to the broker, and writes what other clusters offer into the local
/// API.
#[derive(Debug, Parser)]
#[command(name = "hawser-agent", version)]
struct Cli {
    #[command(flatten)]
    args: hawser_agent::Args,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    cli.args.log.init();
    let shutdown = Shutdown::on_signals()?;
    hawser_agent::run(cli.args, shutdown).await
}
