//! What status is made from, and what it is. [`Status`] is the document that `-o json` prints.

use std::path::PathBuf;

use hawser_api::core::Node;
use hawser_api::hawser::{GatewayNode, Membership, RemoteCluster};
use hawser_api::mcs::{ServiceExport, ServiceImport};
use hawser_api::report::GatewayReport;
use hawser_broker_client::MemberInfo;
use jiff::Timestamp;
use serde::Serialize;

/// All that was found, as it was found.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The site's directory.
    pub site: PathBuf,
    /// The time of reading.
    pub now: Timestamp,
    /// `secrets/broker.json`.
    pub info: Option<MemberInfo>,
    /// Whether the agent has announced the membership: `ClusterProperty/clusterset.k8s.io` exists.
    pub announced: bool,
    /// The membership.
    pub membership: Option<Membership>,
    /// The site's hosts.
    pub nodes: Vec<Node>,
    /// Its gateways.
    pub gateways: Vec<GatewayNode>,
    /// The other clusters.
    pub remotes: Vec<RemoteCluster>,
    /// Its exports.
    pub exports: Vec<ServiceExport>,
    /// The imports here.
    pub imports: Vec<ServiceImport>,
    /// What each state directory's gateway said, or why it said nothing.
    pub reports: Vec<(PathBuf, Result<GatewayReport, String>)>,
    /// Other processes that keep state there and do not answer, or are not ready.
    pub unready: Vec<Unready>,
    /// Manifests that are not in force as they stand.
    pub problems: Vec<String>,
}

/// A process of a host that is not at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unready {
    /// `agent` or `route-agent`.
    pub process: &'static str,
    /// Its admin socket.
    pub socket: PathBuf,
    /// Whether it answers there at all.
    pub answers: bool,
    /// What it waits for, or why it could not be asked.
    pub why: String,
}

/// How a site stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The document's version: `hawser.dev/status/v1`.
    pub schema: &'static str,
    /// All of it in a word.
    pub verdict: Verdict,
    /// The cluster set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_set: Option<String>,
    /// This cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Age of the oldest proof that a figure here rests on, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof_age_ms: Option<u64>,
    /// The highest roster revision seen.
    pub roster_revision: i64,
    /// When this cluster's certificate ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<String>,
    /// The membership's conditions.
    pub membership: Vec<ConditionRow>,
    /// This cluster's gateways.
    pub gateways: Vec<GatewayRow>,
    /// The other clusters.
    pub clusters: Vec<ClusterRow>,
    /// The paths to them, of the gateways that could be asked.
    pub paths: Vec<PathRow>,
    /// This cluster's exports.
    pub exports: Vec<ExportRow>,
    /// Why the verdict is not better, worst first; and what else should be known.
    pub why: Vec<Finding>,
    /// What to do next.
    pub next: Vec<String>,
}

/// All of it in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// Every path to every cluster carries traffic.
    Healthy,
    /// Something is missing.
    Degraded,
    /// The site is no member.
    NotJoined,
    /// It was one, and the cluster set put it out.
    Removed,
}

/// How another cluster is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ClusterState {
    /// By all paths of all gateways.
    Healthy,
    /// By some.
    Degraded,
    /// Not at all.
    Unreachable,
    /// Nobody has an answer yet, or nobody could be asked.
    Unknown,
}

/// A condition of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionRow {
    /// e.g. `Joined`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// In a word.
    pub reason: String,
    /// In words.
    pub message: String,
}

/// One of this cluster's gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRow {
    /// Its node.
    pub node: String,
    /// Whether its own figures were available here.
    pub figures: bool,
    /// Its lanes.
    pub lanes: usize,
    /// Whether it is being drained.
    pub draining: bool,
    /// The roster revision that it applies.
    pub roster_revision: i64,
    /// Paths that carry traffic, to all clusters.
    pub paths: Count,
    /// Age of its oldest key, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_age_s: Option<u64>,
    /// How far the replacement of its keys is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationRow>,
}

/// Keys that are being replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationRow {
    /// How long ago the next keys were made, seconds.
    pub since_s: u64,
    /// Paths that use them, or whose peers have them.
    pub paths: Count,
    /// What the others wait for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<String>,
}

/// Some of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Those that are up.
    pub up: u32,
    /// All.
    pub total: u32,
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.up, self.total)
    }
}

/// Another cluster. Figures are of the gateways that could be asked; absent where none could.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRow {
    /// Its id.
    pub cluster: String,
    /// How it is reached.
    pub state: ClusterState,
    /// Its gateways, and those that a path leads to.
    pub gateways: Count,
    /// Paths to it.
    pub paths: Count,
    /// Smallest round trip of a path, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_min_us: Option<u64>,
    /// Largest round trip of a path, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_max_us: Option<u64>,
    /// Largest loss of a path, percent of its last 100 probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_percent: Option<f64>,
    /// Smallest MTU of a path that is up, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Largest MTU of a path that is up, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu_max: Option<u16>,
    /// Bytes received from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_bytes: Option<u64>,
    /// Bytes sent to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_bytes: Option<u64>,
    /// Age of the oldest key in use here, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_age_s: Option<u64>,
    /// How long ago traffic to it last moved to other paths, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failover_ago_ms: Option<u64>,
    /// How long that took, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failover_ms: Option<u64>,
    /// Age of the oldest proof among the paths that are up, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof_age_ms: Option<u64>,
    /// Services imported from it.
    pub imports: usize,
    /// Services exported by this cluster.
    pub exports: usize,
}

/// A path: from one of this cluster's gateways to one of another's.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathRow {
    /// This cluster's gateway.
    pub gateway: String,
    /// The other cluster.
    pub cluster: String,
    /// Its gateway.
    pub peer: String,
    /// `Up`, `Suspect`, `Held`, `Down` or `Unknown`.
    pub state: String,
    /// The address in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Round trip, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    /// Loss, percent of its last 100 probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_percent: Option<f64>,
    /// Age of the last proof, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof_age_ms: Option<u64>,
    /// The largest packet that is sent by it, bytes; of a path that is not up, the last that was.
    pub mtu: u16,
    /// Where the search for it stands: `Idle`, `Searching`, `Found`, or `Failed` where not even the least passes.
    pub mtu_state: String,
}

/// One of this cluster's exports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportRow {
    /// `namespace/name`.
    pub service: String,
    /// Whether the others have it.
    pub exported: bool,
    /// Its conditions.
    pub conditions: Vec<ConditionRow>,
}

/// Something that should be known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Whether it spoils the verdict.
    pub severity: Severity,
    /// What it is about, e.g. a cluster's id.
    pub about: String,
    /// What was found.
    pub text: String,
}

/// Whether a finding spoils the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Severity {
    /// It does.
    Degraded,
    /// It does not.
    Note,
}
