//! What status is made from, and what it is. [`Status`] is the document that `-o json` prints; `rows` are its parts.

mod rows;

use std::path::PathBuf;

use hawser_api::core::Node;
use hawser_api::hawser::{GatewayNode, Membership, RemoteCluster};
use hawser_api::mcs::{ServiceExport, ServiceImport};
use hawser_api::report::GatewayReport;
use hawser_broker_client::MemberInfo;
use jiff::Timestamp;
use serde::Serialize;

pub use self::rows::{ClusterRow, ConditionRow, Count, ExportRow, GatewayRow, PathRow, RotationRow};

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
