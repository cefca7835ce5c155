//! What one caller may cost: nobody else notices a hostile or a broken one.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::*;
use hawser_broker_client::{dial, tls};
use hawser_proto::v1::broker_client::BrokerClient;
use hawser_proto::v1::{self, sync_request};
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Code;

/// A connection that shows no certificate.
async fn anonymous(broker: &Broker) -> TlsStream<TcpStream> {
    connect(broker, tls::pinned(broker.admin_identity().ca_pin().unwrap()).unwrap()).await
}

async fn connect(broker: &Broker, config: Arc<rustls::ClientConfig>) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(broker.addr).await.unwrap();
    let name = ServerName::try_from(hawser_broker_pki::BROKER_NAME).unwrap();
    TlsConnector::from(config).connect(name, tcp).await.unwrap()
}

/// Whether the broker has ended it without a word.
async fn is_refused(stream: &mut TlsStream<TcpStream>) -> bool {
    // HTTP/2 begins with the server's settings.
    let first = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 64])).await.unwrap();
    !first.is_ok_and(|n| n > 0)
}

#[tokio::test]
async fn the_unknown_have_few_places_and_members_have_theirs() {
    let broker = Broker::start().await;
    let west = broker.join("west", &["10.1.0.0/16"]).await;
    // The join's own connection may not be gone yet.
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..80 {
        let mut stream = anonymous(&broker).await;
        if is_refused(&mut stream).await { refused += 1 } else { held.push(stream) }
    }
    assert!((60..=64).contains(&held.len()) && refused >= 16, "{} held, {refused} refused", held.len());
    Agent::open(&west, &[]).await.until_synced().await;
    let metrics = broker.metrics().await;
    assert!(metrics.contains("hawser_broker_connections_refused_total{reason=\"limit_anonymous\"}"), "{metrics}");
    drop(held);
    until("a place again", || async { !is_refused(&mut anonymous(&broker).await).await }).await;
}

#[tokio::test]
async fn the_unknown_send_little() {
    let broker = Broker::start().await;
    let token = broker.token(for_cluster("west")).await;
    let join = |prefixes: Vec<String>| {
        let (brokers, secret) = (token.brokers.clone(), token.secret.to_vec());
        let config = tls::pinned(token.ca_pin).unwrap();
        async move {
            let mut client = BrokerClient::new(dial::channel(brokers, config).await.unwrap());
            let csr = hawser_broker_pki::csr::request(&hawser_broker_pki::csr::generate_key().unwrap()).unwrap();
            let request =
                v1::JoinRequest { cluster_id: "west".into(), token_secret: secret, csr, replace: false, prefixes };
            client.join(request).await
        }
    };
    let status = join(vec!["x".repeat(1 << 20)]).await.unwrap_err();
    assert!(hawser_proto::refusal::of_status(&status).is_none(), "it was read: {status:?}");
    let status = join(vec!["x".repeat(10_000)]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().len() < 4_000, "{} bytes", status.message().len());
    let most = (0..512).map(|n| format!("fd00:1111:1111:1111:1111:1111:1111:{n:x}/128")).collect();
    join(most).await.expect("the largest claim there can be is taken");
}

#[tokio::test]
async fn an_identity_has_its_share_of_connections_and_streams() {
    let broker = Broker::start().await;
    let (west, east) = (broker.join("west", &["10.1.0.0/16"]).await, broker.join("east", &["10.2.0.0/16"]).await);
    let mut held = Vec::new();
    for _ in 0..24 {
        let mut stream = connect(&broker, tls::mutual(&west.ca, west.chain.clone(), &west.key).unwrap()).await;
        if !is_refused(&mut stream).await {
            held.push(stream);
        }
    }
    assert_eq!(held.len(), 16);

    let mut results = Vec::new();
    for _ in 0..40 {
        results.push(Agent::open_with(&east, hello(&east, &[])).await.map(drop));
    }
    let refused: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert!((1..=20).contains(&refused.len()), "{refused:?}");
    says(&refused[0], Code::ResourceExhausted, "cluster east", "calls", "too often", "wait a minute");
    let south = broker.join("south", &["10.3.0.0/16"]).await;
    Agent::open(&south, &[]).await.until_synced().await;
}

#[tokio::test]
async fn an_interest_that_is_refused_ends_the_stream() {
    let broker = Broker::start().await;
    let west = broker.join("west", &["10.1.0.0/16"]).await;
    let mut agent = Agent::open(&west, &[]).await;
    for generation in 2..1_000 {
        let namespaces = vec![format!("n{generation}")];
        agent.try_send(sync_request::Message::Interest(v1::Interest { generation, namespaces })).await;
    }
    let status = agent.until_ended().await;
    says(&status, Code::ResourceExhausted, "interest", "writes", "writes per second", "wait a second");
    Agent::open(&west, &[]).await.until_synced().await;
}

#[tokio::test]
async fn any_later_version_is_served() {
    let broker = Broker::start().await;
    let west = broker.join("west", &["10.1.0.0/16"]).await;
    let mut hello = hello(&west, &[]);
    hello.version = u32::MAX;
    Agent::open_with(&west, hello).await.unwrap().until_synced().await;
}
