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

/// One heap for all threads: the packet path allocates nothing, and what others leave free in heaps of their own is lost.
#[expect(unsafe_code, reason = "the allocator's settings have no safe interface")]
fn share_heap() {
    // SAFETY: sets a number, before any other thread runs. Where it is refused, only memory is lost.
    unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
}

fn main() -> anyhow::Result<()> {
    share_heap();
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
