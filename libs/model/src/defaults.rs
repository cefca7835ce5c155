//! Numbers that several processes must agree on. All can be seen on the wire or in `ip rule`, so they are fixed.

/// First UDP port of a gateway's lanes; lane `i` listens on `WIREGUARD_PORT + i`.
pub const WIREGUARD_PORT: u16 = 51820;
/// UDP port of `hawser-vx`.
pub const VXLAN_PORT: u16 = 4811;
/// VXLAN network identifier of `hawser-vx`.
pub const VXLAN_ID: u32 = 4811;
/// Name of the VXLAN device between the nodes of one cluster.
pub const VXLAN_DEVICE: &str = "hawser-vx";
/// Name of a gateway's TUN device.
pub const TUN_DEVICE: &str = "hawser-tun";
/// UDP port of the gateways' node-probe responder, on `hawser-vx` only.
pub const NODE_PROBE_PORT: u16 = 4812;
/// UDP port of the route agents, on `hawser-vx` only: they ask gateways from it, and unasked notices are sent to it on every node.
pub const NODE_NOTICE_PORT: u16 = 4813;
/// TCP port of the broker.
pub const BROKER_PORT: u16 = 7443;
/// Unprivileged port of a route agent's DNS server; port 53 of `dnsAddress` is redirected to it.
pub const DNS_PORT: u16 = 10053;
/// Mark on outer packets (WireGuard, broker connections): our routing rules skip them.
pub const OUTER_MARK: u32 = 0x4857_0000;
/// Bits of the mark that are ours.
pub const OUTER_MARK_MASK: u32 = 0xffff_0000;
/// Routing table from this node to remote clusters.
pub const TABLE_REMOTE: u32 = 4857;
/// Routing table of packets that come in by `hawser-vx` or the TUN.
pub const TABLE_TRANSIT: u32 = 4858;
/// Bytes that WireGuard adds to an inner packet over IPv6: 40 IPv6, 8 UDP, 32 WireGuard.
pub const WIREGUARD_OVERHEAD: u16 = 80;
/// Bytes that VXLAN adds to an inner packet over IPv6: 40 IPv6, 8 UDP, 8 VXLAN, 14 Ethernet.
pub const VXLAN_OVERHEAD: u16 = 70;
/// TTL of answers of the `clusterset.local` zone, seconds.
pub const DNS_TTL: u32 = 5;
/// Zone of multi-cluster names (KEP-1645).
pub const CLUSTERSET_ZONE: &str = "clusterset.local";
