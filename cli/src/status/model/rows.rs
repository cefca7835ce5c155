//! The rows of a status. The whole is in the module above.

use serde::Serialize;

use super::ClusterState;

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
