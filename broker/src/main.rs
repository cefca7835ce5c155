//! The process `hawser-broker`.

use clap::Parser as _;
use hawser_telemetry::Shutdown;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = hawser_broker::Args::parse();
    args.log.init();
    hawser_broker::run(args, Shutdown::on_signals()?).await
}
