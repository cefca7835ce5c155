//! The CRDs, made from the types. `deploy/crds/` holds them as files; a test keeps those current.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt as _;

use crate::hawser::{GatewayDrain, GatewayNode, KeyRotation, Membership, RemoteCluster};
use crate::mcs::{ClusterProperty, ServiceExport, ServiceImport};

/// Installers compare these before they overwrite an MCS CRD that is there already, so that none is downgraded.
const MCS_RELEASE: (&str, &str) = ("multicluster.x-k8s.io/release-version", "v0.5.0");
const MCS_REVISION: (&str, &str) = ("multicluster.x-k8s.io/crd-schema-revision", "0");
/// An API server takes CRDs of `*.k8s.io` groups only with the review that approved them.
const API_APPROVED: (&str, &str) =
    ("api-approved.kubernetes.io", "https://github.com/kubernetes/enhancements/pull/3084");

/// All CRDs, in the order of their names.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut export = also_v1alpha1(ServiceExport::crd());
    let mut import = also_v1alpha1(ServiceImport::crd());
    for crd in [&mut export, &mut import] {
        // An export of the standard needs no spec.
        for schema in schemas(crd) {
            schema.required = None;
        }
        let labels = [MCS_RELEASE, MCS_REVISION].map(|(name, value)| (name.to_owned(), value.to_owned()));
        crd.metadata.labels.get_or_insert_default().extend(labels);
    }
    let mut property = also_v1alpha1(ClusterProperty::crd());
    let (name, value) = API_APPROVED;
    property.metadata.annotations.get_or_insert_default().insert(name.to_owned(), value.to_owned());
    let mut crds = vec![
        Membership::crd(),
        GatewayNode::crd(),
        GatewayDrain::crd(),
        KeyRotation::crd(),
        RemoteCluster::crd(),
        export,
        import,
        property,
    ];
    for schema in crds.iter_mut().flat_map(schemas) {
        tidy(schema);
    }
    crds.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    crds
}

/// Serves the stored version's schema as `v1alpha1` too: the two are the same, so nothing needs converting.
fn also_v1alpha1(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let older = crd.spec.versions.first().map(|stored| {
        let mut older = stored.clone();
        older.name = "v1alpha1".to_owned();
        older.storage = false;
        older
    });
    crd.spec.versions.splice(0..0, older);
    crd
}

fn schemas(crd: &mut CustomResourceDefinition) -> impl Iterator<Item = &mut JSONSchemaProps> {
    let versions = crd.spec.versions.iter_mut();
    versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut())
}

/// Optional fields are left out, never null, and titles repeat the kind.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.title = None;
    for property in schema.properties.iter_mut().flat_map(BTreeMap::values_mut) {
        tidy(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
}
