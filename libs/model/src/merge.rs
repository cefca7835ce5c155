//! One import out of all exports of a name (KEP-1645), and where they conflict.
//!
//! A function of the headers alone, the same in every cluster and in any order of arrival: the older export wins, then the
//! lower cluster id. What one cluster can serve of the result is in [`crate::localise`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use crate::export::{EndpointPort, ExportHeader, InternalTrafficPolicy, ServiceKind, ServicePort, SessionAffinity};
use crate::{ClusterId, IpFamily, ServiceName};

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

/// Why exports of one name conflict; the order is that of joined reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConflictReason {
    /// Ports differ.
    Port,
    /// Some are headless, some not.
    Type,
    /// Session affinity differs.
    SessionAffinity,
    /// The settings of session affinity differ.
    SessionAffinityConfig,
    /// Exported annotations differ.
    Annotations,
    /// Exported labels differ.
    Labels,
    /// Internal traffic policies differ.
    InternalTrafficPolicy,
    /// Traffic distribution hints differ.
    TrafficDistribution,
    /// Families differ: traffic of one family reaches only some clusters.
    IpFamily,
}

impl ConflictReason {
    /// The reason as the MCS API spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Port => "PortConflict",
            Self::Type => "TypeConflict",
            Self::SessionAffinity => "SessionAffinityConflict",
            Self::SessionAffinityConfig => "SessionAffinityConfigConflict",
            Self::Annotations => "AnnotationsConflict",
            Self::Labels => "LabelsConflict",
            Self::InternalTrafficPolicy => "InternalTrafficPolicyConflict",
            Self::TrafficDistribution => "TrafficDistributionConflict",
            Self::IpFamily => "IPFamilyConflict",
        }
    }
}

/// One property that exports disagree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Which.
    pub reason: ConflictReason,
    /// What is used, whose it is, how many disagree.
    pub message: String,
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
    let conflicts = Exports(&by_age).conflicts(&import, &lost);
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

/// A port that an older export's port excludes.
struct LostPort<'a> {
    cluster: &'a ClusterId,
    port: &'a ServicePort,
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

/// All exports of a service, oldest first; never empty.
struct Exports<'e, 'a>(&'e [&'a ExportHeader]);

impl Exports<'_, '_> {
    fn conflicts(&self, import: &Import, lost: &[LostPort<'_>]) -> Vec<Conflict> {
        use ConflictReason as R;
        let ports = |h: &ExportHeader| h.ports.iter().cloned().collect::<BTreeSet<ServicePort>>();
        let families = |h: &ExportHeader| h.ip_families.iter().copied().collect::<BTreeSet<IpFamily>>();
        let affinity_config = |h: &ExportHeader| h.session_affinity_timeout;
        let from_oldest = |value: &dyn Display| format!("{:?} from", value.to_string());
        let optional = |value: Option<&dyn Display>| value.map_or_else(|| "none from".to_owned(), from_oldest);
        let timeout = import.session_affinity_timeout.map(|s| format!("timeoutSeconds: {s}"));
        let using_ports =
            format!("the union of all ports{}, and where two exclude each other that of", lost_ports(lost));
        let using_families = format!(
            "{} (traffic of a family reaches only clusters that have it), ordered by",
            joined(&import.ip_families)
        );
        [
            self.compare(R::Port, "ports", &using_ports, ports),
            self.compare(R::Type, "type", &from_oldest(&import.kind.as_str()), |h| h.kind),
            self.compare(
                R::SessionAffinity,
                "session affinity",
                &from_oldest(&import.session_affinity.as_str()),
                |h| h.session_affinity,
            ),
            self.compare(
                R::SessionAffinityConfig,
                "session affinity config",
                &optional(timeout.as_ref().map(|t| t as _)),
                affinity_config,
            ),
            self.compare(R::Annotations, "annotations", "all those of", |h| h.annotations.clone()),
            self.compare(R::Labels, "labels", "all those of", |h| h.labels.clone()),
            self.compare(
                R::InternalTrafficPolicy,
                "internal traffic policy",
                &from_oldest(&import.internal_traffic_policy.as_str()),
                |h| h.internal_traffic_policy,
            ),
            self.compare(
                R::TrafficDistribution,
                "traffic distribution",
                &optional(import.traffic_distribution.as_ref().map(|t| t as _)),
                |h| h.traffic_distribution.clone(),
            ),
            self.compare(R::IpFamily, "IP families", &using_families, families),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// A conflict if some export's `value` isn't the oldest's.
    fn compare<T: PartialEq>(
        &self,
        reason: ConflictReason,
        what: &str,
        using: &str,
        value: impl Fn(&ExportHeader) -> T,
    ) -> Option<Conflict> {
        let oldest = *self.0.first()?;
        let expected = value(oldest);
        let disagree = self.0.iter().filter(|h| value(h) != expected).count();
        if disagree == 0 {
            return None;
        }
        let (cluster, all) = (oldest.cluster.as_str(), self.0.len());
        let message = format!(
            "Conflicting {what}. Using {using} oldest service export in {cluster:?}. {disagree}/{all} clusters disagree."
        );
        Some(Conflict { reason, message })
    }
}

/// The first few ports that nobody reaches as exported, in brackets.
fn lost_ports(lost: &[LostPort<'_>]) -> String {
    const SHOWN: usize = 3;
    if lost.is_empty() {
        return String::new();
    }
    let mut shown: Vec<String> = lost
        .iter()
        .take(SHOWN)
        .map(|l| format!("{:?} {}/{} of {:?}", l.port.name, l.port.port, l.port.protocol, l.cluster.as_str()))
        .collect();
    if lost.len() > SHOWN {
        shown.push(format!("{} more", lost.len() - SHOWN));
    }
    format!(" (without {})", shown.join(", "))
}

fn joined(families: &[IpFamily]) -> String {
    families.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
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
