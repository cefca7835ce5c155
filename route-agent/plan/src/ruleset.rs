//! The table `inet hawser`: who may send VXLAN, what connection tracking leaves alone, which source addresses are kept, and,
//! by [`crate::vip`], virtual addresses.
//!
//! Priorities say where each chain stands among others' rules; the reasons are in DESIGN section 8.

use std::collections::BTreeSet;

use hawser_model::IpFamily;
use hawser_model::defaults::{DNS_PORT, TUN_DEVICE, VXLAN_DEVICE, VXLAN_PORT};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::desired::Ruleset;
use crate::input::Input;
use crate::nft::{
    Table, accept, concat, counter, drop, equals, fib, matches, meta, net, notrack, one_of, payload, protocol,
};
use crate::routes::Underlay;
use crate::vip;

/// Name of the table that is replaced as a whole.
pub const TABLE: &str = "hawser";
/// Name of the table whose sets outlive replacement.
pub const TABLE_AFFINITY: &str = "hawser-affinity";
/// Before defragmentation (−400): fragments that took two gateways never meet.
const BEFORE_DEFRAGMENTATION: i32 = -450;
/// Where others filter before connection tracking.
const RAW: i32 = -300;
/// Before others' destination translation (−100).
pub(crate) const BEFORE_DSTNAT: i32 = -110;
/// Before others' source translation (100).
const BEFORE_SRCNAT: i32 = 99;
/// Before others' filters (0).
const BEFORE_FILTER: i32 = -10;

/// The set name of a family.
pub(crate) fn of(name: &str, family: IpFamily) -> String {
    format!("{name}{}", if family == IpFamily::V4 { 4 } else { 6 })
}

pub(crate) const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

/// Both tables.
#[must_use]
pub fn ruleset(input: &Input, underlay: Option<&Underlay>) -> Ruleset {
    let mut table = Table::new(TABLE);
    sets(&mut table, input, underlay);
    transit(&mut table, input);
    guard(&mut table, input);
    sources(&mut table, input);
    bridges(&mut table, input);
    let vips = vip::virtual_ports(input);
    destinations(&mut table, input, &vips);
    refuse_unknown_vips(&mut table);
    Ruleset { main: table.finish(), affinity: vip::affinity(&vips) }
}

fn sets(table: &mut Table, input: &Input, underlay: Option<&Underlay>) {
    let remote: BTreeSet<&IpNet> = input.remotes.iter().flat_map(|r| r.prefixes.iter()).collect();
    let own: Vec<IpNet> = input.me().into_iter().flat_map(|n| &n.pod_cidrs).map(IpNet::trunc).collect();
    let elsewhere: Vec<IpNet> = input.others().flat_map(|n| &n.pod_cidrs).map(IpNet::trunc).collect();
    let nodes = underlay.map(|u| u.sources(input)).unwrap_or_default();
    for family in FAMILIES {
        table.nets(&of("remote", family), family, remote.iter().copied());
        table.nets(&of("here", family), family, &own);
        table.nets(&of("elsewhere", family), family, &elsewhere);
        table.nets(&of("vips", family), family, input.vip_prefixes.iter());
        table.addresses(&of("nodes", family), family, &nodes);
    }
}

/// Packets that only pass through are not tracked: any gateway may take any of them.
fn transit(table: &mut Table, input: &Input) {
    let chain = "transit";
    table.base_chain(chain, "filter", "prerouting", BEFORE_DEFRAGMENTATION);
    let ours = one_of(&[json!(TUN_DEVICE), json!(VXLAN_DEVICE)]);
    table.rule(chain, &[equals(&meta("iifname"), ours), equals(&fib("type"), "local"), accept()]);
    let from_tun = equals(&meta("iifname"), TUN_DEVICE);
    let from_vxlan = equals(&meta("iifname"), VXLAN_DEVICE);
    for family in FAMILIES {
        let destination = payload(protocol(family), "daddr");
        let in_set = |name| equals(&destination, format!("@{}", of(name, family)));
        table.rule(chain, &[from_tun.clone(), in_set("here"), accept()]);
        table.rule(chain, &[from_tun.clone(), in_set("elsewhere"), notrack()]);
        table.rule(chain, &[from_vxlan.clone(), in_set("remote"), notrack()]);
    }
    let away: Vec<Value> = uplinks(input).chain([json!(VXLAN_DEVICE)]).collect();
    table.rule(chain, &[from_tun, equals(&fib("oifname"), one_of(&away)), notrack()]);
}

fn uplinks(input: &Input) -> impl Iterator<Item = Value> {
    input.host.uplinks.iter().map(|u| json!(u.name))
}

/// Only nodes send VXLAN, and only by an uplink: whoever else could put packets into other pods' traffic.
fn guard(table: &mut Table, input: &Input) {
    let chain = "guard";
    table.base_chain(chain, "filter", "prerouting", RAW);
    let vxlan = equals(&payload("udp", "dport"), VXLAN_PORT);
    let trusted: Vec<Value> = uplinks(input).chain([json!("lo")]).collect();
    let strange = matches("!=", &meta("iifname"), &one_of(&trusted));
    table.rule(chain, &[strange, vxlan.clone(), counter(), drop()]);
    for family in FAMILIES {
        let stranger = matches("!=", &payload(protocol(family), "saddr"), &json!(format!("@{}", of("nodes", family))));
        let not_self = matches("!=", &meta("iifname"), &json!("lo"));
        table.rule(chain, &[not_self, vxlan.clone(), stranger, counter(), drop()]);
    }
}

/// Pods keep their source address: translated to itself before anybody masquerades it.
fn sources(table: &mut Table, input: &Input) {
    let chain = "source";
    table.base_chain(chain, "nat", "postrouting", BEFORE_SRCNAT);
    for family in FAMILIES {
        let own: Vec<Value> = input
            .prefixes
            .iter()
            .filter(|p| IpFamily::of_net(p) == family)
            .map(|p| json!([prefix(p), prefix(p)]))
            .collect();
        if own.is_empty() {
            continue;
        }
        let ip = protocol(family);
        let map = json!({ "map": { "key": payload(ip, "saddr"), "data": { "set": own } } });
        let keep = json!({ "snat": { "family": ip, "addr": map, "flags": "netmap", "type_flags": "prefix" } });
        let to_remote = equals(&payload(ip, "daddr"), format!("@{}", of("remote", family)));
        let to_node = equals(&meta("oifname"), VXLAN_DEVICE);
        table.rule(chain, &[to_remote, keep.clone()]);
        table.rule(chain, &[to_node, keep]);
    }
}

/// `addr/len`, also where `len` is the whole address: a prefix map takes nothing else.
fn prefix(net: &IpNet) -> Value {
    json!({ "prefix": { "addr": net.network(), "len": net.prefix_len() } })
}

/// Two pods behind one bridge, one using a virtual address of the other: the answer must come back through this host, so it
/// is asked in this host's name; and nobody is told of a shorter way.
fn bridges(table: &mut Table, input: &Input) {
    let chain = "bridges";
    table.base_chain(chain, "nat", "postrouting", BEFORE_SRCNAT - 1);
    let redirects = "redirects";
    table.base_chain(redirects, "filter", "output", RAW);
    let bridges: Vec<&String> = input.host.pod_bridges.iter().collect();
    if bridges.is_empty() {
        return;
    }
    let back: Vec<Value> = bridges.iter().map(|b| concat(&[json!(b), json!(b)])).collect();
    let comes_back = equals(&concat(&[meta("iifname"), meta("oifname")]), one_of(&back));
    for family in FAMILIES {
        if !input.vip_prefixes.iter().any(|p| IpFamily::of_net(p) == family) {
            continue;
        }
        let asked = json!({ "ct": { "key": format!("{} daddr", protocol(family)), "dir": "original" } });
        for vips in input.vip_prefixes.iter().filter(|p| IpFamily::of_net(p) == family) {
            table.rule(chain, &[comes_back.clone(), equals(&asked, net(vips)), json!({ "masquerade": null })]);
        }
    }
    let out: Vec<Value> = bridges.iter().map(|b| json!(b)).collect();
    let by_bridge = equals(&meta("oifname"), one_of(&out));
    table.rule(redirects, &[by_bridge.clone(), equals(&payload("icmp", "type"), "redirect"), drop()]);
    table.rule(redirects, &[by_bridge, equals(&payload("icmpv6", "type"), "nd-redirect"), drop()]);
}

/// DNS and virtual addresses, for this host's own packets and for those it forwards.
fn destinations(table: &mut Table, input: &Input, vips: &[vip::VirtualPort]) {
    vip::chains(table, vips);
    for (chain, hook) in [("to-vip", "prerouting"), ("to-vip-own", "output")] {
        table.base_chain(chain, "nat", hook, BEFORE_DSTNAT);
        for address in &input.dns_addresses {
            let ip = protocol(IpFamily::of(*address));
            for transport in ["udp", "tcp"] {
                let asked = equals(&payload(ip, "daddr"), json!(address));
                let on = equals(&payload(transport, "dport"), 53);
                let to = json!({ "dnat": { "family": ip, "addr": address, "port": DNS_PORT } });
                table.rule(chain, &[asked, on, to]);
            }
        }
        for family in FAMILIES {
            table.rule(chain, &[vip::lookup(family)]);
        }
    }
}

/// A virtual address that nothing was made of: refused at once rather than sent nowhere.
fn refuse_unknown_vips(table: &mut Table) {
    for (chain, hook) in [("refuse", "forward"), ("refuse-own", "output")] {
        table.base_chain(chain, "filter", hook, BEFORE_FILTER);
        for family in FAMILIES {
            let vip = equals(&payload(protocol(family), "daddr"), format!("@{}", of("vips", family)));
            let tcp = equals(&meta("l4proto"), "tcp");
            table.rule(chain, &[vip.clone(), tcp, json!({ "reject": { "type": "tcp reset" } })]);
            table.rule(chain, &[vip, json!({ "reject": { "type": "icmpx", "expr": "port-unreachable" } })]);
        }
    }
}
