//! A broker with its store and clusters with their agents in one process: real TLS on loopback, real files, memory as the local
//! API.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "shared by test binaries that each use a part")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic and say how long things took")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use hawser_agent::{Agent, Setup};
use hawser_api::core::{EndpointSlice, Namespace, ObjectMeta, Service, Time};
use hawser_api::hawser::{
    GatewayNode, GatewayNodeSpec, GatewayNodeStatus, LaneSpec, Membership, MembershipSpec, RemoteCluster,
};
use hawser_api::labels;
use hawser_api::mcs::{ClusterProperty, ServiceExport, ServiceExportSpec, ServiceImport};
use hawser_broker::{InitArgs, ServeArgs};
use hawser_broker_client::{AdminDir, IdentityDir, Join, JoinToken, member};
use hawser_local_api::memory::Store;
use hawser_local_api::{Client, Key, Resource};
use hawser_model::ClusterId;
use hawser_proto::v1;
use hawser_telemetry::{AdminArgs, Readiness};
use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::api::discovery::v1 as discovery;
use prometheus_client::registry::Registry;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

type Running = (CancellationToken, JoinHandle<anyhow::Result<()>>);

async fn stop(running: &mut Option<Running>) {
    if let Some((token, handle)) = running.take() {
        token.cancel();
        handle.await.unwrap().unwrap();
    }
}

pub struct Broker {
    dir: tempfile::TempDir,
    addr: SocketAddr,
    /// A runtime of its own: with it everything of a broker ends, as with a process.
    running: Option<(Running, Runtime)>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some((_, runtime)) = self.running.take() {
            runtime.shutdown_background(); // a runtime must not wait for its threads inside another
        }
    }
}

impl Broker {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let args = InitArgs {
            dir: dir.path().join("broker"),
            set: "fleet".into(),
            address: vec!["127.0.0.1:1".into()],
            admin: "ada".into(),
        };
        hawser_broker::init(&args).unwrap();
        let mut broker = Self { dir, addr: ([127, 0, 0, 1], 0).into(), running: None };
        broker.resume().await;
        broker
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("broker")
    }

    pub async fn resume(&mut self) {
        let args = ServeArgs { dir: self.path(), listen: vec![self.addr], admin: AdminArgs { admin: None } };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let bind = async move {
            let began = Instant::now();
            loop {
                match hawser_broker::bind(&args).await {
                    // The one before may still be closing its store, on a thread of its own.
                    Err(error) if began.elapsed() < PATIENCE && error.to_string().contains("another broker") => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    bound => return bound.unwrap(),
                }
            }
        };
        let bound = runtime.spawn(bind).await.unwrap();
        self.addr = bound.addresses()[0];
        let token = CancellationToken::new();
        let handle = runtime.spawn(bound.run(token.clone()));
        self.running = Some(((token, handle), runtime));
    }

    /// Ends it as a killed process ends: its connections break.
    pub async fn stop(&mut self) {
        if let Some(((_, handle), runtime)) = self.running.take() {
            handle.abort();
            let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await;
            ended.unwrap();
        }
    }

    pub async fn admin(&self) -> v1::admin_client::AdminClient<tonic::transport::Channel> {
        let mut identity = AdminDir::new(self.path().join("admin")).load().unwrap();
        identity.brokers = vec![self.addr.to_string().parse().unwrap()];
        identity.connect().await.unwrap()
    }

    pub async fn token(&self, cluster: &str, namespaces: &[&str]) -> JoinToken {
        let request = v1::CreateTokenRequest {
            cluster_id: cluster.into(),
            ttl_seconds: 600,
            uses: 1,
            prefixes: Vec::new(),
            namespaces: namespaces.iter().map(|n| (*n).to_owned()).collect(),
        };
        let response = self.admin().await.create_token(request).await.unwrap().into_inner();
        let identity = AdminDir::new(self.path().join("admin")).load().unwrap();
        JoinToken {
            brokers: vec![self.addr.to_string().parse().unwrap()],
            ca_pin: identity.ca_pin().unwrap(),
            cluster_id: ClusterId::new(cluster).unwrap(),
            secret: response.secret.into(),
        }
    }
}

pub struct Cluster {
    pub id: String,
    pub prefixes: Vec<String>,
    pub store: Store,
    pub operator: Client,
    dir: tempfile::TempDir,
    running: Option<Running>,
}

impl Cluster {
    /// A cluster `10.<net>.0.0/16` with a namespace `shop` and one gateway, not joined, no agent.
    pub async fn new(id: &str, net: u8) -> Self {
        let store = Store::new();
        let operator = Client::new(store.writer("operator"));
        let prefixes = vec![format!("10.{net}.0.0/16")];
        let membership = Membership {
            metadata: named("", labels::MEMBERSHIP),
            spec: MembershipSpec {
                cluster_id: id.into(),
                brokers: Vec::new(),
                prefixes: prefixes.clone(),
                vip_prefixes: vec!["10.99.0.0/24".into()],
                dns_address: Vec::new(),
                drained_nodes: Vec::new(),
                rotate_keys_after: None,
                peer_max_age: None,
            },
            status: None,
        };
        operator.apply(&membership).await.unwrap();
        operator.apply(&Namespace { metadata: named("", "shop"), ..Namespace::default() }).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let cluster = Self { id: id.into(), prefixes, store, operator, dir, running: None };
        cluster.gateway(net).await;
        cluster
    }

    pub async fn joined(broker: &Broker, id: &str, net: u8) -> Self {
        let mut cluster = Self::new(id, net).await;
        cluster.join(broker, &[]).await;
        cluster.start().await;
        cluster
    }

    async fn gateway(&self, net: u8) {
        use base64::Engine as _;
        let key = base64::engine::general_purpose::STANDARD.encode([net; 32]);
        let gateway = GatewayNode {
            metadata: named("", "gw"),
            spec: GatewayNodeSpec {
                node: "gw".into(),
                lanes: vec![LaneSpec { public_key: key, port: 51820, next_public_key: None }],
                candidates: vec![format!("192.0.2.{net}")],
                preferred_prefixes: Vec::new(),
            },
            status: None,
        };
        self.operator.apply(&gateway).await.unwrap();
    }

    pub fn secrets(&self) -> IdentityDir {
        IdentityDir::of_site(self.dir.path())
    }

    pub fn state(&self) -> std::path::PathBuf {
        self.dir.path().join("state")
    }

    pub async fn join(&self, broker: &Broker, namespaces: &[&str]) {
        let token = broker.token(&self.id, namespaces).await;
        let dir = self.secrets();
        dir.ensure_probe_key().unwrap();
        let key = dir.join_key().unwrap();
        let join = Join { token: &token, key, replace: false, prefixes: self.prefixes.clone() };
        dir.store(&member::join(join).await.unwrap().identity).unwrap();
    }

    pub async fn start(&mut self) {
        let state = self.state();
        self.running = Some(agent(&self.store, &self.secrets(), &state, "agent-a"));
    }

    pub async fn stop(&mut self) {
        stop(&mut self.running).await;
    }

    /// Another agent with the same identity, on another host.
    pub fn second_agent(&self, store: &Store, holder: &str) -> Running {
        agent(store, &self.secrets(), &self.dir.path().join(holder), holder)
    }

    /// Exports `shop/<name>` with one port and these endpoints.
    pub async fn export(&self, name: &str, port: i32, addresses: &[&str]) {
        let service = Service {
            metadata: named("shop", name),
            spec: Some(k8s::ServiceSpec {
                ports: Some(vec![k8s::ServicePort { name: Some("http".into()), port, ..k8s::ServicePort::default() }]),
                ..k8s::ServiceSpec::default()
            }),
            status: None,
        };
        self.operator.apply(&service).await.unwrap();
        self.slice(name, addresses).await;
        // The lower the cluster's network, the older its exports.
        let day: i64 = self.prefixes[0].split('.').nth(1).and_then(|net| net.parse().ok()).unwrap();
        let created = jiff::Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap();
        let metadata = ObjectMeta { creation_timestamp: Some(Time(created)), ..named("shop", name) };
        let export = ServiceExport { metadata, spec: ServiceExportSpec::default(), status: None };
        self.operator.apply(&export).await.unwrap();
    }

    pub async fn slice(&self, name: &str, addresses: &[&str]) {
        let slice = EndpointSlice {
            metadata: ObjectMeta {
                labels: Some(BTreeMap::from([(labels::K8S_SERVICE_NAME.to_owned(), name.to_owned())])),
                ..named("shop", &format!("{name}-1"))
            },
            address_type: "IPv4".into(),
            ports: Some(vec![discovery::EndpointPort {
                name: Some("http".into()),
                port: Some(8080),
                ..Default::default()
            }]),
            endpoints: addresses
                .iter()
                .map(|a| discovery::Endpoint { addresses: vec![(*a).to_owned()], ..discovery::Endpoint::default() })
                .collect(),
        };
        self.operator.apply(&slice).await.unwrap();
    }

    pub async fn unexport(&self, name: &str) {
        self.operator.delete::<ServiceExport>(Key::namespaced("shop", name)).await.unwrap();
    }

    pub async fn all<K: Resource>(&self) -> Vec<K> {
        self.operator.list().await.unwrap()
    }

    /// Addresses of the imported slices of a service, by source cluster.
    pub async fn imported(&self, name: &str) -> BTreeMap<String, Vec<String>> {
        let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for slice in self.all::<EndpointSlice>().await {
            let labels = slice.metadata.labels.unwrap_or_default();
            if labels.get(labels::SERVICE_NAME).is_some_and(|s| s == name) {
                let source = labels[labels::SOURCE_CLUSTER].clone();
                out.entry(source).or_default().extend(slice.endpoints.into_iter().flat_map(|e| e.addresses));
            }
        }
        out
    }

    pub async fn import(&self, name: &str) -> Option<ServiceImport> {
        self.all::<ServiceImport>().await.into_iter().find(|i| i.metadata.name.as_deref() == Some(name))
    }

    pub async fn remotes(&self) -> BTreeMap<String, RemoteCluster> {
        self.all::<RemoteCluster>().await.into_iter().map(|r| (r.spec.cluster_id.clone(), r)).collect()
    }

    /// `status/reason` of an export's condition.
    pub async fn condition(&self, export: &str, type_: &str) -> Option<String> {
        let exports = self.all::<ServiceExport>().await;
        let export = exports.into_iter().find(|e| e.metadata.name.as_deref() == Some(export))?;
        let condition = export.status?.conditions.into_iter().find(|c| c.type_ == type_)?;
        Some(format!("{}/{}", condition.status, condition.reason))
    }

    /// `status/reason` of the membership's condition.
    pub async fn standing(&self, type_: &str) -> Option<String> {
        let membership = self.all::<Membership>().await.pop()?;
        let condition = membership.status?.conditions.into_iter().find(|c| c.type_ == type_)?;
        Some(format!("{}/{}", condition.status, condition.reason))
    }

    pub async fn is_member(&self) -> bool {
        self.all::<ClusterProperty>()
            .await
            .iter()
            .any(|p| p.metadata.name.as_deref() == Some(labels::PROPERTY_CLUSTER_SET))
    }

    /// The gateway says that it applies the newest roster, as a gateway does.
    pub async fn acknowledge(&self) {
        let revision = self.all::<Membership>().await.pop().and_then(|m| m.status).unwrap_or_default().roster_revision;
        let status = GatewayNodeStatus { roster_revision: revision, ..GatewayNodeStatus::default() };
        self.operator.apply_status::<GatewayNode, _>(Key::cluster("gw"), &status).await.unwrap();
    }
}

fn agent(store: &Store, secrets: &IdentityDir, state: &Path, holder: &str) -> Running {
    let setup = Setup {
        api: store.writer(holder),
        secrets: secrets.clone(),
        state: state.to_owned(),
        holder: holder.to_owned(),
    };
    let agent = Agent::new(setup, &mut Registry::default(), &Readiness::new()).unwrap();
    let token = CancellationToken::new();
    (token.clone(), tokio::spawn(agent.run(token)))
}

pub fn named(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

/// Waits until `get` gives what `good` likes; says what it last gave otherwise.
pub async fn until<T: std::fmt::Debug, F: Future<Output = T>>(
    what: &str,
    get: impl Fn() -> F,
    good: impl Fn(&T) -> bool,
) -> T {
    let began = Instant::now();
    loop {
        let value = get().await;
        if good(&value) {
            println!("{what}: after {:?}", began.elapsed());
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: still {value:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Shows the agents' and the broker's logs of a failed test.
pub fn logs() {
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = std::env::var("HAWSER_LOG").unwrap_or_else(|_| "hawser_agent=debug,hawser_broker=info,warn".into());
    let filter: Targets = filter.parse().expect("HAWSER_LOG: targets with levels");
    let lines = tracing_subscriber::fmt::layer().with_test_writer();
    let _ = tracing_subscriber::registry().with(lines).with(filter).try_init();
}
