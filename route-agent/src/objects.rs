//! Objects of the local API as input of the plan and of the DNS zone. Pure.
//!
//! A field that can't be read costs that field's thing (a prefix, a node, a port) and gives a [`Problem`]; the rest is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use hawser_api::core::{EndpointSlice, Node};
use hawser_api::hawser::{Membership, RemoteCluster};
use hawser_api::labels;
use hawser_api::mcs::{ImportType, ServiceImport};
use hawser_dns::{EndpointsInput, ImportInput, ZoneInput};
use hawser_local_api::{Key, Resource};
use hawser_model::export::{Endpoint, EndpointPort, Protocol, ServiceKind, ServicePort};
use hawser_model::{ClusterId, NodeName, PrefixPolicy, PrefixSet, ServiceName};
use hawser_route_plan::{Backend, Group, Host, Input, Remote, Service};
use ipnet::IpNet;

use crate::view::Objects;

/// A field that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// Kind and name of the object.
    pub(crate) object: String,
    /// The field.
    pub(crate) field: &'static str,
    /// What is wrong with it.
    pub(crate) rule: String,
}

/// What the objects say, as the plan takes it; gateways' states and the host's facts are added by the caller.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Known {
    pub(crate) input: Input,
    pub(crate) zone: ZoneParts,
    pub(crate) problems: BTreeSet<Problem>,
}

/// The objects' part of the zone.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ZoneParts {
    pub(crate) namespaces: BTreeSet<std::sync::Arc<str>>,
    pub(crate) imports: Vec<Import>,
    pub(crate) endpoints: Vec<Slice>,
}

/// An import, as DNS answers for it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Import {
    service: ServiceName,
    kind: ServiceKind,
    vips: Vec<IpAddr>,
    ports: Vec<ServicePort>,
    affinity: Option<u32>,
    local_only: bool,
}

/// An imported slice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slice {
    service: ServiceName,
    cluster: ClusterId,
    ports: Vec<EndpointPort>,
    endpoints: Vec<(Endpoint, Option<NodeName>)>,
}

impl ZoneParts {
    /// The zone, answered on `nameservers`, with some clusters dark.
    pub(crate) fn zone(&self, nameservers: &[IpAddr], dark: BTreeSet<ClusterId>, serial: u32) -> ZoneInput {
        let import = |i: &Import| ImportInput {
            service: i.service.clone(),
            kind: i.kind,
            vips: i.vips.clone(),
            ports: i.ports.clone(),
        };
        let slice = |s: &Slice| EndpointsInput {
            service: s.service.clone(),
            cluster: s.cluster.clone(),
            ports: s.ports.clone(),
            endpoints: s.endpoints.iter().map(|(e, _)| e.clone()).collect(),
        };
        ZoneInput {
            namespaces: self.namespaces.clone(),
            imports: self.imports.iter().map(import).collect(),
            endpoints: self.endpoints.iter().map(slice).collect(),
            dark,
            synced: true,
            serial,
            nameservers: nameservers.to_vec(),
        }
    }
}

/// Reads all objects; none while the cluster is no member, or its `Membership` can't be read at all.
pub(crate) fn known(objects: &Objects, node: &NodeName) -> Option<Known> {
    if !objects.properties.contains_key(&Key::cluster(labels::PROPERTY_CLUSTER_SET)) {
        return None;
    }
    let membership = objects.memberships.get(&Key::cluster(labels::MEMBERSHIP))?;
    let mut reader = Reader::default();
    let zone = reader.zone(objects);
    let mut input = reader.membership(membership, node);
    input.nodes = objects.nodes.values().filter_map(|n| reader.node(n)).collect();
    input.remotes = objects.remotes.values().filter_map(|r| reader.remote(r, &input)).collect();
    input.services = services(&zone);
    Some(Known { input, zone, problems: reader.problems })
}

#[derive(Default)]
struct Reader {
    problems: BTreeSet<Problem>,
}

impl Reader {
    fn note<K: Resource>(&mut self, of: &K, field: &'static str, rule: impl Display) {
        let object = format!("{} {}", K::KIND, of.key());
        self.problems.insert(Problem { object, field, rule: rule.to_string() });
    }

    fn parse<K: Resource, T: FromStr<Err: Display>>(&mut self, of: &K, field: &'static str, text: &str) -> Option<T> {
        let parsed = text.parse().map_err(|e: T::Err| self.note(of, field, format!("{text:?}: {e}")));
        parsed.ok()
    }

    fn all<K: Resource, T: FromStr<Err: Display>>(&mut self, of: &K, field: &'static str, texts: &[String]) -> Vec<T> {
        texts.iter().filter_map(|t| self.parse(of, field, t)).collect()
    }

    fn membership(&mut self, membership: &Membership, node: &NodeName) -> Input {
        let spec = &membership.spec;
        let prefixes: Vec<IpNet> = self.all(membership, "spec.prefixes", &spec.prefixes);
        let vips: Vec<IpNet> = self.all(membership, "spec.vipPrefixes", &spec.vip_prefixes);
        Input {
            node: node.clone(),
            site: true,
            nodes: Vec::new(),
            prefixes: PrefixSet::new(prefixes),
            vip_prefixes: PrefixSet::new(vips),
            dns_addresses: self.all(membership, "spec.dnsAddress", &spec.dns_address),
            remotes: Vec::new(),
            gateways: BTreeMap::new(),
            services: Vec::new(),
            host: Host::default(),
        }
    }

    fn node(&mut self, node: &Node) -> Option<hawser_route_plan::Node> {
        let name = self.parse(node, "metadata.name", node.metadata.name.as_deref().unwrap_or_default())?;
        let addresses: Vec<String> = node
            .status
            .iter()
            .flat_map(|s| s.addresses.iter().flatten())
            .filter(|a| a.type_ == "InternalIP")
            .map(|a| a.address.clone())
            .collect();
        let spec = node.spec.as_ref();
        let many = spec.and_then(|s| s.pod_cidrs.clone()).unwrap_or_default();
        let cidrs = if many.is_empty() { spec.and_then(|s| s.pod_cidr.clone()).into_iter().collect() } else { many };
        let label = node.metadata.labels.as_ref().and_then(|l| l.get(labels::GATEWAY));
        Some(hawser_route_plan::Node {
            name,
            addresses: self.all(node, "status.addresses", &addresses),
            pod_cidrs: self.all(node, "spec.podCIDRs", &cidrs),
            gateway: label.is_some_and(|v| v == "true"),
        })
    }

    /// Without prefixes that would take this cluster's own traffic, or the world's, elsewhere.
    fn remote(&mut self, remote: &RemoteCluster, own: &Input) -> Option<Remote> {
        let mut prefixes: Vec<IpNet> = self.all(remote, "spec.prefixes", &remote.spec.prefixes);
        prefixes.retain(|prefix| {
            let taken = taken(prefix, own);
            taken.iter().for_each(|rule| self.note(remote, "spec.prefixes", rule));
            taken.is_none()
        });
        let id = self.parse(remote, "spec.clusterId", &remote.spec.cluster_id)?;
        Some(Remote { id, prefixes: PrefixSet::new(prefixes) })
    }

    fn zone(&mut self, objects: &Objects) -> ZoneParts {
        ZoneParts {
            namespaces: objects.namespaces.keys().map(|k| k.name.as_str().into()).collect(),
            imports: objects.imports.values().filter_map(|i| self.import(i)).collect(),
            endpoints: objects.slices.values().filter_map(|s| self.slice(s)).collect(),
        }
    }

    fn import(&mut self, import: &ServiceImport) -> Option<Import> {
        let key = import.key();
        let service = ServiceName::new(&key.namespace, &key.name);
        let service = service.map_err(|e| self.note(import, "metadata", e)).ok()?;
        let spec = &import.spec;
        let ports = spec.ports.iter().filter_map(|p| {
            let protocol = self.protocol(import, "spec.ports.protocol", p.protocol.as_deref())?;
            let port = self.port(import, "spec.ports.port", Some(p.port))?;
            let name = p.name.clone().unwrap_or_default();
            Some(ServicePort { name, protocol, app_protocol: p.app_protocol.clone(), port })
        });
        let ports = ports.collect();
        let timeout = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
        let sticky = spec.session_affinity.as_deref() == Some("ClientIP");
        Some(Import {
            service,
            kind: match spec.type_ {
                ImportType::ClusterSetIP => ServiceKind::ClusterSetIp,
                ImportType::Headless => ServiceKind::Headless,
            },
            vips: self.all(import, "spec.ips", &spec.ips),
            ports,
            affinity: sticky.then(|| timeout.and_then(|t| u32::try_from(t).ok()).unwrap_or(AFFINITY)),
            local_only: spec.internal_traffic_policy.as_deref() == Some("Local"),
        })
    }

    /// An imported slice; none for slices that are not imports.
    fn slice(&mut self, slice: &EndpointSlice) -> Option<Slice> {
        let labels = slice.metadata.labels.as_ref()?;
        let (name, cluster) = (labels.get(labels::SERVICE_NAME)?, labels.get(labels::SOURCE_CLUSTER)?);
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        let service = ServiceName::new(namespace, name).map_err(|e| self.note(slice, "metadata.labels", e)).ok()?;
        let cluster = self.parse(slice, "metadata.labels", cluster)?;
        let ports = slice.ports.iter().flatten().filter_map(|p| {
            let protocol = self.protocol(slice, "ports.protocol", p.protocol.as_deref())?;
            let port = self.port(slice, "ports.port", p.port)?;
            let name = p.name.clone().unwrap_or_default();
            Some(EndpointPort { name, protocol, app_protocol: p.app_protocol.clone(), port, service_port: None })
        });
        let ports = ports.collect();
        let endpoints = slice.endpoints.iter().map(|e| {
            let addresses = self.all(slice, "endpoints.addresses", &e.addresses);
            let condition = |pick: fn(&_) -> Option<bool>| e.conditions.as_ref().and_then(pick);
            let ready = condition(|c: &k8s_openapi::api::discovery::v1::EndpointConditions| c.ready).unwrap_or(true);
            let endpoint = Endpoint {
                addresses,
                hostname: e.hostname.clone(),
                zone: e.zone.clone(),
                ready,
                serving: condition(|c| c.serving).unwrap_or(ready),
                terminating: condition(|c| c.terminating).unwrap_or(false),
            };
            (endpoint, e.node_name.as_deref().and_then(|n| self.parse(slice, "endpoints.nodeName", n)))
        });
        let endpoints = endpoints.collect();
        Some(Slice { service, cluster, ports, endpoints })
    }

    fn protocol<K: Resource>(&mut self, of: &K, field: &'static str, text: Option<&str>) -> Option<Protocol> {
        let text = text.unwrap_or_default();
        let protocol = Protocol::parse(text);
        if protocol.is_none() {
            self.note(of, field, format!("{text:?} is none of TCP, UDP, SCTP"));
        }
        protocol
    }

    fn port<K: Resource>(&mut self, of: &K, field: &'static str, port: Option<i32>) -> Option<u16> {
        let number = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0);
        if number.is_none() {
            self.note(of, field, format!("{port:?} is not a number from 1 to 65535"));
        }
        number
    }
}

/// Why a remote prefix can't be routed.
fn taken(prefix: &IpNet, own: &Input) -> Option<String> {
    let any = PrefixPolicy { widest_v4: 0, widest_v6: 0, ..PrefixPolicy::default() };
    let prefixes = PrefixSet::new([*prefix]);
    if let Err(error) = any.check(&prefixes) {
        return Some(error.to_string());
    }
    let ours = own.prefixes.overlap(&prefixes).or_else(|| own.vip_prefixes.overlap(&prefixes));
    if let Some((ours, _)) = ours {
        return Some(format!("{prefix} shares addresses with {ours} of this cluster"));
    }
    let mut hosts = own.nodes.iter().flat_map(|n| &n.addresses).chain(&own.dns_addresses);
    hosts.find(|a| prefix.contains(*a)).map(|a| format!("{prefix} holds {a}, an address of this cluster's hosts"))
}

/// Kubernetes' default of `timeoutSeconds`.
const AFFINITY: u32 = 10_800;

/// The imports with virtual addresses, with their slices.
fn services(zone: &ZoneParts) -> Vec<Service> {
    let virtual_ones = zone.imports.iter().filter(|i| i.kind == ServiceKind::ClusterSetIp && !i.vips.is_empty());
    let mut slices: BTreeMap<&ServiceName, Vec<Group>> = BTreeMap::new();
    for slice in &zone.endpoints {
        let endpoints = slice.endpoints.iter().filter_map(|(e, node)| {
            let address = *e.addresses.first()?;
            let serving = e.serving && !e.addresses.is_empty();
            Some(Backend { address, ready: e.ready, serving, node: node.clone() })
        });
        let group =
            Group { cluster: slice.cluster.clone(), ports: slice.ports.clone(), endpoints: endpoints.collect() };
        slices.entry(&slice.service).or_default().push(group);
    }
    let service = |i: &Import| Service {
        name: i.service.clone(),
        vips: i.vips.clone(),
        ports: i.ports.clone(),
        affinity: i.affinity,
        local_only: i.local_only,
        groups: slices.get(&i.service).cloned().unwrap_or_default(),
    };
    virtual_ones.map(service).collect()
}
