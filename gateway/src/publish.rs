//! This gateway's own object in the local API: written where it differs from what was written, removed on leaving.

use std::time::SystemTime;

use hawser_api::core::{ObjectMeta, Time};
use hawser_api::hawser::{
    DrainState, GatewayClusterStatus, GatewayKeyRotation, GatewayKeys, GatewayNode, GatewayNodeSpec, GatewayNodeStatus,
};
use hawser_local_api::{Client, Key};
use hawser_model::NodeName;
use hawser_tunnel::{ClusterStatus, LaneInfo};

use crate::plan::lane_spec;
use crate::rotation::Rotation;

/// See the module.
pub(crate) struct Publisher {
    client: Client,
    node: NodeName,
    /// What the local API has of ours; `None` when that is not known.
    written: Option<(GatewayNodeSpec, GatewayNodeStatus)>,
}

impl Publisher {
    pub(crate) fn new(client: Client, node: NodeName) -> Self {
        Self { client, node, written: None }
    }

    /// Writes what is new; a failure is reported, and the next call tries again.
    pub(crate) async fn write(
        &mut self,
        spec: GatewayNodeSpec,
        roster_revision: i64,
        drain: Option<DrainState>,
        keys: Option<GatewayKeys>,
        clusters: &[ClusterStatus],
    ) {
        let clusters = clusters.iter().map(cluster_status).collect();
        let status = GatewayNodeStatus { roster_revision, drain, keys, clusters };
        if self.written.as_ref().is_some_and(|(s, t)| *s == spec && *t == status) {
            return;
        }
        let metadata = ObjectMeta { name: Some(self.node.to_string()), ..ObjectMeta::default() };
        let object = GatewayNode { metadata, spec: spec.clone(), status: None };
        let result = async {
            if self.written.as_ref().is_none_or(|(s, _)| *s != spec) {
                self.client.apply(&object).await?;
            }
            self.client.apply_status::<GatewayNode, _>(Key::cluster(self.node.as_str()), &status).await
        };
        match result.await {
            Ok(()) => self.written = Some((spec, status)),
            Err(error) => {
                self.written = None;
                tracing::warn!(%error, "this gateway's object can't be written; the next turn tries again");
            }
        }
    }

    /// Whether the local API has the next keys of these lanes.
    pub(crate) fn has_next_keys(&self, lanes: &[LaneInfo]) -> bool {
        let written = self.written.as_ref().map(|(spec, _)| spec.lanes.as_slice()).unwrap_or_default();
        written
            .iter()
            .map(|lane| lane.next_public_key.clone())
            .eq(lanes.iter().map(|lane| lane_spec(lane).next_public_key))
    }

    /// Removes the object.
    pub(crate) async fn remove(&mut self) {
        self.written = None;
        if let Err(error) = self.client.delete::<GatewayNode>(Key::cluster(self.node.as_str())).await {
            tracing::warn!(%error, "this gateway's object can't be removed; the next turn tries again");
        }
    }
}

/// What is said of this gateway's keys; nothing where it has none.
pub(crate) fn keys(lanes: &[LaneInfo], rotation: &Rotation) -> Option<GatewayKeys> {
    Some(GatewayKeys {
        created: time(lanes.iter().map(|lane| lane.created).min()?),
        answered: rotation.answered().map(|at| Time(jiff::Timestamp::from_second(at).unwrap_or_default())),
        rotation: rotation.progress().map(|progress| GatewayKeyRotation {
            since: time(progress.since),
            moved_paths: progress.moved,
            total_paths: progress.total,
            waiting_for: progress.waiting_for.clone(),
        }),
    })
}

fn cluster_status(c: &ClusterStatus) -> GatewayClusterStatus {
    GatewayClusterStatus {
        cluster: c.id.to_string(),
        generation: i64::try_from(c.generation).unwrap_or(i64::MAX),
        state: c.state.to_string(),
        since: time(c.since),
        reason: c.reason.clone(),
        live_paths: c.live_paths,
        total_paths: c.total_paths,
        last_failover: c.last_failover.map(|(at, _)| time(at)),
        last_failover_ms: c.last_failover.map(|(_, took)| i64::try_from(took.as_millis()).unwrap_or(i64::MAX)),
    }
}

/// To the second, as Kubernetes writes times.
fn time(at: SystemTime) -> Time {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Time(jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or_default()).unwrap_or_default())
}
