//! Sets of CIDRs of both families, and the rules for claiming them.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// An IP family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// The family of an address.
    #[must_use]
    pub fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The family of a CIDR.
    #[must_use]
    pub fn of_net(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// CIDRs without duplicates or members inside other members, in order, host bits cleared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PrefixSet(Vec<IpNet>);

impl PrefixSet {
    /// Normalises `nets`: host bits cleared, duplicates and contained members dropped, sorted.
    pub fn new(nets: impl IntoIterator<Item = IpNet>) -> Self {
        let mut nets: Vec<IpNet> = nets.into_iter().map(|n| n.trunc()).collect();
        nets.sort_by_key(|n| (IpFamily::of_net(n), n.addr(), n.prefix_len()));
        let mut kept: Vec<IpNet> = Vec::with_capacity(nets.len());
        for net in nets {
            if !kept.iter().any(|k| k.contains(&net)) {
                kept.push(net);
            }
        }
        Self(kept)
    }

    /// The members, in order.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `addr` lies in a member.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.0.iter().any(|n| n.contains(&addr))
    }

    /// Whether all of `net` lies in one member.
    #[must_use]
    pub fn contains_net(&self, net: &IpNet) -> bool {
        self.0.iter().any(|n| n.contains(net))
    }

    /// The first pair of members, one of each set, that share addresses.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> Option<(IpNet, IpNet)> {
        self.0.iter().find_map(|a| {
            other.0.iter().find(|b| a.contains(*b) || b.contains(a)).map(|b| (*a, *b))
        })
    }
}

impl FromIterator<IpNet> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        Self::new(nets)
    }
}

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
