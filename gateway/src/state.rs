//! What the process's parts share: the running tunnel and what is said about it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use hawser_api::report::{ClusterReport, GatewayReport, LaneLoadReport, LaneReport, PathReport, RotationReport};
use hawser_tunnel::{ClusterStatus, PathStatus, Tunnel};

use crate::rotation::Progress;

/// See the module; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<State>>);

/// The tunnel, while this cluster is a member, and what it is run with.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) node: String,
    pub(crate) tunnel: Option<Tunnel>,
    pub(crate) cluster: String,
    pub(crate) roster_revision: i64,
    pub(crate) draining: bool,
    pub(crate) rotation: Option<Progress>,
}

impl State {
    /// Users' packets that this gateway's paths have carried, both ways.
    pub(crate) fn user_packets(&self) -> u64 {
        let paths = self.tunnel.as_ref().map(|t| t.report().paths).unwrap_or_default();
        paths.iter().map(|p| p.traffic.rx_packets + p.traffic.tx_packets).sum()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Never held across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the admin endpoint answers at `/report`.
    pub(crate) fn report(&self) -> GatewayReport {
        let state = self.lock();
        let mut report = GatewayReport { node: state.node.clone(), ..GatewayReport::default() };
        let Some(tunnel) = &state.tunnel else { return report };
        let found = tunnel.report();
        report.cluster.clone_from(&state.cluster);
        report.roster_revision = u64::try_from(state.roster_revision).unwrap_or_default();
        report.draining = state.draining;
        report.lanes = found
            .lanes
            .iter()
            .zip(&found.loads)
            .map(|(lane, load)| LaneReport {
                key: format!("{:?}", lane.key),
                key_age_s: age_ms(lane.created) / 1000,
                port: lane.port,
                next_key: lane.next.map(|(key, _)| format!("{key:?}")),
                load: LaneLoadReport {
                    changes: load.changes,
                    last_change_us: micros(load.last_change),
                    longest_change_us: micros(load.longest_change),
                    longest_control_us: micros(load.longest_control),
                    turn_p95_us: micros(load.turn_p95),
                },
            })
            .collect();
        report.rotation = state.rotation.as_ref().map(rotation_report);
        report.clusters = found.clusters.iter().map(cluster_report).collect();
        report.paths = found.paths.iter().map(path_report).collect();
        report.drops = found.drops.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        report
    }
}

fn age_ms(since: SystemTime) -> u64 {
    millis(SystemTime::now().duration_since(since).unwrap_or_default())
}

fn millis(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

fn micros(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

fn rotation_report(progress: &Progress) -> RotationReport {
    RotationReport {
        since_s: age_ms(progress.since) / 1000,
        moved_paths: progress.moved,
        total_paths: progress.total,
        waiting_for: progress.waiting_for.clone(),
    }
}

fn cluster_report(c: &ClusterStatus) -> ClusterReport {
    ClusterReport {
        cluster: c.id.to_string(),
        state: c.state.to_string(),
        since_ms: age_ms(c.since),
        reason: c.reason.to_owned(),
        live_paths: c.live_paths,
        total_paths: c.total_paths,
        last_failover_ago_ms: c.last_failover.map(|(at, _)| age_ms(at)),
        last_failover_ms: c.last_failover.map(|(_, took)| millis(took)),
    }
}

fn path_report(p: &PathStatus) -> PathReport {
    PathReport {
        cluster: p.cluster.to_string(),
        gateway: p.gateway.to_string(),
        state: p.state.to_string(),
        since_ms: millis(p.since),
        reason: p.reason.to_owned(),
        endpoint: p.endpoint.map(|e| e.to_string()),
        rtt_us: p.rtt.map(micros),
        jitter_us: p.jitter.map(micros),
        loss_percent: p.loss.map(|l| (l * 10_000.0).round() / 100.0),
        proof_age_ms: p.proof_age.map(millis),
        handshake_age_s: p.session_age.map(|a| a.as_secs()),
        mtu: p.mtu,
        mtu_state: p.mtu_phase.as_str().to_owned(),
        rx_bytes: p.traffic.rx_bytes,
        tx_bytes: p.traffic.tx_bytes,
        rx_packets: p.traffic.rx_packets,
        tx_packets: p.traffic.tx_packets,
    }
}
