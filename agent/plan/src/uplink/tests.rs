use hawser_model::ServiceName;
use proptest::prelude::*;

use super::*;

fn now(s: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + s).unwrap()
}

fn id(n: u8) -> RecordId {
    RecordId::Header(ServiceName::new("shop", &format!("s{n}")).unwrap())
}

/// A record whose content is told apart by `version`.
fn record(n: u8, version: u8) -> Arc<Record> {
    let RecordId::Header(service) = id(n) else { unreachable!() };
    let cluster = hawser_model::ClusterId::new(format!("v{version}")).unwrap();
    Arc::new(Record::Endpoints(hawser_model::export::ExportEndpoints { cluster, service, groups: Vec::new() }))
}

fn shard(records: &[(u8, u8)]) -> Arc<Shard> {
    Arc::new(Shard {
        claims: PrefixSet::default(),
        records: records.iter().map(|(n, v)| (id(*n), record(*n, *v))).collect(),
    })
}

fn refusal() -> Refusal {
    Refusal { object: "o".into(), field: "f".into(), rule: "r".into(), remedy: "m".into() }
}

fn ops(uplink: &mut Uplink, at: i64) -> Vec<(u64, Op)> {
    uplink.poll(now(at), 100)
}

/// Answers everything well; what was sent.
fn flush(uplink: &mut Uplink) -> Vec<Op> {
    let mut sent = Vec::new();
    loop {
        let ops = ops(uplink, 0);
        if ops.is_empty() {
            return sent;
        }
        for (sequence, op) in ops {
            assert_eq!(uplink.on_result(sequence, None, now(0)), None);
            sent.push(op);
        }
    }
}

#[test]
fn a_stream_asserts_everything_then_says_so_then_only_changes() {
    let mut uplink = Uplink::default();
    uplink.open();
    assert!(ops(&mut uplink, 0).is_empty(), "nothing is known yet");
    uplink.set_desired(&shard(&[(1, 1), (2, 1)]));
    let sent = flush(&mut uplink);
    assert_eq!(sent, [Op::Put(id(1), record(1, 1)), Op::Put(id(2), record(2, 1)), Op::Complete]);
    assert!(uplink.uploads().records.values().all(|u| *u == Upload::Durable));
    uplink.set_desired(&shard(&[(1, 2), (3, 1)]));
    assert_eq!(flush(&mut uplink), [Op::Put(id(1), record(1, 2)), Op::Delete(id(2)), Op::Put(id(3), record(3, 1))]);
    uplink.open();
    assert_eq!(flush(&mut uplink).len(), 3, "a new stream asserts both records again and completes");
}

#[test]
fn an_empty_shard_is_completed_too() {
    let mut uplink = Uplink::default();
    uplink.open();
    uplink.set_desired(&shard(&[]));
    assert_eq!(flush(&mut uplink), [Op::Complete]);
}

#[test]
fn complete_waits_for_every_answer_and_a_window_is_kept() {
    let mut uplink = Uplink::default();
    uplink.open();
    uplink.set_desired(&shard(&[(1, 1), (2, 1), (3, 1)]));
    let first = uplink.poll(now(0), 2);
    assert_eq!(first.len(), 2);
    assert!(uplink.poll(now(0), 2).is_empty());
    uplink.on_result(first[0].0, None, now(0));
    let second = uplink.poll(now(0), 2);
    assert!(matches!(&second[..], [(_, Op::Put(..))]), "{second:?}");
    uplink.on_result(first[1].0, None, now(0));
    assert!(uplink.poll(now(0), 2).is_empty(), "one is still under way");
    uplink.on_result(second[0].0, None, now(0));
    assert!(matches!(&uplink.poll(now(0), 2)[..], [(_, Op::Complete)]));
}

#[test]
fn a_refusal_touches_its_record_only_and_is_tried_again_later() {
    let mut uplink = Uplink::default();
    uplink.open();
    uplink.set_desired(&shard(&[(1, 1), (2, 1)]));
    let sent = ops(&mut uplink, 0);
    assert_eq!(uplink.on_result(sent[0].0, Some(refusal()), now(0)), Some(refusal()));
    uplink.on_result(sent[1].0, None, now(0));
    assert!(matches!(&ops(&mut uplink, 0)[..], [(_, Op::Complete)]), "a refused record does not hold up the rest");
    assert_eq!(uplink.uploads().records[&id(1)], Upload::Refused(refusal()));
    assert_eq!(uplink.uploads().records[&id(2)], Upload::Durable);
    assert!(ops(&mut uplink, 29).is_empty());
    assert_eq!(uplink.next_retry(), Some(now(30)));
    let again = ops(&mut uplink, 30);
    assert!(matches!(&again[..], [(_, Op::Put(i, _))] if *i == id(1)), "{again:?}");
    assert_eq!(uplink.uploads().records[&id(1)], Upload::Refused(refusal()), "it stands until the answer");
    uplink.on_result(again[0].0, None, now(30));
    assert_eq!(uplink.uploads().records[&id(1)], Upload::Durable);
}

#[test]
fn a_change_during_a_write_goes_after_it() {
    let mut uplink = Uplink::default();
    uplink.open();
    uplink.set_desired(&shard(&[(1, 1)]));
    let sent = ops(&mut uplink, 0);
    uplink.set_desired(&shard(&[(1, 2)]));
    assert!(ops(&mut uplink, 0).is_empty());
    uplink.on_result(sent[0].0, Some(refusal()), now(0));
    assert_eq!(uplink.uploads().records[&id(1)], Upload::Pending, "the refusal was the old version's");
    assert!(matches!(&ops(&mut uplink, 0)[..], [(_, Op::Put(_, r))] if *r == record(1, 2)));
}

#[test]
fn a_changed_claim_goes_first_and_its_refusal_is_told() {
    let claims: PrefixSet = ["10.1.0.0/16".parse().unwrap()].into_iter().collect();
    let mut uplink = Uplink::default();
    uplink.set_on_roster(PrefixSet::default());
    uplink.open();
    let mut wanted = (*shard(&[(1, 1)])).clone();
    wanted.claims = claims.clone();
    uplink.set_desired(&Arc::new(wanted.clone()));
    let first = ops(&mut uplink, 0);
    assert!(matches!(&first[..], [(_, Op::Claim(c))] if *c == claims), "{first:?}");
    assert!(ops(&mut uplink, 0).is_empty(), "records are judged by the claim");
    uplink.on_result(first[0].0, Some(refusal()), now(0));
    assert_eq!(uplink.uploads().claim, Some(Upload::Refused(refusal())));
    assert!(matches!(&ops(&mut uplink, 0)[..], [(_, Op::Put(..))]));
    let again = ops(&mut uplink, 30);
    assert!(matches!(&again[..], [(_, Op::Claim(_))]), "{again:?}");
    uplink.on_result(again[0].0, None, now(30));
    uplink.set_on_roster(claims);
    assert_eq!(uplink.uploads().claim, None);
    wanted.claims = ["10.9.0.0/16".parse().unwrap()].into_iter().collect();
    uplink.set_desired(&Arc::new(wanted));
    assert!(ops(&mut uplink, 30).iter().any(|(_, op)| matches!(op, Op::Claim(_))));
}

#[derive(Debug, Clone)]
enum Event {
    Desire(Vec<(u8, u8)>),
    Poll,
    Answer { refuse: bool },
    Reopen,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        proptest::collection::btree_map(0u8..6, 0u8..3, 0..6).prop_map(|m| Event::Desire(m.into_iter().collect())),
        Just(Event::Poll),
        proptest::bool::weighted(0.2).prop_map(|refuse| Event::Answer { refuse }),
        Just(Event::Reopen),
    ]
}

proptest! {
    /// Whatever happens on the way: once everything is answered well, the broker holds exactly what is wanted.
    #[test]
    fn the_broker_ends_up_with_what_is_wanted(events in proptest::collection::vec(event(), 0..60)) {
        let mut uplink = Uplink::default();
        let mut broker: BTreeMap<RecordId, Arc<Record>> = BTreeMap::new();
        let mut put_in_stream: BTreeSet<RecordId> = BTreeSet::new();
        let mut flying: Vec<(u64, Op)> = Vec::new();
        let mut clock = 0;
        let mut wanted = shard(&[]);
        uplink.open();
        let settle = [Event::Reopen, Event::Desire(vec![(0, 0), (7, 1)])];
        for event in events.into_iter().chain(settle) {
            clock += 1;
            match event {
                Event::Desire(records) => { wanted = shard(&records); uplink.set_desired(&wanted); }
                Event::Poll => flying.extend(uplink.poll(now(clock), 3)),
                Event::Reopen => { uplink.open(); flying.clear(); put_in_stream.clear(); }
                Event::Answer { refuse } if !flying.is_empty() => {
                    // In order, as a stream is.
                    let (sequence, op) = flying.remove(0);
                    let refuse = refuse && matches!(op, Op::Put(..));
                    if !refuse { serve(&mut broker, &mut put_in_stream, op); }
                    uplink.on_result(sequence, refuse.then(refusal), now(clock));
                }
                Event::Answer { .. } => {}
            }
        }
        for _ in 0..200 {
            clock += 10;
            flying.extend(uplink.poll(now(clock), 3));
            for (sequence, op) in std::mem::take(&mut flying) {
                serve(&mut broker, &mut put_in_stream, op);
                uplink.on_result(sequence, None, now(clock));
            }
        }
        prop_assert_eq!(&broker, &wanted.records);
        prop_assert!(uplink.uploads().records.values().all(|u| *u == Upload::Durable));
    }
}

/// The broker's side: `Complete` drops what was not put since the stream began.
fn serve(broker: &mut BTreeMap<RecordId, Arc<Record>>, put: &mut BTreeSet<RecordId>, op: Op) {
    match op {
        Op::Claim(_) => {}
        Op::Put(id, record) => {
            put.insert(id.clone());
            broker.insert(id, record);
        }
        Op::Delete(id) => {
            broker.remove(&id);
        }
        Op::Complete => broker.retain(|id, _| put.contains(id)),
    }
}
