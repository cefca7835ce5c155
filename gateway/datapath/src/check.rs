//! What may pass: source and destination of every inner packet, both ways.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::counters::DropReason;
use crate::packet::Packet;
use crate::prefixes::{ClusterIndex, Prefixes};

/// Addresses of clouds' metadata services outside link-local: Alibaba, Azure, AWS, Google.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Whether an address never crosses a tunnel, whoever claims it: unspecified, loopback, link-local, multicast, reserved,
/// broadcast, IPv4-mapped, metadata services.
#[inline]
#[must_use]
pub fn is_forbidden(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            matches!(a, 0 | 127 | 224..) || (a == 169 && b == 254) || METADATA_V4.contains(&v4)
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            // The low /32 holds ::, ::1 and the mapped and translated IPv4 addresses.
            first >= 0xff00
                || first & 0xffc0 == 0xfe80
                || (first == 0 && v6.segments()[1] == 0)
                || METADATA_V6.contains(&v6)
        }
    }
}

/// The rules of one gateway, and the ends of the last packets that they let pass: those of the next ones are nearly always the
/// same. Made anew with each configuration.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    prefixes: Arc<Prefixes>,
    host: Box<[IpAddr]>,
    came: Option<(ClusterIndex, IpAddr, IpAddr)>,
    went: Option<(IpAddr, IpAddr)>,
}

impl Policy {
    /// Rules for these prefixes. `host` are the gateway host's own addresses that no peer may reach: those of its links,
    /// not its address inside this cluster's prefixes, which answers to what the host itself sends come to.
    #[must_use]
    pub fn new(prefixes: Arc<Prefixes>, host: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { prefixes, host: host.into_iter().collect(), came: None, went: None }
    }

    /// Whether a packet from the peer of `cluster` may go to the TUN.
    ///
    /// # Errors
    /// The reason to count.
    #[inline]
    pub fn ingress(&mut self, packet: &Packet<'_>, cluster: ClusterIndex) -> Result<(), DropReason> {
        let ends = (cluster, packet.src(), packet.dst());
        if self.came != Some(ends) {
            self.may_come(ends)?;
            self.came = Some(ends);
        }
        Ok(())
    }

    fn may_come(&self, (cluster, src, dst): (ClusterIndex, IpAddr, IpAddr)) -> Result<(), DropReason> {
        if is_forbidden(src) || is_forbidden(dst) {
            return Err(DropReason::IngressForbidden);
        }
        if self.prefixes.cluster_of(src) != Some(cluster) {
            return Err(DropReason::IngressSource);
        }
        if self.host.contains(&dst) {
            return Err(DropReason::IngressHost);
        }
        if !self.prefixes.is_own(dst) {
            return Err(DropReason::IngressDestination);
        }
        Ok(())
    }

    /// Whether a packet from the TUN may go to a peer; that its destination is a peer's, [`crate::Forwarding::route`] says.
    ///
    /// # Errors
    /// The reason to count.
    #[inline]
    pub fn egress(&mut self, packet: &Packet<'_>) -> Result<(), DropReason> {
        let ends = (packet.src(), packet.dst());
        if self.went != Some(ends) {
            self.may_go(ends)?;
            self.went = Some(ends);
        }
        Ok(())
    }

    fn may_go(&self, (src, dst): (IpAddr, IpAddr)) -> Result<(), DropReason> {
        if is_forbidden(src) || is_forbidden(dst) {
            return Err(DropReason::EgressForbidden);
        }
        if !self.prefixes.is_own(src) {
            return Err(DropReason::EgressSource);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_hosts_and_links_are_forbidden() {
        for forbidden in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "169.254.169.254",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
        ] {
            assert!(is_forbidden(forbidden.parse().unwrap()), "{forbidden}");
        }
        for fine in [
            "10.0.0.1",
            "100.64.0.1",
            "192.168.0.1",
            "8.8.8.8",
            "223.255.255.255",
            "fd00::1",
            "2001:db8::1",
            "64:ff9b::1",
        ] {
            assert!(!is_forbidden(fine.parse().unwrap()), "{fine}");
        }
    }
}
