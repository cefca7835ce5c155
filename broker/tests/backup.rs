//! Backup and restore: what comes back, what stays revoked, what is refused.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::*;
use hawser_broker::{BackupArgs, RestoreArgs, Restored};
use hawser_broker_client::{AdminDir, member};
use hawser_proto::v1;
use tonic::Code;

fn backup_args(dir: &Path, out: &Path) -> BackupArgs {
    BackupArgs { dir: dir.to_owned(), out: out.to_owned() }
}

fn restore_args(dir: &Path, from: &Path) -> RestoreArgs {
    RestoreArgs { dir: dir.to_owned(), from: from.to_owned(), force: false, keep_tokens: false, admin: None }
}

fn restore(dir: &Path, from: &Path) -> anyhow::Result<Restored> {
    hawser_broker::restore(&restore_args(dir, from))
}

/// Every file below a directory with its bytes; sockets aside, and databases without theirs: opening one changes some.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(tree(&path));
        } else if path.is_file() {
            let database = path.extension().is_some_and(|e| e == "redb");
            all.insert(path.clone(), if database { Vec::new() } else { std::fs::read(&path).unwrap() });
        }
    }
    all
}

fn all_are_private(dir: &Path) {
    for path in tree(dir).keys() {
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", path.display());
    }
}

/// A set whose members are west, east and north, a backup of it (the broker running), and a token it holds unused.
struct Story {
    broker: Broker,
    file: PathBuf,
    west: hawser_broker_client::MemberIdentity,
    east: hawser_broker_client::MemberIdentity,
    unused: hawser_broker_client::JoinToken,
    _temp: tempfile::TempDir,
}

impl Story {
    async fn begin() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("prod.backup");
        let broker = Broker::start().await;
        let (west, east) = (broker.join("west", &["10.1.0.0/16"]).await, broker.join("east", &["10.2.0.0/16"]).await);
        let unused = broker.token(for_cluster("south")).await;
        let saved = hawser_broker::backup(&backup_args(&broker.dir, &file)).await.unwrap();
        assert_eq!((saved.set.as_str(), saved.members), ("demo", 2));
        Self { broker, file, west, east, unused, _temp: temp }
    }

    /// Revokes west; the roster that east saw then.
    async fn revoke_west(&self) -> v1::SignedRoster {
        let mut agent = Agent::open(&self.east, &[]).await;
        let revoke = v1::RevokeClusterRequest { cluster_id: "west".into() };
        self.broker.admin().await.revoke_cluster(revoke).await.unwrap();
        agent.until("the revocation", |a| a.roster.is_some() && a.roster().members.len() == 1).await;
        agent.roster.unwrap()
    }

    /// Loses everything and restores it at the same address.
    async fn wipe_and_restore(&mut self) -> Restored {
        self.broker.stop().await;
        std::fs::remove_dir_all(&self.broker.dir).unwrap();
        let restored = restore(&self.broker.dir, &self.file).unwrap();
        self.broker.restart().await;
        restored
    }
}

#[tokio::test]
async fn a_cluster_revoked_after_the_backup_stays_revoked() {
    let mut story = Story::begin().await;
    assert_eq!(story.file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let seen = story.revoke_west().await;
    let seen_revision = hawser_proto::Roster::decode(&seen.roster).unwrap().revision;
    join_with(&story.unused, &["10.4.0.0/16"]).await.unwrap();
    let restored = story.wipe_and_restore().await;
    assert_eq!((restored.void_tokens, restored.replaced, restored.saved.members), (1, None, 2));
    all_are_private(&story.broker.dir);

    let (west, east) = (&story.west, &story.east);
    let mut first = hello(east, &[]);
    first.highest_roster = Some(seen);
    let mut agent = Agent::open_with(east, first).await.unwrap();
    agent.until("a higher revision", |a| a.roster.is_some() && a.roster().revision > seen_revision).await;
    assert_eq!(agent.roster().members.len(), 1, "{:?}", agent.roster());
    agent.put(gateway("gw-1", 1)).await.unwrap();
    agent.complete().await;
    member::renew(east).await.unwrap();

    let status = Agent::open_with(west, hello(west, &[])).await.map(drop).unwrap_err();
    says(&status, Code::Unauthenticated, "cluster west", "identity", "revoked", "new token");
    says(
        &refused(member::renew(west).await),
        Code::Unauthenticated,
        "cluster west",
        "identity",
        "revoked",
        "new token",
    );
    let again = refused(join_with(&story.unused, &["10.4.0.0/16"]).await);
    assert_eq!(again.code(), Code::Unauthenticated, "a token that was used after the backup: {again:?}");

    // Nor does it come back with a restart, or with the same roster presented again.
    let highest = agent.roster.clone();
    let revision = agent.roster().revision;
    drop(agent);
    story.broker.stop().await;
    story.broker.restart().await;
    let mut again = hello(&story.east, &[]);
    again.highest_roster = highest;
    let mut agent = Agent::open_with(&story.east, again).await.unwrap();
    agent.until("the roster", |a| a.roster.is_some()).await;
    assert_eq!((agent.roster().revision, agent.roster().members.len()), (revision, 1), "the own roster is no news");
}

#[tokio::test]
async fn a_revoked_cluster_that_comes_back_first_can_not_outrun_its_revocation() {
    let mut story = Story::begin().await;
    let seen = story.revoke_west().await;
    let seen_revision = hawser_proto::Roster::decode(&seen.roster).unwrap().revision;
    story.wipe_and_restore().await;

    let mut west = Agent::open(&story.west, &[]).await;
    let mut n = 0u8;
    while west.roster.is_none() || west.roster().revision <= seen_revision + 3 {
        n += 1;
        let prefixes = vec![format!("10.1.{n}.0/24")];
        west.write(|sequence| v1::sync_request::Message::Claim(v1::Claim { sequence, prefixes })).await.unwrap();
    }
    let highest = west.roster().revision;
    let mut first = hello(&story.east, &[]);
    first.highest_roster = Some(seen);
    let mut east = Agent::open_with(&story.east, first).await.unwrap();
    let status = west.until_ended().await;
    says(&status, Code::Unauthenticated, "cluster west", "identity", "revoked", "new token");
    east.until("the roster without west", |a| a.roster.is_some() && a.roster().members.len() == 1).await;
    assert!(east.roster().revision > highest, "who took west's roster takes this one");
}

#[tokio::test]
async fn a_stopped_broker_is_backed_up_and_restored_alike() {
    let mut broker = Broker::start().await;
    let west = broker.join("west", &["10.1.0.0/16"]).await;
    let out = tempfile::tempdir().unwrap();
    let (running, stopped) = (out.path().join("running"), out.path().join("stopped"));
    let term = Agent::open(&west, &[]).await.welcome.term;
    until("the stream's end", || async { !broker.clusters().await[0].connected }).await;
    let one = hawser_broker::backup(&backup_args(&broker.dir, &running)).await.unwrap();
    broker.stop().await;
    assert!(!broker.dir.join("backup.sock").exists());
    let two = hawser_broker::backup(&backup_args(&broker.dir, &stopped)).await.unwrap();
    assert_eq!((one.set, one.revision, one.members), (two.set, two.revision, two.members));

    std::fs::remove_dir_all(&broker.dir).unwrap();
    let mut args = restore_args(&broker.dir, &running);
    args.admin = Some("second".into());
    let restored = hawser_broker::restore(&args).unwrap();
    all_are_private(&broker.dir);
    broker.restart().await;
    let mut admin = AdminDir::new(restored.admin_dir.unwrap()).load().unwrap();
    admin.brokers = vec![broker.address()];
    let listed = admin.connect().await.unwrap().list_clusters(v1::ListClustersRequest {}).await.unwrap().into_inner();
    assert_eq!((admin.name.as_str(), listed.clusters.len()), ("second", 1));
    assert!(Agent::open(&west, &[]).await.welcome.term > term, "terms only grow");
}

#[tokio::test]
async fn nothing_is_overwritten_without_being_asked_for() {
    let mut story = Story::begin().await;
    let (dir, file) = (story.broker.dir.clone(), story.file.clone());
    let mut force = restore_args(&dir, &file);
    force.force = true;
    let error = format!("{:#}", hawser_broker::restore(&force).unwrap_err());
    assert!(error.contains("another broker uses this directory; stop it first"), "{error}");
    // Also one whose files were taken from under it.
    let hidden = dir.with_extension("hidden");
    std::fs::create_dir(&hidden).unwrap();
    for name in ["roster.redb", "records.redb"] {
        std::fs::rename(dir.join(name), hidden.join(name)).unwrap();
    }
    let error = format!("{:#}", restore(&dir, &file).unwrap_err());
    assert!(error.contains("backup.sock: another broker uses this directory"), "{error}");
    for name in ["roster.redb", "records.redb"] {
        std::fs::rename(hidden.join(name), dir.join(name)).unwrap();
    }
    story.broker.stop().await;

    let before = tree(&dir);
    let error = restore(&dir, &file).unwrap_err();
    assert!(error.downcast_ref::<hawser_broker::InTheWay>().is_some(), "{error:#}");
    assert!(error.to_string().contains("a roster (roster.redb) is there already"), "{error}");
    assert!(tree(&dir) == before, "{:?}", tree(&dir).keys());

    let restored = hawser_broker::restore(&force).unwrap();
    let aside = restored.replaced.unwrap();
    for name in ["roster.redb", "records.redb", "ca.key", "ca.crt", "broker.json"] {
        assert!(tree(&aside)[&aside.join(name)] == before[&dir.join(name)], "{name} is kept");
    }
    assert!(dir.join("admin/admin.key").exists(), "administrators stay");
    all_are_private(&dir);

    // A lost roster, and a restore that was interrupted before it put the roster in place: no force is needed.
    for lost in [&["roster.redb"][..], &["roster.redb", "records.redb", "ca.crt"]] {
        for name in lost {
            std::fs::remove_file(dir.join(name)).unwrap();
        }
        restore(&dir, &file).unwrap();
    }
    // Another set's directory.
    std::fs::remove_file(dir.join("roster.redb")).unwrap();
    let other = init();
    for name in ["ca.key", "ca.crt"] {
        std::fs::copy(other.path().join("broker").join(name), dir.join(name)).unwrap();
    }
    let error = restore(&dir, &file).unwrap_err().to_string();
    assert!(error.contains("another CA (ca.key, ca.crt) is there already"), "{error}");
}

#[tokio::test]
async fn a_damaged_backup_changes_nothing() {
    let story = Story::begin().await;
    let good = std::fs::read(&story.file).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let (dir, file) = (temp.path().join("broker"), temp.path().join("file"));
    let try_bytes = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let error = restore(&dir, &file).expect_err("it should be refused");
        assert!(error.downcast_ref::<hawser_broker::BackupError>().is_some(), "{error:#}");
        assert!(!dir.exists(), "nothing is made");
        error.to_string()
    };
    for at in (0..good.len()).step_by(97) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let error = try_bytes(&bytes);
        let named = ["no backup of a broker", "is damaged", "it has format"].iter().any(|rule| error.contains(rule));
        assert!(named && !error.contains("PRIVATE KEY"), "byte {at}: {error}");
        assert!(try_bytes(&good[..at]).contains("file:"), "{at} bytes");
    }
    let longer = [&good[..], b"\n"].concat();
    assert!(try_bytes(&longer).contains("its checksum does not match"));
    let newer = String::from_utf8(good.clone()).unwrap().replacen("backup 1", "backup 2", 1);
    let error = try_bytes(newer.as_bytes());
    assert!(error.contains("it has format 2, and this version reads 1; restore it with"), "{error}");
    let missing = restore(&dir, Path::new("/nonexistent")).unwrap_err();
    assert!(missing.downcast_ref::<hawser_broker::BackupError>().is_some_and(|e| e.missing), "{missing:#}");

    // What can't be restored is not backed up either.
    let mixed = init();
    for name in ["ca.key", "ca.crt"] {
        std::fs::copy(story.broker.dir.join(name), mixed.path().join("broker").join(name)).unwrap();
    }
    std::fs::copy(story.broker.dir.join("ca.key"), mixed.path().join("broker/ca.crt")).unwrap();
    let out = temp.path().join("mixed");
    let error = hawser_broker::backup(&backup_args(&mixed.path().join("broker"), &out)).await.unwrap_err();
    assert!(error.to_string().contains("PEM certificates") && !out.exists(), "{error:#}");
    std::fs::write(&file, &good).unwrap();
    restore(&dir, &file).unwrap();
}

#[tokio::test]
async fn without_a_cluster_set_there_is_nothing_to_back_up() {
    let temp = tempfile::tempdir().unwrap();
    let error = hawser_broker::backup(&backup_args(temp.path(), &temp.path().join("out"))).await.unwrap_err();
    assert!(error.to_string().contains("there is no cluster set here"), "{error:#}");
    assert_eq!(tree(temp.path()), BTreeMap::new());
}
