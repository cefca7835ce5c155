//! The route agent; everything is in the library.

use clap::Parser as _;
use hawser_route_agent::Args;
use hawser_telemetry::Shutdown;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    args.log.init();
    hawser_route_agent::run(args, Shutdown::on_signals()?).await
}
