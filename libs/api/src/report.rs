//! What a gateway's admin endpoint answers at `/report`: figures from the data path's own probes, with their age.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A gateway's report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayReport {
    /// Its node.
    pub node: String,
    /// Its cluster; empty while not a member.
    pub cluster: String,
    /// The roster revision whose peers it applies.
    pub roster_revision: u64,
    /// Whether it is being drained.
    pub draining: bool,
    /// Its lanes.
    pub lanes: Vec<LaneReport>,
    /// How far the replacement of its keys is; absent while none is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationReport>,
    /// One row per remote cluster.
    pub clusters: Vec<ClusterReport>,
    /// One row per path.
    pub paths: Vec<PathReport>,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// A lane's row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneReport {
    /// First bytes of its public key, hexadecimal.
    pub key: String,
    /// Age of the key, seconds.
    pub key_age_s: u64,
    /// UDP port.
    pub port: u16,
    /// First bytes of the public key that will replace it, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key: Option<String>,
    /// What control work took of its thread's time while packets waited.
    #[serde(default)]
    pub load: LaneLoadReport,
}

/// CPU time of a lane's thread that went into control work, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneLoadReport {
    /// Changes of the peers since the start.
    pub changes: u64,
    /// What the last change took.
    pub last_change_us: u64,
    /// What the longest change took.
    pub longest_change_us: u64,
    /// The longest that packets waited for any control work: changes, handshakes, probes, figures.
    pub longest_control_us: u64,
    /// What 95 of 100 turns of control work took at most since the last change, which is one of them; 0 while there were few.
    #[serde(default)]
    pub turn_p95_us: u64,
}

/// Keys that are being replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationReport {
    /// How long ago the next keys were made, seconds.
    pub since_s: u64,
    /// Paths that use them, or whose peers are known to have them.
    pub moved_paths: u32,
    /// Paths configured.
    pub total_paths: u32,
    /// What the others wait for, in words.
    pub waiting_for: Vec<String>,
}

/// How one remote cluster is reached from this gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReport {
    /// Its id.
    pub cluster: String,
    /// `Live`, `Held`, `Unknown` or `Dark`.
    pub state: String,
    /// How long it has been so, milliseconds.
    pub since_ms: u64,
    /// Why.
    pub reason: String,
    /// Paths that carry traffic.
    pub live_paths: u32,
    /// Paths configured.
    pub total_paths: u32,
    /// How long ago traffic last moved between paths, milliseconds.
    pub last_failover_ago_ms: Option<u64>,
    /// How long that failover took, from the last proof of the old path to the move, milliseconds.
    pub last_failover_ms: Option<u64>,
}

/// One path: this gateway to one remote gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathReport {
    /// The remote cluster.
    pub cluster: String,
    /// The remote gateway's node.
    pub gateway: String,
    /// `Up`, `Suspect`, `Held`, `Down` or `Unknown`.
    pub state: String,
    /// How long it has been so, milliseconds.
    pub since_ms: u64,
    /// Why.
    pub reason: String,
    /// The address in use.
    pub endpoint: Option<String>,
    /// Smoothed round trip of probes, microseconds.
    pub rtt_us: Option<u64>,
    /// Its mean deviation, microseconds.
    pub jitter_us: Option<u64>,
    /// Probes lost of the last 100, percent.
    pub loss_percent: Option<f64>,
    /// Age of the last authenticated packet, milliseconds: the proof of all this.
    pub proof_age_ms: Option<u64>,
    /// Age of the WireGuard session, seconds.
    pub handshake_age_s: Option<u64>,
    /// Largest inner packet, bytes.
    pub mtu: u16,
    /// Where the search for it stands: `Idle`, `Searching`, `Found`, or `Failed` where not even the least passes.
    #[serde(default)]
    pub mtu_state: String,
    /// Bytes of inner packets received.
    pub rx_bytes: u64,
    /// Bytes of inner packets sent.
    pub tx_bytes: u64,
    /// Inner packets received.
    pub rx_packets: u64,
    /// Inner packets sent.
    pub tx_packets: u64,
}
