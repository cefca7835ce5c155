//! A cluster `west` with two peers, and an API server of the simplest kind: what a plan writes is what the next one reads.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "shared by test binaries that each use a part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_agent_plan::diff::Name;
use hawser_agent_plan::export::FirstSeen;
use hawser_agent_plan::{Identity, Inputs, Link, Local, Plan, RemoteShard, Roster, Uploads, View, Write, plan};
use hawser_api::core::{EndpointSlice, Namespace, ObjectMeta, Service, Time};
use hawser_api::hawser::{
    GatewayClusterStatus, GatewayNode, GatewayNodeSpec, GatewayNodeStatus, LaneSpec, Membership, MembershipSpec,
};
use hawser_api::labels;
use hawser_api::mcs::{ServiceExport, ServiceExportSpec};
use hawser_model::export::{
    Endpoint, EndpointGroup, EndpointPort, ExportEndpoints, ExportHeader, InternalTrafficPolicy, Protocol, ServiceKind,
    ServicePort, SessionAffinity, Timestamp as Millis,
};
use hawser_model::{Candidate, ClusterId, Gateway, IpFamily, Lane, NodeName, PrefixSet, PublicKey, ServiceName};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::api::discovery::v1 as discovery;

pub const NOW: i64 = 1_800_000_000;

pub fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

pub fn cluster(id: &str) -> ClusterId {
    ClusterId::new(id).unwrap()
}

pub fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

pub fn prefixes(list: &[&str]) -> PrefixSet {
    list.iter().map(|p| p.parse().unwrap()).collect()
}

/// Everything that a plan is made from, owned.
pub struct World {
    pub local: Local,
    pub identity: Option<Identity>,
    pub roster: Option<Roster>,
    pub view: Option<View>,
    pub silent: BTreeMap<ClusterId, Timestamp>,
    pub link: Link,
    pub uploads: Uploads,
    pub first_seen: FirstSeen,
    pub now: Timestamp,
}

impl World {
    /// `west` (10.1.0.0/16, fd00:1::/48) with the namespace `shop`; `east` (10.2…, fd00:2…) and `north` (10.3…) are members.
    pub fn new() -> Self {
        let membership = Membership {
            metadata: named("", labels::MEMBERSHIP),
            spec: MembershipSpec {
                cluster_id: "west".into(),
                brokers: vec!["127.0.0.1:7443".into()],
                prefixes: vec!["10.1.0.0/16".into(), "fd00:1::/48".into()],
                vip_prefixes: vec!["10.99.0.0/24".into(), "fd99::/64".into()],
                dns_address: Vec::new(),
                drained_nodes: Vec::new(),
                rotate_keys_after: None,
                peer_max_age: None,
            },
            status: None,
        };
        let local = Local {
            membership: Some(Arc::new(membership)),
            namespaces: vec![Arc::new(namespace("shop"))],
            ..Local::default()
        };
        let members = [
            ("west", prefixes(&["10.1.0.0/16", "fd00:1::/48"])),
            ("east", prefixes(&["10.2.0.0/16", "fd00:2::/48"])),
            ("north", prefixes(&["10.3.0.0/16"])),
        ];
        Self {
            local,
            identity: Some(Identity {
                cluster_set: "fleet".into(),
                cluster: cluster("west"),
                generation: 1,
                namespaces: Vec::new(),
                certificate_expires: Timestamp::from_second(NOW + 86_400).unwrap(),
            }),
            roster: Some(Roster {
                revision: 7,
                members: members.into_iter().map(|(id, p)| ((cluster(id), 1), p)).collect(),
                revoked: Default::default(),
            }),
            view: Some(View { shards: BTreeMap::new(), namespaces: ["shop".to_owned()].into() }),
            silent: BTreeMap::new(),
            link: Link::Connected,
            uploads: Uploads::default(),
            first_seen: FirstSeen::new(),
            now: now(),
        }
    }

    pub fn plan(&self) -> Plan {
        plan(&Inputs {
            local: &self.local,
            identity: self.identity.as_ref(),
            roster: self.roster.as_ref(),
            view: self.view.as_ref(),
            silent: &self.silent,
            link: &self.link,
            uploads: &self.uploads,
            first_seen: &self.first_seen,
            now: self.now,
        })
    }

    /// Plans and applies; what was written.
    pub fn settle(&mut self) -> Vec<Write> {
        let writes = self.plan().writes;
        for write in &writes {
            apply(&mut self.local, write);
        }
        writes
    }

    pub fn shard(&mut self, id: &str) -> &mut RemoteShard {
        let view = self.view.get_or_insert_default();
        view.shards.entry((cluster(id), 1)).or_default()
    }

    /// Another cluster exports a service with one port and these endpoints.
    pub fn remote_export(&mut self, id: &str, name: &str, created: i64, port: u16, addresses: &[&str]) {
        let (header, endpoints) = (header(id, name, created, port), endpoints(id, name, port, addresses));
        let shard = self.shard(id);
        shard.headers.insert(service(name), Arc::new(header));
        shard.endpoints.insert(service(name), Arc::new(endpoints));
    }

    /// This cluster exports a Service with one port and these endpoints on node `n1`.
    pub fn own_export(&mut self, name: &str, port: i32, addresses: &[&str]) {
        let (namespace, short) = name.split_once('/').unwrap();
        self.local.services.push(Arc::new(own_service(namespace, short, port)));
        self.local.slices.push(Arc::new(own_slice(namespace, short, "IPv4", port, addresses)));
        self.local.exports.push(Arc::new(ServiceExport {
            metadata: ObjectMeta { creation_timestamp: Some(Time(now())), ..named(namespace, short) },
            spec: ServiceExportSpec::default(),
            status: None,
        }));
    }

    /// A gateway of this cluster says how it reaches another one.
    pub fn gateway_says(&mut self, node: &str, id: &str, state: &str, since: i64) {
        let row = GatewayClusterStatus {
            cluster: id.into(),
            generation: 1,
            state: state.into(),
            since: Time(Timestamp::from_second(since).unwrap()),
            reason: "as measured".into(),
            live_paths: if state == "Live" { 2 } else { 0 },
            total_paths: 2,
            last_failover: None,
            last_failover_ms: None,
        };
        let mut object = gateway_node(node);
        object.status =
            Some(GatewayNodeStatus { roster_revision: 7, clusters: vec![row], ..GatewayNodeStatus::default() });
        self.local.gateway_nodes.retain(|g| g.spec.node != node);
        self.local.gateway_nodes.push(Arc::new(object));
    }

    pub fn imported_slices(&self) -> Vec<&EndpointSlice> {
        let ours = |s: &&Arc<EndpointSlice>| {
            s.metadata.labels.as_ref().is_some_and(|l| l.contains_key(labels::SOURCE_CLUSTER))
        };
        self.local.slices.iter().filter(ours).map(|s| &**s).collect()
    }

    pub fn condition(&self, export: &str, type_: &str) -> Option<(String, String, String)> {
        let (namespace, name) = export.split_once('/').unwrap();
        let export = self.local.exports.iter().find(|e| is_named(&e.metadata, namespace, name))?;
        let condition = export.status.as_ref()?.conditions.iter().find(|c| c.type_ == type_)?;
        Some((condition.status.clone(), condition.reason.clone(), condition.message.clone()))
    }
}

pub fn is_named(meta: &ObjectMeta, namespace: &str, name: &str) -> bool {
    meta.namespace.as_deref().unwrap_or_default() == namespace && meta.name.as_deref() == Some(name)
}

pub fn named(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

pub fn namespace(name: &str) -> Namespace {
    Namespace { metadata: named("", name), ..Namespace::default() }
}

pub fn gateway_node(node: &str) -> GatewayNode {
    let key = if node == "n1" {
        "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
    } else {
        "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="
    };
    GatewayNode {
        metadata: named("", node),
        spec: GatewayNodeSpec {
            node: node.into(),
            lanes: vec![LaneSpec { public_key: key.into(), port: 51820, next_public_key: None }],
            candidates: vec!["192.0.2.1".into(), "gw.example.org".into()],
            preferred_prefixes: vec!["10.1.5.0/24".into(), "10.77.0.0/24".into()],
        },
        status: None,
    }
}

pub fn remote_gateway(node: &str) -> Gateway {
    Gateway {
        node: NodeName::new(node).unwrap(),
        lanes: vec![Lane { public_key: PublicKey([9; 32]), port: 51820, next_public_key: None }],
        candidates: vec![Candidate::Address("198.51.100.1".parse().unwrap())],
        preferred: Vec::new(),
        probes: true,
    }
}

pub fn header(id: &str, name: &str, created: i64, port: u16) -> ExportHeader {
    ExportHeader {
        cluster: cluster(id),
        service: service(name),
        created: Millis(created),
        kind: ServiceKind::ClusterSetIp,
        ports: vec![ServicePort { name: "http".into(), protocol: Protocol::Tcp, app_protocol: None, port }],
        session_affinity: SessionAffinity::None,
        session_affinity_timeout: None,
        internal_traffic_policy: InternalTrafficPolicy::Cluster,
        traffic_distribution: None,
        ip_families: vec![IpFamily::V4],
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

pub fn endpoints(id: &str, name: &str, port: u16, addresses: &[&str]) -> ExportEndpoints {
    let endpoint = |a: &&str| Endpoint {
        addresses: vec![a.parse().unwrap()],
        hostname: None,
        zone: Some("z1".into()),
        ready: true,
        serving: true,
        terminating: false,
    };
    let ports = vec![EndpointPort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        app_protocol: None,
        port: 8080,
        service_port: Some(port),
    }];
    ExportEndpoints {
        cluster: cluster(id),
        service: service(name),
        groups: vec![EndpointGroup {
            family: IpFamily::V4,
            ports,
            endpoints: addresses.iter().map(endpoint).collect(),
        }],
    }
}

pub fn own_service(namespace: &str, name: &str, port: i32) -> Service {
    Service {
        metadata: named(namespace, name),
        spec: Some(k8s::ServiceSpec {
            ports: Some(vec![k8s::ServicePort { name: Some("http".into()), port, ..k8s::ServicePort::default() }]),
            ..k8s::ServiceSpec::default()
        }),
        status: None,
    }
}

pub fn own_slice(namespace: &str, name: &str, family: &str, _port: i32, addresses: &[&str]) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            labels: Some([(labels::K8S_SERVICE_NAME.to_owned(), name.to_owned())].into()),
            ..named(namespace, &format!("{name}-own-{family}").to_lowercase())
        },
        address_type: family.into(),
        ports: Some(vec![discovery::EndpointPort {
            name: Some("http".into()),
            port: Some(8080),
            ..Default::default()
        }]),
        endpoints: addresses
            .iter()
            .map(|a| discovery::Endpoint {
                addresses: vec![(*a).to_owned()],
                node_name: Some("n1".into()),
                ..discovery::Endpoint::default()
            })
            .collect(),
    }
}

/// What an API server would hold after a write. Statuses survive an apply, as everywhere.
pub fn apply(local: &mut Local, write: &Write) {
    fn put<K: Clone>(list: &mut Vec<Arc<K>>, new: K, same: impl Fn(&K) -> bool, carry: impl Fn(&K, &mut K)) {
        let mut new = new;
        match list.iter_mut().find(|o| same(o)) {
            Some(old) => {
                carry(old, &mut new);
                *old = Arc::new(new);
            }
            None => list.push(Arc::new(new)),
        }
    }
    fn edit<K: Clone>(list: &mut [Arc<K>], same: impl Fn(&K) -> bool, change: impl FnOnce(&mut K)) {
        let object = list.iter_mut().find(|o| same(o)).expect("a status is written to an object that exists");
        change(Arc::make_mut(object));
    }
    let at = |meta: &ObjectMeta, name: &Name| is_named(meta, &name.0, &name.1);
    let key = |meta: &ObjectMeta| (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    let cluster_wide = |name: &String| (String::new(), name.clone());
    match write {
        Write::MembershipStatus(status) => {
            Arc::make_mut(local.membership.as_mut().unwrap()).status = Some(status.clone());
        }
        Write::Property(o) => {
            let k = key(&o.metadata);
            put(&mut local.properties, (**o).clone(), |p| at(&p.metadata, &k), |_, _| {});
        }
        Write::RemoteCluster(o) => {
            let k = key(&o.metadata);
            put(
                &mut local.remote_clusters,
                (**o).clone(),
                |p| at(&p.metadata, &k),
                |old, new| new.status.clone_from(&old.status),
            );
        }
        Write::Import(o) => {
            let k = key(&o.metadata);
            put(
                &mut local.imports,
                (**o).clone(),
                |p| at(&p.metadata, &k),
                |old, new| new.status.clone_from(&old.status),
            );
        }
        Write::Slice(o) => {
            let k = key(&o.metadata);
            put(&mut local.slices, (**o).clone(), |p| at(&p.metadata, &k), |_, _| {});
        }
        Write::RemoteClusterStatus(name, status) => {
            let k = cluster_wide(name);
            edit(&mut local.remote_clusters, |o| at(&o.metadata, &k), |o| o.status = Some(status.clone()));
        }
        Write::ImportStatus(name, status) => {
            edit(&mut local.imports, |o| at(&o.metadata, name), |o| o.status = Some(status.clone()));
        }
        Write::ExportStatus(name, status) => {
            edit(&mut local.exports, |o| at(&o.metadata, name), |o| o.status = Some(status.clone()));
        }
        Write::DeleteProperty(name) => local.properties.retain(|o| !at(&o.metadata, &cluster_wide(name))),
        Write::DeleteRemoteCluster(name) => local.remote_clusters.retain(|o| !at(&o.metadata, &cluster_wide(name))),
        Write::DeleteImport(name) => local.imports.retain(|o| !at(&o.metadata, name)),
        Write::DeleteSlice(name) => local.slices.retain(|o| !at(&o.metadata, name)),
    }
}
