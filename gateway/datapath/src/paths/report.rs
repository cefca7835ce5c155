//! What a path set reports when asked: rows of figures, ages instead of times.

use std::time::Duration;

use hawser_liveness::{ClusterState, Reason, State};
use hawser_model::{ClusterId, NodeName};

use crate::pmtu::Phase;

/// How one remote cluster is reached from this lane.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterRow {
    /// Its id.
    pub cluster: ClusterId,
    /// Its generation.
    pub generation: u64,
    /// Its state.
    pub state: ClusterState,
    /// How long it has been so.
    pub since: Duration,
    /// Paths that are up or suspect.
    pub live_paths: u32,
    /// Paths configured.
    pub total_paths: u32,
    /// The path that left them last: its gateway, and why.
    pub worst: Option<(NodeName, Reason)>,
    /// How long ago flows last left a dead path for others, and how long that took from its last proof.
    pub last_failover: Option<(Duration, Duration)>,
}

/// One path of this lane.
#[derive(Debug, Clone, PartialEq)]
pub struct PathRow {
    /// The remote cluster.
    pub cluster: ClusterId,
    /// The remote gateway's node.
    pub gateway: NodeName,
    /// Its state.
    pub state: State,
    /// How long it has been so.
    pub since: Duration,
    /// Why.
    pub reason: Reason,
    /// Whether the remote gateway drains.
    pub draining: bool,
    /// Smoothed round trip of probes.
    pub rtt: Option<Duration>,
    /// Its mean deviation.
    pub jitter: Option<Duration>,
    /// Share of the last 100 probes lost, 0 to 1.
    pub loss: Option<f64>,
    /// Age of the last authenticated packet.
    pub heard: Option<Duration>,
    /// Age of the last proof of both directions.
    pub proof: Option<Duration>,
    /// Inner packets received.
    pub rx_packets: u64,
    /// Bytes of them.
    pub rx_bytes: u64,
    /// Inner packets sent.
    pub tx_packets: u64,
    /// Bytes of them.
    pub tx_bytes: u64,
    /// Inner packets that the peer says it received.
    pub peer_rx_packets: Option<u64>,
    /// Largest inner packet, bytes, as this lane found.
    pub mtu: u16,
    /// Where the search for it stands.
    pub mtu_phase: Phase,
}

impl ClusterRow {
    /// Why it is in its state, in words.
    #[must_use]
    pub fn reason(&self) -> String {
        let (live, total) = (self.live_paths, self.total_paths);
        let detail = self.worst.as_ref().map(|(node, reason)| format!("; {node}: {reason}")).unwrap_or_default();
        match self.state {
            _ if total == 0 => "it has no gateways".to_owned(),
            ClusterState::Live if live == total => "all paths answer".to_owned(),
            ClusterState::Live => format!("{live} of {total} paths answer{detail}"),
            ClusterState::Held => format!("only paths in hold-down answer{detail}"),
            ClusterState::Unknown => "no path has answered yet".to_owned(),
            ClusterState::Dark => format!("no path answers{detail}"),
        }
    }
}
