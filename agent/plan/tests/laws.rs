//! What holds for any input: a second pass writes nothing, order does not matter, nothing unknown is touched.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;

use common::{NOW, World, cluster, is_named, service};
use hawser_agent_plan::{Upload, Write};
use hawser_api::labels;
use hawser_model::export::ServiceKind;
use proptest::prelude::*;

/// One thing that may be so.
#[derive(Debug, Clone)]
enum Fact {
    Remote { cluster: usize, service: u8, created: i64, port: u16, hosts: Vec<u8>, headless: bool, stray: bool },
    Own { service: u8, port: u16, hosts: Vec<u8> },
    Gateway { node: u8, cluster: usize, state: usize, ago: i64 },
    Revoke { cluster: usize },
    Silent { cluster: usize },
}

const CLUSTERS: [(&str, u8); 2] = [("east", 2), ("north", 3)];

fn fact() -> impl Strategy<Value = Fact> {
    let hosts = || proptest::collection::vec(1u8..250, 0..5);
    prop_oneof![
        4 => (0..2usize, 0u8..4, 0i64..5, 80u16..83, hosts(), any::<bool>(), any::<bool>()).prop_map(
            |(cluster, service, created, port, hosts, headless, stray)| Fact::Remote { cluster, service, created, port, hosts, headless, stray }
        ),
        2 => (0u8..4, 80u16..83, hosts()).prop_map(|(service, port, hosts)| Fact::Own { service, port, hosts }),
        2 => (0u8..2, 0..2usize, 0..4usize, 0i64..2000).prop_map(|(node, cluster, state, ago)| Fact::Gateway { node, cluster, state, ago }),
        1 => (0..2usize).prop_map(|cluster| Fact::Revoke { cluster }),
        1 => (0..2usize).prop_map(|cluster| Fact::Silent { cluster }),
    ]
}

fn addresses(net: u8, hosts: &[u8]) -> Vec<String> {
    hosts.iter().map(|h| format!("10.{net}.0.{h}")).collect()
}

fn state(world: &mut World, fact: &Fact) {
    match fact {
        Fact::Remote { cluster, service: s, created, port, hosts, headless, stray } => {
            let (id, net) = CLUSTERS[*cluster];
            let mut all = addresses(net, hosts);
            if *stray {
                all.push("10.200.0.1".into());
            }
            let name = format!("shop/s{s}");
            world.remote_export(id, &name, *created, *port, &all.iter().map(String::as_str).collect::<Vec<_>>());
            if *headless {
                let header = world.shard(id).headers.get_mut(&service(&name)).unwrap();
                Arc::make_mut(header).kind = ServiceKind::Headless;
            }
        }
        Fact::Own { service, port, hosts } => {
            let name = format!("s{service}");
            if !world.local.exports.iter().any(|e| is_named(&e.metadata, "shop", &name)) {
                let all = addresses(1, hosts);
                world.own_export(
                    &format!("shop/{name}"),
                    (*port).into(),
                    &all.iter().map(String::as_str).collect::<Vec<_>>(),
                );
            }
        }
        Fact::Gateway { node, cluster, state, ago } => {
            let state = ["Live", "Held", "Unknown", "Dark"][*state];
            world.gateway_says(&format!("n{node}"), CLUSTERS[*cluster].0, state, NOW - ago);
        }
        Fact::Revoke { cluster: i } => {
            let roster = world.roster.as_mut().unwrap();
            roster.members.remove(&(cluster(CLUSTERS[*i].0), 1));
            roster.revision += 1;
        }
        Fact::Silent { cluster: i } => {
            world.silent.insert(cluster(CLUSTERS[*i].0), common::now());
        }
    }
}

fn worlds(facts: &[Fact]) -> World {
    let mut world = World::new();
    facts.iter().for_each(|f| state(&mut world, f));
    world
}

/// What every world must look like after a pass.
fn check(world: &World) {
    let members: Vec<&str> = world.roster.as_ref().unwrap().members.keys().map(|(id, _)| id.as_str()).collect();
    let mut vips = std::collections::BTreeSet::new();
    for import in &world.local.imports {
        assert_eq!(
            import.spec.ips.len(),
            if import.spec.type_ == hawser_api::mcs::ImportType::Headless { 0 } else { import.spec.ip_families.len() }
        );
        for ip in &import.spec.ips {
            assert!(vips.insert(ip.clone()), "{ip} is given twice");
        }
        assert!(!import.status.as_ref().unwrap().clusters.is_empty());
    }
    for slice in world.imported_slices() {
        let labels = slice.metadata.labels.as_ref().unwrap();
        let source = labels[labels::SOURCE_CLUSTER].as_str();
        assert!(members.contains(&source), "{source} is no member");
        assert!(slice.endpoints.len() <= 100 && !slice.endpoints.is_empty());
        assert!(!labels.contains_key(labels::K8S_SERVICE_NAME));
        assert!(world.local.imports.iter().any(|i| is_named(&i.metadata, "shop", &labels[labels::SERVICE_NAME])));
        let prefixes = &world.roster.as_ref().unwrap().members[&(cluster(source), 1)];
        for endpoint in &slice.endpoints {
            assert!(endpoint.addresses.iter().all(|a| prefixes.contains(a.parse().unwrap())));
            assert!(source == "west" || endpoint.node_name.is_none());
        }
    }
}

proptest! {
    #[test]
    fn applying_a_plan_leaves_nothing_to_do(facts in proptest::collection::vec(fact(), 0..20), more in proptest::collection::vec(fact(), 0..10)) {
        let mut world = worlds(&facts);
        world.settle();
        check(&world);
        let again = world.settle();
        prop_assert!(again.is_empty(), "{again:#?}");
        // The same from any earlier state.
        more.iter().for_each(|f| state(&mut world, f));
        world.settle();
        check(&world);
        let again = world.settle();
        prop_assert!(again.is_empty(), "{again:#?}");
    }

    #[test]
    fn the_order_of_objects_does_not_matter(facts in proptest::collection::vec(fact(), 0..20), seed in any::<u64>()) {
        let world = worlds(&facts);
        let mut shuffled = worlds(&facts);
        let turn = |len: usize| if len == 0 { 0 } else { usize::try_from(seed % 97).unwrap() % len };
        let local = &mut shuffled.local;
        let n = turn(local.exports.len()); local.exports.rotate_left(n);
        let n = turn(local.services.len()); local.services.rotate_left(n);
        let n = turn(local.slices.len()); local.slices.rotate_left(n);
        let n = turn(local.gateway_nodes.len()); local.gateway_nodes.rotate_left(n);
        local.services.reverse();
        local.slices.reverse();
        let sorted = |w: &World| { let mut t: Vec<String> = w.plan().writes.iter().map(|w| format!("{w:?}")).collect(); t.sort(); t };
        prop_assert_eq!(sorted(&world), sorted(&shuffled));
        prop_assert_eq!(world.plan().shard, shuffled.plan().shard);
    }

    #[test]
    fn without_a_view_no_import_is_touched(facts in proptest::collection::vec(fact(), 0..20)) {
        let mut world = worlds(&facts);
        world.settle();
        world.view = None;
        let touched = world.plan().writes.into_iter().any(|w| matches!(
            w,
            Write::Import(_) | Write::ImportStatus(..) | Write::DeleteImport(_) | Write::Slice(_) | Write::DeleteSlice(_)
        ));
        prop_assert!(!touched);
    }

    #[test]
    fn what_was_refused_is_no_part_of_the_own_merge(port in 80u16..90) {
        let mut world = World::new();
        world.own_export("shop/web", port.into(), &["10.1.0.5"]);
        let refusal = hawser_agent_plan::Refusal { object: "o".into(), field: "f".into(), rule: "r".into(), remedy: "m".into() };
        world.uploads.records.insert(hawser_agent_plan::RecordId::Header(service("shop/web")), Upload::Refused(refusal));
        world.settle();
        prop_assert!(world.local.imports.is_empty());
        let ready = world.condition("shop/web", "Ready").unwrap();
        prop_assert_eq!((ready.0.as_str(), ready.1.as_str(), ready.2.as_str()), ("False", "Failed", "o: f: r; m"));
    }
}
