//! Imported endpoint slices: one source cluster each, at most 100 endpoints, names that depend on nothing but their content's
//! place.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hawser_api::convert::{slice_endpoints, slice_ports};
use hawser_api::core::{EndpointSlice, ObjectMeta};
use hawser_api::labels;
use hawser_model::export::{Endpoint, EndpointGroup, EndpointPort};
use hawser_model::{ClusterId, IpFamily, ServiceName};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use sha2::{Digest, Sha256};

/// What one slice may hold (the Kubernetes controllers' own limit).
const MAX_ENDPOINTS: usize = 100;

/// Endpoints of one cluster that share family and ports.
pub(crate) struct Pool<'a> {
    pub(crate) family: IpFamily,
    pub(crate) ports: Vec<EndpointPort>,
    pub(crate) endpoints: Vec<&'a Endpoint>,
}

/// What all slices of one import and cluster have in common.
pub(crate) struct Source<'a> {
    pub(crate) service: &'a ServiceName,
    pub(crate) cluster: &'a ClusterId,
    /// The import's uid, where the local API gives uids.
    pub(crate) owner_uid: Option<&'a str>,
    /// Nodes by address: only for this cluster's own endpoints, since another cluster's node names mean nothing here.
    pub(crate) nodes: Option<&'a BTreeMap<IpAddr, String>>,
    /// Whether its endpoints take traffic at all.
    pub(crate) usable: bool,
}

/// The slices of `pools`.
pub(crate) fn slices(source: &Source<'_>, pools: Vec<Pool<'_>>) -> Vec<EndpointSlice> {
    let mut merged: BTreeMap<(IpFamily, Vec<EndpointPort>), Vec<&Endpoint>> = BTreeMap::new();
    for pool in pools {
        merged.entry((pool.family, pool.ports)).or_default().extend(pool.endpoints);
    }
    let mut out = Vec::new();
    for ((family, ports), mut endpoints) in merged {
        endpoints.sort_unstable();
        endpoints.dedup();
        for (index, chunk) in endpoints.chunks(MAX_ENDPOINTS).enumerate() {
            out.push(slice(source, family, &ports, index, chunk));
        }
    }
    out
}

fn slice(
    source: &Source<'_>,
    family: IpFamily,
    ports: &[EndpointPort],
    index: usize,
    endpoints: &[&Endpoint],
) -> EndpointSlice {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let usable = |e: &&Endpoint| Endpoint {
        ready: e.ready && source.usable,
        serving: e.serving && source.usable,
        ..(*e).clone()
    };
    let group = EndpointGroup { family, ports: ports.to_vec(), endpoints: endpoints.iter().map(usable).collect() };
    let mut written = slice_endpoints(&group);
    if let Some(nodes) = source.nodes {
        for (endpoint, e) in written.iter_mut().zip(endpoints) {
            endpoint.node_name = e.addresses.iter().find_map(|a| nodes.get(a)).cloned();
        }
    }
    EndpointSlice {
        address_type: family.to_string(),
        endpoints: written,
        ports: Some(slice_ports(&group)),
        metadata: ObjectMeta {
            namespace: Some(source.service.namespace.to_string()),
            name: Some(name(source, family, ports, index)),
            labels: Some(BTreeMap::from([
                label(labels::SERVICE_NAME, &source.service.name),
                label(labels::SOURCE_CLUSTER, source.cluster.as_str()),
                label(labels::MANAGED_BY, labels::MANAGED_BY_HAWSER),
            ])),
            owner_references: source.owner_uid.map(|uid| {
                vec![OwnerReference {
                    api_version: "multicluster.x-k8s.io/v1beta1".to_owned(),
                    kind: "ServiceImport".to_owned(),
                    name: source.service.name.to_string(),
                    uid: uid.to_owned(),
                    controller: Some(true),
                    block_owner_deletion: None,
                }]
            }),
            ..ObjectMeta::default()
        },
    }
}

fn name(source: &Source<'_>, family: IpFamily, ports: &[EndpointPort], index: usize) -> String {
    let mut hash = Sha256::new();
    // Every part is followed by a zero byte: `web` of `east-1` and `web-east` of `1` are told apart here.
    for part in [&*source.service.name, source.cluster.as_str(), &family.to_string()] {
        hash.update(part);
        hash.update([0]);
    }
    for p in ports {
        for part in [p.name.as_str(), p.protocol.as_str(), p.app_protocol.as_deref().unwrap_or_default()] {
            hash.update(part);
            hash.update([0]);
        }
        hash.update(p.port.to_be_bytes());
    }
    hash.update((index as u64).to_be_bytes());
    let hex: String = hash.finalize().iter().take(5).map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{hex}", source.service.name, source.cluster)
}
