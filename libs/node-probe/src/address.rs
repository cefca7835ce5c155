//! A node's addresses on `hawser-vx`: made from its name, so that every node knows them of every other.

use std::net::Ipv6Addr;

use hawser_model::NodeName;
use ring::digest;

/// The node's link-local IPv6 address on `hawser-vx`: the next hop to it, and where it is probed.
#[must_use]
pub fn link_local(node: &NodeName) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..].copy_from_slice(&hash(node)[..8]);
    Ipv6Addr::from(octets)
}

/// The MAC address of the node's `hawser-vx`: unicast, locally administered.
#[must_use]
pub fn mac(node: &NodeName) -> [u8; 6] {
    let mut mac = [0; 6];
    mac.copy_from_slice(&hash(node)[8..14]);
    mac[0] = mac[0] & !0b01 | 0b10;
    mac
}

fn hash(node: &NodeName) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"hawser-vx\0");
    context.update(node.as_str().as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_fixed_by_the_name() {
        let node = NodeName::new("west-gw-1").unwrap();
        // SHA-256 of "hawser-vx", a zero byte and "west-gw-1", from sha256sum.
        let expected: [u8; 14] = [0xe2, 0x1a, 0xa2, 0xd4, 0x55, 0x60, 0x5e, 0x03, 0x05, 0x8a, 0x76, 0xdd, 0x11, 0x69];
        assert_eq!(link_local(&node).octets()[8..], expected[..8]);
        assert_eq!(&link_local(&node).octets()[..8], &[0xfe, 0x80, 0, 0, 0, 0, 0, 0]);
        assert_eq!(mac(&node)[1..], expected[9..14]);
        assert_eq!(mac(&node)[0] & 0b11, 0b10);
        assert_ne!(link_local(&node), link_local(&NodeName::new("west-gw-2").unwrap()));
    }
}
