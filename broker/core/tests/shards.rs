//! Writing a shard: terms, ownership, quotas, completeness; and what is kept.

mod common;

use common::*;
use hawser_broker_core::{Body, Code, Core, Event, Grant, Kind, Limits, Loaded, RecordChange};
use hawser_model::export::Timestamp;

fn west() -> (Core, hawser_broker_core::StreamId) {
    let mut core = empty(Limits::default());
    join(&mut core, "west", &["10.1.0.0/16", "fd00:1::/48"]);
    let stream = open(&mut core, "west", &["shop"]).stream;
    (core, stream)
}

#[test]
fn a_newer_stream_ends_the_older() {
    let (mut core, old) = west();
    put(&mut core, old, gateway("gw-1", 1)).unwrap();
    core.take_events();
    core.take_batch();
    let newer = open(&mut core, "west", &[]);
    assert_eq!(newer.term, 2);
    assert!(core.take_events().contains(&Event::Fenced { stream: old, newer_term: 2, holder: "agent-1".into() }));
    assert_eq!(core.take_batch().terms[&id("west")].term, 2, "the term is to be stored");
    for attempt in [
        put(&mut core, old, gateway("gw-2", 2)).map(drop),
        core.delete(old, &key(Kind::Gateway, "gw-1"), at(2)).map(drop),
        core.complete(old),
        core.claim(old, &set(&["10.9.0.0/16"]), at(2)).map(drop),
        core.ack(old, vec![]),
        core.interest(old, 2, vec![], at(2)),
    ] {
        refused(attempt, "shard", "term", "a newer stream holds the shard", "lease");
    }
    assert!(core.take_batch().is_empty());
    assert_eq!(core.records().count(), 1);
    assert_eq!(core.drain(old, 10, at(2)), [], "its reader is told nothing more");
    core.close(old, at(3));
    put(&mut core, newer.stream, gateway("gw-2", 2)).unwrap();
}

#[test]
fn two_owners_that_alternate_are_reported() {
    let (mut core, _) = west();
    for _ in 0..3 {
        open(&mut core, "west", &[]);
    }
    let reported = core.take_events().iter().any(|e| matches!(e, Event::DuplicateIdentity { .. }));
    assert!(reported);
}

#[test]
fn terms_survive_and_only_grow() {
    let (mut core, _) = west();
    let term = core.take_batch().terms[&id("west")];
    let loaded = Loaded {
        roster: core.roster().clone(),
        terms: [(id("west"), term)].into(),
        epoch: [7; 16],
        epoch_began: START,
        revision: core.revision(),
        complete: vec![],
        records: vec![],
    };
    let mut again = Core::new(loaded, Limits::default(), at(10));
    assert_eq!(open(&mut again, "west", &[]).term, term.term + 1);
}

#[test]
fn streams_open_for_members_with_a_right_clock_only() {
    let (mut core, _) = west();
    let mut wrong = hello(1, &[]);
    wrong.now = START + 400;
    refused(
        core.open(&id("west"), &key_of("west"), wrong, at(1)),
        "cluster west",
        "now",
        "399 s ahead of the broker's",
        "correct the clock",
    );
    refused(
        core.open(&id("west"), &key_of("west"), hello(2, &[]), at(1)),
        "cluster west",
        "generation",
        "it is generation 1, not 2",
        "join again",
    );
    refused(
        core.open(&id("west"), &key_of("stolen"), hello(1, &[]), at(1)),
        "cluster west",
        "identity",
        "another identity",
        "",
    );
    refused(
        core.open(&id("east"), &key_of("east"), hello(1, &[]), at(1)),
        "cluster east",
        "identity",
        "no member",
        "join",
    );
}

#[test]
fn endpoints_lie_in_the_claims() {
    let (mut core, stream) = west();
    for address in ["10.2.0.1", "127.0.0.1", "169.254.169.254", "8.8.8.8"] {
        refused(
            put(&mut core, stream, endpoints("west", "shop/web", &["10.1.0.1", address])),
            "endpoints of export shop/web of cluster west",
            "groups[0].endpoints[1].addresses",
            &format!("{address} is outside the cluster's claimed prefixes"),
            "leave that endpoint out",
        );
    }
    assert_eq!(core.records().count(), 0);
    put(&mut core, stream, endpoints("west", "shop/web", &["10.1.0.1"])).unwrap();
    put(&mut core, stream, endpoints("west", "shop/web6", &["fd00:1::1"])).unwrap();
}

#[test]
fn narrower_claims_withdraw_what_they_no_longer_cover() {
    let (mut core, stream) = west();
    put(&mut core, stream, endpoints("west", "shop/web", &["10.1.0.1"])).unwrap();
    put(&mut core, stream, endpoints("west", "shop/web6", &["fd00:1::1"])).unwrap();
    core.take_batch();
    assert!(core.claim(stream, &set(&["fd00:1::/48"]), at(2)).unwrap());
    let left: Vec<_> = core.records().map(|r| r.key.name.to_string()).collect();
    assert_eq!(left, ["shop/web6"]);
    let batch = core.take_batch();
    assert!(batch.roster.is_some());
    assert_eq!(batch.records, [RecordChange::Delete(id("west"), key(Kind::Endpoints, "shop/web"))]);
}

#[test]
fn namespaces_are_granted() {
    let (mut core, stream) = west();
    for service in ["default/web", "kube-system/dns"] {
        refused(
            put(&mut core, stream, header("west", service, at(0))),
            &format!("export {service} of cluster west"),
            "namespace",
            "need a token that lists it",
            "--namespaces",
        );
    }
    let mut core = empty(Limits::default());
    let grant = Grant { namespaces: vec!["default".into(), "shop".into()], ..Grant::default() };
    let secret = token(&mut core, "west", grant, 1);
    join_with(&mut core, "west", &secret, "west", &["10.1.0.0/16"]).unwrap();
    let stream = open(&mut core, "west", &[]).stream;
    put(&mut core, stream, header("west", "default/web", at(0))).unwrap();
    refused(
        put(&mut core, stream, endpoints("west", "bank/web", &["10.1.0.1"])),
        "endpoints of export bank/web of cluster west",
        "namespace",
        "may export from default, shop only",
        "--namespaces",
    );
}

#[test]
fn gateways_are_usable_and_their_keys_their_own() {
    let (mut core, stream) = west();
    let changed = |change: &dyn Fn(&mut hawser_model::Gateway)| {
        let Body::Gateway(mut gateway) = gateway("gw", 1) else { unreachable!() };
        change(&mut gateway);
        Body::Gateway(gateway)
    };
    for (body, field, rule) in [
        (changed(&|g| g.lanes.clear()), "lanes", "1 to 64"),
        (changed(&|g| g.lanes[0].port = 0), "lanes[0]", "must not be zero"),
        (
            changed(&|g| g.candidates[0] = hawser_model::Candidate::Address("127.0.0.1".parse().unwrap())),
            "candidates[0]",
            "loopback",
        ),
        (changed(&|g| g.candidates[0] = hawser_model::Candidate::Name("no_name!".into())), "candidates[0]", "no name"),
        (
            changed(&|g| g.preferred = vec!["10.2.0.0/24".parse().unwrap()]),
            "preferred[0]",
            "outside the cluster's claimed",
        ),
    ] {
        refused(put(&mut core, stream, body), "gateway gw of cluster west", field, rule, "");
    }
    put(&mut core, stream, gateway("gw", 1)).unwrap();
    join(&mut core, "east", &["10.2.0.0/16"]);
    let east = open(&mut core, "east", &[]).stream;
    let stolen = put(&mut core, east, gateway("gw", 1));
    assert_eq!(stolen.as_ref().unwrap_err().code, Code::Conflict);
    refused(
        stolen,
        "gateway gw of cluster east",
        "lanes[0].publicKey",
        "cluster west has a gateway with the same key",
        "state directory",
    );
    core.delete(stream, &key(Kind::Gateway, "gw"), at(2)).unwrap();
    put(&mut core, east, gateway("gw", 1)).unwrap();
    put(&mut core, east, gateway("gw", 2)).unwrap();
    put(&mut core, stream, gateway("gw", 1)).expect("a key that is no longer used is free");
}

#[test]
fn ages_are_bounded_by_what_was_seen() {
    let (mut core, stream) = west();
    let created = |core: &Core| match &core.records().next().unwrap().body {
        Body::Header(header) => header.created,
        other => panic!("{other:?}"),
    };
    refused(
        put(&mut core, stream, header("west", "shop/web", at(400))),
        "export shop/web of cluster west",
        "creationTimestamp",
        "398 s ahead of the broker's clock",
        "clock",
    );
    put(&mut core, stream, header("west", "shop/web", at(60))).unwrap();
    assert_eq!(created(&core), at(2), "the near future is now");
    let same = core.put(stream, header("west", "shop/web", at(60)), encode, at(50)).unwrap();
    assert!(!same, "saying it again later changes nothing");
    assert_eq!(created(&core), at(2));
    put(&mut core, stream, header("west", "shop/web", Timestamp(0))).unwrap_or_default();
    assert_eq!(created(&core), at(2), "it does not grow older");
}

#[test]
fn quotas_cost_only_their_cluster() {
    let mut core = empty(Limits { records: 3, bytes: 3_000, writes_per_second: 4, ..Limits::default() });
    join(&mut core, "west", &["10.1.0.0/16"]);
    join(&mut core, "east", &["10.2.0.0/16"]);
    let (west, east) = (open(&mut core, "west", &[]).stream, open(&mut core, "east", &[]).stream);
    let big = endpoints("west", "shop/big", &["10.1.0.1"; 40]);
    refused(
        put(&mut core, west, big),
        "endpoints of export shop/big of cluster west",
        "bytes",
        "would exceed its 3000 bytes",
        "fewer",
    );
    for n in 1..=3 {
        put(&mut core, west, gateway(&format!("gw-{n}"), n)).unwrap();
    }
    refused(
        put(&mut core, west, gateway("gw-4", 4)),
        "gateway gw-4 of cluster west",
        "records",
        "its 3 records",
        "fewer",
    );
    put(&mut core, west, gateway("gw-1", 11)).unwrap();
    refused(
        put(&mut core, west, gateway("gw-1", 12)),
        "gateway gw-1 of cluster west",
        "writes",
        "its 4 writes per second",
        "wait a second",
    );
    assert!(!put(&mut core, west, gateway("gw-1", 11)).unwrap(), "what is equal costs nothing");
    put(&mut core, east, gateway("gw-1", 40)).unwrap();
    core.put(west, gateway("gw-1", 12), encode, at(3)).unwrap();
}

#[test]
fn gateways_have_a_quota_of_their_own() {
    let mut core = empty(Limits { gateways: 2, ..Limits::default() });
    join(&mut core, "west", &["10.1.0.0/16"]);
    let west = open(&mut core, "west", &["shop"]).stream;
    put(&mut core, west, gateway("gw-1", 1)).unwrap();
    put(&mut core, west, gateway("gw-2", 2)).unwrap();
    let third = put(&mut core, west, gateway("gw-3", 3));
    refused(third, "gateway gw-3 of cluster west", "gateways", "its 2 gateways already", "fewer nodes");
    put(&mut core, west, gateway("gw-2", 4)).expect("one that is there can change");
    put(&mut core, west, endpoints("west", "shop/web", &["10.1.0.1"])).unwrap();
    core.delete(west, &key(Kind::Gateway, "gw-1"), at(2)).unwrap();
    put(&mut core, west, gateway("gw-3", 3)).unwrap();
}

#[test]
fn completing_a_shard_drops_what_was_not_put_again() {
    let (mut core, old) = west();
    for n in 1..=3 {
        put(&mut core, old, gateway(&format!("gw-{n}"), n)).unwrap();
    }
    core.complete(old).unwrap();
    put(&mut core, old, gateway("gw-4", 4)).unwrap();
    core.complete(old).unwrap();
    assert_eq!(core.records().count(), 4, "completing twice drops nothing");
    let stream = open(&mut core, "west", &[]).stream;
    assert!(!put(&mut core, stream, gateway("gw-1", 1)).unwrap());
    let Body::Gateway(mut broken) = gateway("gw-2", 2) else { unreachable!() };
    broken.lanes.clear();
    assert!(put(&mut core, stream, Body::Gateway(broken)).is_err());
    core.complete(stream).unwrap();
    let left: Vec<_> = core.records().map(|r| r.key.name.to_string()).collect();
    assert_eq!(left, ["gw-1", "gw-2"], "one put again, one whose last good version stays");
}

#[test]
fn what_is_stored_is_swept_when_it_is_loaded() {
    let (mut core, stream) = west();
    put(&mut core, stream, endpoints("west", "shop/web", &["10.1.0.1"])).unwrap();
    put(&mut core, stream, gateway("gw", 1)).unwrap();
    let records: Vec<_> = core.records().map(|r| (**r).clone()).collect();
    let mut foreign = records[0].clone();
    foreign.cluster = id("east");
    let mut stale = records[0].clone();
    stale.generation = 9;
    stale.key = key(Kind::Gateway, "stale");
    let loaded = Loaded {
        roster: core.roster().clone(),
        terms: Default::default(),
        epoch: [7; 16],
        epoch_began: START,
        revision: core.revision(),
        complete: vec![id("west")],
        records: records.iter().cloned().chain([foreign, stale]).collect(),
    };
    let mut again = Core::new(loaded, Limits::default(), at(10));
    assert_eq!(again.records().count(), 2);
    assert_eq!(again.take_batch().records.len(), 2, "what nobody may have is deleted from the store too");
}

#[test]
fn silence_is_told_after_a_while() {
    let mut core = empty(Limits::default());
    join(&mut core, "west", &[]);
    join(&mut core, "east", &[]);
    let west = open(&mut core, "west", &[]).stream;
    assert_eq!(core.silent(at(5)), []);
    assert_eq!(core.silent(at(12)), [(id("east"), START + 1)]);
    core.close(west, at(20));
    assert_eq!(core.silent(at(25)), [(id("east"), START + 1)]);
    assert_eq!(core.silent(at(30)), [(id("east"), START + 1), (id("west"), START + 20)]);
}

#[test]
fn a_revocation_is_complete_when_every_gateway_says_so() {
    let mut core = empty(Limits::default());
    for (cluster, prefix) in [("west", "10.1.0.0/16"), ("east", "10.2.0.0/16"), ("south", "10.3.0.0/16")] {
        join(&mut core, cluster, &[prefix]);
    }
    let (west, east) = (open(&mut core, "west", &[]).stream, open(&mut core, "east", &[]).stream);
    put(&mut core, west, gateway("w", 1)).unwrap();
    put(&mut core, east, gateway("e1", 2)).unwrap();
    put(&mut core, east, gateway("e2", 3)).unwrap();
    let revision = core.revoke_cluster(&id("south")).unwrap();
    let first = core.progress(revision);
    assert!(!first.complete);
    core.ack(west, vec![("w".into(), revision)]).unwrap();
    core.ack(east, vec![("e1".into(), revision), ("e2".into(), revision - 1)]).unwrap();
    let half = core.progress(revision);
    assert!(!half.complete);
    assert_eq!(half.clusters[0].gateways, [("e1".to_owned(), revision), ("e2".to_owned(), revision - 1)]);
    core.ack(east, vec![("e1".into(), revision), ("e2".into(), revision)]).unwrap();
    assert!(core.progress(revision).complete);
    core.close(west, at(5));
    assert!(!core.progress(revision).complete, "who is not connected can't be counted");
}
