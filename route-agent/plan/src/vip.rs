//! Virtual addresses: each port of each service is a table of slots, and the flow's hash picks the slot.
//!
//! Services with client-IP affinity live in a table of their own, whose sets (one per endpoint, of the clients it has) are
//! kept when everything else is replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use hawser_model::IpFamily;
use hawser_model::export::Protocol;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::input::{Backend, Group, Input, Service};
use crate::nft::{Table, concat, counter, equals, goto, meta, payload, protocol};
use crate::ruleset::{BEFORE_DSTNAT, FAMILIES, TABLE_AFFINITY, of};
use crate::{select, slots};

/// Clients that one endpoint's affinity set remembers.
const CLIENTS: u32 = 65_536;
/// Starts the flow hash of slots.
const SEED: u32 = 0x4857;

/// One port of a virtual address, with where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualPort {
    /// The virtual address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// Seconds of client affinity, if any.
    pub affinity: Option<u32>,
    /// Where it leads, in order; never empty.
    pub endpoints: Vec<(IpAddr, u16)>,
}

impl VirtualPort {
    /// What chains and sets of it are called; short, as the kernel cuts names.
    fn id(&self) -> String {
        short(&format!("{} {} {}", self.address, self.protocol.as_str(), self.port))
    }

    fn family(&self) -> IpFamily {
        IpFamily::of(self.address)
    }

    /// The key of its element in the dispatching map.
    fn key(&self) -> Value {
        concat(&[json!(self.address), json!(transport(self.protocol)), json!(self.port)])
    }

    fn slots(&self) -> Vec<(IpAddr, u16)> {
        let names: Vec<String> = self.endpoints.iter().map(|(a, p)| format!("{a} {p}")).collect();
        slots::fill(&self.id(), &names).into_iter().filter_map(|e| self.endpoints.get(e).copied()).collect()
    }
}

fn short(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect()
}

fn transport(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// The virtual ports that this node translates: in a site those of every import; elsewhere only those that some, but not
/// all, endpoints of are in clusters gone dark, ahead of what else translates them.
#[must_use]
pub fn virtual_ports(input: &Input) -> Vec<VirtualPort> {
    let dark = select::dark(input);
    let mut ports = Vec::new();
    for service in &input.services {
        let some_dark = service.groups.iter().any(|g| dark.contains(&g.cluster));
        for vip in &service.vips {
            let ours = input.vip_prefixes.contains(*vip);
            if !ours && !some_dark {
                continue;
            }
            for port in &service.ports {
                let endpoints = endpoints(input, service, &dark, *vip, |group| {
                    let same =
                        |p: &&hawser_model::export::EndpointPort| p.name == port.name && p.protocol == port.protocol;
                    group.ports.iter().find(same).map(|p| p.port)
                });
                if endpoints.is_empty() {
                    continue;
                }
                let (protocol, port, affinity) = (port.protocol, port.port, service.affinity);
                ports.push(VirtualPort { address: *vip, protocol, port, affinity, endpoints });
            }
        }
    }
    ports.sort_by_key(|p| (p.address, p.protocol, p.port));
    ports.dedup_by_key(|p| (p.address, p.protocol, p.port));
    ports
}

/// Where UDP flows to each virtual port may go.
#[must_use]
pub fn flows(input: &Input) -> BTreeMap<SocketAddr, BTreeSet<SocketAddr>> {
    let udp = virtual_ports(input).into_iter().filter(|p| p.protocol == Protocol::Udp);
    let ends = |p: &VirtualPort| p.endpoints.iter().map(|e| SocketAddr::from(*e)).collect();
    udp.map(|p| (SocketAddr::new(p.address, p.port), ends(&p))).collect()
}

/// Endpoints of live clusters that take new connections on a port, or, where there are none, that still serve.
fn endpoints(
    input: &Input,
    service: &Service,
    dark: &BTreeSet<hawser_model::ClusterId>,
    vip: IpAddr,
    port_of: impl Fn(&Group) -> Option<u16>,
) -> Vec<(IpAddr, u16)> {
    let here = |b: &Backend| {
        b.node.as_ref() == Some(&input.node)
            || input.me().is_some_and(|n| n.pod_cidrs.iter().any(|c| c.contains(&b.address)))
    };
    let pick = |wanted: fn(&Backend) -> bool| -> BTreeSet<(IpAddr, u16)> {
        service
            .groups
            .iter()
            .filter(|g| !dark.contains(&g.cluster))
            .filter_map(|g| Some((g, port_of(g)?)))
            .flat_map(|(g, port)| g.endpoints.iter().map(move |e| (e, port)))
            .filter(|(e, _)| wanted(e) && IpFamily::of(e.address) == IpFamily::of(vip))
            .filter(|(e, _)| !service.local_only || here(e))
            .map(|(e, port)| (e.address, port))
            .collect()
    };
    let ready = pick(|b| b.ready);
    let chosen = if ready.is_empty() { pick(|b| b.serving) } else { ready };
    chosen.into_iter().collect()
}

/// The rule that sends a packet to the chain of its virtual port, if it is to one.
pub(crate) fn lookup(family: IpFamily) -> Value {
    let key = concat(&[payload(protocol(family), "daddr"), meta("l4proto"), payload("th", "dport")]);
    json!({ "vmap": { "key": key, "data": format!("@{}", of("ports", family)) } })
}

/// Chains and dispatching maps of the virtual ports without affinity.
pub(crate) fn chains(table: &mut Table, ports: &[VirtualPort]) {
    let plain: Vec<&VirtualPort> = ports.iter().filter(|p| p.affinity.is_none()).collect();
    for port in &plain {
        let chain = format!("vip-{}", port.id());
        table.chain(&chain);
        let slots: Vec<Value> =
            (0..).zip(port.slots()).map(|(i, (a, p))| json!([i, concat(&[json!(a), json!(p)])])).collect();
        let choice = json!({ "map": { "key": flow_hash(port, slots.len()), "data": { "set": slots } } });
        let to = json!({ "dnat": { "family": protocol(port.family()), "addr": choice } });
        table.rule(&chain, &[equals(&meta("l4proto"), transport(port.protocol)), counter(), to]);
    }
    dispatch(table, &plain);
}

fn dispatch(table: &mut Table, ports: &[&VirtualPort]) {
    for family in FAMILIES {
        let elements: Vec<(Value, Value)> = ports
            .iter()
            .filter(|p| p.family() == family)
            .map(|p| (p.key(), goto(&format!("vip-{}", p.id()))))
            .collect();
        table.verdicts(&of("ports", family), family, &elements);
    }
}

/// The slot of a flow: the same for all its packets, however long nobody remembers it.
fn flow_hash(port: &VirtualPort, slots: usize) -> Value {
    let of = concat(&[payload(protocol(port.family()), "saddr"), payload(transport(port.protocol), "sport")]);
    json!({ "jhash": { "mod": slots, "seed": SEED, "expr": of } })
}

/// The table of virtual ports with affinity; nothing where there are none.
pub(crate) fn affinity(ports: &[VirtualPort]) -> Vec<Value> {
    let sticky: Vec<&VirtualPort> = ports.iter().filter(|p| p.affinity.is_some()).collect();
    if sticky.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new(TABLE_AFFINITY);
    for port in &sticky {
        sticky_port(&mut table, port, port.affinity.unwrap_or_default());
    }
    dispatch(&mut table, &sticky);
    for (chain, hook) in [("to-vip", "prerouting"), ("to-vip-own", "output")] {
        table.base_chain(chain, "nat", hook, BEFORE_DSTNAT - 1);
        for family in FAMILIES {
            table.rule(chain, &[lookup(family)]);
        }
    }
    table.finish()
}

/// A client goes to the endpoint that has it, else to its slot's; either way it is remembered anew.
fn sticky_port(table: &mut Table, port: &VirtualPort, seconds: u32) {
    let ip = protocol(port.family());
    let client = payload(ip, "saddr");
    let chain = format!("vip-{}", port.id());
    table.chain(&chain);
    let name = |(address, number): &(IpAddr, u16)| short(&format!("{} {address} {number} {seconds}", port.id()));
    for endpoint in &port.endpoints {
        let name = name(endpoint);
        let (to, clients) = (format!("to-{name}"), format!("of-{name}"));
        table.memory(&clients, port.family(), seconds, CLIENTS);
        table.chain(&to);
        table.rule(&chain, &[equals(&client, format!("@{clients}")), goto(&to)]);
        let remember = json!({ "set": { "op": "update", "elem": client, "set": format!("@{clients}") } });
        let dnat = json!({ "dnat": { "family": ip, "addr": endpoint.0, "port": endpoint.1 } });
        table.rule(&to, &[equals(&meta("l4proto"), transport(port.protocol)), remember, counter(), dnat]);
    }
    let slots: Vec<Value> =
        (0..).zip(port.slots()).map(|(i, e)| json!([i, goto(&format!("to-{}", name(&e)))])).collect();
    let choice = json!({ "vmap": { "key": flow_hash(port, slots.len()), "data": { "set": slots } } });
    table.rule(&chain, &[equals(&meta("l4proto"), transport(port.protocol)), choice]);
}
