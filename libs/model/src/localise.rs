//! A merged import as one cluster can serve it: its families, and virtual addresses for sites.
//!
//! What the import is in every cluster is in [`crate::merge`].

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::export::ServiceKind;
use crate::merge::Import;
use crate::{IpFamily, ServiceName};

/// What of an import a cluster serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Localised {
    /// Families served, in the import's order; empty: the cluster has none of them.
    pub ip_families: Vec<IpFamily>,
    /// Families of the import that this cluster lacks.
    pub missing: Vec<IpFamily>,
    /// Families that need a virtual address, one each, in this order.
    pub vips: Vec<IpFamily>,
}

/// The condition `Ready` of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportReady {
    /// Its status.
    pub ready: bool,
    /// Its reason, as the MCS API spells it.
    pub reason: &'static str,
    /// In words.
    pub message: String,
}

/// What a cluster that has the families `local` serves of `import`.
#[must_use]
pub fn localise(import: &Import, local: &[IpFamily]) -> Localised {
    let (ip_families, missing): (Vec<_>, Vec<_>) = import.ip_families.iter().partition(|f| local.contains(f));
    let vips = match import.kind {
        ServiceKind::ClusterSetIp => ip_families.clone(),
        ServiceKind::Headless => Vec::new(),
    };
    Localised { ip_families, missing, vips }
}

impl Localised {
    /// The condition `Ready`, given the virtual addresses that the import has so far.
    #[must_use]
    pub fn ready(&self, ips: &[IpAddr]) -> ImportReady {
        let no = |reason, message| ImportReady { ready: false, reason, message };
        if self.ip_families.is_empty() {
            let message =
                format!("The service has {} only, and this cluster has no such addresses.", list(&self.missing));
            return no("IPFamilyNotSupported", message);
        }
        if !self.vips.is_empty() && !ips.iter().map(|ip| IpFamily::of(*ip)).eq(self.vips.iter().copied()) {
            return no("Pending", format!("Virtual addresses are to be allocated: {}.", list(&self.vips)));
        }
        let message = match self.missing.as_slice() {
            [] => "The service can be used in this cluster.".to_owned(),
            missing => format!("The service can be used in this cluster, but not by {}.", list(missing)),
        };
        ImportReady { ready: true, reason: "Ready", message }
    }
}

fn list(families: &[IpFamily]) -> String {
    families.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// No virtual address to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {family} address is free for {service}: {rule}")]
pub struct NoVip {
    /// The service.
    pub service: ServiceName,
    /// The family.
    pub family: IpFamily,
    /// Why, and what to do.
    pub rule: &'static str,
}

/// One virtual address for each of `families`, in that order. Those of `current` that still fit are kept, whoever else is in
/// `taken`: an import keeps its addresses for life. `taken` is what other imports have.
///
/// # Errors
/// The first family without a prefix, or whose prefixes are full.
pub fn assign_vips(
    families: &[IpFamily],
    prefixes: &[IpNet],
    current: &[IpAddr],
    taken: &BTreeSet<IpAddr>,
    service: &ServiceName,
) -> Result<Vec<IpAddr>, NoVip> {
    let assign = |family: &IpFamily| {
        let mut own = prefixes.iter().filter(|p| IpFamily::of_net(p) == *family).peekable();
        let error = |rule| NoVip { service: service.clone(), family: *family, rule };
        if own.peek().is_none() {
            return Err(error("Membership spec.vipPrefixes has no prefix of this family; add one"));
        }
        let kept =
            current.iter().copied().find(|ip| IpFamily::of(*ip) == *family && own.clone().any(|p| p.contains(ip)));
        kept.or_else(|| own.find_map(|p| allocate_vip(*p, taken, service)))
            .ok_or_else(|| error("Membership spec.vipPrefixes has no address left; add a prefix or widen one"))
    };
    families.iter().map(assign).collect()
}

/// A free address of `prefix`: the one that the service's name hashes to, or the next that is not in `taken`. Never the
/// network's own, the first, or the IPv4 broadcast address; so a prefix of less than four addresses has none.
#[must_use]
pub fn allocate_vip(prefix: IpNet, taken: &BTreeSet<IpAddr>, seed: &ServiceName) -> Option<IpAddr> {
    let host_bits = u32::from(prefix.max_prefix_len() - prefix.prefix_len());
    // A /64 has more addresses than imports could ever take; so the lower 64 bits suffice for any prefix.
    let size = 1u128 << host_bits.min(64);
    let reserved = match prefix {
        IpNet::V4(_) => 3,
        IpNet::V6(_) => 2,
    };
    let usable = size.checked_sub(reserved).filter(|n| *n > 0)?;
    let start = hash(seed) % usable;
    // Each miss is a taken address, so one more try than there are of them finds any that is free.
    let tries = usable.min(taken.len() as u128 + 1);
    (0..tries).map(|i| nth(&prefix, 2 + (start + i) % usable)).find(|ip| !taken.contains(ip))
}

fn nth(prefix: &IpNet, offset: u128) -> IpAddr {
    match prefix.network() {
        #[expect(clippy::cast_possible_truncation, reason = "an IPv4 prefix has at most 2^32 addresses")]
        IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() + offset as u32).into(),
        IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() + offset).into(),
    }
}

fn hash(service: &ServiceName) -> u128 {
    let digest = Sha256::new()
        .chain_update(service.namespace.as_bytes())
        .chain_update([0])
        .chain_update(service.name.as_bytes());
    let mut first = [0; 16];
    first.copy_from_slice(&digest.finalize()[..16]);
    u128::from_be_bytes(first)
}

#[cfg(test)]
mod tests;
