//! Objects of the local API as input of the plan and of the DNS zone. Pure.
//!
//! A field that can't be read costs that field's thing (a prefix, a node, a port) and gives a [`Problem`]; the rest is used.

mod reader;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hawser_api::labels;
use hawser_dns::{EndpointsInput, ImportInput, ZoneInput};
use hawser_local_api::Key;
use hawser_model::export::{Endpoint, EndpointPort, ServiceKind, ServicePort};
use hawser_model::{ClusterId, NodeName, ServiceName};
use hawser_route_plan::{Backend, Group, Input, Service};

use crate::view::Objects;
use reader::Reader;

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

/// What the objects amount to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    /// The cluster is no member of a cluster set.
    NotMember,
    /// It is one, but its `Membership` is missing: what was known stays in force.
    NoMembership,
    /// It is one.
    Member(Box<Known>),
}

/// Reads all objects.
pub(crate) fn see(objects: &Objects, node: &NodeName) -> Seen {
    if !objects.properties.contains_key(&Key::cluster(labels::PROPERTY_CLUSTER_SET)) {
        return Seen::NotMember;
    }
    let Some(membership) = objects.memberships.get(&Key::cluster(labels::MEMBERSHIP)) else {
        return Seen::NoMembership;
    };
    let mut reader = Reader::default();
    let zone = reader.zone(objects);
    let mut input = reader.membership(membership, node);
    input.nodes = objects.nodes.values().filter_map(|n| reader.node(n)).collect();
    input.remotes = objects.remotes.values().filter_map(|r| reader.remote(r, &input)).collect();
    input.services = services(&zone);
    Seen::Member(Box::new(Known { input, zone, problems: reader.problems }))
}

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
