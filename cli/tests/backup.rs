//! `hawser broker backup|restore` as an operator runs them.

#![allow(clippy::unwrap_used, reason = "test helpers, which the lint does not know for tests")]

mod lab;

use std::os::unix::fs::PermissionsExt;

use lab::{Lab, hawser, on};

#[tokio::test]
async fn what_was_backed_up_while_the_broker_ran_is_served_again() {
    let mut lab = Lab::start().await;
    let site = lab.site("west", "10.1.0.0/16");
    lab.join(&site, &lab.token("west").await, &[]).await.exits(0);
    let unused = lab.token("east").await;
    let temp = tempfile::tempdir().unwrap();
    let (file, broker) = (temp.path().join("prod.backup"), lab.admin_dir().parent().unwrap().to_owned());
    let env: &[(&str, &std::path::Path)] = &[("HAWSER_BROKER_DIR", &broker), ("HAWSER_BACKUP_FILE", &file)];

    let made = hawser(&["broker", "backup", "-o", "json"], env, "").await.exits(0).json();
    assert_eq!((&made["clusterSet"], &made["members"]), (&"prod".into(), &1.into()), "{made}");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let error = hawser(&["broker", "restore", "-o", "json", "--force"], env, "").await.exits(5).error();
    assert!(error["message"].as_str().unwrap().contains("another broker uses this directory"), "{error}");

    lab.lose_broker().await;
    let missing = temp.path().join("nothing");
    let from = ["broker", "restore", "--from", missing.to_str().unwrap()];
    let outcome = hawser(&from, env, "").await.exits(3);
    assert!(outcome.stderr.contains("name a file that `hawser broker backup` made"), "{outcome:?}");
    std::fs::write(&missing, "something else").unwrap();
    hawser(&from, env, "").await.exits(2);
    hawser(&["broker", "backup", "--out", missing.to_str().unwrap()], env, "").await.exits(3);

    let outcome = hawser(&["broker", "restore", "--admin", "second"], env, "").await.exits(0);
    assert!(outcome.stdout.starts_with("prod, roster revision ") && outcome.stdout.lines().count() == 1, "{outcome:?}");
    assert!(outcome.stderr.contains("1 join tokens may have been used since and are void"), "{outcome:?}");
    let outcome = hawser(&["broker", "restore"], env, "").await.exits(5);
    assert!(outcome.stderr.contains("replace it with --force"), "{outcome:?}");

    std::fs::rename(broker.join("roster.redb"), temp.path().join("lost")).unwrap();
    let outcome = hawser(&["broker", "serve"], env, "").await.exits(1);
    assert!(outcome.stderr.contains("hawser broker restore --dir"), "{outcome:?}");
    hawser(&["broker", "restore", "--admin", "third"], env, "").await.exits(0);

    lab.serve_again().await;
    let listed = lab.admin(&["token", "list", "-o", "json"]).await.exits(0).json();
    assert_eq!(listed[0]["usesLeft"], 0, "{listed}");
    lab.join(&lab.site("east", "10.2.0.0/16"), &unused, &[]).await.exits(4);
    // The member that was there at the time of the backup is one again: it can leave.
    on(&site, &["leave", "--timeout", "0s"], "").await.exits(0);
}
