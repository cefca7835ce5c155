//! Tokens, joining, renewing, administrators: real TLS on loopback.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use hawser_broker_client::{AdminIdentity, MemberIdentity, member};
use hawser_broker_pki::{Ca, csr};
use hawser_proto::v1;
use tonic::Code;

#[tokio::test]
async fn a_cluster_joins_once_per_token_and_asks_again_without_harm() {
    let broker = Broker::start().await;
    let token = broker.token(for_cluster("west")).await;
    let key = new_key();
    let first = join_as(&token, key.clone(), false, &["10.1.0.0/16"]).await.unwrap();
    assert_eq!((first.info.cluster_id.as_str(), first.info.generation), ("west", 1));
    let again = join_as(&token, key, false, &["10.1.0.0/16"]).await.unwrap();
    assert_eq!(again.info, first.info);
    let used = refused(join_with(&token, &["10.1.0.0/16"]).await);
    let tokens = broker.admin().await.list_tokens(v1::ListTokensRequest {}).await.unwrap().into_inner().tokens;
    assert_eq!((tokens.len(), tokens[0].uses_left, tokens[0].created_by.as_str()), (1, 0, "root"));
    let object = format!("token {}", tokens[0].id);
    says(&used, Code::Unauthenticated, &object, "uses", "as often as it may", "hawser token create --cluster west");
    let clusters = broker.clusters().await;
    assert_eq!(clusters.len(), 1);
    assert_eq!(clusters[0].prefixes, ["10.1.0.0/16"]);
}

#[tokio::test]
async fn tokens_that_admit_nobody() {
    let broker = Broker::start().await;
    let token = broker.token(for_cluster("west")).await;
    let list = broker.admin().await.list_tokens(v1::ListTokensRequest {}).await.unwrap().into_inner().tokens;
    let object = format!("token {}", list[0].id);

    let mut forged = token.clone();
    forged.secret[0] ^= 1;
    let status = refused(join_with(&forged, &[]).await);
    says(&status, Code::Unauthenticated, "token", "secret", "no token of this cluster set", "hawser token create");

    let mut wrong = token.clone();
    wrong.cluster_id = "east".parse().unwrap();
    let status = refused(join_with(&wrong, &[]).await);
    says(&status, Code::PermissionDenied, &object, "cluster", "admits cluster west, not east", "--cluster east");

    let brief = broker.token(v1::CreateTokenRequest { ttl_seconds: 1, ..for_cluster("north") }).await;
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await; // its life
    let status = refused(join_with(&brief, &[]).await);
    let list = broker.admin().await.list_tokens(v1::ListTokensRequest {}).await.unwrap().into_inner().tokens;
    let north = list.iter().find(|t| t.cluster_id == "north").unwrap();
    says(&status, Code::Unauthenticated, &format!("token {}", north.id), "expires", "it expired", "--cluster north");

    broker.admin().await.revoke_token(v1::RevokeTokenRequest { id: list[0].id.clone() }).await.unwrap();
    let left = broker.admin().await.list_tokens(v1::ListTokensRequest {}).await.unwrap().into_inner().tokens;
    assert_eq!(left.len() + 1, list.len());

    assert_eq!(broker.clusters().await, [], "none of it admitted anybody");
    let metrics = broker.metrics().await;
    assert!(metrics.contains("hawser_broker_refusals_total{call=\"join\",rule=\"denied\"} 1"), "{metrics}");
}

#[tokio::test]
async fn claims_are_checked_when_joining() {
    let broker = Broker::start().await;
    broker.join("west", &["10.1.0.0/16"]).await;
    for (prefix, code, rule) in [
        ("0.0.0.0/0", Code::PermissionDenied, "default route"),
        ("10.0.0.0/7", Code::PermissionDenied, "wider than /8"),
        ("10.1.128.0/24", Code::AlreadyExists, "10.1.0.0/16 of cluster \"west\""),
        ("nonsense", Code::InvalidArgument, "is not a CIDR"),
    ] {
        let token = broker.token(for_cluster("east")).await;
        let status = refused(join_with(&token, &[prefix]).await);
        let field = if prefix == "nonsense" { "prefixes[0]" } else { "prefixes" };
        says(&status, code, "cluster east", field, rule, "");
    }
    let narrow = v1::CreateTokenRequest { prefixes: vec!["10.9.0.0/16".into()], ..for_cluster("east") };
    let token = broker.token(narrow).await;
    let status = refused(join_with(&token, &["10.8.0.0/24"]).await);
    says(&status, Code::PermissionDenied, "cluster east", "prefixes", "not inside 10.9.0.0/16", "--prefixes");
    join_with(&token, &["10.9.1.0/24"]).await.unwrap();
}

#[tokio::test]
async fn an_id_is_taken_over_with_replace_only_and_the_old_identity_ends() {
    let broker = Broker::start().await;
    let old = broker.join("west", &["10.1.0.0/16"]).await;
    let mut agent = Agent::open(&old, &[]).await;
    let token = broker.token(for_cluster("west")).await;
    let status = refused(join_with(&token, &["10.1.0.0/16"]).await);
    says(&status, Code::AlreadyExists, "cluster west", "id", "another identity holds this id", "--replace");
    agent.put(gateway("gw", 1)).await.unwrap();

    let new = join_as(&token, new_key(), true, &["10.1.0.0/16"]).await.unwrap();
    assert_eq!(new.info.generation, 2);
    let status = agent.until_ended().await;
    says(&status, Code::Unauthenticated, "cluster west", "identity", "since generation 2", "--replace");
    assert_eq!(agent.roster().revoked[0].generation, 1, "it is told by a signed roster");
    let status = refused(member::renew(&old).await);
    says(&status, Code::Unauthenticated, "cluster west", "identity", "since generation 2", "");
    Agent::open(&new, &[]).await;
}

#[tokio::test]
async fn members_and_strangers_are_no_administrators() {
    let broker = Broker::start().await;
    let west = broker.join("west", &["10.1.0.0/16"]).await;
    let mut as_admin = broker.admin_identity();
    (as_admin.chain, as_admin.key) = (west.chain.clone(), west.key.clone());
    let mut client = as_admin.connect().await.unwrap();
    let denied = |status: tonic::Status| {
        let who = "spiffe://demo/cluster/west is no administrator";
        says(&status, Code::PermissionDenied, "caller", "identity", who, "--admin-dir");
    };
    denied(client.create_token(for_cluster("evil")).await.unwrap_err());
    denied(client.list_tokens(v1::ListTokensRequest {}).await.unwrap_err());
    denied(client.revoke_token(v1::RevokeTokenRequest { id: "x".into() }).await.unwrap_err());
    denied(client.revoke_cluster(v1::RevokeClusterRequest { cluster_id: "west".into() }).await.unwrap_err());
    denied(client.list_clusters(v1::ListClustersRequest {}).await.unwrap_err());

    // A certificate of the CA for an administrator's name, but not the one on record.
    let ca = Ca::load(&broker.dir).unwrap();
    let other = ca.issue_admin("root", std::time::SystemTime::now(), 1).unwrap();
    let other = AdminIdentity {
        chain: vec![other.issued.certificate],
        key: std::sync::Arc::new(other.key),
        ..broker.admin_identity()
    };
    let status = other.connect().await.unwrap().list_clusters(v1::ListClustersRequest {}).await.unwrap_err();
    says(&status, Code::PermissionDenied, "caller", "identity", "with this key is no administrator", "--admin-dir");

    // Nobody at all.
    let anonymous = hawser_broker_client::tls::pinned(broker.admin_identity().ca_pin().unwrap()).unwrap();
    let channel = hawser_broker_client::dial::channel(vec![broker.address()], anonymous).await.unwrap();
    let mut client = v1::admin_client::AdminClient::new(channel.clone());
    let status = client.list_clusters(v1::ListClustersRequest {}).await.unwrap_err();
    says(&status, Code::Unauthenticated, "caller", "certificate", "no certificate was shown", "join first");
    let mut client = v1::broker_client::BrokerClient::new(channel);
    let status = client.leave(v1::LeaveRequest {}).await.unwrap_err();
    says(&status, Code::Unauthenticated, "caller", "certificate", "no certificate was shown", "join first");

    // An administrator is no cluster.
    let admin = broker.admin_identity();
    let as_member = MemberIdentity { chain: admin.chain, key: admin.key, ..west.clone() };
    let status = refused(member::leave(&as_member).await);
    says(&status, Code::PermissionDenied, "caller", "identity", "is no cluster", "cluster's certificate");

    let clusters = broker.clusters().await;
    assert_eq!((clusters.len(), clusters[0].revoked), (1, false), "nothing changed");
    let tokens = broker.admin().await.list_tokens(v1::ListTokensRequest {}).await.unwrap().into_inner().tokens;
    assert_eq!(tokens.len(), 1);
}

/// The same member with another certificate for the same key, issued some seconds ago.
fn reissued(broker: &Broker, west: &MemberIdentity, id: &str, ago: u64, days: u32) -> MemberIdentity {
    let ca = Ca::load(&broker.dir).unwrap();
    let key = rcgen::KeyPair::try_from(&*west.key).unwrap();
    let request = csr::request(&key).unwrap();
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(ago);
    let issued = ca.issue_cluster(&request, &id.parse().unwrap(), then, days).unwrap();
    MemberIdentity { chain: vec![issued.certificate], ..west.clone() }
}

#[tokio::test]
async fn an_expired_certificate_may_only_be_renewed() {
    let broker = Broker::start().await;
    let west = broker.join("west", &["10.1.0.0/16"]).await;
    let expired = reissued(&broker, &west, "west", 40 * 86_400, 30);
    let status = Agent::open_with(&expired, hello(&expired, &[])).await.map(drop).unwrap_err();
    says(&status, Code::Unauthenticated, "spiffe://demo/cluster/west", "certificate", "it expired", "renew");
    let status = refused(member::leave(&expired).await);
    says(&status, Code::Unauthenticated, "spiffe://demo/cluster/west", "certificate", "it expired", "renew");
    let renewed = member::renew(&expired).await.unwrap();
    assert!(renewed.not_after().unwrap() > std::time::SystemTime::now());
    Agent::open(&renewed, &[]).await;

    // Another's name for our key, from a CA that should never have signed it: the roster knows better.
    let forged = reissued(&broker, &west, "east", 0, 30);
    let status = refused(member::renew(&forged).await);
    says(&status, Code::Unauthenticated, "cluster east", "identity", "no member", "join");

    // A request for another key.
    let stranger = csr::request(&csr::generate_key().unwrap()).unwrap();
    let mut client = member::connect(&west).await.unwrap();
    let status = client.renew(v1::RenewRequest { csr: stranger }).await.unwrap_err();
    says(&status, Code::PermissionDenied, "cluster west", "csr", "not the one on record", "new token");
    let status = client.renew(v1::RenewRequest { csr: vec![1, 2, 3] }).await.unwrap_err();
    says(&status, Code::InvalidArgument, "cluster west", "csr", "PKCS#10", "");
}

#[tokio::test]
async fn a_stream_ends_with_its_certificate() {
    let broker = Broker::start().await;
    let west = broker.join("west", &["10.1.0.0/16"]).await;
    let brief = reissued(&broker, &west, "west", 86_400 - 6, 1);
    let mut agent = Agent::open(&brief, &[]).await;
    let status = agent.until_ended().await;
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("the certificate has expired; renew it"), "{status:?}");
    assert!(member::renew(&brief).await.unwrap().not_after().unwrap() > std::time::SystemTime::now());
}

#[tokio::test]
async fn a_cluster_that_left_is_out() {
    let broker = Broker::start().await;
    let west = broker.join("west", &["10.1.0.0/16"]).await;
    let mut agent = Agent::open(&west, &[]).await;
    let before = {
        agent.until_synced().await;
        agent.roster().revision
    };
    assert_eq!(member::leave(&west).await.unwrap(), before + 1);
    let status = agent.until_ended().await;
    says(&status, Code::Unauthenticated, "cluster west", "identity", "generation 1 has left", "new token");
    let status = refused(member::leave(&west).await);
    says(&status, Code::Unauthenticated, "cluster west", "identity", "has left", "");
    assert_eq!(broker.clusters().await, []);
    broker.join("east", &["10.1.0.0/16"]).await;
}

#[tokio::test]
async fn joining_is_limited_by_source() {
    let broker = Broker::start().await;
    let mut token = broker.token(for_cluster("west")).await;
    token.secret[0] ^= 1;
    let channel = hawser_broker_client::tls::pinned(token.ca_pin).unwrap();
    let channel = hawser_broker_client::dial::channel(vec![broker.address()], channel).await.unwrap();
    let mut client = v1::broker_client::BrokerClient::new(channel);
    let request = v1::JoinRequest {
        cluster_id: "west".into(),
        csr: csr::request(&csr::generate_key().unwrap()).unwrap(),
        ..Default::default()
    };
    let mut limited = None;
    for _ in 0..200 {
        let status = client.join(request.clone()).await.unwrap_err();
        if status.code() == Code::ResourceExhausted {
            limited = Some(status);
            break;
        }
    }
    says(
        &limited.expect("tries are limited"),
        Code::ResourceExhausted,
        "caller",
        "attempts",
        "too often",
        "wait a minute",
    );
}

#[tokio::test]
async fn init_overwrites_nothing_and_says_what_is_wrong() {
    let temp = init();
    let args = |dir: &str, set: &str, address: &str| hawser_broker::InitArgs {
        dir: temp.path().join(dir),
        set: set.into(),
        address: vec![address.into()],
        admin: "root".into(),
    };
    for (args, part) in [
        (
            args("broker", "demo", "h:1"),
            "a cluster set has begun here already (ca.key exists); choose an empty directory",
        ),
        (args("new", "demo", "h"), "it must be HOST:PORT"),
        (args("new", "demo", "::1:7443"), "needs brackets"),
        (args("new", "De_mo", "h:1"), "cluster set"),
    ] {
        let error = format!("{:#}", hawser_broker::init(&args).unwrap_err());
        assert!(error.contains(part), "{error}");
    }
    assert!(!temp.path().join("new").exists());
    use std::os::unix::fs::PermissionsExt;
    for file in ["ca.key", "admin/admin.key", "roster.redb", "broker.json"] {
        let mode = std::fs::metadata(temp.path().join("broker").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file} is private");
    }
}
