//! What readers see: whatever happens in whatever order, a reader that is told in pieces ends with what a fresh one gets.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::*;
use hawser_broker_core::{Body, Core, Hash, Kind, Limits, Loaded, Out, RecordId, StreamId};
use proptest::prelude::*;

/// A reader as an agent is one.
#[derive(Debug, Default, Clone)]
struct Reader {
    held: BTreeMap<RecordId, Hash>,
    /// Sent since the last snapshot began, while one is under way.
    fresh: Option<Vec<RecordId>>,
    synced: Option<(u64, u64)>,
    incomplete: Vec<hawser_model::ClusterId>,
}

impl Reader {
    fn take(&mut self, out: Vec<Out>) {
        for message in out {
            match message {
                Out::SnapshotStart { .. } => self.fresh = Some(Vec::new()),
                Out::Upsert(record) => {
                    self.fresh.iter_mut().for_each(|f| f.push(record.id()));
                    self.held.insert(record.id(), record.encoded.hash);
                }
                Out::Remove { cluster, key, .. } => {
                    self.held.remove(&RecordId { kind: key.kind, cluster, name: key.name });
                }
                Out::Synced { interest, revision, incomplete, records } => {
                    if incomplete.is_empty()
                        && let Some(fresh) = self.fresh.take()
                    {
                        self.held.retain(|id, _| fresh.contains(id));
                    }
                    if incomplete.is_empty() {
                        let theirs: BTreeMap<_, _> = records.iter().map(|r| (r.id(), r.encoded.hash)).collect();
                        assert_eq!(self.held, theirs, "the reader's view is what the broker digests");
                    }
                    self.incomplete = incomplete;
                    self.synced = Some((interest, revision));
                }
            }
        }
    }

    fn drain(&mut self, core: &mut Core, stream: StreamId) {
        while core.pending().any(|s| s == stream) {
            self.take(core.drain(stream, 3, at(1_000_000)));
        }
    }
}

fn world() -> (Core, Vec<StreamId>) {
    let mut core =
        empty(Limits { tombstones: 8, records: 1_000_000, writes_per_second: 1_000_000, ..Limits::default() });
    let names = ["a", "b", "r"];
    for (n, name) in names.iter().enumerate() {
        join(&mut core, name, &[&format!("10.{n}.0.0/16")]);
    }
    let streams = names.iter().map(|name| open(&mut core, name, &["ns-0"]).stream).collect();
    (core, streams)
}

#[derive(Debug, Clone)]
enum Step {
    Header(usize, u8, u8, i64),
    Endpoints(usize, u8, u8, u8),
    Gateway(usize, u8, u8),
    Delete(usize, Kind, u8, u8),
    Interest(Vec<u8>),
    Drain(usize),
    Reconnect,
    Reassert(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(Kind::Gateway), Just(Kind::Header), Just(Kind::Endpoints)];
    prop_oneof![
        4 => (0usize..2, 0u8..3, 0u8..3, -100i64..0).prop_map(|(w, ns, n, t)| Step::Header(w, ns, n, t)),
        4 => (0usize..2, 0u8..3, 0u8..3, 1u8..5).prop_map(|(w, ns, n, a)| Step::Endpoints(w, ns, n, a)),
        2 => (0usize..2, 0u8..3, 0u8..4).prop_map(|(w, n, k)| Step::Gateway(w, n, k)),
        4 => (0usize..2, kind, 0u8..3, 0u8..3).prop_map(|(w, k, ns, n)| Step::Delete(w, k, ns, n)),
        1 => prop::collection::vec(0u8..3, 0..3).prop_map(Step::Interest),
        4 => (1usize..4).prop_map(Step::Drain),
        1 => Just(Step::Reconnect),
        1 => (0usize..2).prop_map(Step::Reassert),
    ]
}

fn perform(
    core: &mut Core,
    streams: &mut [StreamId],
    reader: &mut Reader,
    interest: &mut (u64, Vec<String>),
    step: Step,
) {
    let names = ["a", "b"];
    match step {
        Step::Header(w, ns, n, t) => {
            put(core, streams[w], header(names[w], &format!("ns-{ns}/s{n}"), at(t))).unwrap();
        }
        Step::Endpoints(w, ns, n, a) => {
            put(core, streams[w], endpoints(names[w], &format!("ns-{ns}/s{n}"), &[&format!("10.{w}.0.{a}")])).unwrap();
        }
        Step::Gateway(w, n, k) => {
            let key = u8::try_from(w).unwrap() * 100 + n * 10 + k + 1;
            put(core, streams[w], gateway(&format!("gw-{n}"), key)).unwrap();
        }
        Step::Delete(w, kind, ns, n) => {
            let name = if kind == Kind::Gateway { format!("gw-{n}") } else { format!("ns-{ns}/s{n}") };
            core.delete(streams[w], &key(kind, &name), at(2)).unwrap();
        }
        Step::Interest(namespaces) => {
            interest.0 += 1;
            interest.1 = namespaces.iter().map(|n| format!("ns-{n}")).collect();
            core.interest(streams[2], interest.0, interest.1.clone(), at(2)).unwrap();
        }
        Step::Drain(max) => {
            let out = core.drain(streams[2], max, at(1_000_000));
            reader.take(out);
        }
        Step::Reconnect => {
            core.close(streams[2], at(2));
            // An agent resumes only what it was told to be whole; anything else begins anew.
            let whole =
                reader.synced.filter(|_| reader.fresh.is_none() && reader.synced.is_some_and(|s| s.0 == interest.0));
            let mut hello = hello(1, &[]);
            hello.interest = interest.clone();
            hello.resume = whole.map(|(_, revision)| (core.epoch().to_vec(), revision));
            reader.synced = None;
            streams[2] = core.open(&id("r"), &key_of("r"), hello, at(2)).unwrap().stream;
        }
        Step::Reassert(w) => {
            streams[w] = open(core, names[w], &[]).stream;
            put(core, streams[w], header(names[w], "ns-0/s0", at(-1))).unwrap();
            core.complete(streams[w]).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn a_slow_reader_converges_to_a_fresh_snapshot(steps in prop::collection::vec(step(), 1..120)) {
        let (mut core, mut streams) = world();
        let mut slow = Reader::default();
        let mut interest = (1, vec!["ns-0".to_owned()]);
        for step in steps {
            perform(&mut core, &mut streams, &mut slow, &mut interest, step);
        }
        slow.drain(&mut core, streams[2]);
        prop_assert_eq!(slow.synced.map(|s| s.0), Some(interest.0));
        let mut hello = hello(1, &[]);
        hello.interest = interest;
        let stream = core.open(&id("r"), &key_of("r"), hello, at(2)).unwrap().stream;
        let mut fresh = Reader::default();
        fresh.drain(&mut core, stream);
        prop_assert_eq!(&slow.held, &fresh.held);
        for id in fresh.held.keys() {
            prop_assert!(id.cluster.as_str() != "r");
        }
    }
}

#[test]
fn a_reader_sees_all_gateways_and_the_exports_of_its_namespaces() {
    let (mut core, streams) = world();
    put(&mut core, streams[0], gateway("gw", 1)).unwrap();
    for service in ["ns-0/web", "ns-1/web"] {
        put(&mut core, streams[0], header("a", service, at(-5))).unwrap();
        put(&mut core, streams[0], endpoints("a", service, &["10.0.0.1"])).unwrap();
    }
    put(&mut core, streams[2], gateway("own", 9)).unwrap();
    let mut reader = Reader::default();
    reader.drain(&mut core, streams[2]);
    let seen: Vec<_> = reader.held.keys().map(|id| id.key().to_string()).collect();
    assert_eq!(seen, ["gateway gw", "export ns-0/web", "endpoints of export ns-0/web"]);
    core.interest(streams[2], 2, vec!["ns-1".into(), "Not A Namespace".into()], at(2)).unwrap();
    reader.drain(&mut core, streams[2]);
    let seen: Vec<_> = reader.held.keys().map(|id| id.key().to_string()).collect();
    assert_eq!(seen, ["gateway gw", "export ns-1/web", "endpoints of export ns-1/web"]);
    assert_eq!(reader.synced.map(|s| s.0), Some(2));
}

#[test]
fn a_slow_reader_gets_the_latest_of_each_and_keeps_one_key_per_record() {
    let (mut core, streams) = world();
    Reader::default().drain(&mut core, streams[2]);
    for n in 1..=200u8 {
        put(&mut core, streams[0], gateway("gw", n)).unwrap();
    }
    let out = core.drain(streams[2], 100, at(1_000_000));
    assert_eq!(out.len(), 2, "one upsert and synced: {out:?}");
}

#[test]
fn a_changing_key_does_not_starve_the_others() {
    let (mut core, streams) = world();
    for n in 0..5u8 {
        put(&mut core, streams[0], gateway(&format!("gw-{n}"), n + 1)).unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..12u8 {
        put(&mut core, streams[0], gateway("gw-0", 100 + n)).unwrap();
        for message in core.drain(streams[2], 1, at(1_000_000)) {
            if let Out::Upsert(record) = message {
                seen.insert(record.key.name.to_string());
            }
        }
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
}

#[test]
fn resuming_sends_only_what_changed() {
    let (mut core, streams) = world();
    for n in 0..5u8 {
        put(&mut core, streams[0], gateway(&format!("gw-{n}"), n + 1)).unwrap();
    }
    let mut reader = Reader::default();
    reader.drain(&mut core, streams[2]);
    let (_, revision) = reader.synced.unwrap();
    core.close(streams[2], at(3));
    put(&mut core, streams[0], gateway("gw-0", 50)).unwrap();
    core.delete(streams[0], &key(Kind::Gateway, "gw-1"), at(3)).unwrap();
    let resume = |core: &mut Core, epoch: Vec<u8>, revision| {
        let mut hello = hello(1, &["ns-0"]);
        hello.resume = Some((epoch, revision));
        let stream = core.open(&id("r"), &key_of("r"), hello, at(3)).unwrap().stream;
        core.drain(stream, 100, at(1_000_000))
    };
    let epoch = core.epoch().to_vec();
    let out = resume(&mut core, epoch.clone(), revision);
    assert_eq!(out.len(), 3, "upsert, remove, synced: {out:?}");
    reader.take(out);
    let snapshot = |out: Vec<Out>| matches!(out.first(), Some(Out::SnapshotStart { .. }));
    assert!(snapshot(resume(&mut core, vec![1; 16], revision)), "another epoch");
    assert!(snapshot(resume(&mut core, epoch.clone(), revision + 1_000)), "a revision that never was");
    for n in 0..20u8 {
        put(&mut core, streams[0], gateway("brief", 60 + n)).unwrap();
        core.delete(streams[0], &key(Kind::Gateway, "brief"), at(3)).unwrap();
    }
    assert!(snapshot(resume(&mut core, epoch, revision)), "further back than tombstones reach");
}

/// The records are lost, the roster is not: a reader keeps what it holds of a cluster until that has come back, or its
/// lease has ended.
#[test]
fn after_a_loss_of_records_absence_deletes_nothing() {
    let (mut core, streams) = world();
    for (w, name) in ["a", "b"].iter().enumerate() {
        let n = u8::try_from(w).unwrap();
        put(&mut core, streams[w], gateway(&format!("gw-{name}"), n * 2 + 1)).unwrap();
        put(&mut core, streams[w], gateway(&format!("old-{name}"), n * 2 + 2)).unwrap();
    }
    let loaded = |core: &Core| Loaded {
        roster: core.roster().clone(),
        terms: BTreeMap::new(),
        epoch: [8; 16],
        epoch_began: START + 10,
        revision: 0,
        complete: vec![],
        records: vec![],
    };
    let mut core = Core::new(loaded(&core), Limits::default(), at(10));
    let reader = open(&mut core, "r", &["ns-0"]).stream;
    let incomplete = |out: &[Out]| match out.last() {
        Some(Out::Synced { incomplete, .. }) => incomplete.iter().map(ToString::to_string).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(incomplete(&core.drain(reader, 100, at(11))), ["a", "b"]);
    let a = open(&mut core, "a", &[]).stream;
    put(&mut core, a, gateway("gw-a", 1)).unwrap();
    assert_eq!(incomplete(&core.drain(reader, 100, at(11))), ["a", "b"], "not yet complete");
    core.complete(a).unwrap();
    let out = core.drain(reader, 100, at(12));
    assert_eq!(incomplete(&out), ["b"], "what a did not send again is gone, b is kept");
    assert!(!core.tick(at(11 + 890)));
    assert!(!core.pending().any(|s| s == reader), "nothing new to say");
    assert!(core.tick(at(11 + 900)), "the lease of b ends");
    assert_eq!(incomplete(&core.drain(reader, 100, at(11 + 900))), Vec::<String>::new());
    assert!(!core.tick(at(11 + 901)), "once");
}

#[test]
fn bodies_know_their_keys() {
    let Body::Header(h) = header("a", "shop/web", at(0)) else { unreachable!() };
    let key = Body::Header(h).key();
    assert_eq!((key.kind, &*key.name, key.namespace()), (Kind::Header, "shop/web", Some("shop")));
    for kind in [Kind::Gateway, Kind::Header, Kind::Endpoints] {
        assert_eq!(Kind::of_number(kind.number().into()), Some(kind));
    }
    assert_eq!(Kind::of_number(0), None);
}
