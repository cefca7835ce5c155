//! The `hawser-gateway` process.

use clap::Parser as _;
use hawser_telemetry::Shutdown;

#[derive(clap::Parser)]
#[command(name = "hawser-gateway", version, about = "Carries packets between this cluster and the others")]
struct Cli {
    #[command(flatten)]
    log: hawser_telemetry::LogArgs,
    #[command(flatten)]
    args: hawser_gateway::Args,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    cli.log.init();
    hawser_gateway::run(cli.args, Shutdown::on_signals()?).await
}
