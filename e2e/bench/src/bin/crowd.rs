//! `hawser-bench-crowd`: many idle peers of one gateway; see `hawser_bench::crowd`.

#![expect(clippy::print_stdout, reason = "the count is this program's output")]

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use hawser_bench::crowd::responder::Responder;

/// Answers a gateway's handshakes and probes as many peers, each with a key and an address of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// How many peers.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    peers: u32,
    /// Public key of each of the gateway's lanes, in base64, in their order.
    #[arg(long = "key", required = true)]
    keys: Vec<String>,
    /// Let each peer probe the gateway once a second, as another gateway would.
    #[arg(long)]
    ask: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let key = |text: &String| -> Result<[u8; 32]> {
        let bytes = STANDARD.decode(text)?;
        bytes.try_into().ok().with_context(|| format!("{text} is not 32 bytes"))
    };
    let keys = args.keys.iter().map(key).collect::<Result<Vec<_>>>()?;
    Responder::new(args.peers, &keys, args.ask)?.run(|count| println!("{count}"))
}
