//! The two files: what was committed is there again, what is missing or damaged is named with its remedy.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use hawser_broker_core::{
    Batch, Body, Encoded, Grant, Kind, Record, RecordChange, RecordKey, Roster, StoredTerm, TokenRequest, TokenSeed,
};
use hawser_broker_store::{RedbStore, Store, StoreError, Stored};
use hawser_model::export::Timestamp;
use hawser_model::{ClusterId, Gateway, NodeName};

const EPOCH: [u8; 16] = [1; 16];

fn created() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    RedbStore::create(dir.path(), &Roster::new("demo"), EPOCH, 100).unwrap();
    dir
}

fn open(dir: &Path) -> (RedbStore, Stored) {
    RedbStore::open(dir, [2; 16], 200).unwrap()
}

fn west() -> ClusterId {
    ClusterId::new("west").unwrap()
}

fn record(name: &str, revision: u64) -> Record {
    let gateway = Gateway {
        node: NodeName::new(name).unwrap(),
        lanes: vec![],
        candidates: vec![],
        preferred: vec![],
        probes: true,
    };
    Record {
        cluster: west(),
        generation: 3,
        key: RecordKey { kind: Kind::Gateway, name: name.into() },
        body: Body::Gateway(gateway),
        encoded: Encoded::new(format!("{name} {revision}").into_bytes()),
        claimed: (revision > 1).then_some(Timestamp(-5)),
        revision,
    }
}

fn records(changes: Vec<RecordChange>, revision: u64) -> Batch {
    Batch { records: changes, revision, ..Batch::default() }
}

#[test]
fn what_was_committed_is_there_again() {
    let dir = created();
    let (mut store, first) = open(dir.path());
    assert_eq!((first.roster.set(), first.epoch, first.epoch_began, first.new_epoch), ("demo", EPOCH, 100, false));
    let mut roster = first.roster;
    let seed = TokenSeed { id: [3; 5], secret: [4; 32] };
    let request =
        TokenRequest { cluster: west(), ttl: 60, uses: 1, grant: Grant::default(), created_by: "root".into() };
    roster.create_token(request, &seed, 100).unwrap();
    let term = StoredTerm { term: 7, seen: 150, live: true };
    let put = |name: &str, revision| RecordChange::Put(Arc::new(record(name, revision)));
    let batch = Batch {
        roster: Some(Box::new(roster.clone())),
        terms: BTreeMap::from([(west(), term)]),
        records: vec![put("a", 1), put("b", 2), RecordChange::Complete(west())],
        revision: 2,
    };
    store.commit(&batch).unwrap();
    let gone = RecordKey { kind: Kind::Gateway, name: "a".into() };
    store.commit(&records(vec![RecordChange::Delete(west(), gone), put("b", 4)], 4)).unwrap();
    drop(store);

    let (mut store, again) = open(dir.path());
    assert_eq!((again.roster, again.revision, again.epoch), (roster, 4, EPOCH));
    assert_eq!(again.terms, BTreeMap::from([(west(), term)]));
    assert_eq!(again.complete, [west()]);
    assert_eq!(again.records.len(), 1);
    let b = &again.records[0];
    assert_eq!((&*b.key.name, b.generation, b.revision, b.claimed), ("b", 3, 4, Some(-5)));
    assert_eq!(b.bytes, b"b 4");
    store.commit(&records(vec![RecordChange::Incomplete(west())], 4)).unwrap();
    drop(store);
    assert_eq!(open(dir.path()).1.complete, []);
}

#[test]
fn files_are_private_and_have_one_owner() {
    let dir = created();
    for name in ["roster.redb", "records.redb"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let (_held, _) = open(dir.path());
    let error = RedbStore::open(dir.path(), [2; 16], 200).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("another broker uses this directory; stop it first"), "{error}");
}

#[test]
fn nothing_is_created_over_something() {
    let dir = created();
    let error = RedbStore::create(dir.path(), &Roster::new("other"), EPOCH, 0).unwrap_err();
    assert!(error.to_string().contains("a cluster set here already; choose an empty directory"), "{error}");
    assert_eq!(open(dir.path()).1.roster.set(), "demo");
}

#[test]
fn lost_records_begin_a_new_epoch() {
    let dir = created();
    let (mut store, _) = open(dir.path());
    store.commit(&records(vec![RecordChange::Put(Arc::new(record("a", 1)))], 1)).unwrap();
    drop(store);
    std::fs::remove_file(dir.path().join("records.redb")).unwrap();
    let (store, again) = open(dir.path());
    assert_eq!((again.epoch, again.epoch_began, again.new_epoch, again.revision), ([2; 16], 200, true, 0));
    assert_eq!(again.records, []);
    drop(store);
    assert!(!open(dir.path()).1.new_epoch, "it began once");
}

#[test]
fn a_lost_roster_is_refused_with_the_remedy() {
    let dir = created();
    std::fs::remove_file(dir.path().join("roster.redb")).unwrap();
    let error = RedbStore::open(dir.path(), [2; 16], 200).unwrap_err().to_string();
    for part in ["roster.redb: the roster is missing while records.redb exists", "broker restore --dir", "broker init"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    std::fs::remove_file(dir.path().join("records.redb")).unwrap();
    std::fs::write(dir.path().join("ca.key"), "x").unwrap();
    let error = RedbStore::open(dir.path(), [2; 16], 200).unwrap_err().to_string();
    assert!(error.contains("missing while the CA (ca.key) exists"), "{error}");
    std::fs::remove_file(dir.path().join("ca.key")).unwrap();
    let error = RedbStore::open(dir.path(), [2; 16], 200).unwrap_err().to_string();
    assert!(error.contains("no cluster set here; begin one with `hawser broker init"), "{error}");
    assert!(!dir.path().join("records.redb").exists(), "a refusal leaves nothing behind");
}

#[test]
fn damaged_files_are_named_with_what_to_do() {
    for (name, remedy) in [("roster.redb", "broker restore"), ("records.redb", "move the file away")] {
        for damage in ["empty", "short", "garbage", "flipped"] {
            let dir = created();
            let (mut store, _) = open(dir.path());
            let many = (0..200).map(|n| RecordChange::Put(Arc::new(record(&format!("n{n}"), n)))).collect();
            store.commit(&records(many, 200)).unwrap();
            drop(store);
            let path = dir.path().join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            match damage {
                "empty" => bytes.clear(),
                "short" => bytes.truncate(bytes.len() / 3),
                "garbage" => bytes.fill(0xa5),
                _ => {
                    // Every page that is in use but the header's.
                    for at in (8_192..bytes.len()).step_by(512) {
                        bytes[at] ^= 0xff;
                    }
                }
            }
            std::fs::write(&path, bytes).unwrap();
            let error = RedbStore::open(dir.path(), [2; 16], 200).map(drop);
            let error = error.expect_err(&format!("{name} {damage} should be refused")).to_string();
            assert!(
                error.contains(name) && error.contains("is damaged") && error.contains(remedy),
                "{damage}: {error}"
            );
        }
    }
}

#[test]
fn a_newer_format_is_left_alone() {
    let dir = created();
    let path = dir.path().join("roster.redb");
    let database = redb::Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(redb::TableDefinition::<&str, u64>::new("meta")).unwrap().insert("format", 9).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = RedbStore::open(dir.path(), [2; 16], 200).unwrap_err().to_string();
    assert!(error.contains("format 9 is newer than this broker's (1); run the newer version again"), "{error}");
}

#[test]
fn a_restored_roster_has_its_terms_and_a_new_epoch() {
    let dir = created();
    let (mut store, _) = open(dir.path());
    let term = StoredTerm { term: 7, seen: 5, live: true };
    store.commit(&Batch { terms: BTreeMap::from([(west(), term)]), ..Batch::default() }).unwrap();
    for used in [RedbStore::read_roster(dir.path()).map(drop), RedbStore::check_unused(dir.path())] {
        assert!(matches!(used, Err(StoreError::InUse { .. })), "{used:?}");
    }
    drop(store);
    RedbStore::check_unused(dir.path()).unwrap();
    let (roster, terms) = RedbStore::read_roster(dir.path()).unwrap();
    assert_eq!(terms, BTreeMap::from([(west(), term)]));

    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("records.redb"), "damaged").unwrap();
    RedbStore::check_unused(other.path()).unwrap();
    std::fs::remove_file(other.path().join("records.redb")).unwrap();
    RedbStore::restore(other.path(), &roster, &terms, [9; 16], 300).unwrap();
    let (_, stored) = open(other.path());
    assert_eq!((stored.roster, stored.terms, stored.epoch), (roster, terms, [9; 16]));
}
