//! The real process: killed, wiped, started again.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::*;
use hawser_broker_client::{AdminDir, JoinToken, MemberIdentity};
use hawser_proto::v1;

/// The process, killed when dropped.
struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(dir: &Path, listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser-broker"));
    command.env_clear().args(["--log-format", "json", "serve", "--listen", listen, "--dir"]).arg(dir);
    command.stderr(Stdio::piped()).stdout(Stdio::null()).stdin(Stdio::null());
    command
}

impl Process {
    /// Starts it and reads from its log where it listens.
    async fn start(dir: &Path, listen: &str) -> Self {
        let mut child = command(dir, listen).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let addr = tokio::task::spawn_blocking(move || {
            let mut seen = String::new();
            let addr = loop {
                let mut line = String::new();
                assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it served:\n{seen}");
                if let Some((_, rest)) = line.split_once("\"addresses\":\"[") {
                    break rest.split(']').next().unwrap().parse().unwrap();
                }
                seen += &line;
            };
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            addr
        });
        let addr = addr.await.unwrap();
        Self { child, addr }
    }

    /// `kill -9`.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn join(&self, dir: &Path, cluster: &str, prefix: &str) -> MemberIdentity {
        let mut admin = AdminDir::new(dir.join("admin")).load().unwrap();
        admin.brokers = vec![self.addr.to_string().parse().unwrap()];
        let made = admin.connect().await.unwrap().create_token(for_cluster(cluster)).await.unwrap().into_inner();
        let token = JoinToken {
            brokers: admin.brokers.clone(),
            ca_pin: admin.ca_pin().unwrap(),
            cluster_id: cluster.parse().unwrap(),
            secret: made.secret.into(),
        };
        join_with(&token, &[prefix]).await.unwrap()
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let temp = init();
    let dir = temp.path().join("broker");
    let process = Process::start(&dir, "127.0.0.1:0").await;
    let (addr, mut kept) = (process.addr.to_string(), 0);
    let west = process.join(&dir, "west", "10.1.0.0/16").await;
    let mut agent = Agent::open(&west, &[]).await;
    let mut process = Some(process);
    for round in 0..3u8 {
        for n in 0..20u8 {
            let n = round * 20 + n;
            agent.put(gateway(&format!("gw-{n}"), n + 1)).await.unwrap();
            kept += 1;
        }
        process.take().unwrap().kill();
        let again = Process::start(&dir, &addr).await;
        agent = Agent::open(&west, &[]).await;
        assert_eq!(agent.welcome.term, u64::from(round) + 2, "terms are durable");
        let east = again.join(&dir, &format!("reader-{round}"), &format!("10.2{round}.0.0/16")).await;
        let mut reader = Agent::open(&east, &[]).await;
        reader.until_synced().await;
        assert_eq!(reader.view.len(), kept, "every acknowledged write is there");
        process = Some(again);
    }
}

#[tokio::test]
async fn lost_records_remove_nothing_and_a_lost_roster_stops_the_start() {
    let temp = init();
    let dir = temp.path().join("broker");
    let process = Process::start(&dir, "127.0.0.1:0").await;
    let addr = process.addr.to_string();
    let (west, east) =
        (process.join(&dir, "west", "10.1.0.0/16").await, process.join(&dir, "east", "10.2.0.0/16").await);
    let south = process.join(&dir, "south", "10.3.0.0/16").await;
    let mut writers = [Agent::open(&west, &[]).await, Agent::open(&south, &[]).await];
    for (n, writer) in (0u8..).zip(&mut writers) {
        writer.put(gateway("gw-1", 10 * n + 1)).await.unwrap();
        writer.put(gateway("gw-2", 10 * n + 2)).await.unwrap();
        writer.complete().await;
    }
    let mut reader = Agent::open(&east, &[]).await;
    reader.until("all", |a| a.view.len() == 4 && a.synced.as_ref().is_some_and(|s| s.count == 4)).await;
    let (epoch, held, revision) =
        (reader.welcome.epoch.clone(), reader.view.clone(), reader.synced.as_ref().unwrap().revision);
    process.kill();
    std::fs::remove_file(dir.join("records.redb")).unwrap();

    let process = Process::start(&dir, &addr).await;
    let mut hello = hello(&east, &[]);
    hello.resume = Some(v1::Resume { epoch: epoch.clone(), revision });
    let mut reader = Agent::open_with(&east, hello).await.unwrap();
    reader.view = held;
    assert_ne!(reader.welcome.epoch, epoch, "a new epoch");
    reader.until_synced().await;
    assert_eq!((reader.snapshots, reader.view.len()), (1, 4), "nothing vanished");
    assert_eq!(reader.synced.as_ref().unwrap().incomplete, ["south", "west"]);
    let mut writer = Agent::open(&west, &[]).await;
    writer.put(gateway("gw-1", 1)).await.unwrap();
    reader.until("west's first record", |a| a.synced.as_ref().unwrap().count == 1).await;
    assert_eq!(reader.view.len(), 4, "still nothing vanished");
    writer.complete().await;
    reader.until("west to be complete", |a| a.synced.as_ref().unwrap().incomplete == ["south"]).await;
    assert_eq!(reader.names(), ["south:1:gw-1", "south:1:gw-2", "west:1:gw-1"], "what west did not send again is gone");
    process.kill();

    std::fs::remove_file(dir.join("roster.redb")).unwrap();
    let output = command(&dir, &addr).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for part in ["the roster is missing while records.redb exists", "hawser broker restore", "hawser broker init"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(!dir.join("roster.redb").exists());
}

#[tokio::test]
async fn an_old_roster_put_back_continues_above_what_members_saw() {
    let temp = init();
    let dir = temp.path().join("broker");
    let mut broker = Broker::serve(&dir, "127.0.0.1:0").await;
    let (west, east) = (broker.join("west", &["10.1.0.0/16"]).await, broker.join("east", &["10.2.0.0/16"]).await);
    broker.stop().await;
    let backup = std::fs::read(dir.join("roster.redb")).unwrap();
    broker.restart().await;
    let mut agent = Agent::open(&east, &[]).await;
    let revoke = v1::RevokeClusterRequest { cluster_id: "west".into() };
    broker.admin().await.revoke_cluster(revoke).await.unwrap();
    agent.until("the revocation", |a| a.roster.is_some() && a.roster().members.len() == 1).await;
    let seen = agent.roster().revision;
    broker.stop().await;
    std::fs::write(dir.join("roster.redb"), backup).unwrap();
    broker.restart().await;
    assert_eq!(broker.clusters().await.len(), 2, "the backup knows nothing of it");

    let mut forged = agent.roster.clone().unwrap();
    forged.signature[8] ^= 1;
    let mut first = hello(&east, &[]);
    first.highest_roster = Some(forged);
    let mut again = Agent::open_with(&east, first).await.unwrap();
    again.until_synced().await;
    assert!(again.roster().revision < seen, "a roster that the CA did not sign is nothing");

    let mut second = hello(&east, &[]);
    second.highest_roster = agent.roster.clone();
    let mut again = Agent::open_with(&east, second).await.unwrap();
    again.until("the newer revision", |a| a.roster.is_some() && a.roster().revision > seen).await;
    assert_eq!(again.roster().members.len(), 1);
    let status = Agent::open_with(&west, hello(&west, &[])).await.map(drop).unwrap_err();
    says(&status, tonic::Code::Unauthenticated, "cluster west", "identity", "revoked", "new token");
}

#[tokio::test]
async fn a_port_in_use_and_a_directory_in_use_are_errors_at_the_start() {
    let temp = init();
    let dir = temp.path().join("broker");
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = held.local_addr().unwrap().to_string();
    let output = command(&dir, &addr).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && log.contains(&format!("can't listen on {addr}")), "{log}");

    let process = Process::start(&dir, "127.0.0.1:0").await;
    let output = command(&dir, "127.0.0.1:0").output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && log.contains("another broker uses this directory; stop it first"), "{log}");
    drop(process);
}

#[tokio::test]
async fn several_addresses_of_both_families_are_served() {
    let temp = init();
    let dir = temp.path().join("broker");
    let mut args = serve_args(&dir, "127.0.0.1:0");
    args.listen.push("[::1]:0".parse().unwrap());
    let bound = hawser_broker::bind(&args).await.unwrap();
    let (addresses, token) = (bound.addresses().to_vec(), tokio_util::sync::CancellationToken::new());
    let task = tokio::spawn(bound.run(token.clone()));
    for addr in addresses {
        let mut admin = AdminDir::new(dir.join("admin")).load().unwrap();
        admin.brokers = vec![addr.to_string().parse().unwrap()];
        admin.connect().await.unwrap().list_clusters(v1::ListClustersRequest {}).await.unwrap();
    }
    token.cancel();
    task.await.unwrap().unwrap();
}
