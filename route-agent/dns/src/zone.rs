//! The zone: what there is, indexed by name, and the answer to one question.
//!
//! Made in one go from local objects and never changed; a change makes a new zone. What a name means is in [`name`], the
//! records behind it in [`lookup`]; messages around it are in [`crate::respond`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hawser_model::export::{Endpoint, EndpointPort, Protocol, ServiceKind, ServicePort};
use hawser_model::id::is_dns_label;
use hawser_model::{ClusterId, ServiceName};

pub mod lookup;
pub mod name;

/// The most endpoints that one headless name stands for: an answer is no larger than a TCP message.
pub const MAX_HOSTS: usize = 1_000;

/// What the zone is made from.
#[derive(Debug, Clone, Default)]
pub struct ZoneInput {
    /// Namespaces of this cluster: their names exist, others don't.
    pub namespaces: BTreeSet<Arc<str>>,
    /// Imports; one in an unknown namespace is left out.
    pub imports: Vec<ImportInput>,
    /// Endpoints of headless imports, in any order; of other imports they are left out.
    pub endpoints: Vec<EndpointsInput>,
    /// Clusters that no gateway reaches: their endpoints are left out of headless answers.
    pub dark: BTreeSet<ClusterId>,
    /// Whether all of the above is complete; until then what isn't found fails instead of being denied.
    pub synced: bool,
    /// Serial of the SOA: grows with each change.
    pub serial: u32,
    /// Addresses of `ns.dns.clusterset.local`: where this server is asked, the site's `dnsAddress`.
    pub nameservers: Vec<IpAddr>,
}

/// An import.
#[derive(Debug, Clone)]
pub struct ImportInput {
    /// The service.
    pub service: ServiceName,
    /// Headless or not.
    pub kind: ServiceKind,
    /// Its virtual addresses; none for headless ones.
    pub vips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// Endpoints of an import that share ports and a cluster: one imported endpoint slice.
#[derive(Debug, Clone)]
pub struct EndpointsInput {
    /// The service.
    pub service: ServiceName,
    /// The exporting cluster.
    pub cluster: ClusterId,
    /// The ports of every endpoint of it.
    pub ports: Vec<EndpointPort>,
    /// The endpoints; those not ready are left out.
    pub endpoints: Vec<Endpoint>,
}

/// The zone as it is now.
#[derive(Debug, Default)]
pub struct Zone {
    namespaces: HashMap<Arc<str>, HashMap<Arc<str>, Service>>,
    synced: bool,
    serial: u32,
    nameservers: Addresses,
}

#[derive(Debug)]
enum Service {
    Virtual { vips: Addresses, ports: Vec<Port> },
    Headless { hosts: Vec<Host> },
}

/// A port by the name that SRV records know it by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    name: String,
    protocol: Protocol,
    number: u16,
}

/// A named endpoint: several addresses where several endpoints share a hostname.
#[derive(Debug)]
struct Host {
    cluster: ClusterId,
    /// A DNS label: the endpoint's hostname, or its address with dashes.
    label: String,
    addresses: Addresses,
    ports: BTreeSet<Port>,
}

#[derive(Debug, Default)]
struct Addresses {
    v4: BTreeSet<Ipv4Addr>,
    v6: BTreeSet<Ipv6Addr>,
}

impl Addresses {
    fn insert(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(a) => self.v4.insert(a),
            IpAddr::V6(a) => self.v6.insert(a),
        };
    }

    fn count(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

impl Extend<IpAddr> for Addresses {
    fn extend<T: IntoIterator<Item = IpAddr>>(&mut self, addresses: T) {
        addresses.into_iter().for_each(|a| self.insert(a));
    }
}

impl Zone {
    /// Indexes `input`.
    #[must_use]
    pub fn new(input: &ZoneInput) -> Self {
        let mut hosts = index_hosts(input);
        let mut namespaces: HashMap<Arc<str>, HashMap<Arc<str>, Service>> =
            input.namespaces.iter().map(|n| (n.clone(), HashMap::new())).collect();
        for import in &input.imports {
            let Some(services) = namespaces.get_mut(&import.service.namespace) else { continue };
            let service = match import.kind {
                ServiceKind::ClusterSetIp => {
                    let mut vips = Addresses::default();
                    vips.extend(import.vips.iter().copied());
                    let port = |p: &ServicePort| Port { name: p.name.clone(), protocol: p.protocol, number: p.port };
                    Service::Virtual { vips, ports: import.ports.iter().map(port).collect() }
                }
                ServiceKind::Headless => Service::Headless { hosts: hosts.remove(&import.service).unwrap_or_default() },
            };
            services.insert(import.service.name.clone(), service);
        }
        let mut nameservers = Addresses::default();
        nameservers.extend(input.nameservers.iter().copied());
        Self { namespaces, synced: input.synced, serial: input.serial, nameservers }
    }
}

/// The ready endpoints of every service, named, in the order of (cluster, name).
fn index_hosts(input: &ZoneInput) -> HashMap<&ServiceName, Vec<Host>> {
    let mut named: HashMap<&ServiceName, BTreeMap<(&ClusterId, String), Host>> = HashMap::new();
    for slice in input.endpoints.iter().filter(|s| !input.dark.contains(&s.cluster)) {
        let hosts = named.entry(&slice.service).or_default();
        for endpoint in slice.endpoints.iter().filter(|e| e.ready) {
            for address in &endpoint.addresses {
                let label = host_label(endpoint, *address);
                let host = hosts.entry((&slice.cluster, label)).or_insert_with_key(|(cluster, label)| Host {
                    cluster: (*cluster).clone(),
                    label: label.clone(),
                    addresses: Addresses::default(),
                    ports: BTreeSet::new(),
                });
                host.addresses.insert(*address);
                host.ports.extend(slice.ports.iter().map(|p| Port {
                    name: p.name.clone(),
                    protocol: p.protocol,
                    number: p.port,
                }));
            }
        }
    }
    named.into_iter().map(|(service, hosts)| (service, hosts.into_values().take(MAX_HOSTS).collect())).collect()
}

/// The endpoint's hostname if it has a usable one, else its address with dashes for dots and colons.
fn host_label(endpoint: &Endpoint, address: IpAddr) -> String {
    if let Some(hostname) = &endpoint.hostname
        && is_dns_label(hostname)
    {
        return hostname.clone();
    }
    let mut label = address.to_string().replace(['.', ':'], "-");
    // `::1` and `fd00::` would begin and end with a dash, which a label may not.
    if label.starts_with('-') {
        label.insert(0, '0');
    }
    if label.ends_with('-') {
        label.push('0');
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(hostname: Option<&str>) -> Endpoint {
        Endpoint {
            addresses: Vec::new(),
            hostname: hostname.map(Into::into),
            zone: None,
            ready: true,
            serving: true,
            terminating: false,
        }
    }

    #[test]
    fn every_endpoint_has_a_label() {
        let rows = [
            (Some("web-0"), "10.1.0.1", "web-0"),
            (None, "10.1.0.1", "10-1-0-1"),
            (None, "5678:abcd::1", "5678-abcd--1"),
            (None, "fd00::", "fd00--0"),
            (None, "::1", "0--1"),
            (Some("Not.A_Label"), "10.1.0.1", "10-1-0-1"),
        ];
        for (hostname, address, want) in rows {
            let label = host_label(&endpoint(hostname), address.parse().unwrap());
            assert_eq!(label, want);
            assert!(is_dns_label(&label));
        }
    }
}
