//! The host's links: how large packets towards peers may be, and which addresses no peer may reach. Looked at once for all
//! peers.

use std::net::{IpAddr, SocketAddr};

use hawser_model::defaults::{OUTER_MARK, TUN_DEVICE, VXLAN_DEVICE, WIREGUARD_OVERHEAD};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::udp::{get_int, link_mtu, to_std};

/// An address of a link.
struct Link {
    name: String,
    address: IpAddr,
    /// `None` for loopback, where traffic to other addresses of the host may be just kept.
    mtu: Option<u16>,
}

/// See the module.
pub(crate) struct Links(Vec<Link>);

impl Links {
    /// The links as they are now; none where the kernel does not say.
    pub(crate) fn look() -> Self {
        let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Self(Vec::new()) };
        let asker = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), Some(Protocol::UDP));
        let asker = asker.or_else(|_| Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), Some(Protocol::UDP))).ok();
        let link = |interface: nix::ifaddrs::InterfaceAddress| {
            let address = interface.address.as_ref().and_then(to_std)?.ip();
            let loopback = interface.flags.contains(InterfaceFlags::IFF_LOOPBACK);
            let name = interface.interface_name;
            let mtu = asker.as_ref().filter(|_| !loopback).and_then(|socket| link_mtu(socket, &name).ok());
            Some(Link { name, address, mtu: mtu.map(|mtu| u16::try_from(mtu).unwrap_or(u16::MAX)) })
        };
        Self(interfaces.filter_map(link).collect())
    }

    /// The addresses that no peer may reach. Those on Hawser's own devices are the node's place inside the cluster's prefixes.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let foreign = self.0.iter().filter(|link| link.name != TUN_DEVICE && link.name != VXLAN_DEVICE);
        foreign.map(|link| link.address).collect()
    }

    /// The largest inner packet towards a gateway at these addresses, by the routes to them now.
    pub(crate) fn inner_mtu(&self, addresses: &[IpAddr]) -> u16 {
        let outer = addresses.iter().filter_map(|&address| self.route_mtu(address)).min().unwrap_or(1500);
        // 65,535 is loopback's; nothing is gained above jumbo frames.
        outer.min(9216).saturating_sub(WIREGUARD_OVERHEAD).max(hawser_datapath::pmtu::BASE)
    }

    /// The MTU of the link that outer packets to `to` leave by; `None` when there is no route. What ICMP errors made the
    /// kernel believe about the path does not count: anybody can send them.
    fn route_mtu(&self, to: IpAddr) -> Option<u16> {
        let (domain, level, name) = match to {
            IpAddr::V4(_) => (Domain::IPV4, libc::IPPROTO_IP, libc::IP_MTU),
            IpAddr::V6(_) => (Domain::IPV6, libc::IPPROTO_IPV6, libc::IPV6_MTU),
        };
        let socket = Socket::new(domain, Type::DGRAM.cloexec(), Some(Protocol::UDP)).ok()?;
        setsockopt(&socket, sockopt::Mark, &OUTER_MARK).ok()?;
        // Port 9 is discard; connecting a UDP socket sends nothing.
        socket.connect(&SocketAddr::new(to, 9).into()).ok()?;
        let from = socket.local_addr().ok().and_then(|a| a.as_socket())?.ip();
        let link = self.0.iter().find(|link| link.address == from && link.mtu.is_some());
        link.and_then(|link| link.mtu).or_else(|| {
            let mtu = get_int(&socket, level, name).ok()?;
            Some(u16::try_from(mtu).unwrap_or(u16::MAX))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn the_hosts_own_address_is_behind_loopback() {
        let links = Links::look();
        assert!(links.route_mtu(Ipv4Addr::LOCALHOST.into()).unwrap() >= 1500);
        assert!(links.addresses().contains(&Ipv4Addr::LOCALHOST.into()));
        assert!(links.inner_mtu(&[Ipv4Addr::LOCALHOST.into()]) <= 9216);
        assert_eq!(links.inner_mtu(&[]), 1500 - WIREGUARD_OVERHEAD);
    }
}
