//! Hosts of this cluster: `Node`.

use std::net::IpAddr;

use hawser_model::{Candidate, IpFamily, NodeName};
use ipnet::IpNet;

use super::{Invalid, Reader};
use crate::core::Node;
use crate::labels;

/// What Hawser needs of a `Node`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// Its name.
    pub name: NodeName,
    /// Its addresses in the cluster's own network, in order.
    pub internal_ips: Vec<IpAddr>,
    /// Its addresses as others see it.
    pub external_ips: Vec<IpAddr>,
    /// The prefixes of its pods.
    pub pod_cidrs: Vec<IpNet>,
    /// Whether it runs a gateway.
    pub is_gateway: bool,
    /// Where its gateway may be reached: those of the annotation, then external, then internal addresses; without duplicates.
    pub candidates: Vec<Candidate>,
}

impl NodePlan {
    /// The host's own address of a family: the first of its first pod prefix.
    #[must_use]
    pub fn own_address(&self, family: IpFamily) -> Option<IpAddr> {
        self.pod_cidrs.iter().find(|cidr| IpFamily::of_net(cidr) == family).and_then(|cidr| cidr.hosts().next())
    }
}

/// Reads a node. An entry that breaks a rule is left out and named; the rest is used.
///
/// # Errors
/// When the node's name breaks a rule.
pub fn node(node: &Node) -> Result<(NodePlan, Vec<Invalid>), Invalid> {
    let reader = Reader::new("Node", &node.metadata, "correct it in the Node's manifest");
    let name = NodeName::new(node.metadata.name.as_deref().unwrap_or_default())
        .map_err(|error| reader.invalid("metadata.name", error))?;
    let mut skipped = Vec::new();
    let (internal_ips, external_ips) = addresses(&reader, node, &mut skipped);
    let pod_cidrs = pod_cidrs(&reader, node, &mut skipped);
    let label = node.metadata.labels.as_ref().and_then(|map| map.get(labels::GATEWAY));
    let named = named_candidates(&reader, node, &mut skipped);
    let own = external_ips.iter().chain(&internal_ips).map(|address| Candidate::Address(*address));
    let mut candidates: Vec<Candidate> = Vec::new();
    for candidate in named.into_iter().chain(own) {
        if !candidates.contains(&candidate) {
            candidates.push(candidate);
        }
    }
    let is_gateway = label.is_some_and(|value| value == "true");
    Ok((NodePlan { name, internal_ips, external_ips, pod_cidrs, is_gateway, candidates }, skipped))
}

fn addresses(reader: &Reader, node: &Node, skipped: &mut Vec<Invalid>) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let (mut internal, mut external) = (Vec::new(), Vec::new());
    let entries = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    for (i, entry) in entries.enumerate() {
        let list = match entry.type_.as_str() {
            "InternalIP" => &mut internal,
            "ExternalIP" => &mut external,
            _ => continue,
        };
        match entry.address.parse() {
            Ok(address) => list.push(address),
            Err(_) => {
                let field = format!("status.addresses[{i}].address");
                skipped.push(reader.invalid(field, format!("{:?} must be an IP address", entry.address)));
            }
        }
    }
    (internal, external)
}

fn pod_cidrs(reader: &Reader, node: &Node, skipped: &mut Vec<Invalid>) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let several = spec.pod_cidrs.as_deref().unwrap_or_default();
    let (field, cidrs) = if several.is_empty() {
        ("spec.podCIDR", spec.pod_cidr.iter().collect::<Vec<_>>())
    } else {
        ("spec.podCIDRs", several.iter().collect())
    };
    let parse = |(i, cidr): (usize, &String)| {
        let field = if several.is_empty() { field.to_owned() } else { format!("{field}[{i}]") };
        hawser_model::prefix::parse_prefix(&field, cidr).map_err(|error| skipped.push(reader.prefix(error))).ok()
    };
    cidrs.into_iter().enumerate().filter_map(parse).collect()
}

fn named_candidates(reader: &Reader, node: &Node, skipped: &mut Vec<Invalid>) -> Vec<Candidate> {
    let annotation = node.metadata.annotations.as_ref().and_then(|map| map.get(labels::GATEWAY_CANDIDATES));
    let hosts = annotation.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|host| !host.is_empty());
    let parse = |host: &str| {
        super::gateway::candidate(host).or_else(|| {
            let field = format!("metadata.annotations[{}]", labels::GATEWAY_CANDIDATES);
            skipped.push(reader.invalid(field, format!("{host:?} is neither an IP address nor a DNS name")));
            None
        })
    };
    hosts.filter_map(parse).collect()
}
