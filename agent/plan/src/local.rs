//! What the agent reads from the local API.

use std::sync::Arc;

use hawser_api::core::{EndpointSlice, Namespace, Service};
use hawser_api::hawser::{GatewayNode, Membership, RemoteCluster};
use hawser_api::labels;
use hawser_api::mcs::{ClusterProperty, ServiceExport, ServiceImport};

/// All objects that a plan is made from, each kind complete.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// The `Membership` named `default`.
    pub membership: Option<Arc<Membership>>,
    /// This cluster's gateways.
    pub gateway_nodes: Vec<Arc<GatewayNode>>,
    /// What earlier passes wrote about other clusters.
    pub remote_clusters: Vec<Arc<RemoteCluster>>,
    /// This cluster's exports.
    pub exports: Vec<Arc<ServiceExport>>,
    /// What earlier passes imported.
    pub imports: Vec<Arc<ServiceImport>>,
    /// This cluster's properties.
    pub properties: Vec<Arc<ClusterProperty>>,
    /// Namespaces.
    pub namespaces: Vec<Arc<Namespace>>,
    /// Services.
    pub services: Vec<Arc<Service>>,
    /// Endpoint slices, imported ones too.
    pub slices: Vec<Arc<EndpointSlice>>,
}

impl Local {
    /// The names of namespaces that objects can be created in.
    pub fn usable_namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.iter().filter(|n| !is_terminating(n)).filter_map(|n| n.metadata.name.as_deref())
    }

    /// The endpoint slices that the agent made.
    pub(crate) fn imported_slices(&self) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.slices.iter().filter(|s| is_imported(s))
    }
}

fn is_terminating(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
        || namespace.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Terminating")
}

/// Whether the agent made this slice.
pub(crate) fn is_imported(slice: &EndpointSlice) -> bool {
    label(slice, labels::MANAGED_BY) == Some(labels::MANAGED_BY_HAWSER)
}

/// A label's value.
pub(crate) fn label<'a>(slice: &'a EndpointSlice, key: &str) -> Option<&'a str> {
    slice.metadata.labels.as_ref()?.get(key).map(String::as_str)
}
