//! Statuses of the operator's own objects: `Membership` and `ServiceExport`.

use hawser_api::convert::condition::State;
use hawser_api::core::{Condition, Time};
use hawser_api::hawser::{Membership, MembershipStatus, RosterMember};
use hawser_api::mcs::{ServiceExport, ServiceExportStatus};
use hawser_model::merge::Merge;
use jiff::Timestamp;

use crate::condition::{Wanted, keep, settle, whole_seconds};
use crate::export::Outcome;
use crate::shard::{RecordId, Refusal, Upload, Uploads};
use crate::view::{Identity, Link, Roster};

/// What this cluster is in its cluster set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has an identity and no roster says otherwise.
    Member,
    /// It has none.
    NotJoined,
    /// The roster ended its membership.
    Out {
        /// `Revoked`, `Replaced` or `NotInRoster`.
        reason: &'static str,
        /// What to do.
        message: String,
    },
    /// `Membership` names another cluster than the identity does.
    Renamed {
        /// What to do.
        message: String,
    },
}

impl Standing {
    /// Judges by the identity, the operator's object and the roster.
    #[must_use]
    pub fn of(identity: Option<&Identity>, membership: Option<&Membership>, roster: Option<&Roster>) -> Self {
        let Some(identity) = identity else { return Self::NotJoined };
        let own = (identity.cluster.clone(), identity.generation);
        if let Some(roster) = roster
            && !roster.members.contains_key(&own)
        {
            let newer = roster.members.keys().any(|(id, g)| *id == own.0 && *g > own.1);
            return if newer {
                Self::out("Replaced", "another cluster has joined with this id; leave, and join with an id of its own")
            } else if roster.revoked.contains(&own) {
                Self::out("Revoked", "an administrator revoked this cluster; leave, and join again with a new token")
            } else {
                Self::out(
                    "NotInRoster",
                    "the cluster set does not list this cluster; leave, and join again with a new token",
                )
            };
        }
        match membership {
            Some(m) if m.spec.cluster_id != identity.cluster.as_str() => Self::Renamed {
                message: format!(
                    "Membership default: spec.clusterId is {:?}, but this cluster joined as {:?}: an id is fixed while it is a \
                     member; set it back, or leave and join again",
                    m.spec.cluster_id,
                    identity.cluster.as_str()
                ),
            },
            Some(_) | None => Self::Member,
        }
    }

    fn out(reason: &'static str, remedy: &str) -> Self {
        Self::Out { reason, message: remedy.to_owned() }
    }
}

/// What is known of the prefixes this cluster claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Prefixes {
    Known,
    Missing,
    Invalid(String),
}

/// What the membership's status is made from.
pub(crate) struct MembershipFacts<'a> {
    pub(crate) standing: &'a Standing,
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) roster: Option<&'a Roster>,
    pub(crate) link: &'a Link,
    pub(crate) prefixes: &'a Prefixes,
    pub(crate) claim: Option<&'a Upload>,
    pub(crate) now: Timestamp,
}

/// The status of `Membership`.
pub(crate) fn membership(membership: &Membership, facts: &MembershipFacts<'_>) -> MembershipStatus {
    let before = membership.status.clone().unwrap_or_default();
    let wanted = vec![joined(facts.standing, facts.identity), reachable(facts), prefixes_known(facts)];
    let conditions = settle(&before.conditions, wanted, membership.metadata.generation, facts.now);
    let member = matches!(facts.standing, Standing::Member | Standing::Renamed { .. });
    let (roster_revision, members) = match (member, facts.identity, facts.roster) {
        (true, Some(identity), Some(roster)) => (
            i64::try_from(roster.revision).unwrap_or(i64::MAX),
            roster
                .peers(&identity.cluster)
                .map(|((id, generation), _)| RosterMember {
                    cluster_id: id.to_string(),
                    generation: i64::try_from(*generation).unwrap_or(i64::MAX),
                })
                .collect(),
        ),
        // The roster is on its way: what the last pass said still holds.
        (true, _, _) => (before.roster_revision, before.members),
        // Gateways refuse a lower revision, so it stays; without members they drop every peer.
        (false, _, roster) => {
            let known = roster.map_or(0, |r| i64::try_from(r.revision).unwrap_or(i64::MAX));
            (known.max(before.roster_revision), Vec::new())
        }
    };
    MembershipStatus {
        conditions,
        certificate_expires: facts.identity.map(|i| Time(whole_seconds(i.certificate_expires))),
        prefix_sources: membership.spec.prefixes.iter().map(|p| (p.clone(), "spec".to_owned())).collect(),
        roster_revision,
        members,
    }
}

fn joined(standing: &Standing, identity: Option<&Identity>) -> Wanted {
    let set = identity.map(|i| i.cluster_set.as_str()).unwrap_or_default();
    match standing {
        Standing::Member => Wanted::new("Joined", State::True, "Joined", format!("member of the cluster set {set:?}")),
        Standing::NotJoined => {
            Wanted::new("Joined", State::False, "NotJoined", "this cluster has no identity; join it with hawser join")
        }
        Standing::Out { reason, message } => {
            Wanted::new("Joined", State::False, reason, format!("not a member of the cluster set {set:?}: {message}"))
        }
        Standing::Renamed { message } => Wanted::new("Joined", State::False, "ClusterIdChanged", message.as_str()),
    }
}

fn reachable(facts: &MembershipFacts<'_>) -> Wanted {
    match (facts.identity, facts.link) {
        (None, _) => {
            Wanted::new("BrokerReachable", State::Unknown, "NotJoined", "there is no identity to connect with")
        }
        (Some(_), Link::Connected) => {
            Wanted::new("BrokerReachable", State::True, "Connected", "the stream to the broker is open")
        }
        (Some(_), Link::Connecting) => Wanted::new("BrokerReachable", State::Unknown, "Connecting", "not tried yet"),
        (Some(_), Link::Unreachable { reason, message, .. }) => {
            Wanted::new("BrokerReachable", State::False, reason, message.as_str())
        }
    }
}

fn prefixes_known(facts: &MembershipFacts<'_>) -> Wanted {
    let no = |reason: &str, message: String| Wanted::new("PrefixesKnown", State::False, reason, message);
    match (facts.prefixes, facts.claim) {
        (Prefixes::Missing, _) => {
            no("NoPrefixes", "spec.prefixes is empty: list the CIDRs that peers should route here".to_owned())
        }
        (Prefixes::Invalid(message), _) => no("Invalid", message.clone()),
        (Prefixes::Known, Some(Upload::Refused(refusal))) => no("Refused", refusal.to_string()),
        (Prefixes::Known, Some(Upload::Pending)) => Wanted::new(
            "PrefixesKnown",
            State::Unknown,
            "Pending",
            "the broker is being asked for the changed prefixes",
        ),
        (Prefixes::Known, Some(Upload::Durable) | None) => {
            Wanted::new("PrefixesKnown", State::True, "Known", "all prefixes are listed in spec.prefixes")
        }
    }
}

/// The status of an export of a member.
pub(crate) fn export(
    export: &ServiceExport,
    outcome: &Outcome,
    merged: Option<&Merge>,
    uploads: &Uploads,
    now: Timestamp,
) -> ServiceExportStatus {
    let before = export.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let generation = export.metadata.generation;
    let settle = |wanted: Wanted| settle(before, vec![wanted], generation, now);
    let valid = Wanted::new("Valid", State::True, "Valid", "the Service can be exported");
    let mut conditions = Vec::new();
    match outcome {
        Outcome::Invalid { reason, message } => {
            conditions.extend(settle(Wanted::new("Valid", State::False, reason, message.as_str())));
            conditions.extend(settle(Wanted::new("Ready", State::False, "Failed", message.as_str())));
        }
        Outcome::Denied { message } => {
            conditions.extend(settle(valid));
            conditions.extend(settle(Wanted::new("Ready", State::False, "Failed", message.as_str())));
        }
        Outcome::Valid(own) => {
            conditions.extend(settle(valid));
            conditions.extend(match published(own, uploads) {
                Published::Yes => settle(Wanted::new("Ready", State::True, "Exported", "the broker holds it")),
                Published::Pending => settle(pending("it is on its way to the broker")),
                Published::Refused(refusal) => {
                    settle(Wanted::new("Ready", State::False, "Failed", refusal.to_string()))
                }
                // A restart without a broker takes nothing back.
                Published::Unknown => match keep(before, "Ready") {
                    Some(ready) => vec![ready],
                    None => settle(pending("the broker has not been reached yet")),
                },
            });
            conditions.extend(match merged {
                Some(merged) => settle(conflict(merged)),
                None => keep(before, "Conflict").into_iter().collect(),
            });
            if !own.skipped.is_empty() {
                conditions.extend(settle(skipped(&own.skipped)));
            }
        }
    }
    ServiceExportStatus { conditions }
}

/// The status of an export while this cluster is no member.
pub(crate) fn export_of_none(export: &ServiceExport, now: Timestamp) -> ServiceExportStatus {
    let before = export.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let conditions: Vec<Condition> = settle(
        before,
        vec![pending("this cluster is not a member of a cluster set; join it with hawser join")],
        export.metadata.generation,
        now,
    );
    ServiceExportStatus { conditions }
}

fn pending(message: &str) -> Wanted {
    Wanted::new("Ready", State::False, "Pending", message)
}

fn conflict(merged: &Merge) -> Wanted {
    Wanted::new("Conflict", (!merged.conflicts.is_empty()).into(), &merged.reason(), merged.message())
}

fn skipped(skipped: &[String]) -> Wanted {
    const SHOWN: usize = 5;
    let mut message = skipped.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if skipped.len() > SHOWN {
        message.push_str(&format!("; and {} more", skipped.len() - SHOWN));
    }
    Wanted::new("EndpointsSkipped", State::True, "NotPublishable", message)
}

enum Published {
    Yes,
    Pending,
    Refused(Refusal),
    Unknown,
}

fn published(own: &crate::export::Export, uploads: &Uploads) -> Published {
    let service = &own.header.service;
    let states =
        [RecordId::Header(service.clone()), RecordId::Endpoints(service.clone())].map(|id| uploads.records.get(&id));
    if let Some(refusal) = states.iter().find_map(|s| match s {
        Some(Upload::Refused(refusal)) => Some(refusal),
        Some(Upload::Pending | Upload::Durable) | None => None,
    }) {
        return Published::Refused(refusal.clone());
    }
    if states.iter().all(|s| *s == Some(&Upload::Durable)) {
        Published::Yes
    } else if states.iter().all(Option::is_none) {
        Published::Unknown
    } else {
        Published::Pending
    }
}
