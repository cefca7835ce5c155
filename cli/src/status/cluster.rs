//! One other cluster: its row and what is wrong with it. Pure.

use std::time::Duration;

use hawser_api::hawser::{GatewayNode, RemoteCluster};
use hawser_api::report::{ClusterReport, GatewayReport, PathReport};

use super::model::{ClusterRow, ClusterState, Count, Finding, Inputs, PathRow, Severity};
use crate::duration::short;

/// What is known of the way to one cluster.
struct Sight<'a> {
    /// What gateways that could be asked say of it.
    reports: Vec<&'a ClusterReport>,
    /// The paths of those.
    paths: Vec<(&'a GatewayReport, &'a PathReport)>,
    /// State and path count by the last status of gateways that could not be asked.
    statuses: Vec<(&'a str, Count)>,
}

/// The row of a cluster, and what is wrong with it.
pub(super) fn row(inputs: &Inputs, remote: &RemoteCluster, silent: &[&GatewayNode]) -> (ClusterRow, Vec<Finding>) {
    let id = remote.spec.cluster_id.as_str();
    let sight = sight(inputs, id, silent);
    let live = |path: &PathReport| matches!(path.state.as_str(), "Up" | "Suspect");
    let up: Vec<_> = sight.paths.iter().map(|(_, path)| *path).filter(|path| live(path)).collect();
    let gateway_up = |node: &str| {
        if sight.paths.is_empty() {
            sight.statuses.iter().any(|(_, paths)| paths.up == paths.total && paths.total > 0)
        } else {
            up.iter().any(|path| path.gateway == node)
        }
    };
    let gateways = Count {
        up: count(remote.spec.gateways.iter().filter(|g| gateway_up(&g.node))),
        total: count(remote.spec.gateways.iter()),
    };
    let paths = Count {
        up: sight.reports.iter().map(|r| r.live_paths).sum::<u32>()
            + sight.statuses.iter().map(|s| s.1.up).sum::<u32>(),
        total: sight.reports.iter().map(|r| r.total_paths).sum::<u32>()
            + sight.statuses.iter().map(|s| s.1.total).sum::<u32>(),
    };
    let rtts: Vec<u64> = up.iter().filter_map(|p| p.rtt_us).collect();
    let asked = !sight.paths.is_empty();
    let failover = sight.reports.iter().filter(|r| r.last_failover_ago_ms.is_some());
    let failover = failover.min_by_key(|r| r.last_failover_ago_ms);
    let row = ClusterRow {
        cluster: id.to_owned(),
        state: state(&sight, paths),
        gateways,
        paths,
        rtt_min_us: rtts.iter().min().copied(),
        rtt_max_us: rtts.iter().max().copied(),
        loss_percent: up.iter().filter_map(|p| p.loss_percent).reduce(f64::max),
        mtu: up.iter().map(|p| p.mtu).min(),
        mtu_max: up.iter().map(|p| p.mtu).max(),
        rx_bytes: asked.then(|| sight.paths.iter().map(|(_, p)| p.rx_bytes).sum()),
        tx_bytes: asked.then(|| sight.paths.iter().map(|(_, p)| p.tx_bytes).sum()),
        key_age_s: answers(inputs).flat_map(|r| &r.lanes).map(|lane| lane.key_age_s).max(),
        last_failover_ago_ms: failover.and_then(|r| r.last_failover_ago_ms),
        last_failover_ms: failover.and_then(|r| r.last_failover_ms),
        proof_age_ms: up.iter().filter_map(|p| p.proof_age_ms).max(),
        imports: inputs.imports.iter().filter(|i| imported_from(i, id)).count(),
        exports: inputs.exports.iter().filter(|e| super::assess::exported(e)).count(),
    };
    let findings = findings(remote, &sight, &row);
    (row, findings)
}

/// Every path of the gateways that could be asked.
pub(super) fn paths(inputs: &Inputs) -> Vec<PathRow> {
    let row = |report: &GatewayReport, path: &PathReport| PathRow {
        gateway: report.node.clone(),
        cluster: path.cluster.clone(),
        peer: path.gateway.clone(),
        state: path.state.clone(),
        endpoint: path.endpoint.clone(),
        rtt_us: path.rtt_us,
        loss_percent: path.loss_percent,
        proof_age_ms: path.proof_age_ms,
        mtu: path.mtu,
        mtu_state: path.mtu_state.clone(),
    };
    answers(inputs).flat_map(|report| report.paths.iter().map(move |path| row(report, path))).collect()
}

/// The reports that could be read.
pub(super) fn answers(inputs: &Inputs) -> impl Iterator<Item = &GatewayReport> {
    inputs.reports.iter().filter_map(|(_, report)| report.as_ref().ok())
}

fn sight<'a>(inputs: &'a Inputs, id: &str, silent: &[&'a GatewayNode]) -> Sight<'a> {
    let statuses = silent.iter().filter_map(|gateway| gateway.status.as_ref());
    let statuses = statuses.flat_map(|status| &status.clusters).filter(|c| c.cluster == id);
    Sight {
        reports: answers(inputs).flat_map(|r| &r.clusters).filter(|c| c.cluster == id).collect(),
        paths: answers(inputs)
            .flat_map(|report| report.paths.iter().map(move |path| (report, path)))
            .filter(|(_, path)| path.cluster == id)
            .collect(),
        statuses: statuses.map(|c| (c.state.as_str(), Count { up: c.live_paths, total: c.total_paths })).collect(),
    }
}

fn state(sight: &Sight<'_>, paths: Count) -> ClusterState {
    let states: Vec<&str> =
        sight.reports.iter().map(|r| r.state.as_str()).chain(sight.statuses.iter().map(|s| s.0)).collect();
    let alive = states.iter().any(|state| matches!(*state, "Live" | "Held"));
    if states.iter().all(|state| *state == "Unknown") || (alive && sight.reports.is_empty()) {
        // A gateway that died left its last status behind: without a proof from here nothing is called healthy.
        ClusterState::Unknown
    } else if states.iter().all(|state| *state == "Live") && paths.up == paths.total {
        ClusterState::Healthy
    } else if alive {
        ClusterState::Degraded
    } else {
        ClusterState::Unreachable
    }
}

fn findings(remote: &RemoteCluster, sight: &Sight<'_>, row: &ClusterRow) -> Vec<Finding> {
    let about = remote.spec.cluster_id.as_str();
    let degraded = |text: String| Finding { severity: Severity::Degraded, about: about.to_owned(), text };
    let mut found = Vec::new();
    if remote.spec.gateways.is_empty() {
        found.push(degraded("it has announced no gateway; does hawser-gateway run there?".to_owned()));
    } else if sight.reports.is_empty() && sight.statuses.is_empty() {
        found.push(degraded("no gateway here has said how it reaches it; does hawser-gateway run here?".to_owned()));
    } else if sight.reports.is_empty() {
        let text = format!("nothing is proven from here: {} paths live by the gateways' last statuses", row.paths);
        found.push(degraded(text));
    } else if row.state == ClusterState::Unknown {
        found.push(degraded("no gateway has had an answer from it yet".to_owned()));
    }
    for (report, path) in &sight.paths {
        if matches!(path.state.as_str(), "Down" | "Held" | "Unknown") {
            let proof = path.proof_age_ms.map(|ms| format!(", last proof {} ago", ago(ms))).unwrap_or_default();
            found.push(degraded(format!(
                "path {} → {} is {} for {}{proof}{}",
                report.node,
                path.gateway,
                path.state.to_lowercase(),
                ago(path.since_ms),
                because(&path.reason)
            )));
        }
    }
    if sight.paths.is_empty() {
        for cluster in sight.reports.iter().filter(|r| r.state == "Dark") {
            found.push(degraded(format!(
                "no path to it lives, for {}{}",
                ago(cluster.since_ms),
                because(&cluster.reason)
            )));
        }
    }
    let conditions = remote.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    if let Some(stale) = conditions.iter().find(|c| c.type_ == "StaleEndpoints" && c.status == "True") {
        found.push(degraded(format!("its records may be stale ({}): {}", stale.reason, stale.message)));
    }
    found
}

fn ago(ms: u64) -> String {
    short(Duration::from_millis(ms))
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

fn imported_from(import: &hawser_api::mcs::ServiceImport, id: &str) -> bool {
    import.status.iter().flat_map(|s| &s.clusters).any(|c| c.cluster == id)
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
