//! What lanes found and what a tunnel tells about itself. `summary` makes the one of the other, per path and per cluster.

mod summary;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use hawser_datapath::paths::{ClusterRow, PathRow};
use hawser_datapath::pmtu::Phase;
use hawser_liveness::{ClusterState, State, Time};
use hawser_model::{ClusterId, NodeName, PublicKey};

use crate::snapshot::PathKey;

pub(crate) use self::summary::Summary;

/// Inner packets and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
}

impl Traffic {
    fn add(&mut self, row: &PathRow) {
        self.rx_bytes += row.rx_bytes;
        self.tx_bytes += row.tx_bytes;
        self.rx_packets += row.rx_packets;
        self.tx_packets += row.tx_packets;
    }
}

/// Traffic that moved off a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failover {
    pub(crate) at: Time,
    /// From the last proof of the old path to the move.
    pub(crate) took: Duration,
}

/// One lane's view of one path.
#[derive(Debug, Clone)]
pub(crate) struct LanePath {
    pub(crate) key: PathKey,
    pub(crate) state: State,
    pub(crate) since: Time,
    pub(crate) row: PathRow,
    pub(crate) last_proof: Option<Time>,
    pub(crate) last_heard: Option<Time>,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) session_age: Option<Duration>,
    /// How far this lane's next key is there; none without one.
    pub(crate) next_key: Option<NextKey>,
}

/// What one lane publishes.
#[derive(Debug, Clone, Default)]
pub(crate) struct LaneStatus {
    /// The snapshot it works with.
    pub(crate) revision: u64,
    /// The paths it has sessions for.
    pub(crate) paths: Vec<LanePath>,
    /// One row per cluster, as configured.
    pub(crate) clusters: Vec<ClusterRow>,
    /// When it said so.
    pub(crate) at: Time,
    pub(crate) load: LaneLoad,
}

/// What a lane's control work took of its thread's CPU time, while its packets waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneLoad {
    /// Configurations taken over since the start.
    pub changes: u64,
    /// What the last one took.
    pub last_change: Duration,
    /// What the longest took.
    pub longest_change: Duration,
    /// The longest that any turn's control work took: a configuration, handshakes, probes, figures together.
    pub longest_control: Duration,
    /// What 95 of 100 such turns took at most since the last configuration was taken over, its own with them; zero while there
    /// were few.
    pub turn_p95: Duration,
}

/// A lane, as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneInfo {
    /// Its public key.
    pub key: PublicKey,
    /// When the key was made.
    pub created: SystemTime,
    /// Its UDP port.
    pub port: u16,
    /// The key that will replace it, and when that was made.
    pub next: Option<(PublicKey, SystemTime)>,
}

/// How far a gateway's next keys are with one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextKey {
    /// The path carries nothing: nobody knows whether its peer has the next keys.
    Dark,
    /// Every session by an old key has one by a next key beside it.
    InUse,
    /// It still needs a key that will be replaced.
    Waiting,
}

/// A path while keys are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotatingPath {
    /// The remote cluster.
    pub cluster: ClusterId,
    /// The remote gateway's node.
    pub gateway: NodeName,
    /// Whether it leads to a plain WireGuard endpoint, which is told keys by hand.
    pub plain: bool,
    /// How far it is.
    pub next: NextKey,
}

/// A replacement of keys that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// When the next keys were made.
    pub since: SystemTime,
    /// All paths.
    pub paths: Vec<RotatingPath>,
}

/// How one remote cluster is reached from this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Its id.
    pub id: ClusterId,
    /// Its generation.
    pub generation: u64,
    /// Its state.
    pub state: ClusterState,
    /// When it became so.
    pub since: SystemTime,
    /// Why.
    pub reason: String,
    /// Paths that carry traffic.
    pub live_paths: u32,
    /// Paths configured.
    pub total_paths: u32,
    /// The largest packet that every path which carries its packets takes, bytes; where none carries any, what the narrowest
    /// first link takes.
    pub mtu: u16,
    /// When traffic last moved between paths, and how long that took from the last proof of the old path.
    pub last_failover: Option<(SystemTime, Duration)>,
}

/// One path.
#[derive(Debug, Clone, PartialEq)]
pub struct PathStatus {
    /// The remote cluster.
    pub cluster: ClusterId,
    /// The remote gateway's node.
    pub gateway: NodeName,
    /// Its state.
    pub state: State,
    /// For how long.
    pub since: Duration,
    /// Why.
    pub reason: &'static str,
    /// Whether the remote gateway asks to be left alone.
    pub draining: bool,
    /// The address in use.
    pub endpoint: Option<SocketAddr>,
    /// Smoothed round trip of probes.
    pub rtt: Option<Duration>,
    /// Its mean deviation.
    pub jitter: Option<Duration>,
    /// Share of the last 100 probes lost, 0 to 1.
    pub loss: Option<f64>,
    /// Age of the last authenticated packet.
    pub proof_age: Option<Duration>,
    /// Age of the WireGuard session.
    pub session_age: Option<Duration>,
    /// Largest inner packet, bytes: the smallest of what its lanes found.
    pub mtu: u16,
    /// Where the search for it stands: the lane's that is least far.
    pub mtu_phase: Phase,
    /// What it carried.
    pub traffic: Traffic,
}

/// Everything a tunnel can tell about itself.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Its lanes.
    pub lanes: Vec<LaneInfo>,
    /// What control work took of each lane's time.
    pub loads: Vec<LaneLoad>,
    /// One row per remote cluster.
    pub clusters: Vec<ClusterStatus>,
    /// One row per path.
    pub paths: Vec<PathStatus>,
    /// Packets dropped since the start, by reason.
    pub drops: BTreeMap<&'static str, u64>,
}
