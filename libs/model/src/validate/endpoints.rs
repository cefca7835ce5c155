//! What makes an export's endpoints valid, and which lie outside their cluster's prefixes.

use std::fmt::Display;
use std::net::IpAddr;

use super::{
    DNS_LABEL, Fault, InvalidExport, LABEL_VALUE, MAX_ENDPOINT_ADDRESSES, MAX_GROUP_ENDPOINTS, MAX_GROUPS, MAX_PORTS,
    at_most, check_ports, fault, is_name,
};

use crate::export::{EndpointGroup, ExportEndpoints};
use crate::id::is_dns_label;
use crate::{IpFamily, PrefixSet};

impl ExportEndpoints {
    /// Checks form and limits; where the addresses lie is [`Self::outside`].
    ///
    /// # Errors
    /// The first rule broken, with the export and the field.
    pub fn validate(&self) -> Result<(), InvalidExport> {
        let faults = || {
            at_most("groups", self.groups.len(), MAX_GROUPS)?;
            self.groups.iter().enumerate().try_for_each(|(i, group)| check_group(&format!("groups[{i}]."), group))
        };
        faults().map_err(|f: Fault| f.of(&self.service, &self.cluster))
    }

    /// The endpoints that have an address outside `prefixes`, the cluster's claims: peers would not route to them, or would
    /// route to somebody else.
    #[must_use]
    pub fn outside(&self, prefixes: &PrefixSet) -> Vec<OutsideEndpoint> {
        let mut found = Vec::new();
        for (group, g) in self.groups.iter().enumerate() {
            for (endpoint, e) in g.endpoints.iter().enumerate() {
                if let Some(&address) = e.addresses.iter().find(|a| !prefixes.contains(**a)) {
                    found.push(OutsideEndpoint { group, endpoint, address });
                }
            }
        }
        found
    }

    /// Takes out the endpoints that [`Self::outside`] lists, and returns the list. Groups stay, even empty.
    pub fn retain_inside(&mut self, prefixes: &PrefixSet) -> Vec<OutsideEndpoint> {
        let outside = self.outside(prefixes);
        if !outside.is_empty() {
            for group in &mut self.groups {
                group.endpoints.retain(|e| e.addresses.iter().all(|a| prefixes.contains(*a)));
            }
        }
        outside
    }
}

/// An endpoint outside its cluster's prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutsideEndpoint {
    /// Index of its group.
    pub group: usize,
    /// Index in the group.
    pub endpoint: usize,
    /// Its first address that is outside.
    pub address: IpAddr,
}

impl Display for OutsideEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { group, endpoint, address } = self;
        write!(f, "groups[{group}].endpoints[{endpoint}] has {address}, which is outside the cluster's prefixes")
    }
}

fn check_group(at: &str, group: &EndpointGroup) -> Result<(), Fault> {
    at_most(&format!("{at}ports"), group.ports.len(), MAX_PORTS)?;
    at_most(&format!("{at}endpoints"), group.endpoints.len(), MAX_GROUP_ENDPOINTS)?;
    check_ports(group.ports.iter().map(|p| (p.name.as_str(), p.protocol, p.port, p.app_protocol.as_deref())))
        .map_err(|f| f.inside(at))?;
    if let Some(i) = group.ports.iter().position(|p| p.service_port == Some(0)) {
        return Err(fault(format!("{at}ports[{i}].servicePort"), 0, "it must be 1 to 65535"));
    }
    for (i, endpoint) in group.endpoints.iter().enumerate() {
        let field = |name: &str| format!("{at}endpoints[{i}].{name}");
        if endpoint.addresses.is_empty() {
            return Err(fault(field("addresses"), "", "it must have at least one address"));
        }
        at_most(&field("addresses"), endpoint.addresses.len(), MAX_ENDPOINT_ADDRESSES)?;
        if let Some(address) = endpoint.addresses.iter().find(|a| IpFamily::of(**a) != group.family) {
            return Err(fault(field("addresses"), address, format!("it must be {}, as its group is", group.family)));
        }
        if let Some(hostname) = endpoint.hostname.as_ref().filter(|h| !is_dns_label(h)) {
            return Err(fault(field("hostname"), hostname, DNS_LABEL));
        }
        if let Some(zone) = endpoint.zone.as_ref().filter(|z| !z.is_empty() && !is_name(z)) {
            return Err(fault(field("zone"), zone, LABEL_VALUE));
        }
    }
    Ok(())
}
