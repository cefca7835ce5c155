//! Two and more clusters over a real broker: exports, conflicts, restarts, losses, revocation, leaving.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use hawser_local_api::memory::Store;
use hawser_proto::v1;
use world::{Broker, Cluster, logs, until};

/// `west` (10.1) and `east` (10.2), joined, their agents running and connected.
async fn pair() -> (Broker, Cluster, Cluster) {
    logs();
    let broker = Broker::start().await;
    let west = Cluster::joined(&broker, "west", 1).await;
    let east = Cluster::joined(&broker, "east", 2).await;
    for cluster in [&west, &east] {
        until("connected", || cluster.standing("BrokerReachable"), |s| s.as_deref() == Some("True/Connected")).await;
        until(
            "peers with gateways",
            || cluster.remotes(),
            |r| r.len() == 1 && r.values().all(|r| !r.spec.gateways.is_empty()),
        )
        .await;
    }
    (broker, west, east)
}

async fn both_see(clusters: [&Cluster; 2], name: &str, sources: &[(&str, &[&str])]) {
    let wanted = sources
        .iter()
        .map(|(id, a)| ((*id).to_owned(), a.iter().map(|a| (*a).to_owned()).collect()))
        .collect::<std::collections::BTreeMap<String, Vec<String>>>();
    for cluster in clusters {
        until(&format!("{name} in {}", cluster.id), || cluster.imported(name), |found| *found == wanted).await;
        let import = until("import", || cluster.import(name), Option::is_some).await.unwrap();
        assert_eq!(import.spec.ips.len(), import.spec.ip_families.len(), "{import:?}");
    }
}

async fn gone(cluster: &Cluster, name: &str) {
    until(&format!("no import {name} in {}", cluster.id), || cluster.import(name), Option::is_none).await;
    until("no slices", || cluster.imported(name), std::collections::BTreeMap::is_empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_appears_everywhere_and_unexport_takes_it_away() {
    let (_broker, west, east) = pair().await;
    west.export("web", 80, &["10.1.0.5", "10.1.0.6"]).await;
    both_see([&west, &east], "web", &[("west", &["10.1.0.5", "10.1.0.6"])]).await;
    until("exported", || west.condition("web", "Ready"), |c| c.as_deref() == Some("True/Exported")).await;
    assert_eq!(west.condition("web", "Valid").await.as_deref(), Some("True/Valid"));
    until("no conflict", || west.condition("web", "Conflict"), |c| c.as_deref() == Some("False/NoConflicts")).await;
    west.slice("web", &["10.1.0.6", "10.1.0.7"]).await;
    both_see([&west, &east], "web", &[("west", &["10.1.0.6", "10.1.0.7"])]).await;
    west.unexport("web").await;
    gone(&west, "web").await;
    gone(&east, "web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_show_on_both_exports_and_end_with_the_cause() {
    let (_broker, west, east) = pair().await;
    west.export("web", 80, &["10.1.0.5"]).await;
    both_see([&west, &east], "web", &[("west", &["10.1.0.5"])]).await;
    east.export("web", 4242, &["10.2.0.5"]).await;
    for cluster in [&west, &east] {
        until("conflict", || cluster.condition("web", "Conflict"), |c| c.as_deref() == Some("True/PortConflict")).await;
        let import = until(
            "both export",
            || cluster.import("web"),
            |i| i.as_ref().is_some_and(|i| i.status.as_ref().is_some_and(|s| s.clusters.len() == 2)),
        );
        // Same number for the same name: the older one's.
        let ports: Vec<i32> = import.await.unwrap().spec.ports.iter().map(|p| p.port).collect();
        assert_eq!(ports, [80]);
    }
    both_see([&west, &east], "web", &[("west", &["10.1.0.5"])]).await;
    let vip = east.import("web").await.unwrap().spec.ips;
    west.unexport("web").await;
    both_see([&west, &east], "web", &[("east", &["10.2.0.5"])]).await;
    until("no conflict", || east.condition("web", "Conflict"), |c| c.as_deref() == Some("False/NoConflicts")).await;
    assert_eq!(east.import("web").await.unwrap().spec.ips, vip, "the address stays for the import's life");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_restart_is_survived_and_caught_up_with() {
    let (mut broker, west, east) = pair().await;
    west.export("web", 80, &["10.1.0.5"]).await;
    both_see([&west, &east], "web", &[("west", &["10.1.0.5"])]).await;
    broker.stop().await;
    until("noticed", || east.standing("BrokerReachable"), |s| s.as_deref().is_some_and(|s| s.starts_with("False/")))
        .await;
    west.export("api", 80, &["10.1.0.9"]).await;
    west.unexport("web").await;
    until("pending", || west.condition("api", "Ready"), |c| c.as_deref() == Some("False/Pending")).await;
    assert!(east.import("web").await.is_some(), "nothing goes while nothing is known");
    broker.resume().await;
    both_see([&west, &east], "api", &[("west", &["10.1.0.9"])]).await;
    gone(&east, "web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_records_take_nothing_away_before_their_owners_are_back() {
    let (mut broker, mut west, east) = pair().await;
    west.export("web", 80, &["10.1.0.5"]).await;
    west.export("old", 80, &["10.1.0.6"]).await;
    both_see([&west, &east], "web", &[("west", &["10.1.0.5"])]).await;
    both_see([&west, &east], "old", &[("west", &["10.1.0.6"])]).await;
    let before = east.remotes().await;
    west.stop().await;
    broker.stop().await;
    std::fs::remove_file(broker.path().join("records.redb")).unwrap();
    broker.resume().await;
    until("east is back", || east.standing("BrokerReachable"), |s| s.as_deref() == Some("True/Connected")).await;
    // Something new comes down the new epoch: by then the loss has been digested.
    let north = Cluster::joined(&broker, "north", 3).await;
    north.export("api", 80, &["10.3.0.5"]).await;
    both_see([&north, &east], "api", &[("north", &["10.3.0.5"])]).await;
    assert_eq!(east.imported("web").await["west"], ["10.1.0.5"]);
    assert_eq!(east.remotes().await["west"].spec.gateways, before["west"].spec.gateways);
    // West comes back without one of its exports: that one goes, the other never did.
    west.unexport("old").await;
    west.start().await;
    gone(&east, "old").await;
    assert_eq!(east.imported("web").await["west"], ["10.1.0.5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_starts_without_the_broker_and_keeps_everything() {
    let (mut broker, west, mut east) = pair().await;
    west.export("web", 80, &["10.1.0.5"]).await;
    east.export("mine", 80, &["10.2.0.5"]).await;
    both_see([&west, &east], "web", &[("west", &["10.1.0.5"])]).await;
    both_see([&west, &east], "mine", &[("east", &["10.2.0.5"])]).await;
    until("exported", || east.condition("mine", "Ready"), |c| c.as_deref() == Some("True/Exported")).await;
    east.stop().await;
    broker.stop().await;
    let before = (east.import("web").await, east.imported("web").await, east.remotes().await);
    east.start().await;
    until("says so", || east.standing("BrokerReachable"), |s| s.as_deref() == Some("False/ConnectionFailed")).await;
    let specs = |r: &std::collections::BTreeMap<String, hawser_api::hawser::RemoteCluster>| {
        r.values().map(|r| r.spec.clone()).collect::<Vec<_>>()
    };
    assert_eq!(east.import("web").await.map(|i| i.spec), before.0.map(|i| i.spec));
    assert_eq!(east.imported("web").await, before.1);
    assert_eq!(specs(&east.remotes().await), specs(&before.2));
    assert_eq!(east.condition("mine", "Ready").await.as_deref(), Some("True/Exported"), "a restart takes nothing back");
    // It works from the view on disk: a new own export is merged with what is known.
    east.export("web", 4242, &["10.2.0.6"]).await;
    until("conflict", || east.condition("web", "Conflict"), |c| c.as_deref() == Some("True/PortConflict")).await;
    broker.resume().await;
    until("conflict there", || west.condition("web", "Conflict"), |c| c.as_deref() == Some("True/PortConflict")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_cluster_is_dropped_at_once_and_stays_out() {
    let (mut broker, west, mut east) = pair().await;
    let north = Cluster::joined(&broker, "north", 3).await;
    west.export("web", 80, &["10.1.0.5"]).await;
    north.export("api", 80, &["10.3.0.5"]).await;
    both_see([&west, &east], "web", &[("west", &["10.1.0.5"])]).await;
    both_see([&north, &east], "api", &[("north", &["10.3.0.5"])]).await;
    // A backup of the roster, from before.
    broker.stop().await;
    let (roster, backup) = (broker.path().join("roster.redb"), broker.path().join("backup"));
    std::fs::copy(&roster, &backup).unwrap();
    broker.resume().await;
    for cluster in [&west, &east, &north] {
        until("back", || cluster.standing("BrokerReachable"), |s| s.as_deref() == Some("True/Connected")).await;
    }
    let request = v1::RevokeClusterRequest { cluster_id: "west".into() };
    let mut progress = broker.admin().await.revoke_cluster(request).await.unwrap().into_inner();
    gone(&east, "web").await;
    until("not a peer", || east.remotes(), |r| !r.contains_key("west") && r.contains_key("north")).await;
    assert!(east.import("api").await.is_some(), "others are undisturbed");
    // Gateways apply it, the agents say so, and the broker hears of it.
    let complete = async { while !progress.message().await.unwrap().expect("complete before the end").complete {} };
    let acknowledging = async {
        loop {
            east.acknowledge().await;
            north.acknowledge().await;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        told = tokio::time::timeout(world::PATIENCE, complete) => told.expect("the revocation is complete"),
        never = acknowledging => never,
    }
    until("west knows", || west.standing("BrokerReachable"), |s| s.as_deref() == Some("False/Refused")).await;
    // A restarted agent knows it without the broker.
    broker.stop().await;
    east.stop().await;
    east.start().await;
    until("restarted", || east.standing("BrokerReachable"), |s| s.as_deref() == Some("False/ConnectionFailed")).await;
    assert!(!east.remotes().await.contains_key("west"));
    assert!(east.import("web").await.is_none());
    // The broker is restored from before the revocation, and learns of it from its members.
    std::fs::copy(&backup, &roster).unwrap();
    broker.resume().await;
    until("back", || east.standing("BrokerReachable"), |s| s.as_deref() == Some("True/Connected")).await;
    both_see([&north, &east], "api", &[("north", &["10.3.0.5"])]).await;
    let clusters = broker.admin().await.list_clusters(v1::ListClustersRequest {}).await.unwrap().into_inner().clusters;
    assert!(clusters.iter().all(|c| c.cluster_id != "west" || c.revoked), "{clusters:?}");
    assert!(!east.remotes().await.contains_key("west"));
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_cleans_up_and_joining_again_works() {
    let (broker, west, east) = pair().await;
    west.export("web", 80, &["10.1.0.5"]).await;
    both_see([&west, &east], "web", &[("west", &["10.1.0.5"])]).await;
    let identity = west.secrets().load().unwrap().unwrap();
    hawser_broker_client::member::leave(&identity).await.unwrap();
    west.secrets().remove().unwrap();
    until("no member", || west.is_member(), |m| !m).await;
    assert!(
        west.remotes().await.is_empty() && west.import("web").await.is_none() && west.imported("web").await.is_empty()
    );
    until("status", || west.standing("Joined"), |s| s.as_deref() == Some("False/NotJoined")).await;
    gone(&east, "web").await;
    until("not a peer", || east.remotes(), std::collections::BTreeMap::is_empty).await;
    west.join(&broker, &[]).await;
    until("member", || west.standing("Joined"), |s| s.as_deref() == Some("True/Joined")).await;
    both_see([&west, &east], "web", &[("west", &["10.1.0.5"])]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_waits_for_the_join() {
    logs();
    let broker = Broker::start().await;
    let mut west = Cluster::new("west", 1).await;
    west.start().await;
    until("says so", || west.standing("Joined"), |s| s.as_deref() == Some("False/NotJoined")).await;
    assert!(!west.is_member().await);
    west.join(&broker, &["infra"]).await;
    until("joined", || west.standing("Joined"), |s| s.as_deref() == Some("True/Joined")).await;
    assert!(west.is_member().await);
    // The token allows another namespace only.
    west.export("web", 80, &["10.1.0.5"]).await;
    until("denied", || west.condition("web", "Ready"), |c| c.as_deref() == Some("False/Failed")).await;
    assert!(west.import("web").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_outside_the_prefixes_are_named_and_left_out() {
    let (_broker, west, east) = pair().await;
    west.export("web", 80, &["10.1.0.5", "10.2.0.66", "127.0.0.1"]).await;
    both_see([&west, &east], "web", &[("west", &["10.1.0.5"])]).await;
    until("named", || west.condition("web", "EndpointsSkipped"), |c| c.as_deref() == Some("True/NotPublishable")).await;
    until("exported", || west.condition("web", "Ready"), |c| c.as_deref() == Some("True/Exported")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_claim_is_asked_for_and_a_refused_one_is_told() {
    let (_broker, west, east) = pair().await;
    let mut membership = west.all::<hawser_api::hawser::Membership>().await.pop().unwrap();
    membership.spec.prefixes.push("10.11.0.0/16".into());
    west.operator.apply(&membership).await.unwrap();
    until("routed", || east.remotes(), |r| r["west"].spec.prefixes.len() == 2).await;
    west.export("web", 80, &["10.11.0.5"]).await;
    both_see([&west, &east], "web", &[("west", &["10.11.0.5"])]).await;
    membership.spec.prefixes.push("10.2.128.0/17".into());
    west.operator.apply(&membership).await.unwrap();
    until("refused", || west.standing("PrefixesKnown"), |s| s.as_deref() == Some("False/Refused")).await;
    assert_eq!(east.remotes().await["west"].spec.prefixes.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_identity_is_fenced_and_named() {
    let (_broker, west, east) = pair().await;
    // Another host has the same identity and a local API of its own, so that no lease keeps the two apart.
    let other = Store::new();
    let operator = hawser_local_api::Client::new(other.writer("operator"));
    for m in west.all::<hawser_api::hawser::Membership>().await {
        operator.apply(&m).await.unwrap();
    }
    let (token, handle) = west.second_agent(&other, "copy");
    until("fenced", || west.standing("BrokerReachable"), |s| s.as_deref() == Some("False/Fenced")).await;
    token.cancel();
    handle.await.unwrap().unwrap();
    until("back", || west.standing("BrokerReachable"), |s| s.as_deref() == Some("True/Connected")).await;
    until("whole again", || east.remotes(), |r| !r["west"].spec.gateways.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_takes_over_when_the_first_ends() {
    let (_broker, mut west, east) = pair().await;
    west.export("web", 80, &["10.1.0.5"]).await;
    both_see([&west, &east], "web", &[("west", &["10.1.0.5"])]).await;
    let vip = west.import("web").await.unwrap().spec.ips;
    let (token, handle) = west.second_agent(&west.store.clone(), "agent-b");
    west.stop().await;
    west.export("api", 80, &["10.1.0.6"]).await;
    both_see([&west, &east], "api", &[("west", &["10.1.0.6"])]).await;
    assert_eq!(west.import("web").await.unwrap().spec.ips, vip);
    west.unexport("web").await;
    gone(&west, "web").await;
    token.cancel();
    handle.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_renewed() {
    let (broker, mut west, _east) = pair().await;
    west.stop().await;
    // The same key, in a certificate that ended days ago.
    let secrets = west.secrets();
    let mut identity = secrets.load().unwrap().unwrap();
    let ca = hawser_broker_pki::Ca::load(&broker.path()).unwrap();
    let key = rcgen::KeyPair::try_from(&*identity.key).unwrap();
    let csr = hawser_broker_pki::csr::request(&key).unwrap();
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(40 * 86_400);
    let issued = ca.issue_cluster(&csr, &identity.info.cluster_id, then, 30).unwrap();
    identity.chain = vec![issued.certificate.clone()];
    secrets.store_chain(&identity).unwrap();
    let expired = identity.not_after().unwrap();
    assert!(expired < std::time::SystemTime::now());
    west.start().await;
    until(
        "renewed",
        || async { secrets.load().unwrap().unwrap().not_after().unwrap() },
        |end| *end > std::time::SystemTime::now(),
    )
    .await;
    until("connected", || west.standing("BrokerReachable"), |s| s.as_deref() == Some("True/Connected")).await;
}
