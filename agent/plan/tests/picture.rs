//! One pass as a picture: two exporters of one name that disagree, seen from one of them.

mod common;

use common::World;
use hawser_agent_plan::Write;

#[test]
fn everything_that_a_conflicting_export_leads_to() {
    let mut world = World::new();
    world.first_seen.insert(common::service("shop/web"), hawser_model::export::Timestamp(10));
    world.own_export("shop/web", 80, &["10.1.0.5"]);
    world.remote_export("east", "shop/web", 5, 80, &["10.2.0.5", "10.2.0.6", "10.9.0.1"]);
    world.remote_export("north", "shop/web", 20, 8443, &["10.3.0.5"]);
    world.gateway_says("n1", "east", "Live", common::NOW);
    world.gateway_says("n1", "north", "Dark", common::NOW);
    let writes = world.settle();
    let mut picture = String::new();
    for write in &writes {
        let yaml = match write {
            Write::Import(o) => serde(o),
            Write::ImportStatus(_, s) => serde(s),
            Write::Slice(o) => serde(o),
            Write::ExportStatus(_, s) => serde(s),
            Write::MembershipStatus(_)
            | Write::Property(_)
            | Write::RemoteCluster(_)
            | Write::RemoteClusterStatus(..)
            | Write::DeleteProperty(_)
            | Write::DeleteRemoteCluster(_)
            | Write::DeleteImport(_)
            | Write::DeleteSlice(_) => continue,
        };
        picture.push_str(&yaml);
        picture.push_str("---\n");
    }
    insta::assert_snapshot!(picture);
}

fn serde<T: serde::Serialize>(object: &T) -> String {
    hawser_api::yaml::to_string(object).expect("objects serialise")
}
