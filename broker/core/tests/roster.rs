//! Joining, leaving, revoking, claiming: every refusal in words, and nothing changed by one.

mod common;

use common::*;
use hawser_broker_core::{Code, Core, Event, Grant, Hash, How, JoinRequest, Limits, Roster, TokenRequest, TokenSeed};
use proptest::prelude::*;

/// Runs `attempt` and checks that it changed nothing.
fn unchanged<T>(core: &mut Core, attempt: impl FnOnce(&mut Core) -> T) -> T {
    core.take_batch();
    core.take_events();
    let before = core.roster().clone();
    let result = attempt(core);
    assert_eq!(core.roster(), &before);
    assert!(core.take_batch().is_empty(), "something was to be stored");
    assert_eq!(core.take_events(), []);
    result
}

#[test]
fn a_token_admits_its_cluster_once_and_repeats_its_answer() {
    let mut core = empty(Limits::default());
    let secret = token(&mut core, "west", Grant { namespaces: vec!["shop".into()], ..Grant::default() }, 1);
    let object = core.roster().tokens().next().unwrap().object();
    let joined = join_with(&mut core, "west", &secret, "k1", &["10.1.0.0/16"]).unwrap();
    assert_eq!((joined.generation, joined.changed, joined.namespaces.as_slice()), (1, true, &["shop".to_owned()][..]));
    let again = unchanged(&mut core, |core| join_with(core, "west", &secret, "k1", &["10.1.0.0/16"])).unwrap();
    assert_eq!((again.generation, again.changed), (1, false));
    refused(
        unchanged(&mut core, |core| join_with(core, "west", &secret, "k2", &["10.1.0.0/16"])),
        &object,
        "uses",
        "as often as it may",
        "hawser token create --cluster west",
    );
}

#[test]
fn tokens_that_admit_nobody() {
    let mut core = empty(Limits::default());
    let secret = token(&mut core, "west", Grant::default(), 1);
    let object = core.roster().tokens().next().unwrap().object();
    refused(
        unchanged(&mut core, |core| join_with(core, "west", &[1; 32], "k", &[])),
        "token",
        "secret",
        "no token of this cluster set",
        "hawser token create --cluster west",
    );
    refused(
        unchanged(&mut core, |core| join_with(core, "east", &secret, "k", &[])),
        &object,
        "cluster",
        "admits cluster west, not east",
        "hawser token create --cluster east",
    );
    let (cluster, claims) = (id("west"), set(&[]));
    let request = JoinRequest { cluster: &cluster, secret: &secret, key: key_of("k"), replace: false, claims: &claims };
    refused(
        unchanged(&mut core, |core| core.join(&request, at(3600))),
        &object,
        "expires",
        "expired 0 s ago",
        "hawser token create --cluster west",
    );
    core.revoke_token(object.trim_start_matches("token ")).unwrap();
    refused(
        unchanged(&mut core, |core| join_with(core, "west", &secret, "k", &[])),
        "token",
        "secret",
        "no token of this cluster set",
        "",
    );
}

#[test]
fn an_id_in_use_is_taken_over_only_on_demand() {
    let mut core = empty(Limits::default());
    join(&mut core, "west", &["10.1.0.0/16"]);
    let stream = open(&mut core, "west", &[]).stream;
    put(&mut core, stream, gateway("gw", 1)).unwrap();
    let secret = token(&mut core, "west", Grant::default(), 1);
    refused(
        unchanged(&mut core, |core| join_with(core, "west", &secret, "other", &["10.1.0.0/16"])),
        "cluster west",
        "id",
        "another identity holds this id (generation 1)",
        "--replace",
    );
    let (cluster, claims) = (id("west"), set(&["10.1.0.0/16"]));
    let request =
        JoinRequest { cluster: &cluster, secret: &secret, key: key_of("other"), replace: true, claims: &claims };
    core.take_events();
    assert_eq!(core.join(&request, at(1)).unwrap().generation, 2);
    let ended = core.take_events().into_iter().find_map(|e| match e {
        Event::End { stream, reason } => Some((stream, reason)),
        _ => None,
    });
    let (ended, reason) = ended.expect("the old stream ends");
    assert_eq!(ended, stream);
    assert!(reason.rule.contains("another identity holds this id since generation 2"), "{reason}");
    assert_eq!(core.records().count(), 0, "records of the old generation go");
    refused(
        core.roster().authenticate(&cluster, &key_of("west")),
        "cluster west",
        "identity",
        "generation 2",
        "--replace",
    );
    assert_eq!(core.roster().public().revoked, [(cluster, 1)]);
}

#[test]
fn a_revoked_cluster_stays_out() {
    let mut core = empty(Limits::default());
    join(&mut core, "west", &["10.1.0.0/16"]);
    join(&mut core, "east", &["10.2.0.0/16"]);
    let spare = token(&mut core, "west", Grant::default(), 5);
    let before = core.roster().revision();
    assert_eq!(core.revoke_cluster(&id("west")).unwrap(), before + 1);
    refused(
        core.roster().authenticate(&id("west"), &key_of("west")),
        "cluster west",
        "identity",
        "generation 1 was revoked by an administrator",
        "new token",
    );
    refused(join_with(&mut core, "west", &spare, "west", &[]), "token", "secret", "no token", "");
    assert_eq!(core.revoke_cluster(&id("west")).unwrap(), before + 1, "asking again changes nothing");
    let fresh = token(&mut core, "west", Grant::default(), 1);
    refused(
        unchanged(&mut core, |core| join_with(core, "west", &fresh, "west", &[])),
        "cluster west",
        "key",
        "generation 1 was revoked with this key",
        "cluster.key",
    );
    assert_eq!(join_with(&mut core, "west", &fresh, "fresh", &[]).unwrap().generation, 2);
    refused(core.revoke_cluster(&id("north")), "cluster north", "id", "no member", "");
}

#[test]
fn claims_have_rules() {
    let mut core = empty(Limits::default());
    join(&mut core, "west", &["10.1.0.0/16", "fd00:1::/48"]);
    join(&mut core, "east", &["10.2.0.0/16"]);
    let stream = open(&mut core, "east", &[]).stream;
    for (claim, rule) in [
        ("0.0.0.0/0", "default route"),
        ("::/0", "default route"),
        ("10.0.0.0/7", "wider than /8"),
        ("fc00::/16", "wider than /32"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/8", "multicast"),
    ] {
        refused(
            unchanged(&mut core, |core| core.claim(stream, &set(&[claim]), at(2))),
            "cluster east",
            "prefixes",
            rule,
            "",
        );
    }
    for (claim, theirs) in
        [("10.1.4.0/24", "10.1.0.0/16"), ("10.0.0.0/8", "10.1.0.0/16"), ("fd00:1:0:4::/64", "fd00:1::/48")]
    {
        let result = unchanged(&mut core, |core| core.claim(stream, &set(&[claim]), at(2)));
        assert_eq!(result.as_ref().unwrap_err().code, Code::Conflict);
        refused(result, "cluster east", "prefixes", &format!("{theirs} of cluster \"west\""), "no other cluster");
    }
    let revision = core.roster().revision();
    assert!(core.claim(stream, &set(&["10.3.0.0/16"]), at(2)).unwrap());
    assert!(!core.claim(stream, &set(&["10.3.0.0/16"]), at(2)).unwrap());
    assert_eq!(core.roster().revision(), revision + 1);
}

#[test]
fn a_token_bounds_what_is_claimed() {
    let mut core = empty(Limits::default());
    let grant = Grant { prefixes: set(&["10.4.0.0/16"]), ..Grant::default() };
    let secret = token(&mut core, "west", grant, 1);
    refused(
        unchanged(&mut core, |core| join_with(core, "west", &secret, "west", &["10.5.0.0/24"])),
        "cluster west",
        "prefixes",
        "not inside 10.4.0.0/16",
        "--prefixes",
    );
    join_with(&mut core, "west", &secret, "west", &["10.4.8.0/24"]).unwrap();
}

#[test]
fn tokens_have_rules() {
    let mut roster = Roster::new("demo");
    let seed = TokenSeed { id: [1; 5], secret: [2; 32] };
    let request = |ttl, uses, namespaces: &[&str]| TokenRequest {
        cluster: id("west"),
        ttl,
        uses,
        grant: Grant { namespaces: namespaces.iter().map(|n| (*n).to_owned()).collect(), ..Grant::default() },
        created_by: "root".into(),
    };
    for (wrong, field) in [
        (request(0, 1, &[]), "ttl"),
        (request(u32::MAX, 1, &[]), "ttl"),
        (request(60, 0, &[]), "uses"),
        (request(60, 1, &["A"]), "namespaces"),
    ] {
        refused(roster.create_token(wrong, &seed, START), "token for cluster west", field, "", "");
    }
    let made = roster.create_token(request(60, 1, &[]), &seed, START).unwrap();
    assert_eq!((made.id.as_str(), made.expires), ("0101010101", START + 60));
    assert_eq!(made.secret, Hash::of(&[2; 32]), "the secret itself is not kept");
    refused(roster.revoke_token("nope"), "token nope", "id", "no such token", "token list");
}

#[test]
fn a_restored_roster_continues_above_what_members_saw() {
    let mut backup = Roster::new("demo");
    let seed = TokenSeed { id: [1; 5], secret: [2; 32] };
    let request =
        TokenRequest { cluster: id("west"), ttl: 60, uses: 1, grant: Grant::default(), created_by: "root".into() };
    backup.create_token(request, &seed, START).unwrap();
    let (west, claims) = (id("west"), set(&["10.1.0.0/16"]));
    let join = JoinRequest { cluster: &west, secret: &[2; 32], key: key_of("west"), replace: false, claims: &claims };
    backup.join(&join, START).unwrap();
    let mut newer = backup.clone();
    newer.depart(&west, How::Revoked).unwrap();
    let seen = newer.public();

    let mut forged = seen.clone();
    forged.set = "other".into();
    assert!(backup.clone().adopt(&forged).is_empty());
    assert_eq!(backup.adopt(&seen), std::slice::from_ref(&west));
    assert_eq!(backup.revision(), seen.revision + 1);
    assert!(backup.member(&west).is_none());
    let after = backup.clone();
    assert!(backup.adopt(&seen).is_empty() && backup == after, "what is known already changes nothing");
    let own = after.public();
    assert!(backup.adopt(&own).is_empty() && backup == after, "the own roster changes nothing");
}

/// A member, and a roster from before and after something happened to it.
fn with_member(name: &str, uses: u32) -> Roster {
    let mut roster = Roster::new("demo");
    let seed = TokenSeed { id: [1; 5], secret: [2; 32] };
    let request = TokenRequest { cluster: id(name), ttl: 60, uses, grant: Grant::default(), created_by: "root".into() };
    roster.create_token(request, &seed, START).expect("a valid request");
    roster
}

fn join_again(roster: &mut Roster, name: &str, prefix: &str) -> Result<u64, hawser_broker_core::Refusal> {
    let (cluster, claims) = (id(name), set(&[prefix]));
    let join = JoinRequest { cluster: &cluster, secret: &[2; 32], key: key_of(name), replace: false, claims: &claims };
    roster.join(&join, START).map(|joined| joined.generation)
}

#[test]
fn a_revocation_counts_also_when_the_restored_roster_has_moved_on() {
    let mut backup = with_member("west", 1);
    join_again(&mut backup, "west", "10.1.0.0/16").unwrap();
    let mut newer = backup.clone();
    newer.depart(&id("west"), How::Revoked).unwrap();
    let seen = newer.public();
    for n in 0..5 {
        // The revoked cluster is a member again and changes its claims before anybody else comes back.
        backup.claim(&id("west"), &set(&[&format!("10.1.{n}.0/24")])).unwrap();
    }
    let before = backup.revision();
    assert!(before > seen.revision);
    assert_eq!(backup.adopt(&seen), [id("west")]);
    assert!(backup.member(&id("west")).is_none() && backup.revision() > before);
}

#[test]
fn two_rosters_of_one_revision_are_both_passed() {
    let backup = with_member("west", 1);
    let (mut before, mut after) = (backup.clone(), backup);
    join_again(&mut before, "west", "10.1.0.0/16").unwrap();
    after.depart(&id("west"), How::Left).unwrap_err();
    join_again(&mut after, "west", "10.2.0.0/16").unwrap();
    let seen = before.public();
    assert_eq!(seen.revision, after.revision());
    assert!(after.adopt(&seen).is_empty());
    assert_eq!(after.revision(), seen.revision + 1, "whoever holds the other one takes this one");
    let settled = after.clone();
    assert!(after.adopt(&seen).is_empty() && after == settled);
}

#[test]
fn a_token_that_a_revoked_cluster_used_does_not_come_back() {
    let mut backup = with_member("west", 1);
    let mut newer = backup.clone();
    join_again(&mut newer, "west", "10.1.0.0/16").unwrap();
    newer.depart(&id("west"), How::Revoked).unwrap();
    let mut kept = backup.clone();
    kept.adopt(&newer.public());
    let error = join_again(&mut kept, "west", "10.1.0.0/16").unwrap_err();
    assert_eq!(error.field, "secret", "{error}");

    assert_eq!(backup.void_tokens(), 1);
    let error = join_again(&mut backup, "west", "10.1.0.0/16").unwrap_err();
    assert_eq!(error.field, "uses", "{error}");
    assert_eq!(newer.void_tokens(), 0);
}

#[test]
fn claims_are_bounded_so_that_every_roster_fits_into_a_message() {
    let many = |n: u32| (0..n).map(|i| format!("fd00:{:x}:{:x}::/48", i / 65_536, i % 65_536)).collect::<Vec<_>>();
    let own: Vec<_> = many(513);
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let mut roster = with_member("west", 1);
    join_again(&mut roster, "west", "10.1.0.0/16").unwrap();
    refused(
        roster.claim(&id("west"), &set(&own)),
        "cluster west",
        "prefixes",
        "513 prefixes; at most 512",
        "aggregates",
    );
    roster.claim(&id("west"), &set(&own[..512])).unwrap();

    // The longest a prefix can be as text, with its tag and length.
    let longest = "fd00:1111:1111:1111:1111:1111:1111:1111/128".len() + 2;
    let (claims, members) = (hawser_broker_core::claims::MAX_ALL_CLAIMS, hawser_broker_core::membership::MAX_MEMBERS);
    assert!(claims * longest + 2 * members * 80 < 4 << 20);
}

#[test]
fn only_a_key_on_record_is_an_administrator() {
    let mut roster = Roster::new("demo");
    roster.add_admin("root", key_of("a"), START);
    assert!(roster.is_admin("root", &key_of("a")));
    assert!(!roster.is_admin("root", &key_of("b")) && !roster.is_admin("other", &key_of("a")));
}

fn some_claims() -> impl Strategy<Value = Vec<String>> {
    let v4 = (0u8..4, 0u8..4, 8u8..25).prop_map(|(a, b, len)| format!("10.{}.0.0/{len}", a * 64 + b));
    let v6 = (0u16..8, 32u8..65).prop_map(|(a, len)| format!("fd00:{a:x}::/{len}"));
    prop::collection::vec(prop_oneof![v4, v6], 0..4)
}

proptest! {
    /// Whatever is asked for, in whatever order: no two members ever share an address.
    #[test]
    fn claims_never_overlap(steps in prop::collection::vec((0usize..5, some_claims(), any::<bool>()), 1..40)) {
        let mut core = empty(Limits::default());
        for (n, claims, leave) in steps {
            let name = format!("c{n}");
            let claims: hawser_model::PrefixSet =
                claims.iter().map(|c| c.parse::<ipnet::IpNet>().unwrap()).collect();
            if core.roster().member(&id(&name)).is_none() {
                let secret = token(&mut core, &name, Grant::default(), 1);
                let cluster = id(&name);
                let request = JoinRequest { cluster: &cluster, secret: &secret, key: key_of(&name), replace: false, claims: &claims };
                let _ = core.join(&request, at(1));
            } else if leave {
                core.leave(&id(&name), &key_of(&name)).unwrap();
            } else {
                let stream = open(&mut core, &name, &[]).stream;
                let _ = core.claim(stream, &claims, at(1));
            }
            let members: Vec<_> = core.roster().members().collect();
            for (i, (a, x)) in members.iter().enumerate() {
                for (b, y) in &members[i + 1..] {
                    prop_assert_eq!(x.claims.overlap(&y.claims), None, "{} and {}", a, b);
                }
            }
        }
    }
}
