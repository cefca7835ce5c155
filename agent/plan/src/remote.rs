//! Other clusters: `RemoteCluster` objects, and how this cluster's gateways reach them.

use std::collections::BTreeMap;

use hawser_api::convert::condition::State;
use hawser_api::convert::remote_cluster_spec;
use hawser_api::core::{ObjectMeta, Time};
use hawser_api::hawser::{GatewayClusterStatus, RemoteCluster, RemoteClusterSpec, RemoteClusterStatus};
use hawser_model::{ClusterId, PrefixSet, RemoteCluster as Model};
use jiff::{SignedDuration, Timestamp};

use crate::condition::{Wanted, settle};
use crate::local::Local;
use crate::view::{MemberKey, View};

/// How long the endpoints of a cluster without a live path are kept, not ready.
pub const DARK_FOR: SignedDuration = SignedDuration::from_mins(15);

/// How a remote cluster is reached, summed up over this cluster's gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    /// At least one gateway carries traffic to it.
    Live { degraded: Option<String> },
    /// No gateway has said anything yet.
    Unknown,
    /// Every gateway that knows says that there is no path, the last one since then.
    Dark { since: Timestamp, reason: String },
}

impl Reach {
    pub(crate) fn is_dark(&self) -> bool {
        matches!(self, Self::Dark { .. })
    }

    /// Whether its endpoints have outlived their use.
    pub(crate) fn is_gone(&self, now: Timestamp) -> bool {
        matches!(self, Self::Dark { since, .. } if *since + DARK_FOR <= now)
    }
}

/// What this cluster's gateways say of each member.
pub(crate) fn reaches(local: &Local) -> BTreeMap<MemberKey, Reach> {
    let mut rows: BTreeMap<MemberKey, Vec<(&str, &GatewayClusterStatus)>> = BTreeMap::new();
    for node in &local.gateway_nodes {
        for row in node.status.iter().flat_map(|s| &s.clusters) {
            if let (Ok(id), Ok(generation)) = (ClusterId::new(&row.cluster), u64::try_from(row.generation)) {
                rows.entry((id, generation)).or_default().push((&node.spec.node, row));
            }
        }
    }
    rows.into_iter().map(|(member, rows)| (member, reach(&rows))).collect()
}

/// When and for how long this cluster's gateways last moved traffic to other paths of each member: the latest of them.
pub(crate) fn failovers(local: &Local) -> BTreeMap<MemberKey, Failover> {
    let mut latest = BTreeMap::<MemberKey, Failover>::new();
    for row in local.gateway_nodes.iter().flat_map(|n| &n.status).flat_map(|s| &s.clusters) {
        let member = (ClusterId::new(&row.cluster), u64::try_from(row.generation));
        if let ((Ok(id), Ok(generation)), Some(at), Some(took)) = (member, &row.last_failover, row.last_failover_ms) {
            let failover = latest.entry((id, generation)).or_insert((at.0, took));
            *failover = (*failover).max((at.0, took));
        }
    }
    latest
}

fn reach(rows: &[(&str, &GatewayClusterStatus)]) -> Reach {
    let carries = |row: &GatewayClusterStatus| matches!(row.state.as_str(), "Live" | "Held");
    let mut worse = Vec::new();
    for (node, row) in rows {
        if row.state == "Live" && row.live_paths < row.total_paths {
            worse.push(format!("{node}: {} of {} paths carry traffic", row.live_paths, row.total_paths));
        } else if row.state != "Live" {
            worse.push(format!("{node}: {}: {}", row.state, row.reason));
        }
    }
    worse.sort();
    if rows.iter().any(|(_, row)| carries(row)) {
        return Reach::Live { degraded: (!worse.is_empty()).then(|| worse.join("; ")) };
    }
    let dark = rows.iter().filter(|(_, row)| row.state == "Dark");
    match dark.clone().map(|(_, row)| row.since.0).max() {
        Some(since) if dark.count() == rows.len() => Reach::Dark { since, reason: worse.join("; ") },
        Some(_) | None => Reach::Unknown,
    }
}

/// The object for one member. `existing` is what is there now: gateways are kept while no view says otherwise, and the
/// revision while nothing else changes.
pub(crate) fn object(
    member: &MemberKey,
    prefixes: &PrefixSet,
    revision: u64,
    view: Option<&View>,
    existing: Option<&RemoteCluster>,
) -> RemoteCluster {
    let (id, generation) = member;
    let same = existing.filter(|e| u64::try_from(e.spec.generation) == Ok(*generation));
    let shard = view.and_then(|v| v.shards.get(member));
    let gateways = shard.iter().flat_map(|s| s.gateways.values()).map(|g| (**g).clone()).collect();
    let remote = Model { id: id.clone(), generation: *generation, prefixes: prefixes.clone(), gateways };
    let mut spec = remote_cluster_spec(&remote, revision);
    if let Some(same) = same {
        if view.is_none() {
            spec.gateways.clone_from(&same.spec.gateways);
        }
        let unchanged = RemoteClusterSpec { roster_revision: same.spec.roster_revision, ..spec.clone() };
        if unchanged == same.spec {
            spec = unchanged;
        }
    }
    RemoteCluster { metadata: ObjectMeta { name: Some(id.to_string()), ..ObjectMeta::default() }, spec, status: None }
}

/// When traffic moved and how long that took, milliseconds.
pub(crate) type Failover = (Timestamp, i64);

/// Why a member's records may be out of date.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silence {
    /// Since when its agent has had no stream.
    pub(crate) agent: Option<Timestamp>,
    /// Since when this cluster has had none.
    pub(crate) broker: Option<Timestamp>,
}

/// The status of one member's object.
pub(crate) fn status(
    reach: &Reach,
    silence: Silence,
    failover: Option<Failover>,
    existing: Option<&RemoteCluster>,
    now: Timestamp,
) -> RemoteClusterStatus {
    let before = existing.and_then(|e| e.status.clone()).unwrap_or_default();
    let generation = existing.and_then(|e| e.metadata.generation);
    let (reachable, degraded) = match reach {
        Reach::Live { degraded } => (
            Wanted::new("Reachable", State::True, "PathsLive", "at least one gateway carries traffic to it"),
            match degraded {
                Some(why) => Wanted::new("Degraded", State::True, "PathsDown", why.as_str()),
                None => Wanted::new("Degraded", State::False, "AllPathsLive", "every gateway has all its paths"),
            },
        ),
        Reach::Unknown => (
            Wanted::new("Reachable", State::Unknown, "NotProbed", "no gateway of this cluster has a verdict yet"),
            Wanted::new("Degraded", State::Unknown, "NotProbed", "no gateway of this cluster has a verdict yet"),
        ),
        Reach::Dark { reason, .. } => (
            Wanted::new("Reachable", State::False, "NoLivePath", reason.as_str()),
            Wanted::new("Degraded", State::True, "NoLivePath", reason.as_str()),
        ),
    };
    let stale = match silence {
        Silence { agent: Some(since), .. } => {
            let message =
                format!("its agent has not been connected to the broker since {since}: imports may be out of date");
            Wanted::new("StaleEndpoints", State::True, "AgentSilent", message)
        }
        Silence { broker: Some(since), .. } => {
            let message = format!("the broker has not been reached since {since}: imports may be out of date");
            Wanted::new("StaleEndpoints", State::True, "BrokerSilent", message)
        }
        Silence { agent: None, broker: None } => {
            Wanted::new("StaleEndpoints", State::False, "AgentConnected", "its agent keeps its records current")
        }
    };
    RemoteClusterStatus {
        conditions: settle(&before.conditions, vec![reachable, degraded, stale], generation, now),
        // A gateway that starts anew knows of none; the last one stays.
        last_failover: failover.map(|(at, _)| Time(at)).or(before.last_failover),
        last_failover_ms: failover.map(|(_, took)| took).or(before.last_failover_ms),
    }
}
