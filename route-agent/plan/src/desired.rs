//! What a plan comes to: the kernel state of one node, as plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// All of it. Empty means: nothing of ours in the kernel.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// The device between nodes; none: this node cannot take part, and there is none.
    pub vxlan: Option<Vxlan>,
    /// Addresses on that device.
    pub addresses: BTreeMap<IpNet, Role>,
    /// Permanent neighbours on that device.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// Unicast forwarding entries of that device: which node has which MAC.
    pub fdb: BTreeMap<Mac, IpAddr>,
    /// Routing rules, for both families.
    pub rules: BTreeSet<Rule>,
    /// Routes.
    pub routes: BTreeMap<RouteKey, Route>,
    /// The nft tables.
    pub nft: Ruleset,
    /// Where UDP flows to virtual ports may go: one that goes elsewhere has lost its endpoint and starts anew.
    pub flows: BTreeMap<SocketAddr, BTreeSet<SocketAddr>>,
    /// Devices whose packets are accepted where another's `FORWARD` chain drops what it does not know.
    pub forward: BTreeSet<&'static str>,
    /// Settings of devices, applied where the device exists.
    pub devices: BTreeMap<String, DeviceSettings>,
    /// Kernel-wide settings, never undone: others may rely on them by then.
    pub sysctls: Vec<Sysctl>,
}

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The host's own: it may be the source of what the host sends.
    Own,
    /// Only to be asked at.
    Service,
}

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The VXLAN device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// The address of this node that its packets come from; decides its family.
    pub local: IpAddr,
}

/// Which packets look in which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Packets that came in by a device.
    From {
        /// The device.
        device: &'static str,
        /// Order; lower first.
        priority: u32,
        /// The table.
        table: u32,
    },
    /// Packets without our mark.
    Unmarked {
        /// Order.
        priority: u32,
        /// The table.
        table: u32,
    },
    /// Packets without our mark, in a table's routes other than its default routes.
    UnmarkedSpecific {
        /// Order.
        priority: u32,
        /// The table.
        table: u32,
    },
}

impl Rule {
    /// Its order.
    #[must_use]
    pub fn priority(self) -> u32 {
        match self {
            Self::From { priority, .. } | Self::Unmarked { priority, .. } | Self::UnmarkedSpecific { priority, .. } => {
                priority
            }
        }
    }

    /// The table it looks in.
    #[must_use]
    pub fn table(self) -> u32 {
        match self {
            Self::From { table, .. } | Self::Unmarked { table, .. } | Self::UnmarkedSpecific { table, .. } => table,
        }
    }
}

/// What makes a route unique in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// Its table.
    pub table: u32,
    /// Its destination.
    pub prefix: IpNet,
    /// Its preference among equals; lower first.
    pub metric: u32,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub kind: RouteKind,
    /// The source address of what this host itself sends by it.
    pub source: Option<IpAddr>,
    /// The largest packet that may be sent by it, bytes, where that is less than the device's.
    pub mtu: Option<u32>,
}

/// Kinds of routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteKind {
    /// Over `hawser-vx` to one of these, chosen by flow.
    Via(BTreeSet<Hop>),
    /// On `hawser-vx` itself: only a source of routing for addresses that are translated before they leave.
    Device,
    /// Nowhere: ICMP unreachable at once.
    Unreachable,
    /// As if this table had no route.
    Throw,
}

/// A next hop on `hawser-vx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// The next node's address there.
    pub via: IpAddr,
    /// Whether the kernel must take it for reachable although no address of the device says so.
    pub onlink: bool,
}

/// Settings of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceSettings {
    /// Reverse-path filter: loose, as packets to and from a cluster take different gateways.
    pub loose_rp_filter: bool,
    /// IPv4 forwarding of packets that come in by it.
    pub forwarding: bool,
}

/// A kernel-wide setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// Its path below `/proc/sys`.
    pub path: &'static str,
    /// Its value.
    pub value: &'static str,
    /// Whether nothing works without it; else it only makes things better.
    pub required: bool,
}

/// The nft tables, as the statements of `nft -j` that fill them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ruleset {
    /// Statements of the table `inet hawser`, which is replaced as a whole.
    pub main: Vec<Value>,
    /// Statements of `inet hawser-affinity`, whose sets outlive replacement.
    pub affinity: Vec<Value>,
}

impl Ruleset {
    /// Whether there is nothing to load.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.main.is_empty() && self.affinity.is_empty()
    }

    /// A name for exactly this ruleset.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.main, &self.affinity] {
            for statement in part {
                hash.update(statement.to_string().as_bytes());
                hash.update([0]);
            }
            hash.update([1]);
        }
        hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
    }
}
