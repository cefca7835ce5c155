//! Flags of `hawser drill`; what it does is in `command::drill`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use crate::drill::bounds::MaxLoss;
use crate::duration;

/// `hawser drill`.
#[derive(Debug, Subcommand)]
pub enum DrillCommand {
    /// Send numbered packets back to where they came from, on UDP and TCP: the other end of `hawser drill watch`.
    #[command(after_help = ECHO_EXAMPLES)]
    Echo(DrillEchoArgs),
    /// Send numbered packets over many flows and connections and count what comes back, while a fault is caused.
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(DrillWatchArgs),
}

const ECHO_EXAMPLES: &str = "Example, in a pod of the other cluster:
  hawser drill echo --listen '[::]:7007'

Only datagrams of drills are answered, each by one of the same size, and numbers on connections to the same port. An address
of :: takes both families.";

/// `hawser drill echo`.
#[derive(Debug, clap::Args)]
pub struct DrillEchoArgs {
    /// Where packets are expected.
    #[arg(long, env = "HAWSER_DRILL_LISTEN", value_name = "IP:PORT", default_value = "[::]:7007")]
    pub listen: SocketAddr,
    /// How long; without: until Ctrl-C.
    #[arg(long = "for", env = "HAWSER_DRILL_FOR", value_name = "DURATION", value_parser = duration::parse)]
    pub length: Option<Duration>,
}

const WATCH_EXAMPLES: &str = "Example: what does it cost users when a gateway dies?
  1. in a pod of west:       hawser drill echo
  2. in a pod of east:       hawser drill watch --to 10.1.3.10:7007 --for 30s --max-gap 100ms --max-broken 0
  3. meanwhile, on a gateway of either cluster:  kill -9 $(pidof hawser-gateway)

Or with the fault as a command, which is run after two seconds:
  hawser drill watch --to 10.1.3.10:7007 --for 30s -- ssh gw-1 pkill -9 hawser-gateway

Each second a line says how it goes; the table at the end has one row per flow and per connection. Source ports are the
system's: flows go over different gateways and paths by chance, and a fault of one path is seen by some of them. The longest
gap of any flow is what a fault cost. A connection lived if it still exchanges numbers at the end, or within 10 s after it.

With --state, on a host of gateways, what they say of their own paths meanwhile is shown, too, or instead, and how many users'
packets they sent by each: a path without any carried no flow, and its fault would not be seen.
  hawser drill watch --state /var/lib/hawser --for 1m

One fault is measured, once, and nothing is put back after it. Faults of wires and how long packets take to be spread evenly
again are measured by `make drills`, which causes every fault many times on a testbed.

Exits 0 when it was measured, whatever it cost; 7 when it cost more than --max-gap, --max-loss or --max-broken allow; 1 when
nothing came back at all, or the command failed; 3 when there is no such command.";

/// `hawser drill watch`.
#[derive(Debug, clap::Args)]
#[group(id = "what", required = true, multiple = true, args = ["to", "state"])]
pub struct DrillWatchArgs {
    /// Where `hawser drill echo` runs, or any service that echoes UDP (RFC 862).
    #[arg(long, env = "HAWSER_DRILL_TO", value_name = "IP:PORT")]
    pub to: Option<SocketAddr>,
    /// State directory of a node; once per gateway whose own paths are watched.
    #[arg(long, env = "HAWSER_STATE", value_name = "DIR", value_delimiter = ',')]
    pub state: Vec<PathBuf>,
    /// How long; Ctrl-C ends it earlier.
    #[arg(long = "for", env = "HAWSER_DRILL_FOR", value_name = "DURATION", default_value = "30s",
          value_parser = duration::parse)]
    pub length: Duration,
    /// Flows, each from a port of its own, so that they spread over gateways and paths.
    #[arg(long, env = "HAWSER_DRILL_FLOWS", value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub flows: u16,
    /// TCP connections that are opened before and stay, each exchanging a number every 20 ms; 0: none.
    #[arg(long, env = "HAWSER_DRILL_CONNECTIONS", value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(0..=256))]
    pub connections: u16,
    /// Time between two packets of a flow: gaps are measured no finer.
    #[arg(long, env = "HAWSER_DRILL_EVERY", value_name = "DURATION", default_value = "2ms", value_parser = pace)]
    pub every: Duration,
    /// The longest gap of any flow that is acceptable.
    #[arg(long, env = "HAWSER_DRILL_MAX_GAP", value_name = "DURATION", requires = "to", value_parser = duration::parse)]
    pub max_gap: Option<Duration>,
    /// How many lost packets are acceptable, of all flows: a number, or a share such as 0.1%.
    #[arg(long, env = "HAWSER_DRILL_MAX_LOSS", value_name = "N|P%", requires = "to")]
    pub max_loss: Option<MaxLoss>,
    /// How many connections may break.
    #[arg(long, env = "HAWSER_DRILL_MAX_BROKEN", value_name = "N", requires = "to")]
    pub max_broken: Option<usize>,
    /// The fault: a command that is run after two seconds (a quarter of a shorter drill). Without: you cause it.
    #[arg(last = true, value_name = "COMMAND")]
    pub fault: Vec<String>,
}

fn pace(text: &str) -> Result<Duration, String> {
    let pace = duration::parse(text)?;
    let good = (Duration::from_millis(1)..=Duration::from_secs(1)).contains(&pace);
    good.then_some(pace).ok_or_else(|| format!("{text} is not between 1ms and 1s"))
}
