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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(s: &[&str]) -> PrefixSet {
        PrefixSet::parse("prefixes", s).unwrap()
    }

    fn verdict(policy: &PrefixPolicy, prefix: &str) -> String {
        policy.check(&set(&[prefix])).map_or_else(|e| e.rule, |()| "ok".to_owned())
    }

    #[test]
    fn claims() {
        let default = PrefixPolicy::default();
        let rows = [
            ("10.0.0.0/8", "ok"),
            ("10.1.0.0/16", "ok"),
            ("100.64.0.0/10", "ok"),
            ("192.0.2.1/32", "ok"),
            ("2001:db8::/32", "ok"),
            ("fd00:1::/48", "ok"),
            ("64:ff9b:1::/48", "ok"),
            ("0.0.0.0/0", "a default route can't be claimed"),
            ("::/0", "a default route can't be claimed"),
            ("0.0.0.0/1", "it holds addresses of \"this network\" (0.0.0.0/8)"),
            ("128.0.0.0/1", "it holds link-local and metadata addresses (169.254.0.0/16)"),
            ("0.1.2.0/24", "it holds addresses of \"this network\" (0.0.0.0/8)"),
            ("127.0.0.1/32", "it holds loopback addresses (127.0.0.0/8)"),
            ("126.0.0.0/7", "it holds loopback addresses (127.0.0.0/8)"),
            ("169.254.169.254/32", "it holds link-local and metadata addresses (169.254.0.0/16)"),
            ("224.0.0.0/24", "it holds multicast addresses (224.0.0.0/4)"),
            ("255.255.255.255/32", "it holds reserved and broadcast addresses (240.0.0.0/4)"),
            ("::/128", "it holds the unspecified, loopback and IPv4-compatible addresses (::/96)"),
            ("::1/128", "it holds the unspecified, loopback and IPv4-compatible addresses (::/96)"),
            ("::/32", "it holds the unspecified, loopback and IPv4-compatible addresses (::/96)"),
            ("::ffff:10.1.0.0/112", "it holds IPv4-mapped addresses (::ffff:0:0/96)"),
            ("64:ff9b::/96", "it holds the well-known NAT64 prefix (64:ff9b::/96)"),
            ("fe80::/64", "it holds link-local addresses (fe80::/10)"),
            ("ff02::/16", "it holds multicast addresses (ff00::/8)"),
            ("10.0.0.0/7", "it is wider than /8, the widest IPv4 prefix this cluster may claim"),
            ("2001:d00::/24", "it is wider than /32, the widest IPv6 prefix this cluster may claim"),
        ];
        for (prefix, want) in rows {
            assert_eq!(verdict(&default, prefix), want, "{prefix}");
        }
    }

    #[test]
    fn claims_inside_a_token() {
        let policy =
            PrefixPolicy { within: set(&["10.1.0.0/17", "10.1.128.0/17", "fd00:1::/48"]), ..PrefixPolicy::default() };
        for prefix in ["10.1.0.0/16", "10.1.2.0/24", "fd00:1:0:2::/64"] {
            assert_eq!(verdict(&policy, prefix), "ok");
        }
        for prefix in ["10.0.0.0/15", "10.2.0.0/24", "fd00:2::/64"] {
            assert_eq!(
                verdict(&policy, prefix),
                "it is not inside 10.1.0.0/17,10.1.128.0/17,fd00:1::/48, which this cluster's token allows"
            );
        }
    }

    #[test]
    fn a_claim_is_bounded() {
        let many: PrefixSet = (0..=MAX_PREFIXES).map(|i| v4([10, (i >> 8) as u8, i as u8, 0], 24)).collect();
        assert_eq!(
            PrefixPolicy::default().check(&many).unwrap_err().rule,
            "a cluster claims at most 4096 prefixes, this one 4097"
        );
    }

    #[test]
    fn overlap_names_the_other_cluster() {
        let (west, east) = (ClusterId::new("west").unwrap(), ClusterId::new("east").unwrap());
        let (w, e) = (set(&["10.1.0.0/16", "fd00:1::/48"]), set(&["10.2.0.0/16", "fd00:2::/48"]));
        assert_eq!(check_overlap(&west, &w, [(&west, &w), (&east, &e)]), Ok(()));
        let error = check_overlap(&west, &set(&["10.2.3.0/24"]), [(&east, &e)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "prefix 10.2.3.0/24 is refused: it shares addresses with 10.2.0.0/16 of cluster \"east\""
        );
        assert_eq!(error.remedy, "use prefixes that no other cluster of the set uses");
    }

    proptest! {
        #[test]
        fn nothing_allowed_holds_an_unroutable_address(bits in any::<u128>(), v4_bits in any::<u32>(), len in 0u8..=128, six in any::<bool>()) {
            let net = if six {
                IpNet::new(Ipv6Addr::from(bits).into(), len).unwrap()
            } else {
                IpNet::new(Ipv4Addr::from(v4_bits).into(), len % 33).unwrap()
            };
            let claim = PrefixSet::new([net]);
            let policy = PrefixPolicy { widest_v4: 0, widest_v6: 0, ..PrefixPolicy::default() };
            if policy.check(&claim).is_ok() {
                prop_assert!(is_routable(net.network()) && is_routable(net.broadcast()));
                prop_assert!(FORBIDDEN.iter().all(|(f, _)| !net.contains(f)));
            }
        }

        #[test]
        fn width_is_the_policy_s(len in 1u8..=32, widest in 0u8..=32) {
            let policy = PrefixPolicy { widest_v4: widest, ..PrefixPolicy::default() };
            let net = IpNet::new(Ipv4Addr::new(10, 0, 0, 0).into(), len).unwrap().trunc();
            let holds_zero = FORBIDDEN[0].0.contains(&net) || net.contains(&FORBIDDEN[0].0) || net.contains(&FORBIDDEN[1].0);
            prop_assert_eq!(policy.check(&PrefixSet::new([net])).is_ok(), len >= widest && !holds_zero);
        }
    }
}
