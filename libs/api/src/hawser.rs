//! Hawser's own kinds: `hawser.dev/v1alpha1`, cluster-scoped.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What this cluster is in its cluster set: written by the operator or `hawser join`, named `default`.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "hawser.dev", version = "v1alpha1", kind = "Membership", plural = "memberships")]
#[kube(doc = "What this cluster is in its cluster set; the one named `default` counts.")]
#[kube(status = "MembershipStatus", derive = "PartialEq")]
#[kube(printcolumn = r#"{"name": "Cluster", "type": "string", "jsonPath": ".spec.clusterId"}"#)]
#[kube(
    printcolumn = r#"{"name": "Joined", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Joined')].status"}"#
)]
#[kube(printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MembershipSpec {
    /// This cluster's id: a DNS label, unique in the set, fixed while it is a member.
    pub cluster_id: String,
    /// `host:port` of the broker; tried in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub brokers: Vec<String>,
    /// CIDRs that peers route to this cluster. Sites must list them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Sites: CIDRs that virtual addresses of imports are allocated from, local to this cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vip_prefixes: Vec<String>,
    /// Sites: addresses, one per family at most, that every route agent answers DNS on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_address: Vec<String>,
    /// Nodes that peers and route agents should stop choosing as gateways.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drained_nodes: Vec<String>,
    /// Age at which lane keys are replaced, e.g. `720h`, an hour at least; gateways of a cluster take turns. Absent: only on
    /// request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_keys_after: Option<String>,
    /// Age of the last contact with the broker after which peers are dropped, e.g. `24h`; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_max_age: Option<String>,
}

/// How the membership stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MembershipStatus {
    /// `Joined`, `BrokerReachable`, `PrefixesKnown`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// When the member certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<Time>,
    /// Where each claimed prefix was found, e.g. `spec`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prefix_sources: BTreeMap<String, String>,
    /// The highest signed roster revision seen.
    #[serde(default)]
    pub roster_revision: i64,
    /// The other members at that revision: gateways take peers from these (cluster, generation) pairs only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<RosterMember>,
}

/// A member of the cluster set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RosterMember {
    /// Its id.
    pub cluster_id: String,
    /// Which membership of that id.
    pub generation: i64,
}

/// A gateway of this cluster: written by that gateway only, named as its node.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "hawser.dev", version = "v1alpha1", kind = "GatewayNode", plural = "gatewaynodes")]
#[kube(doc = "A gateway of this cluster.")]
#[kube(status = "GatewayNodeStatus", derive = "PartialEq")]
#[kube(printcolumn = r#"{"name": "Candidates", "type": "string", "jsonPath": ".spec.candidates"}"#)]
#[kube(printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase")]
pub struct GatewayNodeSpec {
    /// Its node.
    pub node: String,
    /// Its WireGuard endpoints, in lane order.
    pub lanes: Vec<LaneSpec>,
    /// Addresses or names it may be reached at.
    pub candidates: Vec<String>,
    /// CIDRs inside the cluster's prefixes that it is nearest to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred_prefixes: Vec<String>,
}

/// One WireGuard endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LaneSpec {
    /// X25519 public key, base64.
    pub public_key: String,
    /// UDP port.
    pub port: u16,
    /// The key that will replace it, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_public_key: Option<String>,
}

/// Asks a gateway to hand its traffic over: exists while that is wanted. Written by `hawser drain gateway`, or by an
/// operator; named as its node.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "hawser.dev", version = "v1alpha1", kind = "GatewayDrain", plural = "gatewaydrains")]
#[kube(derive = "PartialEq")]
#[kube(doc = "Asks the gateway on a node to hand its traffic over to the others.")]
#[kube(printcolumn = r#"{"name": "Node", "type": "string", "jsonPath": ".spec.node"}"#)]
#[kube(printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayDrainSpec {
    /// The gateway's node.
    pub node: String,
}

/// How far a gateway's drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DrainState {
    /// It has asked to be left alone, and still carries users' packets.
    Draining,
    /// No user's packet has come by it for a while: it may be stopped.
    Drained,
}

/// Asks a gateway to replace its lane keys, once for each `requestedAt`. Written by `hawser rotate keys`, or by an operator;
/// named as its node.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "hawser.dev", version = "v1alpha1", kind = "KeyRotation", plural = "keyrotations")]
#[kube(derive = "PartialEq")]
#[kube(doc = "Asks the gateway on a node to replace its keys.")]
#[kube(printcolumn = r#"{"name": "Node", "type": "string", "jsonPath": ".spec.node"}"#)]
#[kube(printcolumn = r#"{"name": "Requested", "type": "date", "jsonPath": ".spec.requestedAt"}"#)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRotationSpec {
    /// The gateway's node.
    pub node: String,
    /// Tells requests apart: another time asks again.
    pub requested_at: Time,
}

/// A gateway's keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayKeys {
    /// When the oldest key in use was made.
    pub created: Time,
    /// The request that was answered last: keys were made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Time>,
    /// How far the replacement that is under way is; absent while none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<GatewayKeyRotation>,
}

/// Keys that are being replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayKeyRotation {
    /// When the next keys were made.
    pub since: Time,
    /// Paths that use them, or whose peers are known to have them.
    pub moved_paths: u32,
    /// Paths configured.
    pub total_paths: u32,
    /// What the others wait for, in words; ten at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<String>,
}

/// What a gateway found, written when it changes; figures are in its admin report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayNodeStatus {
    /// The roster revision whose peers it applies.
    #[serde(default)]
    pub roster_revision: i64,
    /// How far its drain is; absent while it is not drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainState>,
    /// Its keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<GatewayKeys>,
    /// One entry per remote cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<GatewayClusterStatus>,
}

/// How a gateway reaches one remote cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClusterStatus {
    /// The remote cluster.
    pub cluster: String,
    /// Its generation.
    pub generation: i64,
    /// `Live`, `Held`, `Unknown` or `Dark`.
    pub state: String,
    /// Since when.
    pub since: Time,
    /// Why, in words.
    pub reason: String,
    /// Paths that carry traffic.
    pub live_paths: u32,
    /// Paths configured.
    pub total_paths: u32,
    /// When this gateway last moved traffic from a path that died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<Time>,
    /// How long that took, from the last proof of the old path to the move, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover_ms: Option<i64>,
}

/// Another cluster of the set: written by the agent, named by cluster id.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "hawser.dev", version = "v1alpha1", kind = "RemoteCluster", plural = "remoteclusters")]
#[kube(doc = "Another cluster of the set, as this one sees it.")]
#[kube(status = "RemoteClusterStatus", derive = "PartialEq")]
#[kube(printcolumn = r#"{"name": "Prefixes", "type": "string", "jsonPath": ".spec.prefixes"}"#)]
#[kube(
    printcolumn = r#"{"name": "Reachable", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Reachable')].status"}"#
)]
#[kube(printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase")]
pub struct RemoteClusterSpec {
    /// Its id.
    pub cluster_id: String,
    /// Which membership of that id this is.
    pub generation: i64,
    /// The roster revision that last changed this object.
    pub roster_revision: i64,
    /// What it routes, as seen from here.
    pub prefixes: Vec<String>,
    /// Its gateways.
    #[serde(default)]
    pub gateways: Vec<RemoteGateway>,
}

/// A gateway of another cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteGateway {
    /// Its node's name, unique in its cluster.
    pub node: String,
    /// Its WireGuard endpoints, in lane order.
    pub lanes: Vec<LaneSpec>,
    /// Addresses or names it may be reached at.
    pub candidates: Vec<String>,
    /// CIDRs it is nearest to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred_prefixes: Vec<String>,
    /// False for a plain WireGuard endpoint that does not answer probes.
    #[serde(default = "yes")]
    pub probes: bool,
}

fn yes() -> bool {
    true
}

/// How the remote cluster is reached, summed up over this cluster's gateways.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteClusterStatus {
    /// `Reachable`, `Degraded`, `StaleEndpoints`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// When traffic last moved to other paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<Time>,
    /// How long that took, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover_ms: Option<i64>,
}
