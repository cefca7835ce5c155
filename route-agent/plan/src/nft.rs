//! Statements and expressions of `nft -j`, small enough to read where they are used.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hawser_model::IpFamily;
use ipnet::IpNet;
use serde_json::{Value, json};

/// Builds statements of one table.
pub(crate) struct Table {
    name: &'static str,
    sets: Vec<Value>,
    chains: Vec<Value>,
    rules: Vec<Value>,
}

impl Table {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, sets: Vec::new(), chains: Vec::new(), rules: Vec::new() }
    }

    /// All of it, in an order that nft takes: a thing comes before its users.
    pub(crate) fn finish(mut self) -> Vec<Value> {
        self.chains.append(&mut self.sets);
        self.chains.append(&mut self.rules);
        self.chains
    }

    fn object(&self, name: &str) -> serde_json::Map<String, Value> {
        let mut map = serde_json::Map::new();
        map.insert("family".into(), json!("inet"));
        map.insert("table".into(), json!(self.name));
        map.insert("name".into(), json!(name));
        map
    }

    /// A chain that is called.
    pub(crate) fn chain(&mut self, name: &str) {
        self.chains.push(json!({ "chain": self.object(name) }));
    }

    /// A chain that the kernel calls.
    pub(crate) fn base_chain(&mut self, name: &str, kind: &str, hook: &str, priority: i32) {
        let mut chain = self.object(name);
        chain.insert("type".into(), json!(kind));
        chain.insert("hook".into(), json!(hook));
        chain.insert("prio".into(), json!(priority));
        chain.insert("policy".into(), json!("accept"));
        self.chains.push(json!({ "chain": chain }));
    }

    /// A set of CIDRs of one family.
    pub(crate) fn nets<'a>(&mut self, name: &str, family: IpFamily, nets: impl IntoIterator<Item = &'a IpNet>) {
        let mut set = self.object(name);
        set.insert("type".into(), json!(address_type(family)));
        set.insert("flags".into(), json!(["interval"]));
        let sorted: BTreeSet<&IpNet> = nets.into_iter().filter(|n| IpFamily::of_net(n) == family).collect();
        let elements: Vec<Value> = sorted.into_iter().map(net).collect();
        if !elements.is_empty() {
            set.insert("elem".into(), json!(elements));
        }
        self.sets.push(json!({ "set": set }));
    }

    /// A set of addresses of one family.
    pub(crate) fn addresses<'a>(&mut self, name: &str, family: IpFamily, all: impl IntoIterator<Item = &'a IpAddr>) {
        let mut set = self.object(name);
        set.insert("type".into(), json!(address_type(family)));
        let sorted: BTreeSet<&IpAddr> = all.into_iter().filter(|a| IpFamily::of(**a) == family).collect();
        let elements: Vec<Value> = sorted.into_iter().map(|a| json!(a)).collect();
        if !elements.is_empty() {
            set.insert("elem".into(), json!(elements));
        }
        self.sets.push(json!({ "set": set }));
    }

    /// A set that packets add addresses to, each for `seconds`.
    pub(crate) fn memory(&mut self, name: &str, family: IpFamily, seconds: u32, size: u32) {
        let mut set = self.object(name);
        set.insert("type".into(), json!(address_type(family)));
        set.insert("flags".into(), json!(["timeout"]));
        set.insert("timeout".into(), json!(seconds));
        set.insert("size".into(), json!(size));
        self.sets.push(json!({ "set": set }));
    }

    /// A map from (address, protocol, port) to what to do.
    pub(crate) fn verdicts(&mut self, name: &str, family: IpFamily, elements: &[(Value, Value)]) {
        let mut map = self.object(name);
        map.insert("type".into(), json!([address_type(family), "inet_proto", "inet_service"]));
        map.insert("map".into(), json!("verdict"));
        if !elements.is_empty() {
            map.insert("elem".into(), json!(elements));
        }
        self.sets.push(json!({ "map": map }));
    }

    /// A rule.
    pub(crate) fn rule(&mut self, chain: &str, expr: &[Value]) {
        self.rules.push(json!({ "rule": { "family": "inet", "table": self.name, "chain": chain, "expr": expr } }));
    }
}

fn address_type(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "ipv4_addr",
        IpFamily::V6 => "ipv6_addr",
    }
}

/// nft's name of the family's protocol, in `ip saddr` and `dnat ip to`.
pub(crate) fn protocol(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "ip",
        IpFamily::V6 => "ip6",
    }
}

pub(crate) fn net(net: &IpNet) -> Value {
    if net.prefix_len() == net.max_prefix_len() {
        return json!(net.addr());
    }
    json!({ "prefix": { "addr": net.network(), "len": net.prefix_len() } })
}

pub(crate) fn payload(protocol: &str, field: &str) -> Value {
    json!({ "payload": { "protocol": protocol, "field": field } })
}

pub(crate) fn meta(key: &str) -> Value {
    json!({ "meta": { "key": key } })
}

pub(crate) fn matches(op: &str, left: &Value, right: &Value) -> Value {
    json!({ "match": { "op": op, "left": left, "right": right } })
}

pub(crate) fn equals(left: &Value, right: impl Into<Value>) -> Value {
    matches("==", left, &right.into())
}

pub(crate) fn one_of(items: &[Value]) -> Value {
    json!({ "set": items })
}

pub(crate) fn concat(items: &[Value]) -> Value {
    json!({ "concat": items })
}

pub(crate) fn fib(result: &str) -> Value {
    json!({ "fib": { "result": result, "flags": ["daddr"] } })
}

pub(crate) fn goto(chain: &str) -> Value {
    json!({ "goto": { "target": chain } })
}

pub(crate) fn counter() -> Value {
    json!({ "counter": { "packets": 0, "bytes": 0 } })
}

pub(crate) fn drop() -> Value {
    json!({ "drop": null })
}

pub(crate) fn accept() -> Value {
    json!({ "accept": null })
}

pub(crate) fn notrack() -> Value {
    json!({ "notrack": null })
}
