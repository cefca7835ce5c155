//! The plan as a whole: one cluster's kernel state as a snapshot, and what must hold for any cluster.

#![allow(clippy::unwrap_used, reason = "test code outside test functions")]

use std::collections::{BTreeMap, BTreeSet};

use hawser_model::export::{EndpointPort, Protocol, ServicePort};
use hawser_model::{ClusterId, NodeName, PrefixSet, ServiceName};
use hawser_route_plan::routes::METRIC_VIA;
use hawser_route_plan::{
    Backend, ClusterReach, ClusterView, GatewayView, Group, Host, Input, Node, Path, Remote, RouteKind, Service,
    Uplink, plan, select, vip,
};
use proptest::prelude::*;

fn id(s: &str) -> ClusterId {
    ClusterId::new(s).unwrap()
}

fn node_name(n: u8) -> NodeName {
    NodeName::new(format!("n{n}")).unwrap()
}

fn nets(all: &[&str]) -> PrefixSet {
    all.iter().map(|n| n.parse::<ipnet::IpNet>().unwrap()).collect()
}

fn node(n: u8, gateway: bool) -> Node {
    Node {
        name: node_name(n),
        addresses: vec![format!("192.168.9.{n}").parse().unwrap(), format!("fd00:9::{n:x}").parse().unwrap()],
        pod_cidrs: vec![format!("10.1.{n}.0/24").parse().unwrap(), format!("fd10:1:{n:x}::/64").parse().unwrap()],
        gateway,
    }
}

fn view(path: Path, draining: bool, clusters: &[(&str, ClusterReach)]) -> GatewayView {
    GatewayView { path, draining, clusters: reached(clusters) }
}

fn reached(clusters: &[(&str, ClusterReach)]) -> BTreeMap<ClusterId, ClusterView> {
    clusters.iter().map(|(c, reach)| (id(c), ClusterView { reach: *reach, mtu: 1420 })).collect()
}

fn port(number: u16) -> ServicePort {
    ServicePort { name: "main".into(), protocol: Protocol::Tcp, app_protocol: None, port: number }
}

fn group(cluster: &str, target: u16, addresses: &[&str]) -> Group {
    let port = EndpointPort {
        name: "main".into(),
        protocol: Protocol::Tcp,
        app_protocol: None,
        port: target,
        service_port: None,
    };
    let backend = |a: &&str| Backend { address: a.parse().unwrap(), ready: true, serving: true, node: None };
    Group { cluster: id(cluster), ports: vec![port], endpoints: addresses.iter().map(backend).collect() }
}

fn service(vips: &[&str], groups: Vec<Group>) -> Service {
    Service {
        name: ServiceName::new("shop", "web").unwrap(),
        vips: vips.iter().map(|v| v.parse().unwrap()).collect(),
        ports: vec![port(80)],
        affinity: None,
        local_only: false,
        groups,
    }
}

/// Three nodes, two gateways, two remote clusters, this is the third node.
fn input() -> Input {
    let live = &[("east", ClusterReach::Live), ("north", ClusterReach::Live)];
    Input {
        node: node_name(3),
        site: true,
        nodes: vec![node(1, true), node(2, true), node(3, false)],
        prefixes: nets(&["10.1.0.0/16", "fd10:1::/32"]),
        vip_prefixes: nets(&["10.250.0.0/24", "fd25::/112"]),
        dns_addresses: vec!["10.253.0.53".parse().unwrap(), "fd53::53".parse().unwrap()],
        remotes: vec![
            Remote { id: id("east"), prefixes: nets(&["10.2.0.0/16", "fd10:2::/32"]) },
            Remote { id: id("north"), prefixes: nets(&["10.3.0.0/16"]) },
        ],
        gateways: [1, 2].map(|n| (node_name(n), view(Path::Usable, false, live))).into(),
        services: vec![service(
            &["10.250.0.7", "fd25::7"],
            vec![
                group("west", 8080, &["10.1.1.10"]),
                group("east", 8081, &["10.2.5.10"]),
                group("east", 8081, &["fd10:2:5::10"]),
            ],
        )],
        host: Host {
            ipv6: true,
            uplinks: vec![Uplink { name: "eth0".into(), mtu: 1500 }],
            pod_bridges: BTreeSet::from(["br0".to_owned()]),
        },
    }
}

/// The gateways (by number) that routes to a remote prefix lead over.
fn hops(input: &Input, prefix: &str) -> Vec<u8> {
    let prefix: ipnet::IpNet = prefix.parse().unwrap();
    let desired = plan(input);
    let route = desired.routes.iter().find(|(k, _)| k.prefix == prefix && k.metric == METRIC_VIA && k.table == 4857);
    let Some((_, route)) = route else { return Vec::new() };
    let RouteKind::Via(hops) = &route.kind else { panic!("{route:?}") };
    let of = |n: u8| hawser_node_probe::link_local(&node_name(n));
    (0..=255).filter(|n| hops.iter().any(|h| h.via == of(*n))).collect()
}

#[test]
fn one_node_of_a_site() {
    let desired = plan(&input());
    insta::assert_debug_snapshot!(
        "kernel",
        (
            &desired.vxlan,
            &desired.addresses,
            &desired.neighbours,
            &desired.fdb,
            &desired.rules,
            &desired.routes,
            &desired.sysctls
        )
    );
    let statements: Vec<String> = desired.nft.main.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("nft", statements.join("\n"));
}

#[test]
fn the_best_gateways_that_there_are_carry_traffic() {
    use ClusterReach::{Dark, Held, Live, Unknown};
    type Two = [(Path, bool, ClusterReach); 2];
    let cases: [(&str, Two, &[u8]); 12] = [
        ("both live", [(Path::Usable, false, Live), (Path::Usable, false, Live)], &[1, 2]),
        ("one silent", [(Path::Down, false, Live), (Path::Usable, false, Live)], &[2]),
        ("one in hold-down", [(Path::Held, false, Live), (Path::Usable, false, Live)], &[2]),
        ("only one in hold-down", [(Path::Held, false, Live), (Path::Down, false, Live)], &[1]),
        ("one without a path", [(Path::Usable, false, Dark), (Path::Usable, false, Live)], &[2]),
        ("one with a path in hold-down", [(Path::Usable, false, Held), (Path::Usable, false, Live)], &[2]),
        ("one draining", [(Path::Usable, true, Live), (Path::Usable, false, Live)], &[2]),
        ("one draining, one in hold-down", [(Path::Usable, true, Live), (Path::Held, false, Live)], &[2]),
        ("both draining", [(Path::Usable, true, Live), (Path::Usable, true, Live)], &[1, 2]),
        ("draining before unknown", [(Path::Usable, true, Live), (Path::Usable, false, Unknown)], &[1]),
        ("nothing known yet", [(Path::Unknown, false, Unknown), (Path::Unknown, false, Unknown)], &[1, 2]),
        ("all dark", [(Path::Usable, false, Dark), (Path::Down, false, Live)], &[]),
    ];
    for (what, gateways, expected) in cases {
        let mut input = input();
        let views = gateways.iter().zip(1..).map(|((path, draining, reach), n)| {
            (node_name(n), view(*path, *draining, &[("east", *reach), ("north", Live)]))
        });
        input.gateways = views.collect();
        assert_eq!(hops(&input, "10.2.0.0/16"), expected, "{what}");
        assert_eq!(select::dark(&input).contains(&id("east")), expected.is_empty(), "{what}");
    }
}

#[test]
fn a_gateway_does_not_send_to_itself_and_its_own_paths_keep_a_cluster_from_being_dark() {
    let mut input = input();
    input.node = node_name(1);
    assert_eq!(hops(&input, "10.2.0.0/16"), [2]);
    input.gateways.insert(node_name(2), view(Path::Down, false, &[]));
    assert_eq!(hops(&input, "10.2.0.0/16"), [0; 0]);
    assert!(select::dark(&input).is_empty());
}

#[test]
fn endpoints_of_dark_clusters_get_no_traffic_and_elsewhere_override_who_else_translates() {
    let dark = [("east", ClusterReach::Dark), ("north", ClusterReach::Live)];
    let addresses = |input: &Input| -> Vec<String> {
        vip::virtual_ports(input).iter().flat_map(|p| &p.endpoints).map(|(a, _)| a.to_string()).collect()
    };
    let mut input = input();
    assert_eq!(addresses(&input), ["10.1.1.10", "10.2.5.10", "fd10:2:5::10"]);
    for view in input.gateways.values_mut() {
        view.clusters = reached(&dark);
    }
    assert_eq!(addresses(&input), ["10.1.1.10"]);
    // Where virtual addresses are somebody else's, only the ones that lost endpoints are overridden.
    input.vip_prefixes = PrefixSet::default();
    assert_eq!(addresses(&input), ["10.1.1.10"]);
    input.gateways = [1, 2].map(|n| (node_name(n), view(Path::Unknown, false, &[]))).into();
    assert_eq!(addresses(&input), [""; 0]);
}

#[test]
fn policies_ports_and_readiness_choose_endpoints() {
    let mut input = input();
    let endpoints = |input: &Input| vip::virtual_ports(input).into_iter().flat_map(|p| p.endpoints).collect::<Vec<_>>();
    let mut local = service(
        &["10.250.0.7"],
        vec![group("west", 8080, &["10.1.3.10", "10.1.1.10"]), group("east", 1, &["10.2.5.10"])],
    );
    local.local_only = true;
    input.services = vec![local.clone()];
    assert_eq!(endpoints(&input), [("10.1.3.10".parse().unwrap(), 8080)]);

    local.local_only = false;
    for group in &mut local.groups {
        group.endpoints.iter_mut().for_each(|e| e.ready = false);
    }
    local.groups[1].endpoints[0].serving = false;
    input.services = vec![local.clone()];
    assert_eq!(endpoints(&input).len(), 2, "terminating ones serve while none is ready");
    local.groups[0].endpoints[0].ready = true;
    input.services = vec![local.clone()];
    assert_eq!(endpoints(&input).len(), 1);

    local.groups[0].ports[0].name = "other".into();
    input.services = vec![local];
    assert_eq!(endpoints(&input), [], "a port of another name is another port");
}

fn any_path() -> impl Strategy<Value = Path> {
    prop_oneof![Just(Path::Usable), Just(Path::Held), Just(Path::Unknown), Just(Path::Down)]
}

fn any_reach() -> impl Strategy<Value = ClusterReach> {
    prop_oneof![
        Just(ClusterReach::Live),
        Just(ClusterReach::Held),
        Just(ClusterReach::Unknown),
        Just(ClusterReach::Dark)
    ]
}

fn any_input() -> impl Strategy<Value = Input> {
    let gateways = prop::collection::btree_map(1..6_u8, (any_path(), any::<bool>(), any_reach(), any_reach()), 0..5);
    (gateways, 1..9_u8, any::<bool>()).prop_map(|(gateways, me, ipv6)| {
        let mut input = input();
        input.node = node_name(me);
        input.host.ipv6 = ipv6;
        input.nodes = (1..9).map(|n| node(n, gateways.contains_key(&n))).collect();
        let views = gateways.into_iter().map(|(n, (path, draining, east, north))| {
            (node_name(n), view(path, draining, &[("east", east), ("north", north)]))
        });
        input.gateways = views.collect::<BTreeMap<_, _>>();
        input
    })
}

#[test]
fn routes_carry_what_every_way_by_the_chosen_gateways_takes() {
    let mut input = input();
    let mtus = |input: &Input| {
        let routes = plan(input).routes;
        let to = |prefix: &str| {
            let mut found =
                routes.iter().filter(|(k, r)| k.prefix.to_string() == prefix && matches!(r.kind, RouteKind::Via(_)));
            found.next().unwrap().1.mtu
        };
        [to("10.2.0.0/16"), to("fd10:2::/32"), to("10.3.0.0/16"), to("10.1.1.0/24")]
    };
    assert_eq!(mtus(&input), [Some(1420), Some(1420), Some(1420), None]);
    input.gateways.get_mut(&node_name(2)).unwrap().clusters.get_mut(&id("east")).unwrap().mtu = 1200;
    assert_eq!(mtus(&input), [Some(1200), Some(1280), Some(1420), None], "IPv6 has 1,280 bytes everywhere");
    input.gateways.get_mut(&node_name(2)).unwrap().path = Path::Down;
    assert_eq!(mtus(&input), [Some(1420), Some(1420), Some(1420), None], "the other gateway's way is not taken");
    input.host.uplinks[0].mtu = 1400;
    assert_eq!(mtus(&input), [None; 4], "the device takes less");
}

proptest! {
    #[test]
    fn the_order_of_what_is_known_does_not_matter(input in any_input()) {
        let mut turned = input.clone();
        turned.nodes.reverse();
        turned.remotes.reverse();
        turned.services.reverse();
        turned.services.iter_mut().for_each(|s| s.groups.reverse());
        let (a, b) = (plan(&input), plan(&turned));
        prop_assert_eq!(a, b);
    }

    #[test]
    fn every_remote_prefix_ends_in_unreachable_and_no_route_is_to_this_node(input in any_input()) {
        let desired = plan(&input);
        let own = hawser_node_probe::link_local(&input.node);
        for remote in &input.remotes {
            for prefix in remote.prefixes.iter().filter(|p| input.host.ipv6 || p.addr().is_ipv4()) {
                for table in [4857, 4858] {
                    let last = desired.routes.iter().rfind(|(k, _)| k.prefix == *prefix && k.table == table);
                    prop_assert_eq!(&last.unwrap().1.kind, &RouteKind::Unreachable);
                }
            }
        }
        for (key, route) in &desired.routes {
            if let RouteKind::Via(hops) = &route.kind {
                prop_assert!(!hops.is_empty() && hops.iter().all(|h| h.via != own), "{:?} {:?}", key, route);
                let known = hops.iter().all(|h| desired.neighbours.contains_key(&h.via));
                prop_assert!(known, "every next hop has a neighbour entry: {:?} {:?}", key, route);
            }
        }
    }

    #[test]
    fn losing_a_gateway_touches_only_routes_that_lead_over_it(input in any_input(), lost in 1..6_u8) {
        let before = plan(&input);
        let mut after = input.clone();
        let Some(view) = after.gateways.get_mut(&node_name(lost)) else { return Ok(()) };
        view.path = Path::Down;
        let after = plan(&after);
        let gone: std::net::IpAddr = if input.host.ipv6 {
            hawser_node_probe::link_local(&node_name(lost)).into()
        } else {
            format!("192.168.9.{lost}").parse().unwrap()
        };
        for (key, route) in &before.routes {
            let over = matches!(&route.kind, RouteKind::Via(hops) if hops.iter().any(|h| h.via == gone));
            if !over || key.table == 4858 {
                prop_assert_eq!(Some(route), after.routes.get(key));
            }
        }
        let used = after.routes.iter().filter(|(k, _)| k.table == 4857);
        for (key, route) in used {
            if let RouteKind::Via(hops) = &route.kind {
                prop_assert!(hops.iter().all(|h| h.via != gone), "{:?} {:?}", key, route);
            }
        }
    }
}
