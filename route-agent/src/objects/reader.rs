//! Reading single objects. The other half, which puts them together, is in [`super`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use hawser_api::core::{EndpointSlice, Node};
use hawser_api::hawser::{Membership, RemoteCluster};
use hawser_api::labels;
use hawser_api::mcs::{ImportType, ServiceImport};
use hawser_local_api::Resource;
use hawser_model::export::{Endpoint, EndpointPort, Protocol, ServiceKind, ServicePort};
use hawser_model::{NodeName, PrefixPolicy, PrefixSet, ServiceName};
use hawser_route_plan::{Host, Input, Remote};
use ipnet::IpNet;

use super::{Import, Problem, Slice, ZoneParts};
use crate::view::Objects;

/// Kubernetes' default of `timeoutSeconds`.
const AFFINITY: u32 = 10_800;

/// Reads objects and keeps what was wrong with them.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: BTreeSet<Problem>,
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

    pub(super) fn membership(&mut self, membership: &Membership, node: &NodeName) -> Input {
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

    pub(super) fn node(&mut self, node: &Node) -> Option<hawser_route_plan::Node> {
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
    pub(super) fn remote(&mut self, remote: &RemoteCluster, own: &Input) -> Option<Remote> {
        let mut prefixes: Vec<IpNet> = self.all(remote, "spec.prefixes", &remote.spec.prefixes);
        prefixes.retain(|prefix| {
            let taken = taken(prefix, own);
            taken.iter().for_each(|rule| self.note(remote, "spec.prefixes", rule));
            taken.is_none()
        });
        let id = self.parse(remote, "spec.clusterId", &remote.spec.cluster_id)?;
        Some(Remote { id, prefixes: PrefixSet::new(prefixes) })
    }

    pub(super) fn zone(&mut self, objects: &Objects) -> ZoneParts {
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
