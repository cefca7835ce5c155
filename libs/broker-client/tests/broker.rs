//! Both ends of TLS on loopback: a server with `hawser_broker_pki`'s set-up, this crate as its client.
#![allow(clippy::unwrap_used, reason = "test helpers, which the lint does not know for tests")]

mod fake;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use hawser_broker_client::{Error, IdentityDir, Join, JoinToken, MemberIdentity, member, tls};
use hawser_broker_pki::{BROKER_NAME, Ca, Pin};
use hawser_model::ClusterId;
use zeroize::Zeroizing;

use fake::Fake;

fn token(fake: &Fake, brokers: &[String]) -> JoinToken {
    JoinToken {
        brokers: hawser_broker_client::address::parse_all(brokers).unwrap(),
        ca_pin: fake.ca.pin().unwrap(),
        cluster_id: ClusterId::new("west").unwrap(),
        secret: Zeroizing::new(b"secret".to_vec()),
    }
}

async fn joined(fake: &Fake, dir: &IdentityDir) -> MemberIdentity {
    let token = token(fake, std::slice::from_ref(&fake.address));
    let key = dir.join_key().unwrap();
    let joined = member::join(Join { token: &token, key, replace: false, prefixes: vec!["10.1.0.0/16".into()] });
    let joined = joined.await.unwrap();
    dir.store(&joined.identity).unwrap();
    joined.identity
}

#[tokio::test]
async fn a_cluster_joins_renews_and_leaves() {
    let fake = Fake::start("127.0.0.1:0").await;
    let site = tempfile::tempdir().unwrap();
    let dir = IdentityDir::of_site(site.path());
    assert!(dir.load().unwrap().is_none());
    let identity = joined(&fake, &dir).await;
    assert_eq!(fake.seen(), ["join west by nobody"]);

    let loaded = dir.load().unwrap().unwrap();
    assert_eq!(loaded, identity);
    assert_eq!(loaded.info.namespaces, ["shop"]);
    for name in ["broker.json", "cluster.key", "cluster.crt", "ca.crt"] {
        let mode = dir.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    assert!(!dir.path().join("join.key").exists());

    let renewed = member::renew(&loaded).await.unwrap();
    assert_ne!(renewed.chain, loaded.chain);
    dir.store_chain(&renewed).unwrap();
    assert_eq!(dir.load().unwrap().unwrap(), renewed);
    let third = renewed.not_after().unwrap().duration_since(renewed.renew_at().unwrap()).unwrap();
    assert!(third > Duration::from_secs(9 * 86_400) && third < Duration::from_secs(11 * 86_400), "{third:?}");

    assert_eq!(member::leave(&renewed).await.unwrap(), 8);
    let west = "spiffe://prod/cluster/west";
    assert_eq!(fake.seen()[1..], [format!("renew by {west}"), format!("leave by {west}")]);
    dir.ensure_probe_key().unwrap();
    dir.remove().unwrap();
    assert!(dir.load().unwrap().is_none());
    assert!(dir.path().join("probe.key").exists(), "the nodes' own key stays");
}

#[tokio::test]
async fn an_expired_certificate_reaches_the_broker_and_says_so() {
    let fake = Fake::start("[::1]:0").await;
    let site = tempfile::tempdir().unwrap();
    let dir = IdentityDir::of_site(site.path());
    let mut identity = joined(&fake, &dir).await;
    let long_ago = SystemTime::now() - Duration::from_secs(60 * 86_400);
    identity.chain = vec![fake.reissue(&identity, long_ago)];
    member::renew(&identity).await.unwrap();
    assert_eq!(fake.seen()[1], "renew by spiffe://prod/cluster/west, expired");
}

#[tokio::test]
async fn certificates_of_others_are_refused() {
    let fake = Fake::start("127.0.0.1:0").await;
    let site = tempfile::tempdir().unwrap();
    let identity = joined(&fake, &IdentityDir::of_site(site.path())).await;

    // Signed by another CA of the same name, valid or expired: the handshake fails at the broker.
    let other = Ca::create("prod", SystemTime::now()).unwrap();
    for age in [0, 60] {
        let mut forged = identity.clone();
        forged.chain = vec![fake.reissue_by(&other, &identity, SystemTime::now() - Duration::from_secs(age * 86_400))];
        let error = member::renew(&forged).await.unwrap_err();
        assert!(matches!(error, Error::Refused(_) | Error::Unreachable { .. }), "{error}");
    }
    assert_eq!(fake.seen().len(), 1, "{:?}", fake.seen());

    // The broker of another set: refused here.
    let mut stranger = token(&fake, std::slice::from_ref(&fake.address));
    stranger.ca_pin = Pin([9; 32]);
    let key = IdentityDir::new(site.path().join("b")).join_key().unwrap();
    let join = Join { token: &stranger, key, replace: false, prefixes: vec![] };
    let error = member::join(join).await.unwrap_err().to_string();
    assert!(error.contains("its CA is another one"), "{error}");
    assert_eq!(fake.seen().len(), 1, "the secret was sent to a stranger");
    let mut misled = identity.clone();
    misled.ca = other.certificate().clone();
    let error = member::renew(&misled).await.unwrap_err().to_string();
    assert!(error.contains("no broker answers") && error.contains(&fake.address), "{error}");
}

#[tokio::test]
async fn a_members_certificate_is_no_brokers() {
    // A member that plays broker has the set's CA behind it, but neither the name nor the usage.
    let fake = Fake::start_as_member("127.0.0.1:0").await;
    let site = tempfile::tempdir().unwrap();
    let token = token(&fake, std::slice::from_ref(&fake.address));
    let key = IdentityDir::of_site(site.path()).join_key().unwrap();
    let error = member::join(Join { token: &token, key, replace: false, prefixes: vec![] }).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(fake.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn the_broker_that_answers_is_taken() {
    let fake = Fake::start("127.0.0.1:0").await;
    // Accepts and says nothing; refuses; has no such name.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let silent_address = silent.local_addr().unwrap().to_string();
    let brokers = [silent_address, closed.to_string(), "nowhere.invalid".into(), fake.address.clone()];
    let site = tempfile::tempdir().unwrap();
    let key = IdentityDir::of_site(site.path()).join_key().unwrap();
    let all = token(&fake, &brokers);
    member::join(Join { token: &all, key: key.clone(), replace: false, prefixes: vec![] }).await.unwrap();

    let none = token(&fake, &brokers[1..3]);
    let error = member::join(Join { token: &none, key, replace: false, prefixes: vec![] }).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&closed.to_string()) && text.contains("nowhere.invalid"), "{text}");
}

#[tokio::test]
async fn the_brokers_certificate_is_replaced_while_it_serves() {
    let fake = Fake::start("127.0.0.1:0").await;
    let config = tls::pinned(fake.ca.pin().unwrap()).unwrap();
    let shown = async || {
        let tcp = tokio::net::TcpStream::connect(&fake.address).await.unwrap();
        let name = BROKER_NAME.try_into().unwrap();
        let tls = tokio_rustls::TlsConnector::from(config.clone()).connect(name, tcp).await.unwrap();
        tls.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let before = shown().await;
    assert_eq!(before, shown().await);
    let new = fake.ca.issue_broker(&[], SystemTime::now(), 1).unwrap();
    fake.certificate.replace(&new, fake.ca.certificate()).unwrap();
    assert_eq!(shown().await, new.issued.certificate);
}

#[tokio::test]
async fn a_refusal_keeps_its_words() {
    let fake = Fake::start("127.0.0.1:0").await;
    let mut token = token(&fake, std::slice::from_ref(&fake.address));
    token.secret = Zeroizing::new(b"wrong".to_vec());
    let site = tempfile::tempdir().unwrap();
    let dir = IdentityDir::of_site(site.path());
    let key = dir.join_key().unwrap();
    let error = member::join(Join { token: &token, key, replace: false, prefixes: vec![] }).await.unwrap_err();
    let Error::Refused(status) = &error else { panic!("{error}") };
    let refusal = hawser_proto::refusal::of_status(status).unwrap();
    assert_eq!((refusal.object.as_str(), refusal.field.as_str()), ("token", "secret"));
    // Trying again asks for the same key, so that the broker knows it for the same attempt.
    assert_eq!(dir.join_key().unwrap().secret_pkcs8_der(), dir.join_key().unwrap().secret_pkcs8_der());
}

#[tokio::test]
async fn the_identity_is_followed() {
    let fake = Fake::start("127.0.0.1:0").await;
    let site = tempfile::tempdir().unwrap();
    let dir = IdentityDir::of_site(site.path());
    let mut watch = dir.watch();
    assert!(watch.borrow_and_update().is_none());
    let identity = joined(&fake, &dir).await;
    watch.changed().await.unwrap();
    assert_eq!(watch.borrow_and_update().as_ref(), Some(&identity));
    std::fs::write(dir.path().join("cluster.crt"), "half a certi").unwrap();
    let renewed = MemberIdentity { chain: vec![fake.reissue(&identity, SystemTime::now())], ..identity };
    // Longer than one look, so that the broken file is seen: the last good identity stays in force.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(!watch.has_changed().unwrap());
    dir.store_chain(&renewed).unwrap();
    watch.changed().await.unwrap();
    assert_eq!(watch.borrow_and_update().as_ref(), Some(&renewed));
    dir.remove().unwrap();
    watch.changed().await.unwrap();
    assert!(watch.borrow_and_update().is_none());
}
