//! Sets of CIDRs of both families. The rules for claiming them are in [`crate::claim`].

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

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

impl FromStr for IpFamily {
    type Err = UnknownFamily;
    /// Reads what Kubernetes writes: `IPv4` or `IPv6`.
    fn from_str(s: &str) -> Result<Self, UnknownFamily> {
        match s {
            "IPv4" => Ok(Self::V4),
            "IPv6" => Ok(Self::V6),
            _ => Err(UnknownFamily(s.to_owned())),
        }
    }
}

/// A family that is neither `IPv4` nor `IPv6`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("IP family {0:?} is not valid: it must be IPv4 or IPv6")]
pub struct UnknownFamily(pub String);

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The address of a node inside its own pod CIDR: the first after the network's (which in IPv6 belongs to all routers), or
/// the only one.
#[must_use]
pub fn host_address(cidr: &IpNet) -> Option<IpAddr> {
    if cidr.prefix_len() == cidr.max_prefix_len() {
        return Some(cidr.addr());
    }
    let next = match cidr.network() {
        IpAddr::V4(a) => IpAddr::from((u32::from(a) + 1).to_be_bytes()),
        IpAddr::V6(a) => IpAddr::from((u128::from(a) + 1).to_be_bytes()),
    };
    cidr.contains(&next).then_some(next)
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
            // What holds it comes before it, and nothing that is kept comes between.
            if !kept.last().is_some_and(|last| last.contains(&net)) {
                kept.push(net);
            }
        }
        Self(kept)
    }

    /// Reads CIDRs out of the field `field` of some object.
    ///
    /// # Errors
    /// Names the field, the entry and the rule that the first bad one breaks. Set host bits are an error: they are a typing
    /// mistake more often than not.
    pub fn parse<S: AsRef<str>>(field: &str, cidrs: &[S]) -> Result<Self, InvalidPrefix> {
        cidrs.iter().enumerate().map(|(i, s)| parse_prefix(&format!("{field}[{i}]"), s.as_ref())).collect()
    }

    /// How many members it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The families of its members, IPv4 first.
    #[must_use]
    pub fn families(&self) -> Vec<IpFamily> {
        let mut families: Vec<IpFamily> = self.0.iter().map(IpFamily::of_net).collect();
        families.dedup();
        families
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
        self.at(addr).is_some_and(|n| n.contains(&addr))
    }

    /// Whether all of `net` lies in one member.
    #[must_use]
    pub fn contains_net(&self, net: &IpNet) -> bool {
        self.at(net.network()).is_some_and(|n| n.contains(net))
    }

    /// The only member that may hold `addr`: members are in order and apart.
    fn at(&self, addr: IpAddr) -> Option<&IpNet> {
        let after = self.0.partition_point(|n| (IpFamily::of_net(n), n.addr()) <= (IpFamily::of(addr), addr));
        self.0[..after].last()
    }

    /// Whether all of `net` lies in the members taken together: two halves cover the whole.
    #[must_use]
    pub fn covers(&self, net: &IpNet) -> bool {
        IpNet::aggregate(&self.0).iter().any(|n| n.contains(net))
    }

    /// Whether some address lies both in a member and in `net`.
    #[must_use]
    pub fn touches(&self, net: &IpNet) -> bool {
        self.0.iter().any(|n| n.contains(net) || net.contains(n))
    }

    /// The first pair of members, one of each set, that share addresses.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> Option<(IpNet, IpNet)> {
        self.0.iter().find_map(|a| other.0.iter().find(|b| a.contains(*b) || b.contains(a)).map(|b| (*a, *b)))
    }
}

impl FromIterator<IpNet> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        Self::new(nets)
    }
}

impl<'a> IntoIterator for &'a PrefixSet {
    type Item = &'a IpNet;
    type IntoIter = std::slice::Iter<'a, IpNet>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for PrefixSet {
    /// The members, joined by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, net) in self.0.iter().enumerate() {
            write!(f, "{}{net}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Text that is no CIDR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?} is not valid: {rule}")]
pub struct InvalidPrefix {
    /// Where it was read, e.g. `spec.prefixes[1]`.
    pub field: String,
    /// The offending value.
    pub value: String,
    /// The rule it breaks, and what would do.
    pub rule: String,
}

/// Reads one CIDR out of the field `field`.
///
/// # Errors
/// Names the field and the rule: `ADDRESS/LENGTH`, no host bits set.
pub fn parse_prefix(field: &str, value: &str) -> Result<IpNet, InvalidPrefix> {
    let invalid = |rule: String| InvalidPrefix { field: field.to_owned(), value: value.to_owned(), rule };
    if let Ok(addr) = value.parse::<IpAddr>() {
        return Err(invalid(format!("it must be written ADDRESS/LENGTH; one address is {}", IpNet::from(addr))));
    }
    let net: IpNet = value
        .parse()
        .map_err(|_| invalid("it must be written ADDRESS/LENGTH, e.g. 10.1.0.0/16 or fd00:1::/48".into()))?;
    if net.trunc() != net {
        return Err(invalid(format!("it has bits set behind its length; write {}", net.trunc())));
    }
    Ok(net)
}

/// Reads addresses out of the field `field`.
///
/// # Errors
/// Names the field and the entry that is no address.
pub fn parse_addresses<S: AsRef<str>>(field: &str, values: &[S]) -> Result<Vec<IpAddr>, InvalidPrefix> {
    let parse = |(i, s): (usize, &S)| {
        s.as_ref().parse().map_err(|_| InvalidPrefix {
            field: format!("{field}[{i}]"),
            value: s.as_ref().to_owned(),
            rule: "it must be an IP address".to_owned(),
        })
    };
    values.iter().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests;
