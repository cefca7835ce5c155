//! Tokens, joining, leaving, revoking: the real command against a real broker on loopback.
#![allow(clippy::unwrap_used, reason = "test helpers, which the lint does not know for tests")]

mod lab;

use std::os::unix::fs::PermissionsExt;

use hawser_broker_client::JoinToken;
use lab::{Lab, hawser, on};

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let lab = Lab::start().await;
    let made = lab.admin(&["token", "create", "--cluster", "west", "--ttl", "1h", "--prefixes", "10.1.0.0/16"]).await;
    let made = made.exits(0);
    let token: JoinToken = made.stdout.parse().unwrap();
    assert_eq!((token.cluster_id.as_str(), made.stdout.lines().count()), ("west", 1), "only the token is on stdout");
    assert!(!made.stderr.contains(made.stdout.trim()), "{made:?}");

    let listed = lab.admin(&["token", "list", "-o", "json"]).await.exits(0).json();
    let id = listed[0]["id"].as_str().unwrap();
    assert_eq!((&listed[0]["cluster"], &listed[0]["usesLeft"]), (&"west".into(), &1.into()));
    assert_eq!(listed[0]["prefixes"][0], "10.1.0.0/16");
    assert!(lab.admin(&["token", "list"]).await.exits(0).stdout.contains(id));

    lab.admin(&["token", "revoke", id]).await.exits(0);
    let again = lab.admin(&["token", "revoke", id, "-o", "json"]).await.exits(3);
    assert_eq!(again.error()["code"], "not-found");
    let site = lab.site("west", "10.1.0.0/16");
    lab.join(&site, &made.stdout, &[]).await.exits(4);
    assert!(!site.join("secrets/broker.json").exists());
}

#[tokio::test]
async fn a_site_joins_once_and_leaves() {
    let lab = Lab::start().await;
    let site = lab.site("west", "10.1.0.0/16");
    let token = lab.token("west").await;
    let joined = lab.join(&site, &token, &["-o", "json"]).await.exits(0).json();
    assert_eq!((&joined["cluster"], &joined["clusterSet"]), (&"west".into(), &"prod".into()));
    for name in ["broker.json", "cluster.key", "cluster.crt", "ca.crt", "probe.key"] {
        let path = site.join("secrets").join(name);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let before = std::fs::read(site.join("secrets/cluster.crt")).unwrap();
    let again = lab.join(&site, &token, &[]).await.exits(0);
    assert!(again.stderr.contains("is a member of prod already"), "{again:?}");
    assert_eq!(std::fs::read(site.join("secrets/cluster.crt")).unwrap(), before);

    on(&site, &["leave", "--timeout", "5s"], "").await.exits(0);
    assert!(!site.join("secrets/broker.json").exists() && !site.join("secrets/cluster.key").exists());
    assert!(site.join("secrets/probe.key").exists() && site.join("membership.yaml").exists());
    on(&site, &["leave", "--timeout", "5s"], "").await.exits(0);
    // It is out of the roster, too: there is nobody to revoke.
    lab.admin(&["revoke", "west"]).await.exits(3);
}

#[tokio::test]
async fn what_clashes_is_a_conflict() {
    let lab = Lab::start().await;
    let west = lab.site("west", "10.1.0.0/16");
    lab.join(&west, &lab.token("west").await, &[]).await.exits(0);

    // Another's id, another's prefixes, another's token.
    let twin = lab.empty_site("twin");
    std::fs::copy(west.join("membership.yaml"), twin.join("membership.yaml")).unwrap();
    let refused = lab.join(&twin, &lab.token("west").await, &["-o", "json"]).await.exits(5);
    assert!(refused.error()["remedy"].as_str().unwrap().contains("--replace"), "{refused:?}");
    let east = lab.site("east", "10.1.7.0/24");
    let refused = lab.join(&east, &lab.token("east").await, &[]).await.exits(5);
    assert!(refused.stderr.contains("10.1.7.0/24") && refused.stderr.contains("west"), "{refused:?}");
    let refused = lab.join(&east, &lab.token("north").await, &[]).await.exits(5);
    assert!(refused.stderr.contains("spec.clusterId"), "{refused:?}");
    assert!(!east.join("secrets/broker.json").exists());

    // With --replace the twin is west, and what was west is not.
    lab.join(&twin, &lab.token("west").await, &["--replace"]).await.exits(0);
    let info = std::fs::read_to_string(twin.join("secrets/broker.json")).unwrap();
    assert!(info.contains("\"generation\": 2"), "{info}");
    let left = on(&west, &["leave", "--timeout", "0s"], "").await.exits(0);
    assert!(left.stderr.contains("does not know this member any more"), "{left:?}");
    lab.admin(&["revoke", "west"]).await.exits(0);
}

#[tokio::test]
async fn flags_stand_in_for_a_membership_manifest_but_never_overrule_one() {
    let lab = Lab::start().await;
    let site = lab.empty_site("west");
    let token = lab.token("west").await;
    let refused = lab.join(&site, &token, &[]).await.exits(2);
    assert!(refused.stderr.contains("--prefixes"), "{refused:?}");
    let flags = ["--prefixes", "10.1.0.0/16,fd00:1::/48", "--vip-prefixes", "10.250.0.0/16"];
    let refused = lab.join(&site, &token, &["--prefixes", "10.0.0.0/7"]).await.exits(2);
    assert!(refused.stderr.contains("spec.prefixes") && refused.stderr.contains("10.0.0.0/7"), "{refused:?}");
    let stale = lab.admin(&["token", "create", "--cluster", "west", "--uses", "1"]).await.exits(0).stdout;
    let forged = forge(&stale);
    lab.join(&site, &forged, &flags).await.exits(4);
    let left_behind = std::fs::read_dir(site.join("generated/cli/Membership")).map_or(0, Iterator::count);
    assert_eq!(left_behind, 0, "a join that was refused leaves no Membership");

    lab.join(&site, &token, &flags).await.exits(0);
    let status = on(&site, &["status", "-o", "json"], "").await.exits(7).json();
    assert_eq!(status["cluster"], "west");
    on(&site, &["leave", "--timeout", "5s"], "").await.exits(0);
    let written = std::fs::read_dir(site.join("generated/cli/Membership")).map_or(0, Iterator::count);
    assert_eq!(written, 0, "what join wrote is gone");

    let manifest = lab.site("east", "10.2.0.0/16");
    let refused = lab.join(&manifest, &lab.token("east").await, &flags[..2]).await.exits(5);
    assert!(refused.stderr.contains("membership.yaml"), "{refused:?}");
}

/// The same token with another secret.
fn forge(token: &str) -> String {
    let mut token: JoinToken = token.parse().unwrap();
    token.secret[0] ^= 1;
    token.reveal().to_string()
}

#[tokio::test]
async fn revoking_waits_for_the_others_and_says_who_is_missing() {
    let lab = Lab::start().await;
    for (cluster, prefix) in [("west", "10.1.0.0/16"), ("east", "10.2.0.0/16")] {
        lab.join(&lab.site(cluster, prefix), &lab.token(cluster).await, &[]).await.exits(0);
    }
    let revoked = lab.admin(&["revoke", "west", "--timeout", "300ms", "-o", "json"]).await.exits(7);
    let document = revoked.json();
    assert_eq!((&document["complete"], &document["clusters"][0]["cluster"]), (&false.into(), &"east".into()));
    assert_eq!(document["clusters"][0]["connected"], false);
    assert_eq!(revoked.error()["code"], "degraded");

    lab.admin(&["revoke", "north"]).await.exits(3);
    lab.admin(&["revoke", "east"]).await.exits(0);
    // A revoked site may join again with a new token: with a new key, as another generation.
    let west = lab.site("west", "10.1.0.0/16");
    std::fs::remove_dir_all(west.join("secrets")).unwrap();
    lab.join(&west, &lab.token("west").await, &[]).await.exits(0);
}

#[tokio::test]
async fn failures_have_their_codes_and_shapes() {
    let lab = Lab::start().await;
    let none = lab.empty_site("none");
    let env: [(&str, &std::path::Path); 1] = [("HAWSER_ADMIN_DIR", &none)];
    let missing = hawser(&["token", "list", "-o", "json"], &env, "").await.exits(3);
    assert!(missing.error()["message"].as_str().unwrap().contains("broker init"), "{missing:?}");
    let usage = hawser(&["token", "create", "-o", "json"], &env, "").await.exits(2);
    assert_eq!(usage.error()["code"], "usage");
    assert!(hawser(&["export", "web", "--site", "x"], &[], "").await.exits(2).stderr.contains("namespace/name"));
    hawser(&["status", "--site", "/nowhere/at/all"], &[], "").await.exits(3);
    assert!(hawser(&["--help"], &[], "").await.exits(0).stdout.contains("Exit codes"));
    let site = lab.site("west", "10.1.0.0/16");
    let garbage = lab.join(&site, "not a token", &[]).await.exits(2);
    assert!(garbage.stderr.contains("hawser1."), "{garbage:?}");

    // Nobody at the broker's address: the identity stays unless that is forced.
    lab.join(&site, &lab.token("west").await, &[]).await.exits(0);
    let info = site.join("secrets/broker.json");
    let text = std::fs::read_to_string(&info).unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let start = text.find("127.0.0.1:").unwrap();
    let end = start + text[start..].find('"').unwrap();
    std::fs::write(&info, format!("{}{closed}{}", &text[..start], &text[end..])).unwrap();
    let refused = on(&site, &["leave", "--timeout", "0s"], "").await.exits(1);
    assert!(refused.stderr.contains("--force") && refused.stderr.contains(&closed.to_string()), "{refused:?}");
    assert!(info.exists());
    let left = on(&site, &["leave", "--timeout", "0s", "--force"], "").await.exits(0);
    assert!(left.stderr.contains("hawser revoke"), "{left:?}");
    assert!(!info.exists());
}
