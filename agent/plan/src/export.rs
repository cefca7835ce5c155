//! Exports up: what this cluster publishes of its Services, and what is wrong with the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hawser_api::convert::{InvalidServiceExport, endpoint_group, export_header};
use hawser_api::core::{EndpointSlice, Service};
use hawser_api::labels;
use hawser_api::mcs::ServiceExport;
use hawser_model::export::{EndpointGroup, ExportEndpoints, ExportHeader, Timestamp as Millis};
use hawser_model::{ClusterId, IpFamily, PrefixSet, ServiceName};

use crate::local::{Local, is_imported, label};
use crate::view::Identity;

/// When each export counts as made (`hawser_model::age`): the agent process keeps it.
pub type FirstSeen = BTreeMap<ServiceName, Millis>;

/// What became of one `ServiceExport`.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It is published.
    Valid(Box<Export>),
    /// It is not; `reason` is one of the API's.
    Invalid {
        /// `NoService` or `InvalidServiceType`.
        reason: &'static str,
        /// Why and what to do.
        message: String,
    },
    /// It is well-formed but may not be published.
    Denied {
        /// The rule and what to do.
        message: String,
    },
}

/// A published export.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// What merging needs.
    pub header: ExportHeader,
    /// Where traffic goes: only addresses inside the cluster's prefixes.
    pub endpoints: ExportEndpoints,
    /// The nodes of those addresses, as far as the slices say.
    pub nodes: BTreeMap<IpAddr, String>,
    /// What was left out, in words.
    pub skipped: Vec<String>,
}

/// All exports of this cluster, by name.
#[must_use]
pub fn outcomes(
    local: &Local,
    identity: &Identity,
    prefixes: &PrefixSet,
    first_seen: &FirstSeen,
) -> BTreeMap<ServiceName, Outcome> {
    let services = by_name(&local.services, |s| &s.metadata);
    let mut slices: BTreeMap<(&str, &str), Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in local.slices.iter().filter(|s| !is_imported(s)) {
        if let (Some(namespace), Some(service)) =
            (slice.metadata.namespace.as_deref(), label(slice, labels::K8S_SERVICE_NAME))
        {
            slices.entry((namespace, service)).or_default().push(slice);
        }
    }
    let mut out = BTreeMap::new();
    for export in &local.exports {
        let Some(name) = service_name(&export.metadata) else { continue };
        let key = (&*name.namespace, &*name.name);
        let outcome = if !identity.may_export_from(&name.namespace) {
            Outcome::Denied { message: denied(identity, &name) }
        } else {
            let own = slices.get(&key).map(Vec::as_slice).unwrap_or_default();
            derive(export, services.get(&key).copied(), own, &name, &identity.cluster, prefixes, first_seen)
        };
        out.insert(name, outcome);
    }
    out
}

/// The name of a namespaced object, where it can be a service's.
pub(crate) fn service_name(meta: &hawser_api::core::ObjectMeta) -> Option<ServiceName> {
    ServiceName::new(meta.namespace.as_deref()?, meta.name.as_deref()?).ok()
}

fn by_name<K>(objects: &[Arc<K>], meta: fn(&K) -> &hawser_api::core::ObjectMeta) -> BTreeMap<(&str, &str), &K> {
    objects.iter().filter_map(|o| Some(((meta(o).namespace.as_deref()?, meta(o).name.as_deref()?), &**o))).collect()
}

fn denied(identity: &Identity, name: &ServiceName) -> String {
    let allowed = if identity.namespaces.is_empty() {
        "all but default and kube-*".to_owned()
    } else {
        identity.namespaces.join(", ")
    };
    format!(
        "ServiceExport {name}: namespace {}: this cluster may export from: {allowed}; export from one of these, or join again \
         with a token that allows it (hawser token create --namespaces)",
        name.namespace
    )
}

fn derive(
    export: &ServiceExport,
    service: Option<&Service>,
    slices: &[&Arc<EndpointSlice>],
    name: &ServiceName,
    cluster: &ClusterId,
    prefixes: &PrefixSet,
    first_seen: &FirstSeen,
) -> Outcome {
    let created = created(export, name, first_seen);
    let header = match export_header(cluster, export, service, created, &families(slices, prefixes)) {
        Ok(header) => header,
        Err(error) => return refused(&error),
    };
    let mut endpoints = ExportEndpoints { cluster: cluster.clone(), service: name.clone(), groups: Vec::new() };
    let (mut nodes, mut skipped) = (BTreeMap::new(), Vec::new());
    for slice in slices {
        match endpoint_group(slice, &header.ports) {
            Ok((group, left_out)) => {
                skipped.extend(left_out.iter().map(ToString::to_string));
                endpoints.groups.push(inside(group, prefixes, &mut skipped));
                nodes.extend(nodes_of(slice));
            }
            Err(error) => skipped.push(error.to_string()),
        }
    }
    endpoints.groups.sort_by(|a, b| (a.family, &a.ports, &a.endpoints).cmp(&(b.family, &b.ports, &b.endpoints)));
    skipped.sort();
    if let Err(e) = header.validate().and_then(|()| endpoints.validate()) {
        return Outcome::Denied {
            message: format!("{e}; correct the Service, its EndpointSlices or the ServiceExport"),
        };
    }
    Outcome::Valid(Box::new(Export { header, endpoints, nodes, skipped }))
}

fn refused(error: &InvalidServiceExport) -> Outcome {
    match error.reason() {
        Some(reason) => Outcome::Invalid { reason, message: error.to_string() },
        None => Outcome::Denied { message: error.to_string() },
    }
}

fn created(export: &ServiceExport, name: &ServiceName, first_seen: &FirstSeen) -> Millis {
    let own = || export.metadata.creation_timestamp.as_ref().map(|t| Millis(t.0.as_millisecond()));
    first_seen.get(name).copied().or_else(own).unwrap_or(Millis(0))
}

/// For a Service that names no families: those of its slices that this cluster routes; else all it routes.
fn families(slices: &[&Arc<EndpointSlice>], prefixes: &PrefixSet) -> Vec<IpFamily> {
    let routed = families_of(prefixes);
    let sliced: BTreeSet<IpFamily> =
        slices.iter().filter_map(|s| s.address_type.parse().ok()).filter(|f| routed.contains(f)).collect();
    if sliced.is_empty() { routed.into_iter().collect() } else { sliced.into_iter().collect() }
}

/// The families of a set of prefixes.
pub(crate) fn families_of(prefixes: &PrefixSet) -> BTreeSet<IpFamily> {
    prefixes.iter().map(IpFamily::of_net).collect()
}

/// A group with only the addresses that peers route here; a sentence for each of the others.
fn inside(mut group: EndpointGroup, prefixes: &PrefixSet, skipped: &mut Vec<String>) -> EndpointGroup {
    for endpoint in &mut group.endpoints {
        endpoint.addresses.retain(|a| {
            let inside = prefixes.contains(*a);
            if !inside {
                skipped.push(format!(
                    "endpoint {a} lies outside this cluster's prefixes; add its prefix to Membership spec.prefixes, or give the \
                     workload an address inside"
                ));
            }
            inside
        });
        endpoint.addresses.sort();
    }
    group.endpoints.retain(|e| !e.addresses.is_empty());
    group.endpoints.sort();
    group.endpoints.dedup();
    group
}

/// The nodes that a slice's addresses are on.
fn nodes_of(slice: &EndpointSlice) -> impl Iterator<Item = (IpAddr, String)> {
    slice
        .endpoints
        .iter()
        .filter_map(|e| Some((e, e.node_name.as_ref()?)))
        .flat_map(|(e, node)| e.addresses.iter().filter_map(|a| a.parse().ok()).map(|a| (a, node.clone())))
}
