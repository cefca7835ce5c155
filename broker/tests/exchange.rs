//! The streams of agents: what goes up is checked, what comes down is whole.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::*;
use hawser_proto::v1::{self, sync_request::Message};
use tonic::Code;

async fn two() -> (Broker, Agent, Agent) {
    let broker = Broker::start().await;
    let west = broker.join("west", &["10.1.0.0/16", "fd00:1::/48"]).await;
    let east = broker.join("east", &["10.2.0.0/16"]).await;
    let (west, east) = (Agent::open(&west, &["shop"]).await, Agent::open(&east, &["shop"]).await);
    (broker, west, east)
}

#[tokio::test]
async fn what_one_puts_the_other_sees() {
    let (broker, mut west, mut east) = two().await;
    assert_eq!((west.welcome.term, west.welcome.cluster_set.as_str()), (1, "demo"));
    east.until_synced().await;
    assert_eq!(east.names(), Vec::<String>::new());
    west.put(gateway("gw", 1)).await.unwrap();
    west.put(header("shop/web")).await.unwrap();
    west.put(endpoints("shop/web", "10.1.0.7")).await.unwrap();
    west.put(header("bank/web")).await.unwrap();
    west.complete().await;
    let all = ["west:1:gw", "west:2:shop/web", "west:3:shop/web"];
    east.until("the records of its namespaces", |a| a.names() == all).await;
    east.until("synced", |a| a.synced.as_ref().is_some_and(|s| s.count == 3)).await;
    assert_eq!(west.names(), Vec::<String>::new(), "nobody is told about itself");
    assert_eq!(east.snapshots, 1);
    let roster = east.roster();
    assert_eq!(roster.members.iter().map(|m| m.id.as_str()).collect::<Vec<_>>(), ["east", "west"]);

    east.send(Message::Interest(v1::Interest { generation: 2, namespaces: vec!["bank".into()] })).await;
    east.until("the new interest", |a| a.synced.as_ref().is_some_and(|s| s.interest_generation == 2)).await;
    assert_eq!(east.names(), ["west:1:gw", "west:2:bank/web"]);
    west.delete(2, "bank/web").await.unwrap();
    east.until("the deletion", |a| a.names() == ["west:1:gw"]).await;

    let info = broker.clusters().await;
    let west = info.iter().find(|c| c.cluster_id == "west").unwrap();
    assert_eq!((west.connected, west.gateways, west.exports, west.term), (true, 1, 1, 1));
    let metrics = broker.metrics().await;
    assert!(metrics.contains("hawser_broker_streams 2"), "{metrics}");
}

#[tokio::test]
async fn writes_that_break_a_rule_are_refused_in_words_and_change_nothing() {
    let (broker, mut west, mut east) = two().await;
    east.put(gateway("gw", 7)).await.unwrap();
    for address in ["10.2.0.1", "192.0.2.9", "127.0.0.1", "fd00:2::1"] {
        says_refusal(
            west.put(endpoints("shop/web", address)).await,
            "endpoints of export shop/web of cluster west",
            "groups[0].endpoints[0].addresses",
            &format!("{address} is outside the cluster's claimed prefixes"),
            "leave that endpoint out",
        );
    }
    for (claim, rule) in [
        (["10.2.3.0/24"], "10.2.0.0/16 of cluster \"east\""),
        (["0.0.0.0/0"], "default route"),
        (["::/0"], "default route"),
        (["10.0.0.0/7"], "wider than /8"),
    ] {
        says_refusal(west.claim(&claim).await, "cluster west", "prefixes", rule, "");
    }
    says_refusal(
        west.put(header("kube-system/dns")).await,
        "export kube-system/dns of cluster west",
        "namespace",
        "by default none",
        "--namespaces",
    );
    says_refusal(
        west.put(gateway("gw", 7)).await,
        "gateway gw of cluster west",
        "lanes[0].publicKey",
        "cluster east has a gateway with the same key",
        "state directory",
    );
    let mut early = header("shop/web");
    if let Some(v1::record::Body::ExportHeader(h)) = &mut early.body {
        h.created_ms = (now() + 3600) * 1000;
    }
    says_refusal(
        west.put(early).await,
        "export shop/web of cluster west",
        "creationTimestamp",
        "ahead of the broker's clock",
        "clock",
    );
    let empty = west.put(v1::Record { name: "x".into(), body: None }).await.unwrap_err();
    assert!(empty.rule.contains("no kind that is known"), "{empty}");
    let unknown = west.delete(99, "x").await.unwrap_err();
    assert!(unknown.rule.contains("no known kind"), "{unknown}");

    let info = broker.clusters().await;
    let info = info.iter().find(|c| c.cluster_id == "west").unwrap();
    assert_eq!((info.gateways, info.exports, info.prefixes.len()), (0, 0, 2), "nothing changed");
    west.put(endpoints("shop/web", "fd00:1::7")).await.unwrap();
    east.until("what is right", |a| a.names() == ["west:3:shop/web"]).await;
    let metrics = broker.metrics().await;
    assert!(metrics.contains("call=\"write\",rule=\"conflict\"} 2"), "{metrics}");
}

#[tokio::test]
async fn a_newer_stream_fences_the_older_which_writes_no_more() {
    let (_broker, mut old, mut east) = two().await;
    old.put(gateway("gw", 1)).await.unwrap();
    let identity = old.identity.clone();
    let mut hello = hello(&identity, &[]);
    hello.holder = "the-new-leader".into();
    let mut newer = Agent::open_with(&identity, hello).await.unwrap();
    assert_eq!(newer.welcome.term, 2);
    // The old leader may not have noticed yet and writes on.
    let late = Message::Put(v1::Put { sequence: 900, record: Some(gateway("late", 2)) });
    old.try_send(late).await;
    let status = old.until_ended().await;
    assert_eq!(status.code(), Code::Aborted, "{status:?}");
    let fenced = old.fenced.clone().expect("it is told");
    assert_eq!((fenced.newer_term, fenced.holder.as_str()), (2, "the-new-leader"));
    newer.put(gateway("gw-2", 3)).await.unwrap();
    east.until("the new leader's record", |a| a.names().len() == 2).await;
    assert_eq!(east.names(), ["west:1:gw", "west:1:gw-2"], "the late one was never taken");
}

#[tokio::test]
async fn streams_open_with_a_right_hello_only() {
    let (_broker, west, _east) = two().await;
    let identity = west.identity.clone();
    let attempt = |change: fn(&mut v1::Hello)| {
        let mut hello = hello(&identity, &[]);
        change(&mut hello);
        let identity = identity.clone();
        async move { Agent::open_with(&identity, hello).await.map(drop).unwrap_err() }
    };
    let status = attempt(|h| h.now += 1_000).await;
    says(&status, Code::FailedPrecondition, "cluster west", "now", "ahead of the broker's", "correct the clock");
    let status = attempt(|h| h.now -= 1_000).await;
    says(&status, Code::FailedPrecondition, "cluster west", "now", "behind the broker's", "correct the clock");
    let status = attempt(|h| h.generation = 7).await;
    says(&status, Code::Unauthenticated, "cluster west", "generation", "it is generation 1, not 7", "join again");
    let status = attempt(|h| h.version = 0).await;
    says(&status, Code::InvalidArgument, "cluster west", "version", "too old", "upgrade");
    drop(west);
}

#[tokio::test]
async fn a_revoked_cluster_ends_at_once_and_the_others_acknowledge() {
    let (broker, mut west, mut east) = two().await;
    west.put(gateway("w", 1)).await.unwrap();
    west.put(header("shop/web")).await.unwrap();
    east.put(gateway("e", 2)).await.unwrap();
    east.until("west's records", |a| a.names().len() == 2).await;

    let request = v1::RevokeClusterRequest { cluster_id: "west".into() };
    let mut progress = broker.admin().await.revoke_cluster(request.clone()).await.unwrap().into_inner();
    let status = west.until_ended().await;
    says(
        &status,
        Code::Unauthenticated,
        "cluster west",
        "identity",
        "generation 1 was revoked by an administrator",
        "new token",
    );
    let status = Agent::open_with(&west.identity, hello(&west.identity, &[])).await.map(drop).unwrap_err();
    says(&status, Code::Unauthenticated, "cluster west", "identity", "revoked", "");

    east.until("its records to go", |a| a.names().is_empty()).await;
    let revision = {
        east.until("the roster without it", |a| a.roster.is_some() && a.roster().members.len() == 1).await;
        let roster = east.roster();
        assert_eq!((roster.revoked[0].id.as_str(), roster.revoked[0].generation), ("west", 1));
        roster.revision
    };
    let first = progress.message().await.unwrap().unwrap();
    assert_eq!((first.roster_revision, first.complete), (revision, false));
    assert_eq!(first.clusters[0].gateways, [v1::GatewayAck { node: "e".into(), revision: 0 }]);
    let ack = v1::RosterAck { gateways: vec![v1::GatewayAck { node: "e".into(), revision }] };
    east.send(Message::RosterAck(ack)).await;
    let mut last = first;
    while let Some(more) = progress.message().await.unwrap() {
        last = more;
    }
    assert!(last.complete, "{last:?}");
    let clusters = broker.clusters().await;
    assert!(clusters.iter().any(|c| c.cluster_id == "west" && c.revoked), "{clusters:?}");
    east.put(gateway("e", 3)).await.unwrap();
    let mut again = broker.admin().await.revoke_cluster(request).await.unwrap().into_inner();
    assert!(again.message().await.unwrap().unwrap().complete, "asking again is no error");
    let unknown = v1::RevokeClusterRequest { cluster_id: "north".into() };
    let status = broker.admin().await.revoke_cluster(unknown).await.unwrap_err();
    says(&status, Code::NotFound, "cluster north", "id", "no member", "hawser status");
}

#[tokio::test]
async fn a_reader_that_does_not_read_costs_nobody_else_anything() {
    let (broker, mut west, mut east) = two().await;
    // A third member opens a stream and never reads it.
    let south = broker.join("south", &["10.3.0.0/16"]).await;
    let mut stuck = Agent::open(&south, &["shop"]).await;
    for round in 0..3 {
        for n in 0..200 {
            let mut record = header(&format!("shop/web-{n}"));
            if let Some(v1::record::Body::ExportHeader(h)) = &mut record.body {
                h.annotations = [("round".to_owned(), format!("{round} {}", "x".repeat(2_000)))].into();
            }
            west.put(record).await.unwrap();
        }
    }
    east.until("all", |a| a.view.len() == 200 && a.synced.as_ref().is_some_and(|s| s.count == 200)).await;
    let newest = |agent: &Agent| {
        agent.view.values().all(|(_, record)| match &record.body {
            Some(v1::record::Body::ExportHeader(h)) => h.annotations["round"].starts_with('2'),
            _ => false,
        })
    };
    east.until("the newest of each", newest).await;
    stuck.until("the newest of each, late", |a| a.view.len() == 200 && newest(a)).await;
}

#[tokio::test]
async fn a_large_shard_goes_up_in_one_go() {
    const MANY: usize = 5_000;
    let (_broker, mut west, mut east) = two().await;
    let records = (0..MANY).map(|n| header(&format!("shop/web-{n}"))).collect();
    let sent = west.send_all(records);
    west.until("all results", |a| a.results() == MANY).await;
    sent.await.unwrap();
    let (taken, refused) = west.take_results();
    assert_eq!((taken, refused.first()), (MANY, None));
    west.complete().await;
    let whole = |a: &Agent| a.synced.as_ref().is_some_and(|s| s.count == MANY as u64);
    east.until("the whole shard", whole).await;
    assert_eq!(east.view.len(), MANY);
}

#[tokio::test]
async fn silence_is_told_and_ends() {
    let (_broker, west, mut east) = two().await;
    let identity = west.identity.clone();
    drop(west);
    east.until("west's silence", |a| a.silent == ["west"]).await;
    let _again = Agent::open(&identity, &[]).await;
    east.until("its return", |a| a.silent.is_empty()).await;
}

#[tokio::test]
async fn a_view_is_resumed_with_what_changed_only() {
    let (_broker, mut west, mut east) = two().await;
    west.put(gateway("gw-1", 1)).await.unwrap();
    west.put(gateway("gw-2", 2)).await.unwrap();
    east.until("both", |a| a.view.len() == 2 && a.synced.as_ref().is_some_and(|s| s.count == 2)).await;
    let (identity, view, synced) = (east.identity.clone(), east.view.clone(), east.synced.clone().unwrap());
    let epoch = east.welcome.epoch.clone();
    drop(east);
    west.delete(1, "gw-1").await.unwrap();
    let mut hello = hello(&identity, &["shop"]);
    hello.resume = Some(v1::Resume { epoch, revision: synced.revision });
    let mut east = Agent::open_with(&identity, hello).await.unwrap();
    east.view = view;
    east.until_synced().await;
    assert_eq!((east.names(), east.snapshots), (vec!["west:1:gw-2".to_owned()], 0));
}

#[tokio::test]
async fn two_owners_of_one_identity_are_reported() {
    let (broker, west, _east) = two().await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(Agent::open(&west.identity, &[]).await);
    }
    until("the report", || async {
        let metrics = broker.metrics().await;
        metrics.lines().any(|l| l.starts_with("hawser_broker_duplicate_identities_total") && !l.ends_with(" 0"))
    })
    .await;
}

#[tokio::test]
async fn shutdown_ends_streams_and_a_restart_finds_everything() {
    let (mut broker, mut west, mut east) = two().await;
    west.put(gateway("gw", 1)).await.unwrap();
    west.complete().await;
    east.complete().await;
    east.until("it", |a| a.view.len() == 1 && a.synced.as_ref().is_some_and(|s| s.incomplete.is_empty())).await;
    broker.stop().await;
    let status = west.until_ended().await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    broker.restart().await;
    let mut hello = hello(&east.identity, &["shop"]);
    let revision = east.synced.as_ref().unwrap().revision;
    hello.resume = Some(v1::Resume { epoch: east.welcome.epoch.clone(), revision });
    let view = east.view.clone();
    let mut east = Agent::open_with(&east.identity, hello).await.unwrap();
    east.view = view;
    assert_eq!(east.welcome.term, 2, "terms go on");
    east.until_synced().await;
    assert_eq!((east.names(), east.snapshots), (vec!["west:1:gw".to_owned()], 0), "same epoch, resumed");
    assert!(east.synced.as_ref().unwrap().incomplete.is_empty(), "shards stay complete over a restart");
}

#[tokio::test]
async fn garbage_on_the_port_harms_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (broker, mut west, mut east) = two().await;
    let mut held = Vec::new();
    for junk in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 5_000],
        b"\x16\x03\x01\xff\xff",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        for _ in 0..20 {
            let mut socket = tokio::net::TcpStream::connect(broker.addr).await.unwrap();
            let _ = socket.write_all(junk).await;
            held.push(socket);
        }
    }
    west.put(gateway("gw", 1)).await.unwrap();
    east.until("it", |a| a.view.len() == 1).await;
    // All are closed by the broker, the silent ones when the handshake's time is over.
    for mut socket in held {
        let mut sink = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(15), socket.read_to_end(&mut sink)).await;
        closed.expect("closed in time").map(drop).unwrap_or_default();
    }
    let metrics = broker.metrics().await;
    assert!(metrics.contains("hawser_broker_connections_refused_total{reason=\"handshake_timeout\"} "), "{metrics}");
    assert!(metrics.contains("hawser_broker_connections_refused_total{reason=\"handshake\"} "), "{metrics}");
    let mut out_of_turn = hello(&west.identity, &[]);
    out_of_turn.holder = "x".repeat(10_000);
    west.send(Message::Hello(out_of_turn)).await;
    assert_eq!(west.until_ended().await.code(), Code::InvalidArgument);
    east.put(gateway("gw", 2)).await.unwrap();
}
