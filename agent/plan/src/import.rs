//! Imports down: what each exported name is in this cluster, with its endpoint slices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hawser_api::convert::condition::State;
use hawser_api::core::{EndpointSlice, ObjectMeta};
use hawser_api::mcs::{
    ClientIpConfig, ClusterStatus, ImportPort, ImportType, ServiceImport, ServiceImportSpec, ServiceImportStatus,
    SessionAffinityConfig,
};
use hawser_model::export::{Endpoint, EndpointGroup, EndpointPort, ExportEndpoints, ExportHeader, ServiceKind};
use hawser_model::localise::{Localised, NoVip, assign_vips, localise};
use hawser_model::merge::{Import, Merge, merge, routable_ports};
use hawser_model::{ClusterId, IpFamily, PrefixSet, ServiceName};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::condition::{Wanted, settle};
use crate::export::{Export, service_name};
use crate::remote::Reach;
use crate::slice::{Pool, Source, slices};

/// One cluster's part in a service.
pub(crate) struct Offer<'a> {
    pub(crate) cluster: &'a ClusterId,
    pub(crate) header: &'a ExportHeader,
    pub(crate) endpoints: Option<&'a ExportEndpoints>,
    /// What the cluster routes: endpoints elsewhere are left out.
    pub(crate) prefixes: &'a PrefixSet,
    /// How it is reached; none for this cluster itself.
    pub(crate) reach: Option<&'a Reach>,
    /// Nodes of this cluster's own endpoints.
    pub(crate) nodes: Option<&'a BTreeMap<IpAddr, String>>,
}

impl<'a> Offer<'a> {
    /// This cluster's own export.
    pub(crate) fn own(export: &'a Export, prefixes: &'a PrefixSet) -> Self {
        Self {
            cluster: &export.header.cluster,
            header: &export.header,
            endpoints: Some(&export.endpoints),
            prefixes,
            reach: None,
            nodes: Some(&export.nodes),
        }
    }

    fn is_dark(&self) -> bool {
        self.reach.is_some_and(Reach::is_dark)
    }

    fn groups(&self) -> impl Iterator<Item = &'a EndpointGroup> + use<'a> {
        self.endpoints.into_iter().flat_map(|e| &e.groups)
    }

    /// The endpoints of a group that this cluster may send to.
    fn inside(&self, group: &'a EndpointGroup) -> impl Iterator<Item = &'a Endpoint> + use<'a> {
        let prefixes = self.prefixes;
        group.endpoints.iter().filter(move |e| e.addresses.iter().all(|a| prefixes.contains(*a)))
    }
}

/// What this cluster can serve imports with.
pub(crate) struct Means<'a> {
    pub(crate) families: &'a [IpFamily],
    pub(crate) vip_prefixes: &'a [IpNet],
    pub(crate) now: Timestamp,
}

/// An import and all that belongs to it.
pub(crate) struct Imported {
    pub(crate) object: ServiceImport,
    pub(crate) status: ServiceImportStatus,
    pub(crate) slices: Vec<EndpointSlice>,
    pub(crate) merge: Merge,
    /// Endpoints left out, in words.
    pub(crate) skipped: Vec<String>,
}

/// Every service with an offer.
pub(crate) fn imports(
    offers: &BTreeMap<ServiceName, Vec<Offer<'_>>>,
    existing: &[Arc<ServiceImport>],
    means: &Means<'_>,
) -> BTreeMap<ServiceName, Imported> {
    let before: BTreeMap<ServiceName, &ServiceImport> =
        existing.iter().filter_map(|i| Some((service_name(&i.metadata)?, &**i))).collect();
    let mut vips = Vips::of(&before);
    offers
        .iter()
        .filter_map(|(service, offers)| {
            let merge = merge(offers.iter().map(|o| o.header))?;
            Some((service.clone(), imported(service, merge, offers, before.get(service).copied(), means, &mut vips)))
        })
        .collect()
}

/// Which import has which virtual address. An address that two claim stays with the first by name.
struct Vips {
    owners: BTreeMap<IpAddr, ServiceName>,
}

impl Vips {
    fn of(imports: &BTreeMap<ServiceName, &ServiceImport>) -> Self {
        let mut owners = BTreeMap::new();
        for (service, import) in imports {
            for ip in import.spec.ips.iter().filter_map(|ip| ip.parse().ok()) {
                owners.entry(ip).or_insert_with(|| service.clone());
            }
        }
        Self { owners }
    }

    fn assign(
        &mut self,
        service: &ServiceName,
        families: &[IpFamily],
        prefixes: &[IpNet],
    ) -> Result<Vec<IpAddr>, NoVip> {
        let current: Vec<IpAddr> = self.owners.iter().filter(|(_, s)| *s == service).map(|(ip, _)| *ip).collect();
        let taken: BTreeSet<IpAddr> = self.owners.iter().filter(|(_, s)| *s != service).map(|(ip, _)| *ip).collect();
        let assigned = assign_vips(families, prefixes, &current, &taken, service)?;
        self.owners.extend(assigned.iter().map(|ip| (*ip, service.clone())));
        Ok(assigned)
    }
}

fn imported(
    service: &ServiceName,
    merge: Merge,
    offers: &[Offer<'_>],
    existing: Option<&ServiceImport>,
    means: &Means<'_>,
    vips: &mut Vips,
) -> Imported {
    let local = localise(&merge.import, &servable(merge.import.kind, means));
    let (ips, lack) = match vips.assign(service, &local.vips, means.vip_prefixes) {
        Ok(ips) => (ips, None),
        Err(e) => (Vec::new(), Some(e)),
    };
    let object = ServiceImport {
        metadata: ObjectMeta {
            namespace: Some(service.namespace.to_string()),
            name: Some(service.name.to_string()),
            labels: non_empty(&merge.import.labels),
            annotations: non_empty(&merge.import.annotations),
            ..ObjectMeta::default()
        },
        // Without its addresses an import names no families either: readers take both from one write.
        spec: spec(&merge.import, &ips, if lack.is_some() { &[] } else { &local.ip_families }),
        status: None,
    };
    let status = status(&merge.import, &local, &ips, lack.as_ref(), existing, means.now);
    let mut skipped = Vec::new();
    let slices = service_slices(service, &merge.import, &local, offers, existing, means.now, &mut skipped);
    Imported { object, status, slices, merge, skipped }
}

/// The families that an import of this kind can have here: a virtual address needs a prefix to come from, too.
fn servable(kind: ServiceKind, means: &Means<'_>) -> Vec<IpFamily> {
    let with_vips: Vec<IpFamily> = means
        .families
        .iter()
        .copied()
        .filter(|f| means.vip_prefixes.iter().any(|p| IpFamily::of_net(p) == *f))
        .collect();
    match kind {
        ServiceKind::ClusterSetIp if !with_vips.is_empty() => with_vips,
        ServiceKind::ClusterSetIp | ServiceKind::Headless => means.families.to_vec(),
    }
}

fn non_empty(map: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then(|| map.clone())
}

fn spec(import: &Import, ips: &[IpAddr], families: &[IpFamily]) -> ServiceImportSpec {
    ServiceImportSpec {
        ports: import
            .ports
            .iter()
            .map(|p| ImportPort {
                name: (!p.name.is_empty()).then(|| p.name.clone()),
                protocol: Some(p.protocol.as_str().to_owned()),
                app_protocol: p.app_protocol.clone(),
                port: i32::from(p.port),
            })
            .collect(),
        ips: ips.iter().map(ToString::to_string).collect(),
        type_: match import.kind {
            ServiceKind::ClusterSetIp => ImportType::ClusterSetIP,
            ServiceKind::Headless => ImportType::Headless,
        },
        session_affinity: Some(import.session_affinity.as_str().to_owned()),
        session_affinity_config: import.session_affinity_timeout.map(|seconds| SessionAffinityConfig {
            client_ip: Some(ClientIpConfig { timeout_seconds: i32::try_from(seconds).ok() }),
        }),
        ip_families: families.iter().map(ToString::to_string).collect(),
        internal_traffic_policy: Some(import.internal_traffic_policy.as_str().to_owned()),
        traffic_distribution: import.traffic_distribution.clone(),
    }
}

fn status(
    import: &Import,
    local: &Localised,
    ips: &[IpAddr],
    lack: Option<&NoVip>,
    existing: Option<&ServiceImport>,
    now: Timestamp,
) -> ServiceImportStatus {
    let before = existing.and_then(|e| e.status.as_ref()).map(|s| s.conditions.as_slice()).unwrap_or_default();
    let ready = match (lack, local.ready(ips)) {
        (Some(lack), _) => Wanted::new("Ready", State::False, "Pending", lack.to_string()),
        (None, r) => Wanted::new("Ready", r.ready.into(), r.reason, r.message),
    };
    let sliced = if local.ip_families.is_empty() { "Absent" } else { "Present" };
    ServiceImportStatus {
        clusters: import.clusters.iter().map(|c| ClusterStatus { cluster: c.to_string() }).collect(),
        conditions: settle(before, vec![ready], existing.and_then(|e| e.metadata.generation), now),
        endpoint_slice_objects: Some(sliced.to_owned()),
    }
}

fn service_slices(
    service: &ServiceName,
    import: &Import,
    local: &Localised,
    offers: &[Offer<'_>],
    existing: Option<&ServiceImport>,
    now: Timestamp,
    skipped: &mut Vec<String>,
) -> Vec<EndpointSlice> {
    let serves = |o: &Offer<'_>| !o.is_dark() && o.groups().any(|g| o.inside(g).any(|e| e.ready));
    let elsewhere = offers.iter().any(serves);
    let mut out = Vec::new();
    for offer in offers {
        if offer.reach.is_some_and(|r| r.is_gone(now)) {
            continue;
        }
        let source = Source {
            service,
            cluster: offer.cluster,
            owner_uid: existing.and_then(|e| e.metadata.uid.as_deref()),
            nodes: offer.nodes,
            // Where nothing else serves, endpoints of a dark cluster stay as they are: that costs no write and loses nothing.
            usable: !offer.is_dark() || (import.kind == ServiceKind::ClusterSetIp && !elsewhere),
        };
        let groups = || offer.groups().filter(|g| local.ip_families.contains(&g.family));
        let left_out: usize = groups().map(|g| g.endpoints.len() - offer.inside(g).count()).sum();
        if left_out > 0 {
            skipped.push(format!(
                "export {service} of cluster {}: endpoints: {left_out} lie outside the prefixes that cluster claims and are \
                 left out; claim their prefix there (Membership spec.prefixes) or correct the endpoints",
                offer.cluster
            ));
        }
        out.extend(slices(&source, groups().filter_map(|g| pool(import, offer, g)).collect()));
    }
    out
}

/// A group as it may be used: for a virtual address only the ports that the import leads to.
fn pool<'a>(import: &Import, offer: &Offer<'a>, group: &'a EndpointGroup) -> Option<Pool<'a>> {
    let ports: Vec<EndpointPort> = routable_ports(&import.ports, &group.ports)
        .into_iter()
        .map(|(_, p)| EndpointPort { service_port: None, ..p.clone() })
        .collect();
    if ports.is_empty() && import.kind == ServiceKind::ClusterSetIp {
        return None;
    }
    Some(Pool { family: group.family, ports, endpoints: offer.inside(group).collect() })
}
