//! Labels, annotations and object names with a meaning.

/// Node label of gateway nodes; its value is `true`.
pub const GATEWAY: &str = "hawser.dev/gateway";
/// Node annotation: comma-separated names or addresses to try before the node's own addresses.
pub const GATEWAY_CANDIDATES: &str = "hawser.dev/gateway-candidates";
/// The only `Membership` that counts.
pub const MEMBERSHIP: &str = "default";
/// Label of imported endpoint slices: the imported service's name (KEP-1645).
pub const SERVICE_NAME: &str = "multicluster.kubernetes.io/service-name";
/// Label of imported endpoint slices: the exporting cluster's id (KEP-1645).
pub const SOURCE_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";
/// Label of endpoint slices: who manages them.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Our value of [`MANAGED_BY`].
pub const MANAGED_BY_HAWSER: &str = "agent.hawser.dev";
/// Label of a Service's own endpoint slices.
pub const K8S_SERVICE_NAME: &str = "kubernetes.io/service-name";
/// `ClusterProperty` with this cluster's id (KEP-2149).
pub const PROPERTY_CLUSTER: &str = "cluster.clusterset.k8s.io";
/// `ClusterProperty` that exists while this cluster is a member, with the set's name (KEP-2149).
pub const PROPERTY_CLUSTER_SET: &str = "clusterset.k8s.io";
