//! The kinds of the local API, as Kubernetes objects (DESIGN section 5), and their CRDs.
//!
//! - [`hawser`]: `Membership`, `GatewayNode`, `GatewayDrain`, `KeyRotation`, `RemoteCluster` (`hawser.dev/v1alpha1`).
//! - [`mcs`]: `ServiceExport`, `ServiceImport` (`multicluster.x-k8s.io/v1beta1`), `ClusterProperty` (`about.k8s.io/v1beta1`).
//! - [`core`]: `Service`, `EndpointSlice`, `Node`, `Namespace`, as Kubernetes has them.
//! - [`labels`]: labels, annotations and names with a meaning.
//! - [`report`]: what a gateway's admin endpoint answers.
//! - [`crd`]: their CRDs, kept in `deploy/crds/`.
//! - [`yaml`]: manifests as text.
//!
//! - [`convert`]: from and to the domain model, `hawser-model`, which knows nothing of these.

pub mod convert;
pub mod crd;
pub mod hawser;
pub mod labels;
pub mod mcs;
pub mod report;
mod schema;
pub mod yaml;

pub use kube;

/// Kubernetes' own kinds that Hawser reads.
pub mod core {
    pub use k8s_openapi::api::core::v1::{Namespace, Node, Service};
    pub use k8s_openapi::api::discovery::v1::EndpointSlice;
    pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
}
