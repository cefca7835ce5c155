use std::collections::BTreeSet;

use hawser_proto::v1::record::Body;

use super::*;

pub(crate) fn record(name: &str, port: u32) -> v1::Record {
    let ports =
        vec![v1::ServicePort { name: "http".into(), protocol: "TCP".into(), app_protocol: String::new(), port }];
    let header = v1::ExportHeader {
        created_ms: 1,
        kind: v1::ServiceKind::ClusterSetIp.into(),
        ports,
        ip_families: vec![v1::IpFamily::V4.into()],
        ..v1::ExportHeader::default()
    };
    v1::Record { name: name.into(), body: Some(Body::ExportHeader(header)) }
}

pub(crate) fn upsert(cluster: &str, generation: u64, name: &str, port: u32) -> v1::Upsert {
    v1::Upsert { cluster_id: cluster.into(), generation, record: Some(record(name, port)), revision: 1 }
}

fn remove(cluster: &str, name: &str) -> v1::Remove {
    let key = v1::RecordKey { kind: v1::RecordKind::ExportHeader.into(), name: name.into() };
    v1::Remove { cluster_id: cluster.into(), key: Some(key), revision: 2 }
}

fn namespaces() -> BTreeSet<String> {
    ["shop".to_owned()].into()
}

/// What the broker would say of what it has sent so far.
pub(crate) fn synced(reader: &Reader, interest: u64, incomplete: &[&str]) -> v1::Synced {
    v1::Synced {
        interest_generation: interest,
        revision: 9,
        count: reader.sent.len() as u64,
        digest: reader.digest().to_vec(),
        incomplete: incomplete.iter().map(|c| (*c).to_owned()).collect(),
    }
}

fn ok(reader: &mut Reader, interest: u64, incomplete: &[&str]) -> Step {
    let message = synced(reader, interest, incomplete);
    reader.synced(&message)
}

fn start(reader: &mut Reader, epoch: u8) {
    reader.snapshot_start(v1::SnapshotStart { epoch: vec![epoch; 16] });
}

fn names(reader: &Reader) -> Vec<String> {
    let view = reader.view();
    let name = |((cluster, generation), shard): (&(ClusterId, u64), &RemoteShard)| {
        shard.headers.keys().map(|s| format!("{cluster}.{generation}:{s}")).collect::<Vec<_>>()
    };
    view.shards.iter().flat_map(name).collect()
}

#[test]
fn a_snapshot_then_deltas() {
    let mut reader = Reader::default();
    reader.interest(1, namespaces());
    assert_eq!(reader.position(), None);
    start(&mut reader, 1);
    reader.upsert(upsert("east", 1, "shop/web", 80)).unwrap();
    assert_eq!(reader.position(), None, "nothing to resume before it is complete");
    assert_eq!(ok(&mut reader, 1, &[]), Step::Synced);
    assert_eq!(reader.position().unwrap(), &Position { epoch: vec![1; 16], revision: 9, namespaces: namespaces() });
    assert_eq!(names(&reader), ["east.1:shop/web"]);
    assert_eq!(ok(&mut reader, 1, &[]), Step::Unchanged);
    reader.upsert(upsert("east", 1, "shop/api", 80)).unwrap();
    reader.remove(&remove("east", "shop/web"));
    assert_eq!(ok(&mut reader, 1, &[]), Step::Synced);
    assert_eq!(names(&reader), ["east.1:shop/api"]);
}

#[test]
fn another_digest_or_count_is_noticed() {
    let mut reader = Reader::default();
    reader.interest(1, namespaces());
    start(&mut reader, 1);
    reader.upsert(upsert("east", 1, "shop/web", 80)).unwrap();
    let mut message = synced(&reader, 1, &[]);
    message.digest[0] ^= 1;
    assert_eq!(reader.synced(&message), Step::Mismatch);
    assert_eq!(reader.position(), None);
    let mut message = synced(&reader, 1, &[]);
    message.count += 1;
    assert_eq!(reader.synced(&message), Step::Mismatch);
}

#[test]
fn what_is_synced_for_an_earlier_interest_does_not_show() {
    let mut reader = Reader::default();
    reader.interest(1, namespaces());
    start(&mut reader, 1);
    reader.interest(2, BTreeSet::new());
    assert_eq!(ok(&mut reader, 1, &[]), Step::More);
    assert_eq!(ok(&mut reader, 2, &[]), Step::Synced);
    assert!(reader.view().namespaces.is_empty());
}

#[test]
fn a_new_membership_replaces_the_old_ones_record() {
    let mut reader = Reader::default();
    reader.interest(1, namespaces());
    start(&mut reader, 1);
    reader.upsert(upsert("east", 1, "shop/web", 80)).unwrap();
    reader.upsert(upsert("east", 2, "shop/web", 81)).unwrap();
    assert_eq!(ok(&mut reader, 1, &[]), Step::Synced);
    assert_eq!(names(&reader), ["east.2:shop/web"]);
}

#[test]
fn after_a_loss_shards_stay_until_they_are_complete() {
    let mut reader = Reader::default();
    reader.interest(1, namespaces());
    start(&mut reader, 1);
    for (cluster, name) in [("east", "shop/web"), ("east", "shop/old"), ("north", "shop/web"), ("north", "shop/x")] {
        reader.upsert(upsert(cluster, 1, name, 80)).unwrap();
    }
    assert_eq!(ok(&mut reader, 1, &[]), Step::Synced);
    start(&mut reader, 2);
    assert_eq!(ok(&mut reader, 1, &["east", "north"]), Step::Synced);
    assert_eq!(names(&reader).len(), 4, "nothing is gone by absence");
    reader.upsert(upsert("east", 1, "shop/web", 81)).unwrap();
    reader.remove(&remove("north", "shop/x"));
    assert_eq!(ok(&mut reader, 1, &["east", "north"]), Step::Synced);
    assert_eq!(names(&reader), ["east.1:shop/old", "east.1:shop/web", "north.1:shop/web"], "a tombstone counts");
    let web =
        reader.view().shards[&(ClusterId::new("east").unwrap(), 1)].headers.values().last().unwrap().ports[0].port;
    assert_eq!(web, 81, "what was sent goes over what was kept");
    assert_eq!(ok(&mut reader, 1, &["north"]), Step::Synced);
    assert_eq!(names(&reader), ["east.1:shop/web", "north.1:shop/web"], "east is complete without it");
    assert_eq!(ok(&mut reader, 1, &[]), Step::Synced);
    assert_eq!(names(&reader), ["east.1:shop/web"]);
}

#[test]
fn a_record_that_breaks_a_rule_is_named_and_left_out_but_counts() {
    let mut reader = Reader::default();
    reader.interest(1, namespaces());
    start(&mut reader, 1);
    let error = reader.upsert(upsert("east", 1, "shop/web", 0)).unwrap_err();
    assert!(error.contains("east") && error.contains("shop/web") && error.contains("port"), "{error}");
    reader.upsert(upsert("east", 1, "shop/api", 80)).unwrap();
    assert_eq!(reader.sent.len(), 2);
    assert_eq!(ok(&mut reader, 1, &[]), Step::Synced);
    assert_eq!(names(&reader), ["east.1:shop/api"]);
    let error = reader.upsert(v1::Upsert { cluster_id: "east".into(), ..v1::Upsert::default() }).unwrap_err();
    assert!(error.contains("update this agent"), "{error}");
}
