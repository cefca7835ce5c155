//! What other clusters' records become here.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;

use common::{NOW, World, cluster, header, is_named, named, namespace, prefixes, remote_gateway, service};
use hawser_agent_plan::{Link, Standing, Write};
use hawser_api::core::{EndpointSlice, Namespace, Time};
use hawser_api::labels;
use hawser_api::mcs::{ImportType, ServiceImport};
use hawser_model::export::ServiceKind;
use jiff::Timestamp;

fn import<'a>(world: &'a World, name: &str) -> Option<&'a ServiceImport> {
    let (ns, name) = name.split_once('/').unwrap();
    world.local.imports.iter().find(|i| is_named(&i.metadata, ns, name)).map(|i| &**i)
}

fn label<'a>(slice: &'a EndpointSlice, key: &str) -> &'a str {
    &slice.metadata.labels.as_ref().unwrap()[key]
}

fn addresses(slices: &[&EndpointSlice]) -> Vec<String> {
    let mut all: Vec<String> = slices.iter().flat_map(|s| &s.endpoints).flat_map(|e| e.addresses.clone()).collect();
    all.sort();
    all
}

fn ready(slices: &[&EndpointSlice]) -> Vec<bool> {
    slices.iter().flat_map(|s| &s.endpoints).map(|e| e.conditions.as_ref().unwrap().ready.unwrap()).collect()
}

#[test]
fn a_member_gets_properties_peers_and_status() {
    let mut world = World::new();
    world.shard("east").gateways.insert(remote_gateway("e1").node, Arc::new(remote_gateway("e1")));
    world.settle();
    let values: Vec<_> =
        world.local.properties.iter().map(|p| (p.metadata.name.clone().unwrap(), p.spec.value.clone())).collect();
    assert_eq!(
        values,
        [
            (labels::PROPERTY_CLUSTER.to_owned(), "west".to_owned()),
            (labels::PROPERTY_CLUSTER_SET.to_owned(), "fleet".to_owned())
        ]
    );
    let names: Vec<_> = world.local.remote_clusters.iter().map(|r| r.spec.cluster_id.as_str()).collect();
    assert_eq!(names, ["east", "north"]);
    let east = &world.local.remote_clusters[0];
    assert_eq!(east.spec.prefixes, ["10.2.0.0/16", "fd00:2::/48"]);
    assert_eq!(east.spec.gateways.len(), 1);
    assert_eq!(east.spec.roster_revision, 7);
    let status = world.local.membership.as_ref().unwrap().status.clone().unwrap();
    assert_eq!(status.roster_revision, 7);
    assert_eq!(status.members.iter().map(|m| m.cluster_id.as_str()).collect::<Vec<_>>(), ["east", "north"]);
    assert!(status.conditions.iter().all(|c| c.status == "True"), "{:?}", status.conditions);
    assert_eq!(status.prefix_sources["10.1.0.0/16"], "spec");
    // A new revision that leaves a cluster as it was does not touch its object.
    world.roster.as_mut().unwrap().revision = 8;
    let writes = world.settle();
    assert!(matches!(&writes[..], [Write::MembershipStatus(s)] if s.roster_revision == 8), "{writes:?}");
}

#[test]
fn an_export_elsewhere_becomes_an_import_with_slices() {
    let mut world = World::new();
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5", "10.2.0.6"]);
    world.remote_export("east", "bar/web", 5, 80, &["10.2.0.7"]); // no such namespace here
    world.settle();
    assert_eq!(world.local.imports.len(), 1);
    let web = import(&world, "shop/web").unwrap();
    assert_eq!(web.spec.type_, ImportType::ClusterSetIP);
    assert_eq!(web.spec.ip_families, ["IPv4"]);
    assert_eq!(web.spec.ips.len(), 1);
    assert!(web.spec.ips[0].starts_with("10.99.0."), "{:?}", web.spec.ips);
    assert_eq!(web.spec.session_affinity.as_deref(), Some("None"));
    assert_eq!(web.spec.session_affinity_config, None);
    let status = web.status.as_ref().unwrap();
    assert_eq!(status.clusters[0].cluster, "east");
    assert_eq!(status.endpoint_slice_objects.as_deref(), Some("Present"));
    assert_eq!((status.conditions[0].type_.as_str(), status.conditions[0].reason.as_str()), ("Ready", "Ready"));
    let slices = world.imported_slices();
    assert_eq!(slices.len(), 1);
    assert_eq!(addresses(&slices), ["10.2.0.5", "10.2.0.6"]);
    assert_eq!(label(slices[0], labels::SERVICE_NAME), "web");
    assert_eq!(label(slices[0], labels::SOURCE_CLUSTER), "east");
    assert_eq!(label(slices[0], labels::MANAGED_BY), labels::MANAGED_BY_HAWSER);
    assert!(!slices[0].metadata.labels.as_ref().unwrap().contains_key(labels::K8S_SERVICE_NAME));
    assert!(slices[0].endpoints.iter().all(|e| e.node_name.is_none() && e.zone.as_deref() == Some("z1")));
    assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(8080));
}

#[test]
fn unexport_takes_import_and_slices_away() {
    let mut world = World::new();
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    world.settle();
    *world.shard("east") = Default::default();
    world.settle();
    assert!(world.local.imports.is_empty() && world.imported_slices().is_empty(), "{:?}", world.local);
}

#[test]
fn hand_over_between_exporters_keeps_the_import_and_its_address() {
    let mut world = World::new();
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    world.settle();
    let vip = import(&world, "shop/web").unwrap().spec.ips.clone();
    world.remote_export("north", "shop/web", 6, 80, &["10.3.0.5"]);
    world.settle();
    *world.shard("east") = Default::default();
    let writes = world.settle();
    assert!(!writes.iter().any(|w| matches!(w, Write::DeleteImport(_))), "{writes:?}");
    assert_eq!(import(&world, "shop/web").unwrap().spec.ips, vip);
    assert_eq!(addresses(&world.imported_slices()), ["10.3.0.5"]);
}

#[test]
fn endpoints_outside_their_clusters_prefixes_are_left_out() {
    let mut world = World::new();
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5", "10.3.0.5", "10.1.0.9", "169.254.169.254"]);
    let plan = world.plan();
    assert!(plan.skipped.iter().any(|s| s.contains("shop/web") && s.contains("3 lie outside")), "{:?}", plan.skipped);
    world.settle();
    assert_eq!(addresses(&world.imported_slices()), ["10.2.0.5"]);
}

#[test]
fn ports_go_only_where_name_protocol_and_number_match() {
    let mut world = World::new();
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    world.remote_export("north", "shop/web", 6, 4242, &["10.3.0.5"]);
    world.settle();
    assert_eq!(import(&world, "shop/web").unwrap().spec.ports.len(), 1);
    assert_eq!(addresses(&world.imported_slices()), ["10.2.0.5"], "north's http is another port");
}

#[test]
fn big_services_are_cut_into_slices_of_a_hundred() {
    let mut world = World::new();
    let all: Vec<String> = (0..250).map(|i| format!("10.2.{}.{}", i / 200, i % 200 + 1)).collect();
    world.remote_export("east", "shop/web", 5, 80, &all.iter().map(String::as_str).collect::<Vec<_>>());
    world.settle();
    let mut sizes: Vec<usize> = world.imported_slices().iter().map(|s| s.endpoints.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100, 100]);
}

#[test]
fn headless_services_have_no_address_but_families_and_all_their_endpoints() {
    let mut world = World::new();
    world.remote_export("east", "shop/db", 5, 80, &["10.2.0.5"]);
    let mut headless = header("east", "shop/db", 5, 80);
    headless.kind = ServiceKind::Headless;
    world.shard("east").headers.insert(service("shop/db"), Arc::new(headless));
    world.settle();
    let db = import(&world, "shop/db").unwrap();
    assert_eq!(
        (db.spec.type_, db.spec.ips.len(), db.spec.ip_families.clone()),
        (ImportType::Headless, 0, vec!["IPv4".to_owned()])
    );
    assert_eq!(addresses(&world.imported_slices()), ["10.2.0.5"]);
}

#[test]
fn a_family_without_means_is_not_served() {
    let mut world = World::new();
    let membership = Arc::make_mut(world.local.membership.as_mut().unwrap());
    membership.spec.prefixes = vec!["fd00:1::/48".into()];
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    world.settle();
    let web = import(&world, "shop/web").unwrap();
    assert!(web.spec.ips.is_empty() && web.spec.ip_families.is_empty());
    let status = web.status.as_ref().unwrap();
    assert_eq!(status.conditions[0].reason, "IPFamilyNotSupported");
    assert_eq!(status.endpoint_slice_objects.as_deref(), Some("Absent"));
    assert!(world.imported_slices().is_empty());
}

#[test]
fn without_vip_prefixes_the_import_says_what_is_missing() {
    let mut world = World::new();
    Arc::make_mut(world.local.membership.as_mut().unwrap()).spec.vip_prefixes.clear();
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    world.settle();
    let web = import(&world, "shop/web").unwrap();
    let ready = &web.status.as_ref().unwrap().conditions[0];
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Pending"));
    assert!(ready.message.contains("vipPrefixes"), "{}", ready.message);
    assert_eq!(web.spec.ips.len(), web.spec.ip_families.len());
}

#[test]
fn no_two_imports_share_an_address() {
    let mut world = World::new();
    Arc::make_mut(world.local.membership.as_mut().unwrap()).spec.vip_prefixes = vec!["10.99.0.0/28".into()];
    for i in 0..12 {
        world.remote_export("east", &format!("shop/s{i}"), 5, 80, &["10.2.0.5"]);
    }
    world.settle();
    let ips: std::collections::BTreeSet<_> = world.local.imports.iter().flat_map(|i| i.spec.ips.clone()).collect();
    assert_eq!(ips.len(), 12, "{ips:?}");
    // Two that were given the same address by hand are told apart again.
    let twice = world.local.imports[0].spec.ips.clone();
    Arc::make_mut(&mut world.local.imports[1]).spec.ips = twice;
    world.settle();
    let ips: std::collections::BTreeSet<_> = world.local.imports.iter().flat_map(|i| i.spec.ips.clone()).collect();
    assert_eq!(ips.len(), 12, "{ips:?}");
}

#[test]
fn a_dark_clusters_endpoints_are_not_ready_where_that_helps_and_go_after_a_while() {
    let mut world = World::new();
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    world.remote_export("north", "shop/web", 6, 80, &["10.3.0.5"]);
    world.remote_export("east", "shop/only", 6, 80, &["10.2.0.6"]);
    for gateway in ["n1", "n2"] {
        world.gateway_says(gateway, "east", "Live", NOW - 100);
    }
    world.settle();
    assert!(ready(&world.imported_slices()).iter().all(|r| *r));
    world.gateway_says("n1", "east", "Dark", NOW - 50);
    world.settle();
    assert!(ready(&world.imported_slices()).iter().all(|r| *r), "one gateway still has a path");
    world.gateway_says("n2", "east", "Dark", NOW - 20);
    world.settle();
    let of = |world: &World, service: &str, source: &str| -> Vec<bool> {
        let slices = world.imported_slices();
        let slices: Vec<_> = slices
            .into_iter()
            .filter(|s| label(s, labels::SERVICE_NAME) == service && label(s, labels::SOURCE_CLUSTER) == source)
            .collect();
        ready(&slices)
    };
    assert_eq!(of(&world, "web", "east"), [false]);
    assert_eq!(of(&world, "web", "north"), [true]);
    assert_eq!(of(&world, "only", "east"), [true], "nothing else serves it");
    let east = world.local.remote_clusters.iter().find(|r| r.spec.cluster_id == "east").unwrap();
    let reachable = &east.status.as_ref().unwrap().conditions[0];
    assert_eq!((reachable.type_.as_str(), reachable.status.as_str()), ("Reachable", "False"));
    world.now = Timestamp::from_second(NOW - 20 + 15 * 60).unwrap();
    world.settle();
    assert!(of(&world, "web", "east").is_empty() && of(&world, "only", "east").is_empty());
    assert!(import(&world, "shop/only").is_some(), "the export still exists");
}

#[test]
fn conditions_of_remote_clusters() {
    let mut world = World::new();
    world.settle();
    let conditions = |world: &World| -> Vec<(String, String, String)> {
        let east = world.local.remote_clusters.iter().find(|r| r.spec.cluster_id == "east").unwrap();
        let conditions = &east.status.as_ref().unwrap().conditions;
        conditions.iter().map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone())).collect()
    };
    let row = |t: &str, s: &str, r: &str| (t.to_owned(), s.to_owned(), r.to_owned());
    assert_eq!(
        conditions(&world),
        [
            row("Reachable", "Unknown", "NotProbed"),
            row("Degraded", "Unknown", "NotProbed"),
            row("StaleEndpoints", "False", "AgentConnected")
        ]
    );
    world.gateway_says("n1", "east", "Live", NOW);
    world.gateway_says("n2", "east", "Dark", NOW);
    world.silent.insert(cluster("east"), Timestamp::from_second(NOW - 60).unwrap());
    world.settle();
    assert_eq!(
        conditions(&world),
        [
            row("Reachable", "True", "PathsLive"),
            row("Degraded", "True", "PathsDown"),
            row("StaleEndpoints", "True", "AgentSilent")
        ]
    );
    world.silent.clear();
    let since = Timestamp::from_second(NOW - 31).unwrap();
    world.link = Link::Unreachable { reason: "ConnectionFailed", message: "no route".into(), since };
    world.settle();
    assert_eq!(conditions(&world)[2], row("StaleEndpoints", "True", "BrokerSilent"));
}

#[test]
fn the_latest_failover_of_any_gateway_is_told_and_outlives_the_gateways_memory() {
    let mut world = World::new();
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    for (node, at, took) in [("n1", NOW - 50, 320), ("n2", NOW - 10, 45)] {
        world.gateway_says(node, "east", "Live", NOW - 100);
        let told = Arc::make_mut(world.local.gateway_nodes.last_mut().unwrap());
        let row = &mut told.status.as_mut().unwrap().clusters[0];
        row.last_failover = Some(Time(Timestamp::from_second(at).unwrap()));
        row.last_failover_ms = Some(took);
    }
    let failover = |world: &World| {
        let east = world.local.remote_clusters.iter().find(|r| r.spec.cluster_id == "east").unwrap();
        let status = east.status.clone().unwrap();
        (status.last_failover.map(|t| t.0.as_second()), status.last_failover_ms)
    };
    world.settle();
    assert_eq!(failover(&world), (Some(NOW - 10), Some(45)));
    for node in ["n1", "n2"] {
        world.gateway_says(node, "east", "Live", NOW - 5);
    }
    world.settle();
    assert_eq!(failover(&world), (Some(NOW - 10), Some(45)));
}

#[test]
fn nothing_is_touched_without_a_synced_view() {
    let mut world = World::new();
    world.own_export("shop/web", 80, &["10.1.0.5"]);
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    world.remote_export("north", "shop/api", 5, 80, &["10.3.0.5"]);
    world.shard("east").gateways.insert(remote_gateway("e1").node, Arc::new(remote_gateway("e1")));
    world.settle();
    let before = world.local.clone();
    world.view = None;
    let writes = world.settle();
    assert!(writes.is_empty(), "{writes:?}");
    assert_eq!(world.local.imports, before.imports);
    assert_eq!(world.local.remote_clusters, before.remote_clusters, "gateways are kept too");
    // The roster alone suffices to drop a revoked cluster.
    let roster = world.roster.as_mut().unwrap();
    roster.revision = 8;
    roster.members.remove(&(cluster("north"), 1));
    world.settle();
    assert!(world.imported_slices().iter().all(|s| label(s, labels::SOURCE_CLUSTER) != "north"));
    assert_eq!(world.local.remote_clusters.len(), 1);
    assert_eq!(world.local.imports.len(), 2, "whether others export it is not known");
}

#[test]
fn a_view_says_nothing_about_namespaces_it_does_not_cover() {
    let mut world = World::new();
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    world.settle();
    world.view.as_mut().unwrap().namespaces.clear();
    *world.shard("east") = Default::default();
    assert!(world.settle().is_empty());
    assert_eq!(world.local.imports.len(), 1);
}

#[test]
fn a_namespace_that_goes_takes_its_imports_along() {
    let mut world = World::new();
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    world.settle();
    world.local.namespaces.clear();
    world.settle();
    assert!(world.local.imports.is_empty() && world.imported_slices().is_empty());
    let mut terminating = namespace("shop");
    terminating.status =
        Some(k8s_openapi::api::core::v1::NamespaceStatus { phase: Some("Terminating".into()), conditions: None });
    world.local.namespaces.push(Arc::new(terminating));
    world.settle();
    assert!(world.local.imports.is_empty(), "nothing can be created in a namespace that is going");
    world.local.namespaces = vec![Arc::new(Namespace { metadata: named("", "shop"), ..Namespace::default() })];
    world.settle();
    assert_eq!(world.local.imports.len(), 1);
}

#[test]
fn a_revoked_cluster_leaves_nothing_behind() {
    let mut world = World::new();
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    world.remote_export("north", "shop/api", 5, 80, &["10.3.0.5"]);
    world.settle();
    let roster = world.roster.as_mut().unwrap();
    roster.revision = 8;
    roster.members.remove(&(cluster("east"), 1));
    let writes = world.settle();
    assert!(
        matches!(&writes[0], Write::MembershipStatus(s) if s.members.len() == 1),
        "gateways hear of it first: {writes:?}"
    );
    assert!(import(&world, "shop/web").is_none() && import(&world, "shop/api").is_some());
    assert!(world.imported_slices().iter().all(|s| label(s, labels::SOURCE_CLUSTER) == "north"));
    // It joins again: records of the old generation stay out.
    let roster = world.roster.as_mut().unwrap();
    roster.revision = 9;
    roster.members.insert((cluster("east"), 2), prefixes(&["10.2.0.0/16"]));
    world.settle();
    assert!(import(&world, "shop/web").is_none());
    assert_eq!(world.local.remote_clusters.iter().find(|r| r.spec.cluster_id == "east").unwrap().spec.generation, 2);
}

#[test]
fn leaving_removes_everything_and_the_properties_last() {
    let mut world = World::new();
    world.own_export("shop/web", 80, &["10.1.0.5"]);
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    world.settle();
    world.identity = None;
    world.roster = None;
    world.view = None;
    let writes = world.settle();
    assert!(
        world.local.properties.is_empty() && world.local.imports.is_empty() && world.local.remote_clusters.is_empty()
    );
    assert!(world.imported_slices().is_empty());
    let last: Vec<_> = writes.iter().rev().take(2).collect();
    assert_eq!(
        last,
        [
            &Write::DeleteProperty(labels::PROPERTY_CLUSTER.into()),
            &Write::DeleteProperty(labels::PROPERTY_CLUSTER_SET.into())
        ]
    );
    let status = world.local.membership.as_ref().unwrap().status.clone().unwrap();
    assert!(status.members.is_empty());
    assert_eq!(status.roster_revision, 7, "gateways refuse a lower one");
    assert_eq!(world.condition("shop/web", "Ready").unwrap().1, "Pending");
    assert!(world.settle().is_empty());
}

#[test]
fn standing_follows_the_roster() {
    let mut world = World::new();
    assert_eq!(world.plan().standing, Standing::Member);
    let own = (cluster("west"), 1);
    world.roster.as_mut().unwrap().members.remove(&own);
    assert!(matches!(world.plan().standing, Standing::Out { reason: "NotInRoster", .. }));
    world.roster.as_mut().unwrap().revoked.insert(own);
    assert!(matches!(world.plan().standing, Standing::Out { reason: "Revoked", .. }));
    world.roster.as_mut().unwrap().members.insert((cluster("west"), 2), prefixes(&[]));
    assert!(matches!(world.plan().standing, Standing::Out { reason: "Replaced", .. }));
    world.settle();
    assert!(world.local.properties.is_empty());
}

#[test]
fn a_renamed_membership_halts_without_taking_anything_away() {
    let mut world = World::new();
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    world.settle();
    Arc::make_mut(world.local.membership.as_mut().unwrap()).spec.cluster_id = "wset".into();
    let plan = world.plan();
    assert_eq!(plan.shard, None);
    assert!(
        matches!(&plan.writes[..], [Write::MembershipStatus(s)]
        if s.conditions[0].reason == "ClusterIdChanged" && s.members.len() == 2),
        "{:?}",
        plan.writes
    );
}

#[test]
fn a_bad_prefix_holds_back_the_shard_and_keeps_imports() {
    let mut world = World::new();
    world.own_export("shop/web", 80, &["10.1.0.5"]);
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5"]);
    world.settle();
    Arc::make_mut(world.local.membership.as_mut().unwrap()).spec.prefixes.push("10.1.0/16".into());
    let plan = world.plan();
    assert_eq!(plan.shard, None);
    let [Write::MembershipStatus(status)] = &plan.writes[..] else { panic!("{:?}", plan.writes) };
    let known = status.conditions.iter().find(|c| c.type_ == "PrefixesKnown").unwrap();
    assert_eq!(known.reason, "Invalid");
    assert!(known.message.contains("spec.prefixes") && known.message.contains("10.1.0/16"), "{}", known.message);
}

#[test]
fn slices_of_names_that_run_together_are_told_apart() {
    let mut world = World::new();
    world.roster.as_mut().unwrap().members.insert((cluster("a"), 1), prefixes(&["10.4.0.0/16"]));
    world.roster.as_mut().unwrap().members.insert((cluster("web-a"), 1), prefixes(&["10.5.0.0/16"]));
    world.remote_export("a", "shop/shop-web", 5, 80, &["10.4.0.5"]);
    world.remote_export("web-a", "shop/shop", 5, 80, &["10.5.0.5"]);
    world.settle();
    assert_eq!(addresses(&world.imported_slices()), ["10.4.0.5", "10.5.0.5"]);
}

#[test]
fn a_new_member_is_one_before_it_has_the_roster() {
    let mut world = World::new();
    (world.roster, world.view) = (None, None);
    world.settle();
    assert_eq!(world.local.properties.len(), 2);
    assert!(world.local.remote_clusters.is_empty());
    let status = world.local.membership.as_ref().unwrap().status.clone().unwrap();
    assert_eq!((status.conditions[0].reason.as_str(), status.roster_revision), ("Joined", 0));
}
