//! Commands and flags. Every flag has a twin in the environment; no secret is ever a flag.

mod drill;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use hawser_model::{ClusterId, NodeName, ServiceName};
use hawser_telemetry::LogArgs;
use ipnet::IpNet;

pub use self::drill::{DrillCommand, DrillEchoArgs, DrillWatchArgs};

use crate::duration;
use crate::output::Output;

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 unauthorised, 5 conflict, 6 timed out, \
7 degraded.
Data goes to stdout, progress and errors to stderr.";

/// Ties clusters together: pods and services of one are reached from another, encrypted, through gateways.
#[derive(Debug, Parser)]
#[command(name = "hawser", version, after_help = EXIT_CODES)]
pub struct Args {
    /// How data is printed.
    #[arg(short, long, global = true, env = "HAWSER_OUTPUT", value_name = "FORMAT", default_value = "table")]
    pub output: Output,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `hawser` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Begin, serve, back up or restore a cluster set.
    #[command(subcommand)]
    Broker(BrokerCommand),
    /// Make, list or revoke the tokens that clusters join with.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make a site a member of a cluster set.
    #[command(after_help = JOIN_EXAMPLES)]
    Join(JoinArgs),
    /// End a site's membership.
    #[command(after_help = "Example:\n  hawser leave --site /etc/hawser/site")]
    Leave(LeaveArgs),
    /// Make a service reachable from the whole cluster set.
    #[command(after_help = "Example:\n  hawser export shop/web --site /etc/hawser/site")]
    Export(ExportArgs),
    /// Take an export back.
    #[command(after_help = "Example:\n  hawser unexport shop/web --site /etc/hawser/site")]
    Unexport(ExportArgs),
    /// Show how a site reaches the other clusters; exits 7 when not all is well.
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Take a gateway out of use without losing a packet, or back into it.
    #[command(subcommand)]
    Drain(DrainCommand),
    /// Replace the keys of gateways without losing a packet.
    #[command(subcommand)]
    Rotate(RotateCommand),
    /// Measure what a fault costs users: gaps, losses and order of numbered packets while you cause it.
    #[command(subcommand)]
    Drill(DrillCommand),
    /// End a cluster's membership, and wait until every gateway of the set dropped it.
    #[command(after_help = "Example:\n  hawser revoke west --admin-dir ~/.hawser/prod --timeout 30s")]
    Revoke(RevokeArgs),
}

/// `hawser broker`.
#[derive(Debug, Subcommand)]
pub enum BrokerCommand {
    /// Begin a cluster set: make its CA, its roster and the first administrator's identity.
    #[command(after_help = "Example:\n  hawser broker init --dir /var/lib/hawser/broker --set prod \
--address broker.example.org:7443")]
    Init(hawser_broker::InitArgs),
    /// Serve a cluster set until SIGTERM.
    #[command(after_help = "Example:\n  hawser broker serve --dir /var/lib/hawser/broker --listen '[::]:7443'")]
    Serve(BrokerServeArgs),
    /// Write what only the broker knows (CA, members, claims, tokens, revocations) into one file; the broker may run.
    #[command(after_help = "Example:\n  hawser broker backup --dir /var/lib/hawser/broker --out prod.backup\n
The file holds the CA's key: whoever has it is the authority of the cluster set.")]
    Backup(hawser_broker::BackupArgs),
    /// Put a backup in place, so that a broker starts from it and its members carry on.
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(hawser_broker::RestoreArgs),
}

const RESTORE_EXAMPLES: &str = "Examples:
  hawser broker restore --dir /var/lib/hawser/broker --from prod.backup
  hawser broker restore --from prod.backup --force --admin second

A lost roster is put back without --force. Members that were there at the time of the backup carry on by themselves;
clusters that joined since have to join again. What was revoked since is refused again as soon as a member that knows it
is back. Exits 3 where there is no such file, 5 where a broker runs or something is in the way.";

/// `hawser broker serve`: what `hawser-broker serve` does.
#[derive(Debug, clap::Args)]
pub struct BrokerServeArgs {
    /// About the broker.
    #[command(flatten)]
    pub serve: hawser_broker::ServeArgs,
    /// About logs.
    #[command(flatten)]
    pub log: LogArgs,
}

/// An administrator's identity.
#[derive(Debug, Clone, clap::Args)]
pub struct AdminDirArgs {
    /// The administrator's identity, as `hawser broker init` made it: admin.key, admin.crt, ca.crt, broker.json.
    #[arg(long, env = "HAWSER_ADMIN_DIR", value_name = "DIR")]
    pub admin_dir: PathBuf,
}

/// A site.
#[derive(Debug, Clone, clap::Args)]
pub struct SiteDirArgs {
    /// The site's directory of manifests.
    #[arg(long, env = "HAWSER_SITE", value_name = "DIR")]
    pub site: PathBuf,
}

/// `hawser token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; prints it, and nothing else, on stdout. It is a secret: hand it over by file or stdin.
    #[command(after_help = "Example:\n  hawser token create --cluster west --ttl 1h --uses 1 > west.token")]
    Create(TokenCreateArgs),
    /// List the tokens that can still be used.
    List(AdminDirArgs),
    /// Make a token useless.
    #[command(after_help = "Example:\n  hawser token revoke 3f9c")]
    Revoke(TokenRevokeArgs),
}

/// `hawser token create`.
#[derive(Debug, clap::Args)]
pub struct TokenCreateArgs {
    /// The only cluster that may join with it: a DNS label.
    #[arg(long, env = "HAWSER_CLUSTER", value_name = "ID")]
    pub cluster: ClusterId,
    /// How long it can be used.
    #[arg(long, env = "HAWSER_TOKEN_TTL", value_name = "DURATION", default_value = "1h", value_parser = duration::parse)]
    pub ttl: Duration,
    /// How often it can be used.
    #[arg(long, env = "HAWSER_TOKEN_USES", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub uses: u32,
    /// CIDRs that the cluster's claims must lie in; without: anywhere, none wider than /8 (IPv4) and /32 (IPv6).
    #[arg(long, env = "HAWSER_TOKEN_PREFIXES", value_name = "CIDR", value_delimiter = ',')]
    pub prefixes: Vec<IpNet>,
    /// Namespaces that it may export from; without: all but `kube-*` and `default`.
    #[arg(long, env = "HAWSER_TOKEN_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Broker addresses to put into the token in place of those in the identity's broker.json.
    #[arg(long, env = "HAWSER_BROKER", value_name = "HOST:PORT", value_delimiter = ',')]
    pub broker: Vec<String>,
    /// The administrator.
    #[command(flatten)]
    pub admin: AdminDirArgs,
}

/// `hawser token revoke`.
#[derive(Debug, clap::Args)]
pub struct TokenRevokeArgs {
    /// The token's id, as `hawser token list` prints it.
    pub id: String,
    /// The administrator.
    #[command(flatten)]
    pub admin: AdminDirArgs,
}

const JOIN_EXAMPLES: &str = "Examples:
  hawser join --site /etc/hawser/site --token-file west.token
  ssh admin hawser token create --cluster west | hawser join --site /etc/hawser/site --token-file -
  hawser join --site site --token-file west.token --prefixes 10.1.0.0/16,fd00:1::/48 \\
      --vip-prefixes 10.250.0.0/16,fd00:250::/112 --dns-address 10.251.0.10";

/// `hawser join`.
#[derive(Debug, clap::Args)]
pub struct JoinArgs {
    /// The site.
    #[command(flatten)]
    pub site: SiteDirArgs,
    /// A file that holds the token, or `-` for stdin.
    #[arg(long, env = "HAWSER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: PathBuf,
    /// Take over a cluster id that is a member already; the old identity is revoked.
    #[arg(long, env = "HAWSER_REPLACE")]
    pub replace: bool,
    /// CIDRs that other clusters route here; only where the site has no Membership manifest.
    #[arg(long, env = "HAWSER_PREFIXES", value_name = "CIDR", value_delimiter = ',')]
    pub prefixes: Vec<IpNet>,
    /// CIDRs that virtual addresses of imported services are taken from; likewise.
    #[arg(long, env = "HAWSER_VIP_PREFIXES", value_name = "CIDR", value_delimiter = ',')]
    pub vip_prefixes: Vec<IpNet>,
    /// Addresses that `clusterset.local` is answered on, one per family; likewise.
    #[arg(long, env = "HAWSER_DNS_ADDRESS", value_name = "IP", value_delimiter = ',')]
    pub dns_address: Vec<std::net::IpAddr>,
    /// How long to wait until the site's agent has taken the membership up; 0s: not at all.
    #[arg(long, env = "HAWSER_WAIT", value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub wait: Duration,
}

/// `hawser leave`.
#[derive(Debug, clap::Args)]
pub struct LeaveArgs {
    /// The site.
    #[command(flatten)]
    pub site: SiteDirArgs,
    /// Go on when the broker can't be reached or refuses; the cluster set then keeps a member until `hawser revoke`.
    #[arg(long, env = "HAWSER_FORCE")]
    pub force: bool,
    /// How long to wait until the site's agent has cleaned up; 0s: not at all.
    #[arg(long, env = "HAWSER_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub timeout: Duration,
}

/// `hawser export` and `hawser unexport`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The service.
    #[arg(value_name = "NAMESPACE/NAME")]
    pub service: ServiceName,
    /// The site.
    #[command(flatten)]
    pub site: SiteDirArgs,
    /// How long to wait until it is done; 0s: not at all.
    #[arg(long, env = "HAWSER_WAIT", value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub wait: Duration,
}

const STATUS_EXAMPLES: &str = "Examples:
  hawser status --site /etc/hawser/site
  hawser status --site /etc/hawser/site --paths      (also a row per path: address, round trip, loss, MTU)
  hawser status --site site --state /var/lib/hawser --state /srv/gw-2/hawser -o json

Figures come from the probes of gateways whose admin socket (STATE/gateway/admin.sock) can be reached from here.";

/// `hawser status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// The site.
    #[command(flatten)]
    pub site: SiteDirArgs,
    /// State directory of a node; once per gateway whose figures are wanted. Without: /var/lib/hawser, if it has one.
    #[arg(long, env = "HAWSER_STATE", value_name = "DIR", value_delimiter = ',')]
    pub state: Vec<PathBuf>,
    /// Show each path of these gateways, too; -o json always has them.
    #[arg(long, env = "HAWSER_PATHS")]
    pub paths: bool,
}

/// `hawser drain`.
#[derive(Debug, Subcommand)]
pub enum DrainCommand {
    /// Peers and nodes stop choosing the gateway on NODE; once they have, its process may be stopped.
    #[command(after_help = DRAIN_EXAMPLES)]
    Gateway(DrainArgs),
}

const DRAIN_EXAMPLES: &str = "Examples:
  hawser drain gateway gw-1 --site /etc/hawser/site --wait 1m && systemctl restart hawser-gateway
  hawser drain gateway gw-1 --site /etc/hawser/site --undo

Writes a GatewayDrain object to generated/cli/. Nodes in spec.drainedNodes of the Membership are drained as well.";

/// `hawser drain gateway`.
#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    /// The gateway's node.
    #[arg(value_name = "NODE")]
    pub node: NodeName,
    /// The site.
    #[command(flatten)]
    pub site: SiteDirArgs,
    /// Take it back into use.
    #[arg(long, env = "HAWSER_UNDO")]
    pub undo: bool,
    /// Wait until no user's packet comes by it any more (with --undo: until it takes traffic again), at most this long
    /// [without a value: 1m].
    #[arg(long, env = "HAWSER_WAIT", value_name = "DURATION", num_args = 0..=1, require_equals = false,
          default_missing_value = "1m", value_parser = duration::parse)]
    pub wait: Option<Duration>,
}

/// `hawser rotate`.
#[derive(Debug, Subcommand)]
pub enum RotateCommand {
    /// Gateways make next keys, publish them, and use them once every path that carries packets can.
    #[command(after_help = ROTATE_EXAMPLES)]
    Keys(RotateKeysArgs),
}

const ROTATE_EXAMPLES: &str = "Examples:
  hawser rotate keys --site /etc/hawser/site                     (all gateways of the site)
  hawser rotate keys --site /etc/hawser/site --node gw-1 --wait  (one, and wait until the old keys are gone)

Writes a KeyRotation object per gateway to generated/cli/; asking twice asks once. A gateway whose peers can't be told,
because a broker or an agent is away, keeps its keys in use until they are: nothing is cut off by a rotation. A plain
WireGuard endpoint is told by hand: GatewayNode spec.lanes[0].nextPublicKey is the key to give it as its peer's.
With spec.rotateKeysAfter in the Membership, e.g. 720h, gateways do so by themselves, one after the other.";

/// `hawser rotate keys`.
#[derive(Debug, clap::Args)]
pub struct RotateKeysArgs {
    /// The site.
    #[command(flatten)]
    pub site: SiteDirArgs,
    /// A gateway's node; once per gateway. Without: all gateways of the site.
    #[arg(long = "node", env = "HAWSER_ROTATE_NODES", value_name = "NODE", value_delimiter = ',')]
    pub nodes: Vec<NodeName>,
    /// Wait until the old keys are gone, at most this long [without a value: 2m].
    #[arg(long, env = "HAWSER_WAIT", value_name = "DURATION", num_args = 0..=1, require_equals = false,
          default_missing_value = "2m", value_parser = duration::parse)]
    pub wait: Option<Duration>,
}

/// `hawser revoke`.
#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    /// The cluster.
    #[arg(value_name = "CLUSTER")]
    pub cluster: ClusterId,
    /// The administrator.
    #[command(flatten)]
    pub admin: AdminDirArgs,
    /// How long to wait for the gateways' acknowledgements; exits 7 while one is missing.
    #[arg(long, env = "HAWSER_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub timeout: Duration,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    /// What a command is about is always an argument: nothing is revoked because of a variable somebody forgot.
    #[test]
    fn every_flag_has_a_twin_in_the_environment_and_a_help_text() {
        fn walk(command: &clap::Command, path: &str) {
            for arg in command.get_arguments().filter(|a| !["help", "version"].contains(&a.get_id().as_str())) {
                let name = format!("{path} {}", arg.get_id());
                assert!(arg.get_help().is_some(), "{name} has no help");
                if !path.starts_with(" hawser broker") {
                    assert!(arg.is_positional() != arg.get_env().is_some(), "{name} has no twin in the environment");
                }
            }
            for sub in command.get_subcommands() {
                walk(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        walk(&Args::command(), " hawser");
    }
}
