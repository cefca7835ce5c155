//! Gateways and clusters as others see them.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{ClusterId, NodeName, PrefixSet};

/// An X25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Debug for PublicKey {
    /// The first four bytes in hexadecimal: enough to tell keys apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// One WireGuard endpoint of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The key peers know it by.
    pub public_key: PublicKey,
    /// Its UDP port.
    pub port: u16,
    /// The key that will replace it, published before it is used.
    pub next_public_key: Option<PublicKey>,
}

/// Where a gateway may be reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Candidate {
    /// A literal address.
    Address(IpAddr),
    /// A name, resolved again now and then.
    Name(String),
}

/// A gateway node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The node it runs on; unique in its cluster.
    pub node: NodeName,
    /// Its WireGuard endpoints, in lane order; never empty.
    pub lanes: Vec<Lane>,
    /// Where it may be reached; all are tried.
    pub candidates: Vec<Candidate>,
    /// CIDRs inside its cluster's prefixes that it is nearest to.
    pub preferred: Vec<IpNet>,
    /// False for a plain WireGuard endpoint, which does not answer probes: its path counts as up while it has a session.
    pub probes: bool,
}

/// Another cluster of the set, as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteCluster {
    /// Its name.
    pub id: ClusterId,
    /// Which membership of that name this is; grows with each replacement.
    pub generation: u64,
    /// What it routes; peers send it nothing else and take nothing else from it.
    pub prefixes: PrefixSet,
    /// Its gateways, by node name.
    pub gateways: Vec<Gateway>,
}
