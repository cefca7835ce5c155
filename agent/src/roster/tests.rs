use std::sync::Arc;
use std::time::SystemTime;

use hawser_broker_client::MemberInfo;
use hawser_broker_pki::Ca;
use hawser_model::ClusterId;

use super::*;

fn ca() -> Ca {
    Ca::create("fleet", SystemTime::now()).unwrap()
}

fn identity(ca: &Ca) -> MemberIdentity {
    let key = hawser_broker_pki::csr::generate_key().unwrap();
    MemberIdentity {
        info: MemberInfo {
            cluster_set: "fleet".into(),
            cluster_id: ClusterId::new("west").unwrap(),
            generation: 1,
            brokers: Vec::new(),
            namespaces: Vec::new(),
        },
        ca: ca.certificate().clone(),
        chain: Vec::new(),
        key: Arc::new(key.serialize_der().into()),
    }
}

fn signed(ca: &Ca, set: &str, revision: u64) -> v1::SignedRoster {
    let roster = v1::Roster { cluster_set: set.into(), revision, ..v1::Roster::default() }.encode_to_vec();
    v1::SignedRoster { signature: ca.sign_roster(&roster).unwrap(), roster }
}

fn revision(keeper: &Keeper) -> Option<u64> {
    keeper.roster().map(|r| r.revision)
}

#[test]
fn only_higher_signed_rosters_of_this_set_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, other) = (ca(), ca());
    let me = identity(&ca);
    let paths = vec![dir.path().join("a"), dir.path().join("b")];
    let mut keeper = Keeper::load(paths.clone(), &me);
    assert_eq!(revision(&keeper), None);
    assert_eq!(keeper.offer(signed(&ca, "fleet", 5), &me), Outcome::Taken);
    assert_eq!(keeper.offer(signed(&ca, "fleet", 5), &me), Outcome::Known);
    let refused = [signed(&ca, "fleet", 4), signed(&other, "fleet", 9), signed(&ca, "navy", 9), {
        let mut cut = signed(&ca, "fleet", 9);
        cut.roster.push(0);
        cut
    }];
    for bad in refused {
        let outcome = keeper.offer(bad, &me);
        assert!(matches!(&outcome, Outcome::Refused(why) if !why.is_empty()), "{outcome:?}");
    }
    assert_eq!(revision(&keeper), Some(5));
    assert_eq!(keeper.offer(signed(&ca, "fleet", 6), &me), Outcome::Taken);
    assert_eq!(revision(&Keeper::load(paths.clone(), &me)), Some(6), "it survives a restart");
    // Either place suffices, and the higher one counts.
    std::fs::write(&paths[0], signed(&ca, "fleet", 3).encode_to_vec()).unwrap();
    assert_eq!(revision(&Keeper::load(paths.clone(), &me)), Some(6));
    std::fs::write(&paths[1], b"garbage").unwrap();
    assert_eq!(revision(&Keeper::load(paths.clone(), &me)), Some(3));
    assert_eq!(revision(&Keeper::load(paths, &identity(&other))), None, "another set's rosters mean nothing");
}
