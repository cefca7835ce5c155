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
    /// Send numbered packets back to where they came from: the other end of `hawser drill watch`.
    #[command(after_help = ECHO_EXAMPLES)]
    Echo(DrillEchoArgs),
    /// Send numbered packets over many flows and count what comes back, while you cause a fault.
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(DrillWatchArgs),
}

const ECHO_EXAMPLES: &str = "Example, in a pod of the other cluster:
  hawser drill echo --listen '[::]:7007'

Only packets of drills are answered, each by one of the same size. An address of :: takes both families.";

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
  2. in a pod of east:       hawser drill watch --to 10.1.3.10:7007 --for 30s --max-gap 100ms
  3. meanwhile, on a gateway of either cluster:  kill -9 $(pidof hawser-gateway)

Each second a line says how it goes; the table at the end has one row per flow. Flows go over different gateways and
paths: a fault of one path is seen by some of them, and the longest gap of any flow is what a fault cost.

With --state, on a host of gateways, what they say of their own paths meanwhile is shown, too, or instead:
  hawser drill watch --state /var/lib/hawser --for 1m

Exits 0 when it was measured, whatever it cost; 7 when it cost more than --max-gap or --max-loss allow; 1 when nothing
came back at all.";

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
    /// Time between two packets of a flow: gaps are measured no finer.
    #[arg(long, env = "HAWSER_DRILL_EVERY", value_name = "DURATION", default_value = "2ms", value_parser = pace)]
    pub every: Duration,
    /// The longest gap of any flow that is acceptable.
    #[arg(long, env = "HAWSER_DRILL_MAX_GAP", value_name = "DURATION", requires = "to", value_parser = duration::parse)]
    pub max_gap: Option<Duration>,
    /// How many lost packets are acceptable, of all flows: a number, or a share such as 0.1%.
    #[arg(long, env = "HAWSER_DRILL_MAX_LOSS", value_name = "N|P%", requires = "to")]
    pub max_loss: Option<MaxLoss>,
}

fn pace(text: &str) -> Result<Duration, String> {
    let pace = duration::parse(text)?;
    let good = (Duration::from_millis(1)..=Duration::from_secs(1)).contains(&pace);
    good.then_some(pace).ok_or_else(|| format!("{text} is not between 1ms and 1s"))
}
