//! What a record must be like before it is taken into its cluster's shard.

use std::net::IpAddr;

use hawser_model::claim::is_routable;
use hawser_model::export::ExportEndpoints;
use hawser_model::validate::InvalidExport;
use hawser_model::{Candidate, ClusterId, Gateway, PrefixSet};

use crate::record::{Body, RecordKey};
use crate::refusal::{Code, Refusal};
use crate::roster::Member;

/// Lanes one gateway can have.
pub const MAX_LANES: usize = 64;
/// Candidates one gateway can have.
pub const MAX_CANDIDATES: usize = 64;
/// Preferred prefixes one gateway can have.
pub const MAX_PREFERRED: usize = 256;
/// The largest record, encoded, in bytes.
pub const MAX_RECORD: usize = 1 << 20;

/// Checks a record of `cluster` by its membership's grant and claims.
///
/// # Errors
/// Names the record, the field, the rule and what to do.
pub fn check(cluster: &ClusterId, member: &Member, body: &Body) -> Result<(), Refusal> {
    let object = format!("{} of cluster {cluster}", body.key());
    match body {
        Body::Gateway(gateway) => gateway_rules(&object, gateway, &member.claims),
        Body::Header(header) => {
            namespace_rule(&object, member, &body.key())?;
            header.validate().map_err(|e| invalid(&object, e))
        }
        Body::Endpoints(endpoints) => {
            namespace_rule(&object, member, &body.key())?;
            endpoints.validate().map_err(|e| invalid(&object, e))?;
            inside(&object, endpoints, &member.claims)
        }
    }
}

/// Whether a record that was taken once is still one its cluster may have, after its claims changed.
#[must_use]
pub fn still_owned(member: &Member, body: &Body) -> bool {
    match body {
        Body::Gateway(gateway) => gateway.preferred.iter().all(|p| member.claims.covers(p)),
        Body::Header(header) => member.grant.allows_namespace(&header.service.namespace),
        Body::Endpoints(endpoints) => {
            member.grant.allows_namespace(&endpoints.service.namespace) && endpoints.outside(&member.claims).is_empty()
        }
    }
}

fn invalid(object: &str, error: InvalidExport) -> Refusal {
    let rule = format!("{:?} is not valid: {}", error.value, error.rule);
    Refusal::new(Code::Invalid, object, error.field, rule, "correct the exported Service or its endpoints")
}

fn namespace_rule(object: &str, member: &Member, key: &RecordKey) -> Result<(), Refusal> {
    let namespace = key.namespace().unwrap_or_default();
    if member.grant.allows_namespace(namespace) {
        return Ok(());
    }
    let rule = if member.grant.namespaces.is_empty() {
        format!("exports from {namespace} need a token that lists it: by default none from `default` and `kube-*`")
    } else {
        format!("this cluster may export from {} only", member.grant.namespaces.join(", "))
    };
    let remedy = "export from another namespace, or join with a token made with --namespaces";
    Err(Refusal::new(Code::Denied, object, "namespace", rule, remedy))
}

fn inside(object: &str, endpoints: &ExportEndpoints, claims: &PrefixSet) -> Result<(), Refusal> {
    let Some(first) = endpoints.outside(claims).into_iter().next() else {
        return Ok(());
    };
    Err(Refusal::new(
        Code::Denied,
        object,
        format!("groups[{}].endpoints[{}].addresses", first.group, first.endpoint),
        format!("{} is outside the cluster's claimed prefixes ({claims})", first.address),
        "leave that endpoint out, or add its prefix to the Membership's prefixes",
    ))
}

fn gateway_rules(object: &str, gateway: &Gateway, claims: &PrefixSet) -> Result<(), Refusal> {
    let refuse =
        |field: String, rule: String, remedy: &str| Err(Refusal::new(Code::Invalid, object, field, rule, remedy));
    let (lanes, candidates) = (gateway.lanes.len(), gateway.candidates.len());
    if lanes == 0 || lanes > MAX_LANES {
        return refuse("lanes".into(), format!("1 to {MAX_LANES}, not {lanes}"), "set the gateway's lanes");
    }
    if candidates > MAX_CANDIDATES {
        return refuse("candidates".into(), format!("at most {MAX_CANDIDATES}, not {candidates}"), "list fewer");
    }
    for (i, lane) in gateway.lanes.iter().enumerate() {
        if lane.port == 0 || lane.public_key.0 == [0; 32] {
            return refuse(format!("lanes[{i}]"), "key and port must not be zero".into(), "restart the gateway");
        }
    }
    for (i, candidate) in gateway.candidates.iter().enumerate() {
        if !usable(candidate) {
            let rule = format!(
                "{candidate:?} can't be reached by another cluster: loopback, multicast, unspecified or no name"
            );
            return refuse(format!("candidates[{i}]"), rule, "announce an address or a DNS name that peers reach");
        }
    }
    if gateway.preferred.len() > MAX_PREFERRED {
        return refuse("preferred".into(), format!("at most {MAX_PREFERRED}"), "prefer aggregates");
    }
    match gateway.preferred.iter().position(|p| !claims.covers(p)) {
        Some(i) => Err(Refusal::new(
            Code::Denied,
            object,
            format!("preferred[{i}]"),
            format!("{} is outside the cluster's claimed prefixes ({claims})", gateway.preferred[i]),
            "prefer only what the cluster claims",
        )),
        None => Ok(()),
    }
}

fn usable(candidate: &Candidate) -> bool {
    match candidate {
        Candidate::Address(IpAddr::V4(v4)) => {
            !(v4.is_loopback() || v4.is_multicast() || v4.is_unspecified() || v4.is_broadcast())
        }
        Candidate::Address(addr @ IpAddr::V6(v6)) => !v6.is_unicast_link_local() && is_routable(*addr),
        Candidate::Name(name) => {
            let labels = name.trim_end_matches('.').split('.');
            name.len() <= 253 && labels.into_iter().all(|l| hawser_model::id::is_dns_label(&l.to_ascii_lowercase()))
        }
    }
}
