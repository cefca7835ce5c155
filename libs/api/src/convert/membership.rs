//! This cluster: `Membership`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hawser_model::{ClusterId, IpFamily, NodeName, PrefixSet};
use ipnet::IpNet;

use super::{Invalid, Reader};
use crate::hawser::{Membership, MembershipSpec, MembershipStatus};

/// A `Membership` that says only what it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembershipPlan {
    /// This cluster's id.
    pub cluster: ClusterId,
    /// `host:port` of the broker, in order.
    pub brokers: Vec<String>,
    /// What peers route to this cluster.
    pub prefixes: PrefixSet,
    /// Where virtual addresses come from.
    pub vip_prefixes: Vec<IpNet>,
    /// Where route agents answer DNS; one per family at most.
    pub dns_addresses: Vec<IpAddr>,
    /// Nodes that are not to be chosen as gateways.
    pub drained: BTreeSet<NodeName>,
    /// Age at which lane keys are replaced.
    pub rotate_keys_after: Option<Duration>,
    /// Age of the last contact with the broker after which peers are dropped.
    pub peer_max_age: Option<Duration>,
}

/// Reads the membership.
///
/// # Errors
/// Names every field that breaks a rule.
pub fn membership(membership: &Membership) -> Result<MembershipPlan, Vec<Invalid>> {
    let reader = Reader::new("Membership", &membership.metadata, "correct the field");
    let MembershipSpec {
        cluster_id,
        brokers,
        prefixes,
        vip_prefixes,
        dns_address,
        drained_nodes,
        rotate_keys_after,
        peer_max_age,
    } = &membership.spec;
    let mut errors = Errors(Vec::new());
    let cluster = errors.keep(ClusterId::new(cluster_id).map_err(|error| reader.invalid("spec.clusterId", error)));
    for (i, broker) in brokers.iter().enumerate() {
        errors.keep(check_broker(broker).map_err(|rule| reader.invalid(format!("spec.brokers[{i}]"), rule)));
    }
    let prefixes = errors.keep(PrefixSet::parse("spec.prefixes", prefixes).map_err(|error| reader.prefix(error)));
    let vips = errors.keep(PrefixSet::parse("spec.vipPrefixes", vip_prefixes).map_err(|error| reader.prefix(error)));
    if let (Some(prefixes), Some(vips)) = (&prefixes, &vips)
        && let Some((claimed, vip)) = prefixes.overlap(vips)
    {
        let rule = format!(
            "{vip} overlaps {claimed} of spec.prefixes: virtual addresses are local, peers must not route them"
        );
        errors.0.push(reader.invalid("spec.vipPrefixes", rule));
    }
    let dns = errors.keep(read_dns(&reader, dns_address));
    let drained = drained_nodes.iter().enumerate().filter_map(|(i, node)| {
        let field = || format!("spec.drainedNodes[{i}]");
        errors.keep(NodeName::new(node).map_err(|error| reader.invalid(field(), error)))
    });
    let drained = drained.collect();
    let rotate = errors.keep(read_duration(&reader, "spec.rotateKeysAfter", rotate_keys_after.as_deref()));
    let max_age = errors.keep(read_duration(&reader, "spec.peerMaxAge", peer_max_age.as_deref()));
    match (cluster, prefixes, vips, dns, rotate, max_age) {
        (
            Some(cluster),
            Some(prefixes),
            Some(vips),
            Some(dns_addresses),
            Some(rotate_keys_after),
            Some(peer_max_age),
        ) if errors.0.is_empty() => Ok(MembershipPlan {
            cluster,
            brokers: brokers.clone(),
            prefixes,
            vip_prefixes: vips.iter().copied().collect(),
            dns_addresses,
            drained,
            rotate_keys_after,
            peer_max_age,
        }),
        _ => Err(errors.0),
    }
}

/// The roster revision and the other members at it, as the agent wrote them; an entry that breaks a rule is left out.
#[must_use]
pub fn roster_members(status: &MembershipStatus) -> (u64, BTreeSet<(ClusterId, u64)>) {
    let members = status
        .members
        .iter()
        .filter_map(|member| Some((ClusterId::new(&member.cluster_id).ok()?, u64::try_from(member.generation).ok()?)));
    (u64::try_from(status.roster_revision).unwrap_or(0), members.collect())
}

struct Errors(Vec<Invalid>);

impl Errors {
    fn keep<T>(&mut self, result: Result<T, Invalid>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }
}

fn check_broker(broker: &str) -> Result<(), String> {
    let rule =
        || format!("{broker:?} must be HOST:PORT, e.g. broker.example:7443, 192.0.2.1:7443 or [2001:db8::1]:7443");
    let (host, port) = broker.rsplit_once(':').ok_or_else(rule)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_good = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.contains(':') && super::gateway::candidate(host).is_some(),
    };
    let port_is_good = port.parse::<u16>().is_ok_and(|port| port > 0);
    if host_is_good && port_is_good { Ok(()) } else { Err(rule()) }
}

fn read_dns(reader: &Reader, addresses: &[String]) -> Result<Vec<IpAddr>, Invalid> {
    let addresses =
        hawser_model::prefix::parse_addresses("spec.dnsAddress", addresses).map_err(|error| reader.prefix(error))?;
    for family in [IpFamily::V4, IpFamily::V6] {
        if addresses.iter().filter(|address| IpFamily::of(**address) == family).count() > 1 {
            return Err(reader.invalid("spec.dnsAddress", format!("there is more than one {family} address")));
        }
    }
    match addresses.iter().find(|address| address.is_unspecified() || address.is_multicast()) {
        Some(address) => Err(reader.invalid("spec.dnsAddress", format!("{address} is no address of one host"))),
        None => Ok(addresses),
    }
}

fn read_duration(reader: &Reader, field: &str, text: Option<&str>) -> Result<Option<Duration>, Invalid> {
    let Some(text) = text else { return Ok(None) };
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    match parsed {
        Some(duration) if !duration.is_zero() => Ok(Some(duration)),
        Some(_) | None => Err(reader.invalid(field, format!("{text:?} must be a time above zero, e.g. 30m or 720h"))),
    }
}
