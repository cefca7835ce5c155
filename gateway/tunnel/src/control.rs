//! The task beside the lanes: sums up what they found, keeps the TUN's kernel state in line with it, tells who listens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use hawser_liveness::{ClusterState, Time};
use hawser_model::ClusterId;
use hawser_model::defaults::{TABLE_REMOTE, TABLE_TRANSIT, VXLAN_DEVICE};
use tokio::sync::watch;

use crate::netlink::{Desired, Device, Route};
use crate::shared::Shared;
use crate::snapshot::{PathSpec, Snapshot};
use crate::status::{ClusterStatus, Failover, LaneStatus, Summary};

/// Looks even if no lane said that something changed.
const INTERVAL: Duration = Duration::from_secs(1);
/// Looks at the kernel's actual state, in case somebody else changed it.
const REASSERT: Duration = Duration::from_secs(10);
/// Metric of a route that the gateway itself can serve: better than the route agent's way to other gateways.
const METRIC_OWN: u32 = 100;
/// Metric of the same route while the gateway is drained: the route agent's way to other gateways, where there is one, goes
/// first.
const METRIC_DRAINED: u32 = 300;
/// Metric in the table of transit packets, where the route agent's `unreachable` comes after it.
const METRIC_TRANSIT: u32 = 100;

/// What clusters were when last looked at.
type Seen = BTreeMap<(ClusterId, u64), ClusterStatus>;

/// See the module.
pub(crate) struct Control {
    pub(crate) shared: Arc<Shared>,
    pub(crate) device: Device,
    pub(crate) states: watch::Sender<Arc<Vec<ClusterStatus>>>,
}

impl Control {
    /// Runs until the task is aborted.
    pub(crate) async fn run(mut self) {
        let mut seen = Seen::new();
        let mut reassert = tokio::time::Instant::now() + REASSERT;
        loop {
            // A lane's news is worth an immediate look; otherwise a regular one.
            let _ = tokio::time::timeout(INTERVAL, self.shared.changed.notified()).await;
            let snapshot = self.shared.snapshot.load_full();
            let lanes: Vec<Arc<LaneStatus>> = self.shared.doors.iter().map(super::shared::Door::status).collect();
            self.shared.doors.iter().for_each(super::shared::Door::clear_out);
            let clusters = summarise(&snapshot, &lanes, &mut seen, self.shared.now());
            let draining = self.shared.draining.load(Ordering::Relaxed);
            let desired = desired(&snapshot, &clusters, draining);
            if let Some(mtu) = self.device.mtu_of(VXLAN_DEVICE).await {
                self.shared.set_lan_mtu(mtu);
            }
            // Errors are logged where they happen, and tried again with the next look.
            let _ = if tokio::time::Instant::now() >= reassert {
                reassert = tokio::time::Instant::now() + REASSERT;
                self.device.reassert(&desired).await
            } else {
                self.device.converge(&desired).await
            };
            self.states.send_if_modified(|current| {
                let changed = **current != clusters;
                if changed {
                    *current = Arc::new(clusters);
                }
                changed
            });
        }
    }
}

/// One status per cluster; `since` is kept while the state is.
fn summarise(snapshot: &Snapshot, lanes: &[Arc<LaneStatus>], seen: &mut Seen, now: Time) -> Vec<ClusterStatus> {
    let summary = Summary::new(snapshot, lanes);
    let mut rows = Vec::with_capacity(snapshot.peers.clusters.len());
    for (index, cluster) in snapshot.peers.clusters.iter().enumerate() {
        let (state, reason, live_paths, total_paths, failover) = summary.cluster(index);
        let key = (cluster.id.clone(), cluster.generation);
        let before = seen.get(&key);
        let since = match before {
            Some(b) if b.state == state => b.since,
            _ => SystemTime::now(),
        };
        let last_failover = failover.map(|f| failover_row(f, before, now));
        let row = ClusterStatus {
            id: cluster.id.clone(),
            generation: cluster.generation,
            state,
            since,
            reason,
            live_paths,
            total_paths,
            mtu: cluster_mtu(snapshot, index),
            last_failover,
        };
        if before.is_none_or(|b| b.state != state) {
            tracing::info!(cluster = %row.id, %state, reason = row.reason, live_paths, total_paths, "cluster state");
        }
        rows.push(row);
    }
    *seen = rows.iter().map(|row| ((row.id.clone(), row.generation), row.clone())).collect();
    rows
}

/// A failover in wall-clock time; the same one keeps its time, so that it does not look new at every look.
fn failover_row(f: Failover, before: Option<&ClusterStatus>, now: Time) -> (SystemTime, Duration) {
    let at = SystemTime::now().checked_sub(now.since(f.at)).unwrap_or(SystemTime::UNIX_EPOCH);
    match before.and_then(|b| b.last_failover) {
        Some((known, took)) if took == f.took && apart(known, at) < Duration::from_secs(1) => (known, took),
        _ => (at, f.took),
    }
}

fn apart(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b).unwrap_or_else(|e| e.duration())
}

/// The smallest MTU of a cluster's paths that carry packets. Where none does, nothing is told about sizes.
fn cluster_mtu(snapshot: &Snapshot, index: usize) -> u16 {
    let paths = || snapshot.paths_of(index).iter();
    let carrying = paths().filter(|p| p.board.carries()).map(PathSpec::mtu).min();
    carrying.or_else(|| paths().map(|p| p.max_mtu).min()).unwrap_or_else(|| largest_mtu(snapshot))
}

/// What the widest first link takes.
fn largest_mtu(snapshot: &Snapshot) -> u16 {
    snapshot.paths.iter().map(|p| p.max_mtu).max().unwrap_or(MTU_MIN).max(MTU_MIN)
}

/// The TUN's kernel state: its addresses and MTU; every remote prefix in the transit table; in the table of the node's own
/// packets those that this gateway can reach.
fn desired(snapshot: &Snapshot, clusters: &[ClusterStatus], draining: bool) -> Desired {
    let metric = if draining { METRIC_DRAINED } else { METRIC_OWN };
    let addresses = snapshot.peers.addresses.iter().copied().collect();
    let mut desired = Desired { mtu: largest_mtu(snapshot), addresses, ..Desired::default() };
    for (cluster, status) in snapshot.peers.clusters.iter().zip(clusters) {
        let usable = matches!(status.state, ClusterState::Live | ClusterState::Held);
        for &prefix in cluster.prefixes.iter() {
            // A smaller MTU the kernel does not take for IPv6: lanes send packets of up to that in fragments, outside.
            let mtu = if prefix.addr().is_ipv6() { status.mtu.max(MTU_MIN) } else { status.mtu };
            let transit = Route { prefix, table: TABLE_TRANSIT, metric: METRIC_TRANSIT, mtu };
            desired.routes.insert(transit);
            if usable {
                desired.routes.insert(Route { table: TABLE_REMOTE, metric, ..transit });
            }
        }
    }
    desired
}

/// IPv6 needs it of every link.
pub(crate) const MTU_MIN: u16 = hawser_datapath::icmp::MIN_MTU_V6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PeerCluster, Peers};

    fn snapshot() -> Snapshot {
        let cluster = |id: &str, prefix: &str| PeerCluster {
            id: ClusterId::new(id).unwrap(),
            generation: 1,
            prefixes: hawser_model::PrefixSet::new([prefix.parse().unwrap()]),
            gateways: Vec::new(),
        };
        let peers = Peers {
            clusters: vec![cluster("east", "10.2.0.0/16"), cluster("north", "fd03::/48")],
            addresses: vec!["10.1.0.1".parse().unwrap()],
            ..Peers::none(ClusterId::new("west").unwrap())
        };
        Snapshot::new(peers.into(), None, |_| 1420, Vec::new())
    }

    #[test]
    fn only_reachable_clusters_are_in_the_nodes_own_table() {
        let snapshot = snapshot();
        let mut seen = Seen::new();
        let mut clusters = summarise(&snapshot, &[], &mut seen, Time::from_millis(1));
        assert_eq!(clusters[0].state, ClusterState::Dark, "no gateway at all");
        clusters[1].state = ClusterState::Held;
        let routes: Vec<(String, u32)> =
            desired(&snapshot, &clusters, false).routes.iter().map(|r| (r.prefix.to_string(), r.table)).collect();
        let expected = [
            ("10.2.0.0/16".to_owned(), TABLE_TRANSIT),
            ("fd03::/48".to_owned(), TABLE_REMOTE),
            ("fd03::/48".to_owned(), TABLE_TRANSIT),
        ];
        assert_eq!(routes, expected);
        let metric = |draining: bool| {
            let routes = desired(&snapshot, &clusters, draining).routes;
            routes.iter().find(|r| r.table == TABLE_REMOTE).map(|r| r.metric)
        };
        assert_eq!((metric(false), metric(true)), (Some(METRIC_OWN), Some(METRIC_DRAINED)));
    }

    #[test]
    fn since_stays_while_the_state_does() {
        let snapshot = snapshot();
        let mut seen = Seen::new();
        let first = summarise(&snapshot, &[], &mut seen, Time::from_millis(1));
        let second = summarise(&snapshot, &[], &mut seen, Time::from_millis(900));
        assert_eq!(first, second);
    }
}
