//! Why exports of one name conflict, and how it is said on each of them.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::Import;
use crate::export::{ExportHeader, ServicePort};
use crate::{ClusterId, IpFamily};

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

/// A port that an older export's port excludes.
pub(super) struct LostPort<'a> {
    pub(super) cluster: &'a ClusterId,
    pub(super) port: &'a ServicePort,
}

/// What `by_age`, all exports of a service and never none, disagree on. `import` is their merge.
pub(super) fn conflicts(by_age: &[&ExportHeader], import: &Import, lost: &[LostPort<'_>]) -> Vec<Conflict> {
    Exports(by_age).conflicts(import, lost)
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
