//! One pass: everything the agent knows in, everything it should do out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hawser_api::convert;
use hawser_api::core::ObjectMeta;
use hawser_api::hawser::Membership;
use hawser_api::labels;
use hawser_api::mcs::{ClusterProperty, ClusterPropertySpec};
use hawser_model::prefix::parse_prefix;
use hawser_model::{ClusterId, IpFamily, PrefixSet, ServiceName};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::diff::{Desired, HandsOff, Write, diff, name};
use crate::export::{self, FirstSeen, Outcome, families_of, service_name};
use crate::import::{Imported, Means, Offer, imports};
use crate::local::Local;
use crate::remote::{self, Reach};
use crate::shard::{Record, RecordId, Shard, Upload, Uploads};
use crate::status::{self, MembershipFacts, Prefixes, Standing};
use crate::view::{Identity, Link, MemberKey, Roster, View};

/// Everything a pass is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The local API's objects, each kind complete.
    pub local: &'a Local,
    /// This cluster's identity; none: not joined, or it has left.
    pub identity: Option<&'a Identity>,
    /// The highest verified roster.
    pub roster: Option<&'a Roster>,
    /// The last synced view; none: there has never been one on this host.
    pub view: Option<&'a View>,
    /// Members whose agents have no stream, since when.
    pub silent: &'a BTreeMap<ClusterId, Timestamp>,
    /// How the stream stands.
    pub link: &'a Link,
    /// What became of this cluster's records.
    pub uploads: &'a Uploads,
    /// When exports were first seen.
    pub first_seen: &'a FirstSeen,
    /// The time.
    pub now: Timestamp,
}

/// What a pass came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What this cluster is in its set.
    pub standing: Standing,
    /// What to publish; none: leave it as it is.
    pub shard: Option<Shard>,
    /// Namespaces to hear about.
    pub interest: BTreeSet<String>,
    /// What to write locally, in this order.
    pub writes: Vec<Write>,
    /// Input that was left out: object, field, rule, remedy.
    pub skipped: Vec<String>,
}

/// Plans one pass. Deterministic; applying the writes and planning again gives none.
#[must_use]
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let membership = inputs.local.membership.as_deref();
    let standing = Standing::of(inputs.identity, membership, inputs.roster);
    let mut pass = Pass { inputs, desired: Desired::default(), skipped: Vec::new() };
    let (prefixes, known) = own_prefixes(membership);
    let mut shard = None;
    match (&standing, inputs.identity) {
        (Standing::Member, Some(identity)) => shard = pass.member(identity, &prefixes, &known),
        (Standing::Renamed { .. }, _) | (Standing::Member, None) => pass.keep_everything(),
        (Standing::NotJoined | Standing::Out { .. }, _) => pass.nothing(),
    }
    pass.desired.membership = membership.map(|m| {
        let facts = MembershipFacts {
            standing: &standing,
            identity: inputs.identity,
            roster: inputs.roster,
            link: inputs.link,
            prefixes: &known,
            claim: inputs.uploads.claim.as_ref(),
            now: inputs.now,
        };
        status::membership(m, &facts)
    });
    let writes = diff(&pass.desired, inputs.local);
    let interest = inputs.local.usable_namespaces().map(str::to_owned).collect();
    Plan { standing, shard, interest, writes, skipped: pass.skipped }
}

struct Pass<'a> {
    inputs: &'a Inputs<'a>,
    desired: Desired,
    skipped: Vec<String>,
}

impl Pass<'_> {
    fn keep_everything(&mut self) {
        let namespaces = |n: &ObjectMeta| n.namespace.clone();
        let local = self.inputs.local;
        let all = local.imports.iter().filter_map(|i| namespaces(&i.metadata));
        let all = all.chain(local.imported_slices().filter_map(|s| namespaces(&s.metadata)));
        self.desired.hands_off = HandsOff { properties: true, remotes: true, namespaces: all.collect(), sources: None };
    }

    fn nothing(&mut self) {
        for export in &self.inputs.local.exports {
            self.desired.exports.insert(name(&export.metadata), status::export_of_none(export, self.inputs.now));
        }
    }

    fn member(&mut self, identity: &Identity, prefixes: &PrefixSet, known: &Prefixes) -> Option<Shard> {
        self.desired.properties = properties(identity);
        let reaches = remote::reaches(self.inputs.local);
        self.remotes(identity, &reaches);
        if *known != Prefixes::Known {
            // Without prefixes of its own this cluster can judge neither its exports nor what it could serve.
            self.hands_off(identity, self.inputs.local.usable_namespaces());
            return None;
        }
        let outcomes = export::outcomes(self.inputs.local, identity, prefixes, self.inputs.first_seen);
        let imported = self.imports(identity, prefixes, &outcomes, &reaches);
        self.export_statuses(&outcomes, &imported);
        for (service, i) in imported {
            let key = (service.namespace.to_string(), service.name.to_string());
            self.desired.slices.extend(i.slices.into_iter().map(|s| (name(&s.metadata), s)));
            self.desired.imports.insert(key, (i.object, i.status));
            self.skipped.extend(i.skipped);
        }
        Some(self.shard(prefixes, outcomes))
    }

    fn remotes(&mut self, identity: &Identity, reaches: &BTreeMap<MemberKey, Reach>) {
        let Some(roster) = self.inputs.roster else {
            self.desired.hands_off.remotes = true;
            return;
        };
        let (unknown, failovers) = (Reach::Unknown, remote::failovers(self.inputs.local));
        for (member, prefixes) in roster.peers(&identity.cluster) {
            let id = member.0.to_string();
            let existing = self.inputs.local.remote_clusters.iter().find(|r| r.metadata.name.as_deref() == Some(&id));
            let existing = existing.map(|e| &**e);
            let object = remote::object(member, prefixes, roster.revision, self.inputs.view, existing);
            let reach = reaches.get(member).unwrap_or(&unknown);
            let silence = remote::Silence {
                agent: self.inputs.silent.get(&member.0).copied(),
                broker: self.inputs.link.silent_since(self.inputs.now),
            };
            let failover = failovers.get(member).copied();
            let status = remote::status(reach, silence, failover, existing, self.inputs.now);
            self.desired.remotes.insert(id, (object, status));
        }
    }

    fn imports(
        &mut self,
        identity: &Identity,
        prefixes: &PrefixSet,
        outcomes: &BTreeMap<ServiceName, Outcome>,
        reaches: &BTreeMap<MemberKey, Reach>,
    ) -> BTreeMap<ServiceName, Imported> {
        let local = self.inputs.local;
        let usable: BTreeSet<&str> = local.usable_namespaces().collect();
        let covered = |n: &str| self.inputs.view.is_some_and(|v| v.namespaces.contains(n));
        let (Some(view), Some(roster)) = (self.inputs.view, self.inputs.roster) else {
            self.hands_off(identity, usable.iter().copied());
            return BTreeMap::new();
        };
        self.hands_off(identity, usable.iter().copied().filter(|n| !covered(n)));
        let open = |service: &ServiceName| usable.contains(&*service.namespace) && covered(&service.namespace);
        let mut offers: BTreeMap<ServiceName, Vec<Offer<'_>>> = BTreeMap::new();
        for (service, outcome) in outcomes {
            if let Outcome::Valid(export) = outcome
                && open(service)
                && !self.is_refused(service)
            {
                offers.entry(service.clone()).or_default().push(Offer::own(export, prefixes));
            }
        }
        for (member, theirs) in roster.peers(&identity.cluster) {
            let Some(shard) = view.shards.get(member) else { continue };
            for (service, header) in shard.headers.iter().filter(|(s, _)| open(s)) {
                offers.entry(service.clone()).or_default().push(Offer {
                    cluster: &member.0,
                    header,
                    endpoints: shard.endpoints.get(service).map(|e| &**e),
                    prefixes: theirs,
                    reach: reaches.get(member),
                    nodes: None,
                });
            }
        }
        let families: Vec<IpFamily> = families_of(prefixes).into_iter().collect();
        let vip_prefixes = self.vip_prefixes();
        let means = Means { families: &families, vip_prefixes: &vip_prefixes, now: self.inputs.now };
        imports(&offers, &local.imports, &means)
    }

    /// Leaves `namespaces` as they are, but for slices of clusters that are certainly no members.
    fn hands_off<'n>(&mut self, identity: &Identity, namespaces: impl Iterator<Item = &'n str>) {
        self.desired.hands_off.namespaces = namespaces.map(str::to_owned).collect();
        self.desired.hands_off.sources = self
            .inputs
            .roster
            .map(|r| r.members.keys().map(|(id, _)| id.to_string()).chain([identity.cluster.to_string()]).collect());
    }

    fn vip_prefixes(&mut self) -> Vec<IpNet> {
        let mut out = Vec::new();
        for text in self.inputs.local.membership.iter().flat_map(|m| &m.spec.vip_prefixes) {
            match parse_prefix("spec.vipPrefixes", text) {
                Ok(net) => out.push(net),
                Err(e) => self.skipped.push(format!("Membership default: {e}; correct it")),
            }
        }
        out
    }

    fn is_refused(&self, service: &ServiceName) -> bool {
        matches!(self.inputs.uploads.records.get(&RecordId::Header(service.clone())), Some(Upload::Refused(_)))
    }

    fn export_statuses(
        &mut self,
        outcomes: &BTreeMap<ServiceName, Outcome>,
        imported: &BTreeMap<ServiceName, Imported>,
    ) {
        for object in &self.inputs.local.exports {
            let Some(service) = service_name(&object.metadata) else {
                let (namespace, name) = name(&object.metadata);
                self.skipped.push(format!(
                    "ServiceExport {namespace}/{name}: metadata.name: it must be a DNS label; rename it"
                ));
                continue;
            };
            if let Some(outcome) = outcomes.get(&service) {
                let merged = imported.get(&service).map(|i| &i.merge);
                let status = status::export(object, outcome, merged, self.inputs.uploads, self.inputs.now);
                self.desired.exports.insert(name(&object.metadata), status);
            }
        }
    }

    fn shard(&mut self, prefixes: &PrefixSet, outcomes: BTreeMap<ServiceName, Outcome>) -> Shard {
        let mut records = BTreeMap::new();
        for node in &self.inputs.local.gateway_nodes {
            match convert::gateway(node) {
                Ok(mut g) => {
                    g.preferred.retain(|p| prefixes.covers(p));
                    records.insert(RecordId::Gateway(g.node.clone()), Arc::new(Record::Gateway(g)));
                }
                Err(e) => self.skipped.push(e.to_string()),
            }
        }
        for (service, outcome) in outcomes {
            if let Outcome::Valid(export) = outcome {
                records.insert(RecordId::Header(service.clone()), Arc::new(Record::Header(export.header)));
                records.insert(RecordId::Endpoints(service), Arc::new(Record::Endpoints(export.endpoints)));
            }
        }
        Shard { claims: prefixes.clone(), records }
    }
}

fn properties(identity: &Identity) -> Vec<ClusterProperty> {
    [(labels::PROPERTY_CLUSTER, identity.cluster.as_str()), (labels::PROPERTY_CLUSTER_SET, &identity.cluster_set)]
        .map(|(name, value)| ClusterProperty {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            spec: ClusterPropertySpec { value: value.to_owned() },
            status: None,
        })
        .into()
}

/// What the operator lists. One bad prefix and the whole list is held back: a claim without it would cut off its pods.
fn own_prefixes(membership: Option<&Membership>) -> (PrefixSet, Prefixes) {
    let listed = membership.map(|m| m.spec.prefixes.as_slice()).unwrap_or_default();
    match PrefixSet::parse("spec.prefixes", listed) {
        Ok(prefixes) if prefixes.is_empty() => (prefixes, Prefixes::Missing),
        Ok(prefixes) => (prefixes, Prefixes::Known),
        Err(e) => (PrefixSet::default(), Prefixes::Invalid(format!("Membership default: {e}; correct it"))),
    }
}
