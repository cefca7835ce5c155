//! A cluster set in memory for the tests.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test file uses a part of it

use std::collections::BTreeMap;

use hawser_broker_core::{
    Body, Core, Grant, Hash, Hello, JoinRequest, Joined, Kind, Limits, Loaded, Opened, RecordKey, Refusal, Roster,
    StreamId, TokenRequest, TokenSeed,
};
use hawser_model::export::{
    Endpoint, EndpointGroup, EndpointPort, ExportEndpoints, ExportHeader, InternalTrafficPolicy, Protocol, ServiceKind,
    ServicePort, SessionAffinity, Timestamp,
};
use hawser_model::{Candidate, ClusterId, Gateway, IpFamily, Lane, NodeName, PrefixSet, PublicKey};

/// Seconds since the epoch at which every test begins.
pub const START: i64 = 1_800_000_000;

pub fn at(seconds: i64) -> Timestamp {
    Timestamp((START + seconds) * 1000)
}

pub fn id(name: &str) -> ClusterId {
    ClusterId::new(name).unwrap()
}

pub fn set(prefixes: &[&str]) -> PrefixSet {
    PrefixSet::parse("prefixes", prefixes).unwrap()
}

pub fn key_of(name: &str) -> Hash {
    Hash::of(name.as_bytes())
}

pub fn empty(limits: Limits) -> Core {
    let loaded = Loaded {
        roster: Roster::new("demo"),
        terms: BTreeMap::new(),
        epoch: [7; 16],
        epoch_began: START,
        revision: 0,
        complete: Vec::new(),
        records: Vec::new(),
    };
    Core::new(loaded, limits, at(0))
}

pub fn token(core: &mut Core, cluster: &str, grant: Grant, uses: u32) -> [u8; 32] {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_be_bytes();
    let mut seed = TokenSeed { id: [0; 5], secret: [9; 32] };
    seed.id[1..].copy_from_slice(&n);
    seed.secret[..4].copy_from_slice(&n);
    let request = TokenRequest { cluster: id(cluster), ttl: 3600, uses, grant, created_by: "root".into() };
    core.create_token(request, &seed, at(0)).unwrap();
    seed.secret
}

pub fn join_with(
    core: &mut Core,
    cluster: &str,
    secret: &[u8],
    key: &str,
    prefixes: &[&str],
) -> Result<Joined, Refusal> {
    let (cluster, claims) = (id(cluster), set(prefixes));
    let request = JoinRequest { cluster: &cluster, secret, key: key_of(key), replace: false, claims: &claims };
    core.join(&request, at(1))
}

/// Admits a cluster whose key is named like it.
pub fn join(core: &mut Core, cluster: &str, prefixes: &[&str]) -> Joined {
    let secret = token(core, cluster, Grant::default(), 1);
    join_with(core, cluster, &secret, cluster, prefixes).unwrap()
}

pub fn hello(generation: u64, namespaces: &[&str]) -> Hello {
    Hello {
        generation,
        holder: "agent-1".into(),
        now: START + 1,
        highest: None,
        resume: None,
        interest: (1, namespaces.iter().map(|n| (*n).to_owned()).collect()),
    }
}

pub fn open(core: &mut Core, cluster: &str, namespaces: &[&str]) -> Opened {
    let generation = core.roster().member(&id(cluster)).unwrap().generation;
    core.open(&id(cluster), &key_of(cluster), hello(generation, namespaces), at(1)).unwrap()
}

/// Not the wire's encoding, but as canonical.
pub fn encode(body: &Body) -> Vec<u8> {
    format!("{body:?}").into_bytes()
}

pub fn put(core: &mut Core, stream: StreamId, body: Body) -> Result<bool, Refusal> {
    core.put(stream, body, encode, at(2))
}

pub fn gateway(node: &str, key: u8) -> Body {
    Body::Gateway(Gateway {
        node: NodeName::new(node).unwrap(),
        lanes: vec![Lane { public_key: PublicKey([key; 32]), port: 51820, next_public_key: None }],
        candidates: vec![Candidate::Address("192.0.2.1".parse().unwrap())],
        preferred: Vec::new(),
        probes: true,
    })
}

pub fn header(cluster: &str, service: &str, created: Timestamp) -> Body {
    Body::Header(ExportHeader {
        cluster: id(cluster),
        service: service.parse().unwrap(),
        created,
        kind: ServiceKind::ClusterSetIp,
        ports: vec![ServicePort { name: "http".into(), protocol: Protocol::Tcp, app_protocol: None, port: 80 }],
        session_affinity: SessionAffinity::None,
        session_affinity_timeout: None,
        internal_traffic_policy: InternalTrafficPolicy::Cluster,
        traffic_distribution: None,
        ip_families: vec![IpFamily::V4],
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    })
}

pub fn endpoints(cluster: &str, service: &str, addresses: &[&str]) -> Body {
    let endpoints = addresses.iter().map(|a| Endpoint {
        addresses: vec![a.parse().unwrap()],
        hostname: None,
        zone: None,
        ready: true,
        serving: true,
        terminating: false,
    });
    let first: Option<std::net::IpAddr> = addresses.first().map(|a| a.parse().unwrap());
    Body::Endpoints(ExportEndpoints {
        cluster: id(cluster),
        service: service.parse().unwrap(),
        groups: vec![EndpointGroup {
            family: first.map_or(IpFamily::V4, IpFamily::of),
            ports: vec![EndpointPort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                app_protocol: None,
                port: 8080,
                service_port: Some(80),
            }],
            endpoints: endpoints.collect(),
        }],
    })
}

pub fn key(kind: Kind, name: &str) -> RecordKey {
    RecordKey { kind, name: name.into() }
}

/// Asserts every part of a refusal.
pub fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>, object: &str, field: &str, rule: &str, remedy: &str) {
    let error = result.expect_err("it should have been refused");
    assert_eq!((error.object.as_str(), error.field.as_str()), (object, field), "{error}");
    assert!(error.rule.contains(rule), "rule: {error}");
    assert!(error.remedy.contains(remedy), "remedy: {error}");
}
