//! What this cluster publishes, and what its exports are told.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;

use common::{World, cluster, gateway_node, own_service, own_slice, prefixes, service};
use hawser_agent_plan::{Record, RecordId, Upload};
use hawser_api::core::{EndpointSlice, Service};
use hawser_model::export::{ExportEndpoints, ExportHeader, ServiceKind, SessionAffinity, Timestamp as Millis};
use hawser_model::{Candidate, IpFamily};

fn header(world: &World, name: &str) -> Option<ExportHeader> {
    match &**world.plan().shard?.records.get(&RecordId::Header(service(name)))? {
        Record::Header(h) => Some(h.clone()),
        _ => None,
    }
}

fn endpoints(world: &World, name: &str) -> ExportEndpoints {
    match &*world.plan().shard.unwrap().records[&RecordId::Endpoints(service(name))] {
        Record::Endpoints(e) => e.clone(),
        other => panic!("{other:?}"),
    }
}

/// Changes the Service `shop/web`.
fn change(world: &mut World, change: impl FnOnce(&mut k8s_openapi::api::core::v1::ServiceSpec)) {
    let found = world.local.services.iter_mut().find(|s| s.metadata.name.as_deref() == Some("web")).unwrap();
    let service: &mut Service = Arc::make_mut(found);
    change(service.spec.as_mut().unwrap());
}

fn exporting() -> World {
    let mut world = World::new();
    world.own_export("shop/web", 80, &["10.1.0.5", "10.1.0.6"]);
    world
}

#[test]
fn an_export_is_header_and_endpoints() {
    let mut world = exporting();
    world.first_seen.insert(service("shop/web"), Millis(42));
    let h = header(&world, "shop/web").unwrap();
    assert_eq!((h.cluster, h.created, h.kind), (cluster("west"), Millis(42), ServiceKind::ClusterSetIp));
    assert_eq!(h.ip_families, [IpFamily::V4], "the families of its slices");
    let group = &endpoints(&world, "shop/web").groups[0];
    assert_eq!((group.ports[0].port, group.ports[0].service_port), (8080, Some(80)));
    assert_eq!(group.endpoints.len(), 2);
    assert!(group.endpoints.iter().all(|e| e.ready && e.serving && !e.terminating), "absent conditions mean ready");
}

#[test]
fn the_service_says_the_rest() {
    let mut world = exporting();
    change(&mut world, |spec| {
        spec.type_ = Some("LoadBalancer".into());
        spec.ip_families = Some(vec!["IPv6".into(), "IPv4".into()]);
        spec.session_affinity = Some("ClientIP".into());
        spec.session_affinity_config = Some(k8s_openapi::api::core::v1::SessionAffinityConfig {
            client_ip: Some(k8s_openapi::api::core::v1::ClientIPConfig { timeout_seconds: Some(10) }),
        });
        spec.traffic_distribution = Some("PreferClose".into());
    });
    let h = header(&world, "shop/web").unwrap();
    assert_eq!(h.kind, ServiceKind::ClusterSetIp);
    assert_eq!(h.ip_families, [IpFamily::V6, IpFamily::V4]);
    assert_eq!((h.session_affinity, h.session_affinity_timeout), (SessionAffinity::ClientIp, Some(10)));
    assert_eq!(h.traffic_distribution.as_deref(), Some("PreferClose"));
    change(&mut world, |spec| spec.cluster_ip = Some("None".into()));
    assert_eq!(header(&world, "shop/web").unwrap().kind, ServiceKind::Headless);
}

#[test]
fn labels_come_from_the_export_alone() {
    let mut world = exporting();
    Arc::make_mut(&mut world.local.exports[0]).spec.exported_labels = [("team".to_owned(), "blue".to_owned())].into();
    Arc::make_mut(&mut world.local.exports[0]).metadata.labels = Some([("own".to_owned(), "x".to_owned())].into());
    Arc::make_mut(&mut world.local.services[0]).metadata.labels = Some([("svc".to_owned(), "x".to_owned())].into());
    world.settle();
    let labels = world.local.imports[0].metadata.labels.clone().unwrap();
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), [("team".to_owned(), "blue".to_owned())]);
}

#[test]
fn own_slices_carry_their_nodes() {
    let mut world = exporting();
    world.settle();
    let slices: Vec<EndpointSlice> = world.imported_slices().into_iter().cloned().collect();
    assert!(slices.iter().flat_map(|s| &s.endpoints).all(|e| e.node_name.as_deref() == Some("n1")), "{slices:?}");
}

#[test]
fn invalid_exports_and_their_reasons() {
    let valid_ready = |world: &World| {
        let of = |t| {
            world.condition("shop/web", t).map(|(status, reason, _)| format!("{status}/{reason}")).unwrap_or_default()
        };
        (of("Valid"), of("Ready"))
    };
    let row = |v: &str, r: &str| (v.to_owned(), r.to_owned());

    let mut world = exporting();
    world.local.services.clear();
    world.settle();
    assert_eq!(valid_ready(&world), row("False/NoService", "False/Failed"));
    assert!(header(&world, "shop/web").is_none() && world.local.imports.is_empty());

    let mut world = exporting();
    change(&mut world, |spec| spec.type_ = Some("ExternalName".into()));
    world.settle();
    assert_eq!(valid_ready(&world), row("False/InvalidServiceType", "False/Failed"));

    let mut world = exporting();
    world.identity.as_mut().unwrap().namespaces = vec!["infra".into()];
    world.settle();
    assert_eq!(valid_ready(&world), row("True/Valid", "False/Failed"));
    let message = world.condition("shop/web", "Ready").unwrap().2;
    assert!(message.contains("shop/web") && message.contains("infra") && message.contains("token"), "{message}");
    assert!(header(&world, "shop/web").is_none());

    let mut world = exporting();
    change(&mut world, |spec| {
        let twice = spec.ports.as_ref().unwrap()[0].clone();
        spec.ports.as_mut().unwrap().push(twice);
    });
    world.settle();
    assert_eq!(valid_ready(&world), row("True/Valid", "False/Failed"));
    assert!(world.condition("shop/web", "Ready").unwrap().2.contains("ports"));
}

#[test]
fn by_default_system_namespaces_are_not_exported() {
    let identity = World::new().identity.unwrap();
    let may: Vec<bool> = ["shop", "default", "kube-system", "kubernetes"].map(|n| identity.may_export_from(n)).into();
    assert_eq!(may, [true, false, false, true]);
}

#[test]
fn endpoints_outside_the_prefixes_stay_home_and_are_named() {
    let mut world = exporting();
    world.local.slices.push(Arc::new(own_slice(
        "shop",
        "web",
        "IPv6",
        80,
        &["fd00:1::5", "fd00:9::5", "10.1.0.9", "nonsense"],
    )));
    world.settle();
    let published: Vec<String> = endpoints(&world, "shop/web")
        .groups
        .iter()
        .flat_map(|g| &g.endpoints)
        .flat_map(|e| e.addresses.iter().map(ToString::to_string))
        .collect();
    assert_eq!(published, ["10.1.0.5", "10.1.0.6", "fd00:1::5"]);
    let (status, _, message) = world.condition("shop/web", "EndpointsSkipped").unwrap();
    assert_eq!(status, "True");
    for part in ["fd00:9::5", "spec.prefixes", "10.1.0.9", "must be an IPv6 address", "nonsense"] {
        assert!(message.contains(part), "{part} is missing in {message}");
    }
    world.local.slices.retain(|s| s.address_type == "IPv4");
    world.settle();
    assert_eq!(world.condition("shop/web", "EndpointsSkipped"), None);
}

#[test]
fn ready_follows_the_broker() {
    let mut world = exporting();
    let ready = |world: &mut World| {
        world.settle();
        let (status, reason, _) = world.condition("shop/web", "Ready").unwrap();
        format!("{status}/{reason}")
    };
    assert_eq!(ready(&mut world), "False/Pending");
    let ids = [RecordId::Header(service("shop/web")), RecordId::Endpoints(service("shop/web"))];
    world.uploads.records.insert(ids[0].clone(), Upload::Durable);
    assert_eq!(ready(&mut world), "False/Pending");
    world.uploads.records.insert(ids[1].clone(), Upload::Durable);
    assert_eq!(ready(&mut world), "True/Exported");
    world.uploads.records.clear();
    assert_eq!(ready(&mut world), "True/Exported", "not knowing takes nothing back");
    world.uploads.records.insert(ids[1].clone(), Upload::Pending);
    assert_eq!(ready(&mut world), "False/Pending");
}

#[test]
fn transition_times_move_with_the_status_only() {
    let mut world = exporting();
    world.settle();
    let time = |world: &World| {
        let status = world.local.exports[0].status.clone().unwrap();
        status.conditions.into_iter().find(|c| c.type_ == "Conflict").unwrap().last_transition_time
    };
    let before = time(&world);
    world.now += jiff::SignedDuration::from_secs(100);
    assert!(world.settle().is_empty(), "time alone changes nothing");
    world.remote_export("east", "shop/web", i64::MAX, 81, &["10.2.0.5"]);
    world.settle();
    assert!(time(&world) > before);
    let conflict = world.condition("shop/web", "Conflict").unwrap();
    assert_eq!((conflict.0.as_str(), conflict.1.as_str()), ("True", "PortConflict"));
    let at = time(&world);
    world.now += jiff::SignedDuration::from_secs(100);
    world.remote_export("north", "shop/web", i64::MAX, 82, &["10.3.0.5"]);
    world.settle();
    assert_eq!(time(&world), at, "the message may change without a transition");
    assert!(world.condition("shop/web", "Conflict").unwrap().2.contains("2/3"));
}

#[test]
fn gateways_are_published_with_what_is_theirs() {
    let mut world = World::new();
    world.local.gateway_nodes.push(Arc::new(gateway_node("n1")));
    let mut bad = gateway_node("n2");
    bad.spec.lanes[0].public_key = "c2hvcnQ=".into();
    world.local.gateway_nodes.push(Arc::new(bad));
    let plan = world.plan();
    let shard = plan.shard.unwrap();
    assert_eq!(shard.claims, prefixes(&["10.1.0.0/16", "fd00:1::/48"]));
    assert_eq!(shard.records.len(), 1, "{:?}", shard.records);
    let Some(Record::Gateway(g)) = shard.records.values().next().map(|r| (**r).clone()) else { panic!("no gateway") };
    assert_eq!(g.preferred, ["10.1.5.0/24".parse().unwrap()], "only what the cluster claims");
    assert_eq!(
        g.candidates,
        [Candidate::Address("192.0.2.1".parse().unwrap()), Candidate::Name("gw.example.org".into())]
    );
    assert!(
        plan.skipped.iter().any(|s| s.contains("GatewayNode n2") && s.contains("publicKey") && s.contains("32 bytes")),
        "{:?}",
        plan.skipped
    );
}

#[test]
fn a_service_without_an_export_is_not_exported() {
    let mut world = World::new();
    world.local.services.push(Arc::new(own_service("shop", "web", 80)));
    world.local.slices.push(Arc::new(own_slice("shop", "web", "IPv4", 80, &["10.1.0.5"])));
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    world.settle();
    assert!(header(&world, "shop/web").is_none());
    let found: Vec<_> =
        world.imported_slices().iter().flat_map(|s| &s.endpoints).flat_map(|e| e.addresses.clone()).collect();
    assert_eq!(found, ["10.2.0.5"]);
}
