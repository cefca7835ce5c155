//! One import out of all exports of a name (KEP-1645), and where they conflict.
//!
//! Conflicts and their messages are in `conflict`.
//!
//! A function of the headers alone, the same in every cluster and in any order of arrival: the older export wins, then the
//! lower cluster id. What one cluster can serve of the result is in [`crate::localise`].

use std::collections::{BTreeMap, BTreeSet};

use crate::export::{EndpointPort, ExportHeader, InternalTrafficPolicy, ServiceKind, ServicePort, SessionAffinity};
use crate::{ClusterId, IpFamily, ServiceName};

mod conflict;

pub use conflict::{Conflict, ConflictReason};
use conflict::{LostPort, conflicts};

/// What a service of the cluster set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The service.
    pub service: ServiceName,
    /// Headless or not.
    pub kind: ServiceKind,
    /// The union of all exports' ports, those of older exports first; no name twice, no (protocol, number) twice.
    pub ports: Vec<ServicePort>,
    /// Session affinity.
    pub session_affinity: SessionAffinity,
    /// `sessionAffinityConfig.clientIP.timeoutSeconds`.
    pub session_affinity_timeout: Option<u32>,
    /// Internal traffic policy.
    pub internal_traffic_policy: InternalTrafficPolicy,
    /// Traffic distribution hint, if any.
    pub traffic_distribution: Option<String>,
    /// The union of all exports' families, those of older exports first.
    pub ip_families: Vec<IpFamily>,
    /// Labels of the oldest export.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the oldest export.
    pub annotations: BTreeMap<String, String>,
    /// The exporting clusters, sorted.
    pub clusters: Vec<ClusterId>,
}

/// The outcome of a merge. Conflicts are those of every exporting cluster: each sets them on its own export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// The import.
    pub import: Import,
    /// The cluster whose export is the oldest.
    pub oldest: ClusterId,
    /// What the exports disagree on, in the order of [`ConflictReason`].
    pub conflicts: Vec<Conflict>,
}

impl Merge {
    /// The `reason` of the condition `Conflict`: all reasons joined by commas, or `NoConflicts`.
    #[must_use]
    pub fn reason(&self) -> String {
        if self.conflicts.is_empty() {
            return "NoConflicts".to_owned();
        }
        self.conflicts.iter().map(|c| c.reason.as_str()).collect::<Vec<_>>().join(",")
    }

    /// The `message` of the condition `Conflict`.
    #[must_use]
    pub fn message(&self) -> String {
        if self.conflicts.is_empty() {
            return "All exports of this service agree.".to_owned();
        }
        self.conflicts.iter().map(|c| c.message.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// Merges the exports of one service. Headers of other services than the oldest's are left out, and so is all but the
/// oldest of one cluster. None if there is no header.
#[must_use]
pub fn merge<'a>(headers: impl IntoIterator<Item = &'a ExportHeader>) -> Option<Merge> {
    let by_age = by_age(headers);
    let oldest = *by_age.first()?;
    let (ports, lost) = merge_ports(&by_age);
    let mut clusters: Vec<ClusterId> = by_age.iter().map(|h| h.cluster.clone()).collect();
    clusters.sort();
    let import = Import {
        service: oldest.service.clone(),
        kind: oldest.kind,
        ports,
        session_affinity: oldest.session_affinity,
        session_affinity_timeout: oldest.session_affinity_timeout,
        internal_traffic_policy: oldest.internal_traffic_policy,
        traffic_distribution: oldest.traffic_distribution.clone(),
        ip_families: merge_families(&by_age),
        labels: oldest.labels.clone(),
        annotations: oldest.annotations.clone(),
        clusters,
    };
    let conflicts = conflicts(&by_age, &import, &lost);
    Some(Merge { import, oldest: oldest.cluster.clone(), conflicts })
}

/// The exports of the oldest's service, oldest first, one per cluster.
fn by_age<'a>(headers: impl IntoIterator<Item = &'a ExportHeader>) -> Vec<&'a ExportHeader> {
    let mut headers: Vec<&ExportHeader> = headers.into_iter().collect();
    // The whole header last: even two headers of one cluster are in one order everywhere.
    headers.sort_by(|a, b| (a.created, &a.cluster, a).cmp(&(b.created, &b.cluster, b)));
    if let Some(service) = headers.first().map(|h| h.service.clone()) {
        let mut seen = BTreeSet::new();
        headers.retain(|h| h.service == service && seen.insert(&h.cluster));
    }
    headers
}

/// The union, by name, then by (protocol, number).
fn merge_ports<'a>(by_age: &[&'a ExportHeader]) -> (Vec<ServicePort>, Vec<LostPort<'a>>) {
    let mut union: Vec<ServicePort> = Vec::new();
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut lost = Vec::new();
    for header in by_age {
        for port in &header.ports {
            let number = (port.protocol, port.port);
            if !names.contains(port.name.as_str()) && !numbers.contains(&number) {
                names.insert(port.name.as_str());
                numbers.insert(number);
                union.push(port.clone());
            } else if !union.contains(port) {
                lost.push(LostPort { cluster: &header.cluster, port });
            }
        }
    }
    (union, lost)
}

fn merge_families(by_age: &[&ExportHeader]) -> Vec<IpFamily> {
    let mut union = Vec::new();
    for family in by_age.iter().flat_map(|h| &h.ip_families) {
        if !union.contains(family) {
            union.push(*family);
        }
    }
    union
}

/// The ports of a group of endpoints that an import's ports lead to, each with the import's.
///
/// Only where name, protocol and the *source Service's* number are the import's: a port of the same name and another number
/// would take traffic that its cluster never exported. A group port without a Service port counts by its own number.
#[must_use]
pub fn routable_ports<'i, 'g>(
    import: &'i [ServicePort],
    group: &'g [EndpointPort],
) -> Vec<(&'i ServicePort, &'g EndpointPort)> {
    let same = |i: &ServicePort, g: &EndpointPort| {
        i.name == g.name && i.protocol == g.protocol && i.port == g.service_port.unwrap_or(g.port)
    };
    group.iter().filter_map(|g| import.iter().find(|i| same(i, g)).map(|i| (i, g))).collect()
}

#[cfg(test)]
mod tests;
