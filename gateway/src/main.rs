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

/// Bytes by which the heap grows and shrinks.
const HEAP_STEP: i32 = 1 << 20;

/// One heap for all threads: the packet path allocates nothing, and what others leave free in heaps of their own is lost.
#[expect(unsafe_code, reason = "the allocator's settings have no safe interface")]
fn share_heap() {
    use nix::libc::{M_ARENA_MAX, M_TOP_PAD, M_TRIM_THRESHOLD, mallopt};
    for (setting, value) in [(M_ARENA_MAX, 1), (M_TOP_PAD, HEAP_STEP), (M_TRIM_THRESHOLD, 2 * HEAP_STEP)] {
        // SAFETY: sets a number, before any other thread runs. Where it is refused, only memory is lost.
        unsafe { mallopt(setting, value) };
    }
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
