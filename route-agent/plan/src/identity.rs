//! Addresses on `hawser-vx` that follow from node names (moves to hawser-node-probe).

use hawser_model::NodeName;
use sha2::{Digest as _, Sha256};
use std::net::Ipv6Addr;

/// next hop
pub fn link_local(node: &NodeName) -> Ipv6Addr {
    let d = Sha256::new().chain_update("hawser-vx").chain_update([0]).chain_update(node.as_str()).finalize();
    let mut o = [0u8; 16];
    o[0] = 0xfe;
    o[1] = 0x80;
    o[8..].copy_from_slice(&d[..8]);
    o.into()
}

/// mac
pub fn mac(node: &NodeName) -> [u8; 6] {
    let d = Sha256::new().chain_update("hawser-vx").chain_update([0]).chain_update(node.as_str()).finalize();
    [d[8] & 0xfc | 2, d[9], d[10], d[11], d[12], d[13]]
}
