//! The rules for claiming prefixes: what a cluster may have its peers route to it.
//!
//! The broker checks every claim by these before it is part of the roster; agents and gateways check again what they are
//! told. Sets and parsing are in [`crate::prefix`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{ClusterId, IpFamily, PrefixSet};

/// Which prefixes a cluster may claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixPolicy {
    /// Claims must lie inside these; empty: anywhere that is not forbidden.
    pub within: PrefixSet,
    /// The widest IPv4 claim, as a prefix length.
    pub widest_v4: u8,
    /// The widest IPv6 claim, as a prefix length.
    pub widest_v6: u8,
}

impl Default for PrefixPolicy {
    /// Anywhere, none wider than /8 (IPv4) and /32 (IPv6).
    fn default() -> Self {
        Self { within: PrefixSet::default(), widest_v4: 8, widest_v6: 32 }
    }
}

/// A claim that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("prefix {prefix} is refused: {rule}")]
pub struct PrefixError {
    /// The offending prefix.
    pub prefix: IpNet,
    /// The rule it breaks.
    pub rule: String,
    /// What to do about it.
    pub remedy: String,
}

/// The most prefixes a cluster may claim.
pub const MAX_PREFIXES: usize = 4096;

/// What nobody may claim, with its name in errors.
const FORBIDDEN: &[(IpNet, &str)] = &[
    (v4([0, 0, 0, 0], 8), "addresses of \"this network\" (0.0.0.0/8)"),
    (v4([127, 0, 0, 0], 8), "loopback addresses (127.0.0.0/8)"),
    (v4([169, 254, 0, 0], 16), "link-local and metadata addresses (169.254.0.0/16)"),
    (v4([224, 0, 0, 0], 4), "multicast addresses (224.0.0.0/4)"),
    (v4([240, 0, 0, 0], 4), "reserved and broadcast addresses (240.0.0.0/4)"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "the unspecified, loopback and IPv4-compatible addresses (::/96)"),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "IPv4-mapped addresses (::ffff:0:0/96)"),
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), "the well-known NAT64 prefix (64:ff9b::/96)"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local addresses (fe80::/10)"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast addresses (ff00::/8)"),
];

const fn v4(a: [u8; 4], len: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a[0], a[1], a[2], a[3]), len))
}

const fn v6(a: [u16; 8], len: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]), len))
}

/// Whether an address can belong to a workload at all: not loopback, link-local, multicast, unspecified, reserved or mapped.
#[must_use]
pub fn is_routable(addr: IpAddr) -> bool {
    !FORBIDDEN.iter().any(|(net, _)| net.contains(&addr))
}

impl PrefixPolicy {
    /// Checks every member of a claim.
    ///
    /// # Errors
    /// The first member that breaks a rule, the rule, and what to do.
    pub fn check(&self, claim: &PrefixSet) -> Result<(), PrefixError> {
        if let Some(prefix) = claim.iter().nth(MAX_PREFIXES) {
            return Err(refused(
                prefix,
                format!("a cluster claims at most {MAX_PREFIXES} prefixes, this one {}", claim.len()),
                "claim aggregates instead of single nodes' prefixes",
            ));
        }
        claim.iter().try_for_each(|prefix| self.check_one(prefix))
    }

    fn check_one(&self, prefix: &IpNet) -> Result<(), PrefixError> {
        if prefix.prefix_len() == 0 {
            return Err(refused(prefix, "a default route can't be claimed".to_owned(), "list the pods' own prefixes"));
        }
        if let Some((_, name)) = FORBIDDEN.iter().find(|(f, _)| f.contains(prefix) || prefix.contains(f)) {
            return Err(refused(prefix, format!("it holds {name}"), "list the pods' own prefixes"));
        }
        let widest = match IpFamily::of_net(prefix) {
            IpFamily::V4 => self.widest_v4,
            IpFamily::V6 => self.widest_v6,
        };
        if prefix.prefix_len() < widest {
            return Err(refused(
                prefix,
                format!(
                    "it is wider than /{widest}, the widest {} prefix this cluster may claim",
                    IpFamily::of_net(prefix)
                ),
                "claim only what its pods use",
            ));
        }
        if !self.within.is_empty() && !self.within.covers(prefix) {
            return Err(refused(
                prefix,
                format!("it is not inside {}, which this cluster's token allows", self.within),
                "claim a prefix inside those, or have an administrator make a token with --prefixes that cover it",
            ));
        }
        Ok(())
    }
}

/// Checks that a claim shares no address with what other clusters claimed.
///
/// # Errors
/// The first member that does, with the other cluster and its prefix.
pub fn check_overlap<'a>(
    cluster: &ClusterId,
    claim: &PrefixSet,
    others: impl IntoIterator<Item = (&'a ClusterId, &'a PrefixSet)>,
) -> Result<(), PrefixError> {
    for (other, theirs) in others {
        if other == cluster {
            continue;
        }
        if let Some((mine, taken)) = claim.overlap(theirs) {
            return Err(refused(
                &mine,
                format!("it shares addresses with {taken} of cluster {:?}", other.as_str()),
                "use prefixes that no other cluster of the set uses",
            ));
        }
    }
    Ok(())
}

fn refused(prefix: &IpNet, rule: String, remedy: &str) -> PrefixError {
    PrefixError { prefix: *prefix, rule, remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests;
