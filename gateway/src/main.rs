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

fn main() -> anyhow::Result<()> {
    hawser_gateway::heap::share();
    run()
}

#[tokio::main]
async fn run() -> anyhow::Result<()> {
    let mut cli = Cli::parse();
    // It calls every handshake that a dead peer leaves unanswered an error; paths and clusters say it once.
    if !cli.log.log_filter.contains("boringtun") {
        cli.log.log_filter.push_str(",boringtun=off");
    }
    cli.log.init();
    hawser_gateway::run(cli.args, Shutdown::on_signals()?).await
}
