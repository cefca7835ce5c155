//! Exports up: what this cluster publishes of its Services, and what is wrong with the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hawser_api::core::{EndpointSlice, Service};
use hawser_api::labels;
use hawser_api::mcs::ServiceExport;
use hawser_model::export::{
    Endpoint, EndpointGroup, EndpointPort, ExportEndpoints, ExportHeader, InternalTrafficPolicy, Protocol, ServiceKind,
    ServicePort, SessionAffinity, Timestamp as Millis,
};
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
    let Some(service) = service else {
        return Outcome::Invalid {
            reason: "NoService",
            message: format!("there is no Service {name}; create it, or delete the ServiceExport"),
        };
    };
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        return Outcome::Invalid {
            reason: "InvalidServiceType",
            message: format!(
                "Service {name}: spec.type: ExternalName cannot be exported; use ClusterIP or a headless Service"
            ),
        };
    }
    let mut skipped = Vec::new();
    let ports = service_ports(&spec, &mut skipped);
    let kind =
        if spec.cluster_ip.as_deref() == Some("None") { ServiceKind::Headless } else { ServiceKind::ClusterSetIp };
    let mut nodes = BTreeMap::new();
    let mut groups: Vec<EndpointGroup> =
        slices.iter().filter_map(|s| group(s, &ports, prefixes, &mut nodes, &mut skipped)).collect();
    groups.sort_by(|a, b| (a.family, &a.ports, &a.endpoints).cmp(&(b.family, &b.ports, &b.endpoints)));
    skipped.sort();
    let affinity = spec.session_affinity.as_deref() == Some("ClientIP");
    let header = ExportHeader {
        cluster: cluster.clone(),
        service: name.clone(),
        created: created(export, name, first_seen),
        kind,
        ports,
        session_affinity: if affinity { SessionAffinity::ClientIp } else { SessionAffinity::None },
        session_affinity_timeout: spec
            .session_affinity_config
            .and_then(|c| c.client_ip?.timeout_seconds)
            .and_then(|s| u32::try_from(s).ok()),
        internal_traffic_policy: match spec.internal_traffic_policy.as_deref() {
            Some("Local") => InternalTrafficPolicy::Local,
            Some(_) | None => InternalTrafficPolicy::Cluster,
        },
        traffic_distribution: spec.traffic_distribution,
        ip_families: families(spec.ip_families.as_deref(), slices, prefixes),
        labels: export.spec.exported_labels.clone(),
        annotations: export.spec.exported_annotations.clone(),
    };
    let endpoints = ExportEndpoints { cluster: cluster.clone(), service: name.clone(), groups };
    if let Err(e) = header.validate().and_then(|()| endpoints.validate()) {
        return Outcome::Denied {
            message: format!("{e}; correct the Service, its EndpointSlices or the ServiceExport"),
        };
    }
    Outcome::Valid(Box::new(Export { header, endpoints, nodes, skipped }))
}

fn created(export: &ServiceExport, name: &ServiceName, first_seen: &FirstSeen) -> Millis {
    let own = || export.metadata.creation_timestamp.as_ref().map(|t| Millis(t.0.as_millisecond()));
    first_seen.get(name).copied().or_else(own).unwrap_or(Millis(0))
}

fn service_ports(spec: &k8s_openapi::api::core::v1::ServiceSpec, skipped: &mut Vec<String>) -> Vec<ServicePort> {
    let mut ports = Vec::new();
    for port in spec.ports.iter().flatten() {
        let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or_default());
        match (protocol, u16::try_from(port.port)) {
            (Some(protocol), Ok(number)) if number > 0 => ports.push(ServicePort {
                name: port.name.clone().unwrap_or_default(),
                protocol,
                app_protocol: port.app_protocol.clone(),
                port: number,
            }),
            (_, _) => skipped.push(format!(
                "port {}/{:?}: a port is TCP, UDP or SCTP and from 1 to 65535; correct the Service",
                port.port, port.protocol
            )),
        }
    }
    ports
}

/// The families the Service names; else those of its slices that this cluster routes; else all it routes.
fn families(named: Option<&[String]>, slices: &[&Arc<EndpointSlice>], prefixes: &PrefixSet) -> Vec<IpFamily> {
    let named: Vec<IpFamily> = named.unwrap_or_default().iter().filter_map(|f| parse_family(f)).collect();
    if !named.is_empty() {
        return named;
    }
    let routed = families_of(prefixes);
    let sliced: BTreeSet<IpFamily> =
        slices.iter().filter_map(|s| parse_family(&s.address_type)).filter(|f| routed.contains(f)).collect();
    if sliced.is_empty() { routed.into_iter().collect() } else { sliced.into_iter().collect() }
}

/// The families of a set of prefixes.
pub(crate) fn families_of(prefixes: &PrefixSet) -> BTreeSet<IpFamily> {
    prefixes.iter().map(IpFamily::of_net).collect()
}

/// A family as Kubernetes writes it.
pub(crate) fn parse_family(s: &str) -> Option<IpFamily> {
    match s {
        "IPv4" => Some(IpFamily::V4),
        "IPv6" => Some(IpFamily::V6),
        _ => None,
    }
}

fn group(
    slice: &EndpointSlice,
    service_ports: &[ServicePort],
    prefixes: &PrefixSet,
    nodes: &mut BTreeMap<IpAddr, String>,
    skipped: &mut Vec<String>,
) -> Option<EndpointGroup> {
    let family = parse_family(&slice.address_type)?;
    let mut endpoints = Vec::new();
    for endpoint in &slice.endpoints {
        let (addresses, outside) = addresses(endpoint, family, prefixes);
        skipped.extend(outside);
        if addresses.is_empty() {
            continue;
        }
        if let Some(node) = &endpoint.node_name {
            nodes.extend(addresses.iter().map(|a| (*a, node.clone())));
        }
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let ready = conditions.ready.unwrap_or(true);
        endpoints.push(Endpoint {
            addresses,
            hostname: endpoint.hostname.clone(),
            zone: endpoint.zone.clone(),
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
        });
    }
    endpoints.sort();
    endpoints.dedup();
    let ports = slice.ports.iter().flatten().filter_map(|p| endpoint_port(p, service_ports)).collect();
    Some(EndpointGroup { family, ports, endpoints })
}

/// The usable addresses of an endpoint, and a sentence for each that is not.
fn addresses(
    endpoint: &k8s_openapi::api::discovery::v1::Endpoint,
    family: IpFamily,
    prefixes: &PrefixSet,
) -> (Vec<IpAddr>, Vec<String>) {
    let mut inside = Vec::new();
    let mut outside = Vec::new();
    for text in &endpoint.addresses {
        match text.parse::<IpAddr>() {
            Ok(address) if IpFamily::of(address) != family => {
                outside.push(format!("endpoint {address} is not of its slice's addressType {family}; correct the slice"));
            }
            Ok(address) if prefixes.contains(address) => inside.push(address),
            Ok(address) => outside.push(format!(
                "endpoint {address} lies outside this cluster's prefixes; add its prefix to Membership spec.prefixes, or give \
                 the workload an address inside"
            )),
            Err(_) => outside.push(format!("endpoint {text:?} is not an IP address; correct the slice")),
        }
    }
    inside.sort();
    (inside, outside)
}

fn endpoint_port(
    port: &k8s_openapi::api::discovery::v1::EndpointPort,
    service_ports: &[ServicePort],
) -> Option<EndpointPort> {
    let name = port.name.clone().unwrap_or_default();
    let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or_default())?;
    let number = u16::try_from(port.port?).ok()?;
    let source = service_ports.iter().find(|p| p.name == name && p.protocol == protocol);
    Some(EndpointPort {
        protocol,
        app_protocol: port.app_protocol.clone().or_else(|| source?.app_protocol.clone()),
        port: number,
        service_port: source.map(|p| p.port),
        name,
    })
}
