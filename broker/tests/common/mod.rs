//! A broker on loopback with real TLS, and agents that speak the raw interface to it.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test file uses a part of it

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hawser_broker::{InitArgs, ServeArgs};
use hawser_broker_client::{AdminDir, AdminIdentity, BrokerAddress, Error, Join, JoinToken, MemberIdentity, member};
use hawser_model::ClusterId;
use hawser_proto::v1::admin_client::AdminClient;
use hawser_proto::v1::{self, sync_request, sync_response};
use hawser_proto::{Roster, digest};
use hawser_telemetry::{AdminAddr, AdminArgs};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A broker in this process.
pub struct Broker {
    pub dir: PathBuf,
    pub addr: SocketAddr,
    token: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<()>>>,
    _temp: Option<tempfile::TempDir>,
}

/// Begins a cluster set in a new directory.
pub fn init() -> tempfile::TempDir {
    if let Ok(log_filter) = std::env::var("HAWSER_LOG") {
        hawser_telemetry::LogArgs { log_filter, ..Default::default() }.init();
    }
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("broker");
    let args = InitArgs { dir, set: "demo".into(), address: vec!["127.0.0.1:7443".into()], admin: "root".into() };
    hawser_broker::init(&args).unwrap();
    temp
}

pub fn serve_args(dir: &Path, listen: &str) -> ServeArgs {
    let admin = AdminArgs { admin: Some(AdminAddr::Unix(dir.join("admin.sock"))) };
    ServeArgs { dir: dir.to_owned(), listen: vec![listen.parse().unwrap()], admin }
}

impl Broker {
    pub async fn start() -> Self {
        let temp = init();
        let mut broker = Self::serve(&temp.path().join("broker"), "127.0.0.1:0").await;
        broker._temp = Some(temp);
        broker
    }

    pub async fn serve(dir: &Path, listen: &str) -> Self {
        let bound = hawser_broker::bind(&serve_args(dir, listen)).await.unwrap();
        let (addr, token) = (bound.addresses()[0], CancellationToken::new());
        let task = tokio::spawn(bound.run(token.clone()));
        Self { dir: dir.to_owned(), addr, token, task: Some(task), _temp: None }
    }

    /// Ends it in good order; its address and directory stay.
    pub async fn stop(&mut self) {
        self.token.cancel();
        let task = self.task.take().unwrap();
        tokio::time::timeout(PATIENCE, task).await.expect("the broker ends in time").unwrap().unwrap();
    }

    pub async fn restart(&mut self) {
        let mut again = Self::serve(&self.dir, &self.addr.to_string()).await;
        self.token = std::mem::take(&mut again.token);
        self.task = again.task.take();
    }

    pub fn address(&self) -> BrokerAddress {
        self.addr.to_string().parse().unwrap()
    }

    pub fn admin_identity(&self) -> AdminIdentity {
        let mut identity = AdminDir::new(self.dir.join("admin")).load().unwrap();
        identity.brokers = vec![self.address()];
        identity
    }

    pub async fn admin(&self) -> AdminClient<Channel> {
        self.admin_identity().connect().await.unwrap()
    }

    pub async fn token(&self, request: v1::CreateTokenRequest) -> JoinToken {
        let cluster_id = ClusterId::new(&request.cluster_id).unwrap();
        let made = self.admin().await.create_token(request).await.unwrap().into_inner();
        let ca_pin = self.admin_identity().ca_pin().unwrap();
        JoinToken { brokers: vec![self.address()], ca_pin, cluster_id, secret: made.secret.into() }
    }

    /// A member with these claims.
    pub async fn join(&self, cluster: &str, prefixes: &[&str]) -> MemberIdentity {
        let token = self.token(for_cluster(cluster)).await;
        join_with(&token, prefixes).await.unwrap()
    }

    pub async fn clusters(&self) -> Vec<v1::ClusterInfo> {
        self.admin().await.list_clusters(v1::ListClustersRequest {}).await.unwrap().into_inner().clusters
    }

    /// The admin endpoint's figures.
    pub async fn metrics(&self) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = tokio::net::UnixStream::connect(self.dir.join("admin.sock")).await.unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        text
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

/// A token request for an hour and one use.
pub fn for_cluster(cluster: &str) -> v1::CreateTokenRequest {
    v1::CreateTokenRequest { cluster_id: cluster.into(), ttl_seconds: 3600, uses: 1, ..Default::default() }
}

pub fn new_key() -> Arc<rustls_pki_types::PrivatePkcs8KeyDer<'static>> {
    Arc::new(hawser_broker_pki::csr::generate_key().unwrap().serialize_der().into())
}

pub async fn join_with(token: &JoinToken, prefixes: &[&str]) -> Result<MemberIdentity, Error> {
    join_as(token, new_key(), false, prefixes).await
}

pub async fn join_as(
    token: &JoinToken,
    key: Arc<rustls_pki_types::PrivatePkcs8KeyDer<'static>>,
    replace: bool,
    prefixes: &[&str],
) -> Result<MemberIdentity, Error> {
    let prefixes = prefixes.iter().map(|p| (*p).to_owned()).collect();
    member::join(Join { token, key, replace, prefixes }).await.map(|joined| joined.identity)
}

/// The status of a refused call.
pub fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> Status {
    match result {
        Err(Error::Refused(status)) => *status,
        other => panic!("it should have been refused: {other:?}"),
    }
}

/// Asserts all parts of a refusal, in the status's details and in its message.
pub fn says(status: &Status, code: tonic::Code, object: &str, field: &str, rule: &str, remedy: &str) {
    let refusal = hawser_proto::refusal::of_status(status).unwrap_or_else(|| panic!("no refusal in {status:?}"));
    assert_eq!((status.code(), refusal.object.as_str(), refusal.field.as_str()), (code, object, field), "{status:?}");
    assert!(refusal.rule.contains(rule) && refusal.remedy.contains(remedy), "{refusal:?}");
    assert!(status.message().contains(rule) && status.message().contains(remedy), "{status:?}");
}

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Waits for a condition that other tasks bring about.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come about in {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What an agent's stream holds of the others.
pub type View = BTreeMap<(String, i32, String), (u64, v1::Record)>;

/// An agent that speaks the raw interface.
pub struct Agent {
    out: mpsc::Sender<v1::SyncRequest>,
    inbound: Streaming<v1::SyncResponse>,
    sequence: u64,
    results: BTreeMap<u64, Option<v1::Refusal>>,
    /// Keys sent since a snapshot began.
    fresh: Option<Vec<(String, i32, String)>>,
    pub identity: MemberIdentity,
    pub welcome: v1::Welcome,
    pub view: View,
    pub synced: Option<v1::Synced>,
    pub snapshots: usize,
    pub roster: Option<v1::SignedRoster>,
    pub fenced: Option<v1::Fenced>,
    pub silent: Vec<String>,
}

pub fn hello(identity: &MemberIdentity, namespaces: &[&str]) -> v1::Hello {
    v1::Hello {
        version: hawser_proto::VERSION,
        generation: identity.info.generation,
        interest: Some(v1::Interest {
            generation: 1,
            namespaces: namespaces.iter().map(|n| (*n).to_owned()).collect(),
        }),
        now: now(),
        holder: "test-agent".into(),
        ..Default::default()
    }
}

impl Agent {
    pub async fn open(identity: &MemberIdentity, namespaces: &[&str]) -> Self {
        Self::open_with(identity, hello(identity, namespaces)).await.unwrap()
    }

    /// Opens a stream and waits for its welcome.
    pub async fn open_with(identity: &MemberIdentity, hello: v1::Hello) -> Result<Self, Status> {
        let mut client = member::connect(identity).await.unwrap();
        let (out, requests) = mpsc::channel(64);
        out.send(v1::SyncRequest { message: Some(sync_request::Message::Hello(hello)) }).await.unwrap();
        let mut inbound = client.sync(ReceiverStream::new(requests)).await?.into_inner();
        let first = inbound.message().await?.and_then(|m| m.message);
        let Some(sync_response::Message::Welcome(welcome)) = first else { panic!("no welcome: {first:?}") };
        Ok(Self {
            out,
            inbound,
            sequence: 0,
            results: BTreeMap::new(),
            fresh: None,
            identity: identity.clone(),
            welcome,
            view: View::new(),
            synced: None,
            snapshots: 0,
            roster: None,
            fenced: None,
            silent: Vec::new(),
        })
    }

    pub async fn send(&mut self, message: sync_request::Message) {
        self.out.send(v1::SyncRequest { message: Some(message) }).await.unwrap();
    }

    /// Sends writes without waiting for their results; the task ends when all are sent.
    pub fn send_all(&mut self, records: Vec<v1::Record>) -> JoinHandle<()> {
        let (out, first) = (self.out.clone(), self.sequence + 1);
        self.sequence += records.len() as u64;
        tokio::spawn(async move {
            for (sequence, record) in (first..).zip(records) {
                let put = sync_request::Message::Put(v1::Put { sequence, record: Some(record) });
                out.send(v1::SyncRequest { message: Some(put) }).await.unwrap();
            }
        })
    }

    /// Results that came and nobody waited for: how many were taken, and the refusals.
    pub fn take_results(&mut self) -> (usize, Vec<v1::Refusal>) {
        let results = std::mem::take(&mut self.results);
        let (taken, refused): (Vec<_>, Vec<_>) = results.into_values().partition(Option::is_none);
        (taken.len(), refused.into_iter().flatten().collect())
    }

    pub fn results(&self) -> usize {
        self.results.len()
    }

    /// Sends what may come too late.
    pub async fn try_send(&mut self, message: sync_request::Message) {
        let _ = self.out.send(v1::SyncRequest { message: Some(message) }).await;
    }

    /// Takes one message in; the status with which the stream ended, otherwise.
    pub async fn receive(&mut self) -> Result<(), Status> {
        let received = tokio::time::timeout(PATIENCE, self.inbound.message()).await;
        let message = received.unwrap_or_else(|_| panic!("nothing came; view {:#?}", self.view.keys()))?;
        match message.ok_or_else(|| Status::ok("ended"))?.message.unwrap() {
            sync_response::Message::Welcome(_) => panic!("a second welcome"),
            sync_response::Message::Roster(roster) => self.roster = Some(roster),
            sync_response::Message::SnapshotStart(_) => {
                self.snapshots += 1;
                self.fresh = Some(Vec::new());
            }
            sync_response::Message::Upsert(v1::Upsert { cluster_id, generation, record, .. }) => {
                let record = record.unwrap();
                let key = digest::record_key(&record).unwrap();
                let key = (cluster_id, key.kind, key.name);
                self.fresh.iter_mut().for_each(|fresh| fresh.push(key.clone()));
                self.view.insert(key, (generation, record));
            }
            sync_response::Message::Remove(v1::Remove { cluster_id, key, .. }) => {
                let key = key.unwrap();
                self.view.remove(&(cluster_id, key.kind, key.name));
            }
            sync_response::Message::Synced(synced) => self.take_synced(synced),
            sync_response::Message::WriteResult(result) => {
                self.results.insert(result.sequence, result.refusal);
            }
            sync_response::Message::Fenced(fenced) => self.fenced = Some(fenced),
            sync_response::Message::Silent(silent) => {
                self.silent = silent.shards.into_iter().map(|s| s.cluster_id).collect();
            }
        }
        Ok(())
    }

    /// What an agent does: keeps what incomplete members sent once, drops the rest that was not sent again.
    fn take_synced(&mut self, synced: v1::Synced) {
        if let Some(fresh) = &self.fresh {
            self.view.retain(|key, _| fresh.contains(key) || synced.incomplete.contains(&key.0));
        }
        let sent = |key: &(String, i32, String)| self.fresh.as_ref().is_none_or(|f| f.contains(key));
        let view = self.view.iter().filter(|(key, _)| sent(key));
        let entries: Vec<_> = view
            .map(|((cluster, kind, name), (generation, record))| digest::Entry {
                cluster,
                generation: *generation,
                kind: *kind,
                name,
                hash: digest::record_hash(record),
            })
            .collect();
        assert_eq!(synced.count, entries.len() as u64, "{:#?}", self.view.keys());
        assert_eq!(synced.digest, digest::digest(entries), "{:#?}", self.view.keys());
        if synced.incomplete.is_empty() {
            self.fresh = None;
        }
        self.synced = Some(synced);
    }

    /// Receives until the condition holds.
    pub async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            if let Err(status) = self.receive().await {
                panic!("the stream ended before {what}: {status:?}");
            }
        }
    }

    pub async fn until_synced(&mut self) {
        self.synced = None;
        self.until("synced", |agent| agent.synced.is_some()).await;
    }

    /// Receives until the stream ends.
    pub async fn until_ended(&mut self) -> Status {
        loop {
            if let Err(status) = self.receive().await {
                return status;
            }
        }
    }

    /// Sends a write and waits for its result.
    pub async fn write(&mut self, message: impl FnOnce(u64) -> sync_request::Message) -> Result<(), v1::Refusal> {
        self.sequence += 1;
        let sequence = self.sequence;
        self.send(message(sequence)).await;
        self.until("the write's result", |agent| agent.results.contains_key(&sequence)).await;
        self.results.remove(&sequence).unwrap().map_or(Ok(()), Err)
    }

    pub async fn put(&mut self, record: v1::Record) -> Result<(), v1::Refusal> {
        self.write(|sequence| sync_request::Message::Put(v1::Put { sequence, record: Some(record) })).await
    }

    pub async fn delete(&mut self, kind: i32, name: &str) -> Result<(), v1::Refusal> {
        let key = Some(v1::RecordKey { kind, name: name.into() });
        self.write(|sequence| sync_request::Message::Delete(v1::Delete { sequence, key })).await
    }

    pub async fn complete(&mut self) {
        self.write(|sequence| sync_request::Message::ShardComplete(v1::ShardComplete { sequence })).await.unwrap();
    }

    pub async fn claim(&mut self, prefixes: &[&str]) -> Result<(), v1::Refusal> {
        let prefixes = prefixes.iter().map(|p| (*p).to_owned()).collect();
        self.write(|sequence| sync_request::Message::Claim(v1::Claim { sequence, prefixes })).await
    }

    pub fn names(&self) -> Vec<String> {
        self.view.keys().map(|(cluster, kind, name)| format!("{cluster}:{kind}:{name}")).collect()
    }

    /// The newest roster, its signature checked.
    pub fn roster(&self) -> Roster {
        member::verify_roster(&self.identity.ca, self.roster.as_ref().unwrap()).unwrap()
    }
}

pub fn says_refusal(result: Result<(), v1::Refusal>, object: &str, field: &str, rule: &str, remedy: &str) {
    let refusal = result.expect_err("it should have been refused");
    assert_eq!((refusal.object.as_str(), refusal.field.as_str()), (object, field), "{refusal}");
    assert!(refusal.rule.contains(rule) && refusal.remedy.contains(remedy), "{refusal}");
}

pub fn gateway(node: &str, key: u8) -> v1::Record {
    v1::Record {
        name: node.into(),
        body: Some(v1::record::Body::Gateway(v1::Gateway {
            lanes: vec![v1::Lane { public_key: vec![key; 32], port: 51820, ..Default::default() }],
            candidates: vec![v1::Candidate { host: "192.0.2.1".into() }],
            ..Default::default()
        })),
    }
}

pub fn header(service: &str) -> v1::Record {
    v1::Record {
        name: service.into(),
        body: Some(v1::record::Body::ExportHeader(v1::ExportHeader {
            created_ms: (now() - 60) * 1000,
            kind: v1::ServiceKind::ClusterSetIp.into(),
            ports: vec![v1::ServicePort {
                name: "http".into(),
                protocol: "TCP".into(),
                port: 80,
                ..Default::default()
            }],
            ip_families: vec![v1::IpFamily::V4.into()],
            labels: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        })),
    }
}

pub fn endpoints(service: &str, address: &str) -> v1::Record {
    let address: std::net::IpAddr = address.parse().unwrap();
    let (family, bytes) = match address {
        std::net::IpAddr::V4(v4) => (v1::IpFamily::V4, v4.octets().to_vec()),
        std::net::IpAddr::V6(v6) => (v1::IpFamily::V6, v6.octets().to_vec()),
    };
    v1::Record {
        name: service.into(),
        body: Some(v1::record::Body::ExportEndpoints(v1::ExportEndpoints {
            groups: vec![v1::EndpointGroup {
                family: family.into(),
                ports: vec![v1::EndpointPort {
                    name: "http".into(),
                    protocol: "TCP".into(),
                    port: 8080,
                    service_port: 80,
                    ..Default::default()
                }],
                endpoints: vec![v1::Endpoint {
                    addresses: vec![bytes],
                    ready: true,
                    serving: true,
                    ..Default::default()
                }],
            }],
        })),
    }
}
