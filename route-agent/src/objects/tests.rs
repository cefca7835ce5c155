//! What is read from objects, and what is skipped.

#![allow(clippy::unwrap_used, reason = "test code outside test functions")]

use std::sync::Arc;

use hawser_local_api::Resource;
use serde_json::json;

use super::*;
use crate::view::All;

fn all<K: Resource>(objects: &[serde_json::Value]) -> All<K> {
    let parse = |o: &serde_json::Value| -> K { serde_json::from_value(o.clone()).unwrap() };
    Arc::new(objects.iter().map(parse).map(|o| (o.key(), Arc::new(o))).collect())
}

fn node(name: &str, n: u8) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": { "hawser.dev/gateway": "true" } },
        "spec": { "podCIDRs": [format!("10.1.{n}.0/24"), "nonsense"] },
        "status": { "addresses": [
            { "type": "ExternalIP", "address": "198.51.100.1" }, { "type": "InternalIP", "address": format!("192.168.1.{n}") }
        ] }
    })
}

fn remote(id: &str, prefixes: &[&str]) -> serde_json::Value {
    json!({
        "apiVersion": "hawser.dev/v1alpha1", "kind": "RemoteCluster", "metadata": { "name": id },
        "spec": { "clusterId": id, "generation": 1, "rosterRevision": 1, "prefixes": prefixes, "gateways": [] }
    })
}

fn objects() -> Objects {
    Objects {
        properties: all(&[json!({
            "apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty",
            "metadata": { "name": "clusterset.k8s.io" }, "spec": { "value": "set" }
        })]),
        memberships: all(&[json!({
            "apiVersion": "hawser.dev/v1alpha1", "kind": "Membership", "metadata": { "name": "default" },
            "spec": { "clusterId": "west", "prefixes": ["10.1.0.0/16"], "vipPrefixes": ["10.250.0.0/24"], "dnsAddress": ["10.253.0.53"] }
        })]),
        nodes: all(&[node("n1", 1), node("n2", 2)]),
        remotes: all(&[remote("east", &["10.2.0.0/16"])]),
        imports: all(&[json!({
            "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": {
                "type": "ClusterSetIP", "ips": ["10.250.0.7"], "sessionAffinity": "ClientIP",
                "ports": [{ "name": "http", "port": 80 }, { "name": "odd", "port": 80, "protocol": "DCCP" }, { "name": "big", "port": 70000 }]
            }
        })]),
        slices: all(&[
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": { "name": "web-east", "namespace": "shop", "labels": {
                    "multicluster.kubernetes.io/service-name": "web", "multicluster.kubernetes.io/source-cluster": "east"
                } },
                "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
                "endpoints": [
                    { "addresses": ["10.2.0.5"] },
                    { "addresses": ["10.2.0.6"], "conditions": { "ready": false, "serving": true, "terminating": true } },
                    { "addresses": ["bad"] }
                ]
            }),
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": { "name": "own", "namespace": "shop", "labels": { "kubernetes.io/service-name": "web" } },
                "endpoints": [{ "addresses": ["10.1.0.5"] }]
            }),
        ]),
        namespaces: all(&[json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } })]),
    }
}

fn known(objects: &Objects) -> Known {
    match see(objects, &NodeName::new("n1").unwrap()) {
        Seen::Member(known) => *known,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_fields_cost_only_themselves_and_are_named() {
    let known = known(&objects());
    let input = &known.input;
    assert_eq!(input.nodes.len(), 2);
    assert!(
        input.nodes.iter().all(|n| n.gateway && n.addresses.len() == 1 && n.pod_cidrs.len() == 1),
        "{:?}",
        input.nodes
    );
    let [service] = &input.services[..] else { panic!("{:?}", input.services) };
    assert_eq!((service.ports.len(), service.affinity), (1, Some(10_800)));
    let [group] = &service.groups[..] else { panic!("{:?}", service.groups) };
    let states: Vec<_> = group.endpoints.iter().map(|e| (e.address.to_string(), e.ready, e.serving)).collect();
    assert_eq!(states, [("10.2.0.5".to_owned(), true, true), ("10.2.0.6".to_owned(), false, true)]);
    let problems: Vec<_> = known.problems.iter().map(|p| (p.object.as_str(), p.field)).collect();
    assert_eq!(
        problems,
        [
            ("EndpointSlice shop/web-east", "endpoints.addresses"),
            ("Node n1", "spec.podCIDRs"),
            ("Node n2", "spec.podCIDRs"),
            ("ServiceImport shop/web", "spec.ports.port"),
            ("ServiceImport shop/web", "spec.ports.protocol"),
        ]
    );
}

#[test]
fn no_remote_prefix_takes_addresses_of_ours() {
    let mut objects = objects();
    let bad =
        ["0.0.0.0/0", "127.0.0.0/8", "10.1.2.0/24", "10.0.0.0/8", "10.250.0.0/25", "192.168.1.2/32", "10.253.0.0/16"];
    for prefix in bad {
        objects.remotes = all(&[remote("east", &[prefix, "10.2.0.0/16"])]);
        let known = known(&objects);
        let kept: Vec<String> = known.input.remotes[0].prefixes.iter().map(ToString::to_string).collect();
        assert_eq!(kept, ["10.2.0.0/16"], "{prefix}");
        assert!(known.problems.iter().any(|p| p.object == "RemoteCluster east" && p.rule.contains(prefix)), "{prefix}");
    }
}

#[test]
fn only_the_property_says_that_the_cluster_left() {
    let node = NodeName::new("n1").unwrap();
    let mut objects = objects();
    objects.memberships = all(&[]);
    assert_eq!(see(&objects, &node), Seen::NoMembership);
    objects.properties = all(&[]);
    assert_eq!(see(&objects, &node), Seen::NotMember);
}
