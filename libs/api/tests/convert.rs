//! Conversions to the model and back: what reads must read the same again, what can't be read must be named.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use hawser_api::convert::{self, Invalid, condition};
use hawser_api::core::{EndpointSlice, Node, Service, Time};
use hawser_api::hawser::{GatewayNode, Membership, MembershipStatus, RemoteCluster};
use hawser_api::mcs::{ServiceExport, ServiceImport};
use hawser_api::yaml;
use hawser_model::export::{ServiceKind, SessionAffinity, Timestamp};
use hawser_model::{Candidate, ClusterId, IpFamily};
use serde::de::DeserializeOwned;

const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

fn read<T: DeserializeOwned>(text: &str) -> T {
    let value = yaml::parse(yaml::documents(text).next().unwrap()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn gateway(spec: &str) -> GatewayNode {
    read(&format!("{{apiVersion: hawser.dev/v1alpha1, kind: GatewayNode, metadata: {{name: n1}}, spec: {spec}}}"))
}

fn fields(errors: &[Invalid]) -> Vec<&str> {
    errors.iter().map(|error| error.field.as_str()).collect()
}

#[test]
fn gateways_read_and_write_alike() {
    let node = gateway(&format!(
        "{{node: n1, lanes: [{{publicKey: {KEY}, port: 51820}}, {{publicKey: {KEY}, port: 51821, nextPublicKey: {KEY}}}], \
         candidates: [192.0.2.1, '2001:db8::1', gw.example], preferredPrefixes: [10.1.1.0/24, 'fd00:1::/64']}}"
    ));
    let model = convert::gateway(&node).unwrap();
    assert_eq!(model.candidates[2], Candidate::Name("gw.example".to_owned()));
    assert_eq!(model.lanes[1].next_public_key, Some(model.lanes[0].public_key));
    assert_eq!(convert::gateway_spec(&model), node.spec);
}

#[test]
fn a_bad_gateway_names_its_field() {
    for (spec, field) in [
        ("{node: N, lanes: [], candidates: []}".to_owned(), "spec.node"),
        ("{node: n1, lanes: [], candidates: []}".to_owned(), "spec.lanes"),
        ("{node: n1, lanes: [{publicKey: AQ==, port: 1}], candidates: []}".to_owned(), "spec.lanes[0].publicKey"),
        (format!("{{node: n1, lanes: [{{publicKey: {KEY}, port: 0}}], candidates: []}}"), "spec.lanes[0].port"),
        (format!("{{node: n1, lanes: [{{publicKey: {KEY}, port: 1}}], candidates: [a_b]}}"), "spec.candidates[0]"),
        (
            format!("{{node: n1, lanes: [{{publicKey: {KEY}, port: 1}}], candidates: [10.0.0.256]}}"),
            "spec.candidates[0]",
        ),
    ] {
        let error = convert::gateway(&gateway(&spec)).unwrap_err();
        assert_eq!(error.field, field, "{error}");
        assert_eq!(error.object, "GatewayNode n1");
    }
}

#[test]
fn a_remote_cluster_loses_only_its_bad_gateways() {
    let good = format!("lanes: [{{publicKey: {KEY}, port: 51820}}], candidates: [192.0.2.1]");
    let remote: RemoteCluster = read(&format!(
        "{{apiVersion: hawser.dev/v1alpha1, kind: RemoteCluster, metadata: {{name: east}}, spec: {{clusterId: east, \
         generation: 3, rosterRevision: 9, prefixes: [10.2.0.0/16], gateways: [{{node: b, {good}}}, {{node: a, {good}, \
         probes: false}}, {{node: a, {good}}}, {{node: c, lanes: [], candidates: []}}]}}}}"
    ));
    let (model, skipped) = convert::remote_cluster(&remote).unwrap();
    assert_eq!(model.gateways.iter().map(|g| g.node.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(fields(&skipped), ["spec.gateways[2].node", "spec.gateways[3].lanes"]);
    let written = convert::remote_cluster_spec(&model, 9);
    let again = RemoteCluster { spec: written, ..remote };
    assert_eq!(convert::remote_cluster(&again).unwrap(), (model, vec![]));

    let renamed = RemoteCluster { metadata: hawser_api::core::ObjectMeta::default(), ..again };
    assert_eq!(convert::remote_cluster(&renamed).unwrap_err().field, "metadata.name");
}

#[test]
fn a_membership_names_every_mistake() {
    let good: Membership = read(
        "{apiVersion: hawser.dev/v1alpha1, kind: Membership, metadata: {name: default}, spec: {clusterId: west, brokers: \
         ['broker.example:7443', '192.0.2.1:7443', '[::1]:7443'], prefixes: [10.1.0.0/16, 'fd00:1::/48'], vipPrefixes: \
         [10.96.0.0/16], dnsAddress: [10.96.0.10, 'fd00:96::a'], drainedNodes: [n1], rotateKeysAfter: 720h, peerMaxAge: 1h30m}}",
    );
    let plan = convert::membership(&good).unwrap();
    assert_eq!(plan.rotate_keys_after.unwrap().as_secs(), 720 * 3600);
    assert_eq!(plan.peer_max_age.unwrap().as_secs(), 5400);
    assert_eq!(plan.dns_addresses.len(), 2);

    let bad: Membership = read(
        "{apiVersion: hawser.dev/v1alpha1, kind: Membership, metadata: {name: default}, spec: {clusterId: West, brokers: \
         [broker, '::1:7443', 'b:0'], prefixes: [10.1.0.0], vipPrefixes: [10.96.0.1/16], dnsAddress: [10.96.0.10, 10.96.0.11], \
         drainedNodes: [n_1], rotateKeysAfter: soon, peerMaxAge: -1h}}",
    );
    let errors = convert::membership(&bad).unwrap_err();
    let expected = [
        "spec.clusterId",
        "spec.brokers[0]",
        "spec.brokers[1]",
        "spec.brokers[2]",
        "spec.prefixes[0]",
        "spec.vipPrefixes[0]",
        "spec.dnsAddress",
        "spec.drainedNodes[0]",
        "spec.rotateKeysAfter",
        "spec.peerMaxAge",
    ];
    assert_eq!(fields(&errors), expected, "{errors:#?}");

    let mut overlap = good;
    overlap.spec.vip_prefixes = vec!["10.1.128.0/20".to_owned()];
    assert_eq!(fields(&convert::membership(&overlap).unwrap_err()), ["spec.vipPrefixes"]);
}

#[test]
fn roster_members_skip_what_is_no_member() {
    let status: MembershipStatus = read(
        "{rosterRevision: 7, members: [{clusterId: east, generation: 2}, {clusterId: E, generation: 1}, \
         {clusterId: north, generation: -1}]}",
    );
    let (revision, members) = convert::roster_members(&status);
    assert_eq!(revision, 7);
    assert_eq!(members.into_iter().collect::<Vec<_>>(), [(ClusterId::new("east").unwrap(), 2)]);
}

#[test]
fn a_node_keeps_what_is_good() {
    let node: Node = read(
        "{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {hawser.dev/gateway: 'true'}, annotations: \
         {hawser.dev/gateway-candidates: 'gw.example, 203.0.113.9,, b_d'}}, spec: {podCIDR: 10.1.1.0/24, podCIDRs: \
         [10.1.1.0/24, 'fd00:1:1::/64', 10.1.1.1/24]}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}, \
         {type: Hostname, address: n1}, {type: InternalIP, address: 'x'}, {type: ExternalIP, address: '2001:db8::1'}, \
         {type: ExternalIP, address: 203.0.113.9}]}}",
    );
    let (plan, skipped) = convert::node(&node).unwrap();
    assert!(plan.is_gateway);
    let candidates: Vec<String> = plan.candidates.iter().map(|candidate| format!("{candidate:?}")).collect();
    let expected = ["Name(\"gw.example\")", "Address(203.0.113.9)", "Address(2001:db8::1)", "Address(192.0.2.1)"];
    assert_eq!(candidates, expected);
    assert_eq!(plan.own_address(IpFamily::V4).unwrap().to_string(), "10.1.1.1");
    assert!(plan.own_address(IpFamily::V6).is_some());
    let expected =
        ["status.addresses[2].address", "spec.podCIDRs[2]", "metadata.annotations[hawser.dev/gateway-candidates]"];
    assert_eq!(fields(&skipped), expected);
}

fn service(spec: &str) -> Service {
    read(&format!("{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop}}, spec: {spec}}}"))
}

fn export() -> ServiceExport {
    read(
        "{apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceExport, metadata: {name: web, namespace: shop}, spec: \
         {exportedLabels: {team: a}}}",
    )
}

#[test]
fn an_export_is_its_service() {
    let (west, now) = (ClusterId::new("west").unwrap(), Timestamp(5));
    let header = |service: Option<&Service>| convert::export_header(&west, &export(), service, now, &[IpFamily::V6]);
    let full = service(
        "{ports: [{name: http, port: 80, appProtocol: http}, {name: dns, port: 53, protocol: UDP}], sessionAffinity: ClientIP, \
         sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}, ipFamilies: [IPv4]}",
    );
    let read = header(Some(&full)).unwrap();
    assert_eq!((read.kind, read.session_affinity), (ServiceKind::ClusterSetIp, SessionAffinity::ClientIp));
    assert_eq!((read.session_affinity_timeout, &read.ip_families[..]), (Some(60), &[IpFamily::V4][..]));
    assert_eq!(read.labels["team"], "a");
    let headless = header(Some(&service("{clusterIP: None, ports: [{port: 80}]}"))).unwrap();
    assert_eq!((headless.kind, &headless.ip_families[..]), (ServiceKind::Headless, &[IpFamily::V6][..]));

    assert_eq!(header(None).unwrap_err().reason(), Some("NoService"));
    let error = header(Some(&service("{type: ExternalName, externalName: x}"))).unwrap_err();
    assert_eq!(error.reason(), Some("InvalidServiceType"));
    let error = header(Some(&service("{ports: [{port: 80}, {port: 70000}]}"))).unwrap_err();
    assert_eq!(error.reason(), None);
    assert!(error.to_string().contains("Service shop/web: spec.ports[1].port: 70000"), "{error}");
}

#[test]
fn the_ports_of_an_import_are_the_models() {
    let import: ServiceImport = read(
        "{apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport, metadata: {name: web, namespace: shop}, spec: \
         {type: ClusterSetIP, ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}}",
    );
    let ports = convert::import_ports("ServiceImport shop/web", &import.spec.ports).unwrap();
    let read: Vec<_> = ports.iter().map(|port| (port.name.as_str(), port.protocol.as_str(), port.port)).collect();
    assert_eq!(read, [("http", "TCP", 80), ("dns", "UDP", 53)]);
    let mut bad = import.spec.ports;
    bad[1].port = 0;
    let error = convert::import_ports("ServiceImport shop/web", &bad).unwrap_err();
    assert!(error.to_string().starts_with("ServiceImport shop/web: spec.ports[1].port: 0 must be"), "{error}");
}

#[test]
fn slices_read_and_write_alike() {
    let slice: EndpointSlice = read(
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-1, namespace: shop}, addressType: IPv4, \
         endpoints: [{addresses: [10.1.1.5]}, {addresses: [10.1.1.6, 'fd00::1'], conditions: {ready: false, serving: true, \
         terminating: true}, hostname: db-0, zone: z1}, {addresses: [x]}], ports: [{name: http, port: 8080}, {name: bad, \
         port: 70000}, {name: odd, port: 1, protocol: X}]}",
    );
    let west = ClusterId::new("west").unwrap();
    let header = convert::export_header(
        &west,
        &export(),
        Some(&service("{ports: [{name: http, port: 80, appProtocol: h2c}]}")),
        Timestamp(0),
        &[],
    );
    let (group, skipped) = convert::endpoint_group(&slice, &header.unwrap().ports).unwrap();
    assert_eq!(group.endpoints.len(), 2);
    assert!(group.endpoints[0].ready && group.endpoints[0].serving && !group.endpoints[0].terminating);
    assert_eq!(group.ports[0].service_port, Some(80));
    assert_eq!(group.ports[0].app_protocol.as_deref(), Some("h2c"));
    assert_eq!(fields(&skipped), ["endpoints[1].addresses[1]", "endpoints[2].addresses[0]", "ports[1]", "ports[2]"]);

    let again = EndpointSlice {
        endpoints: convert::slice_endpoints(&group),
        ports: Some(convert::slice_ports(&group)),
        ..slice.clone()
    };
    let http = hawser_model::export::ServicePort {
        name: "http".to_owned(),
        protocol: hawser_model::export::Protocol::Tcp,
        app_protocol: None,
        port: 80,
    };
    assert_eq!(convert::endpoint_group(&again, &[http]).unwrap(), (group, vec![]));

    let fqdn = EndpointSlice { address_type: "FQDN".to_owned(), ..slice };
    assert_eq!(convert::endpoint_group(&fqdn, &[]).unwrap_err().field, "addressType");
}

#[test]
fn a_condition_moves_only_when_its_status_does() {
    let at = |second| Time(jiff::Timestamp::from_second(second).unwrap());
    let mut list = Vec::new();
    assert!(condition::set(&mut list, "Joined", false.into(), "Pending", "waiting", Some(1), &at(1)));
    assert!(!condition::set(&mut list, "Joined", false.into(), "Pending", "waiting", Some(1), &at(2)));
    assert!(condition::set(&mut list, "Joined", false.into(), "Refused", "token used", Some(1), &at(3)));
    assert_eq!(list[0].last_transition_time, at(1), "the status did not change");
    assert!(condition::set(&mut list, "Joined", true.into(), "Joined", "", Some(2), &at(4)));
    assert_eq!(list[0].last_transition_time, at(4));
    assert!(condition::is_true(&list, "Joined") && !condition::is_true(&list, "BrokerReachable"));
    assert_eq!(condition::get(&list, "Joined").unwrap().observed_generation, Some(2));
    assert!(condition::set(&mut list, "Long", condition::State::Unknown, "X", &"ä".repeat(40_000), None, &at(5)));
    assert!(list[1].message.len() <= 32_768);
}
