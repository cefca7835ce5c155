use super::*;
use crate::PrefixSet;
use crate::export::{
    Endpoint, EndpointGroup, EndpointPort, ExportEndpoints, InternalTrafficPolicy, ServiceKind, ServicePort,
    SessionAffinity, Timestamp,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn port(name: &str, protocol: Protocol, port: u16) -> ServicePort {
    ServicePort { name: name.into(), protocol, app_protocol: None, port }
}

fn header() -> ExportHeader {
    ExportHeader {
        cluster: ClusterId::new("west").unwrap(),
        service: ServiceName::new("shop", "web").unwrap(),
        created: Timestamp(1),
        kind: ServiceKind::ClusterSetIp,
        ports: vec![
            port("http", Protocol::Tcp, 80),
            port("dns", Protocol::Udp, 53),
            port("dns-tcp", Protocol::Tcp, 53),
        ],
        session_affinity: SessionAffinity::ClientIp,
        session_affinity_timeout: Some(10_800),
        internal_traffic_policy: InternalTrafficPolicy::Cluster,
        traffic_distribution: Some("PreferClose".into()),
        ip_families: vec![IpFamily::V6, IpFamily::V4],
        labels: BTreeMap::from([("app.example.com/tier".into(), "Front_1".into()), ("x".into(), String::new())]),
        annotations: BTreeMap::from([("note".into(), "any text, ünicode too".into())]),
    }
}

fn endpoint(addresses: &[&str]) -> Endpoint {
    Endpoint {
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        hostname: Some("web-0".into()),
        zone: Some("eu-1a".into()),
        ready: true,
        serving: true,
        terminating: false,
    }
}

fn endpoints() -> ExportEndpoints {
    let group = |family, addresses: &[&str]| EndpointGroup {
        family,
        ports: vec![EndpointPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            app_protocol: Some("kubernetes.io/h2c".into()),
            port: 8080,
            service_port: Some(80),
        }],
        endpoints: addresses.iter().map(|a| endpoint(&[a])).collect(),
    };
    ExportEndpoints {
        cluster: ClusterId::new("west").unwrap(),
        service: ServiceName::new("shop", "web").unwrap(),
        groups: vec![group(IpFamily::V4, &["10.1.0.1", "10.2.0.1"]), group(IpFamily::V6, &["fd00:1::1", "fd00:2::1"])],
    }
}

type Change<T> = fn(&mut T);

#[test]
fn headers() {
    assert_eq!(header().validate(), Ok(()));
    let cases: &[(&str, Change<ExportHeader>)] = &[
        ("one unnamed port is fine", |h| h.ports = vec![port("", Protocol::Sctp, 9)]),
        ("a headless service without ports is fine", |h| h.ports.clear()),
        ("upper case port name", |h| h.ports[0].name = "HTTP".into()),
        ("long port name", |h| h.ports[0].name = "p".repeat(64)),
        ("port name twice", |h| h.ports[1].name = "http".into()),
        ("two unnamed ports", |h| (h.ports[0].name, h.ports[1].name) = (String::new(), String::new())),
        ("number twice", |h| h.ports[2] = port("web", Protocol::Tcp, 80)),
        ("port 0", |h| h.ports[1].port = 0),
        ("protocol hint", |h| h.ports[0].app_protocol = Some("h2c,".into())),
        ("too many ports", |h| h.ports = (1..=1001).map(|i| port(&format!("p{i}"), Protocol::Tcp, i)).collect()),
        ("timeout 0", |h| h.session_affinity_timeout = Some(0)),
        ("timeout of more than a day", |h| h.session_affinity_timeout = Some(86_401)),
        ("traffic distribution", |h| h.traffic_distribution = Some("Prefer Close".into())),
        ("no family", |h| h.ip_families.clear()),
        ("family twice", |h| h.ip_families = vec![IpFamily::V4, IpFamily::V4]),
        ("label key", |h| drop(h.labels.insert("a b".into(), String::new()))),
        ("label key's domain", |h| drop(h.labels.insert("Example.com/a".into(), String::new()))),
        ("label value", |h| drop(h.labels.insert("a".into(), "-".into()))),
        ("our own label", |h| drop(h.labels.insert("hawser.dev/gateway".into(), "true".into()))),
        ("our own annotation", |h| drop(h.annotations.insert("x.hawser.dev/y".into(), String::new()))),
        ("annotation key", |h| drop(h.annotations.insert("/".into(), String::new()))),
        ("annotations too large", |h| drop(h.annotations.insert("a".into(), "x".repeat(65_536)))),
    ];
    let lines: Vec<String> = cases
        .iter()
        .map(|(name, change)| {
            let mut h = header();
            change(&mut h);
            format!("{name}: {}", h.validate().map_or_else(|e| e.to_string(), |()| "ok".into()))
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn endpoint_groups() {
    assert_eq!(endpoints().validate(), Ok(()));
    let cases: &[(&str, Change<ExportEndpoints>)] = &[
        ("no groups is fine", |e| e.groups.clear()),
        ("no ports is fine", |e| e.groups[0].ports.clear()),
        ("family", |e| e.groups[1].family = IpFamily::V4),
        ("no address", |e| e.groups[0].endpoints[1].addresses.clear()),
        ("too many addresses", |e| e.groups[0].endpoints[1].addresses = vec!["10.1.0.1".parse().unwrap(); 101]),
        ("hostname", |e| e.groups[0].endpoints[0].hostname = Some("web.0".into())),
        ("zone", |e| e.groups[0].endpoints[0].zone = Some("eu 1".into())),
        ("port name", |e| e.groups[1].ports[0].name = "-".into()),
        ("port 0", |e| e.groups[1].ports[0].port = 0),
        ("service port 0", |e| e.groups[1].ports[0].service_port = Some(0)),
        ("too many endpoints", |e| e.groups[0].endpoints = vec![endpoint(&["10.1.0.1"]); 1001]),
        ("too many groups", |e| e.groups = vec![e.groups[0].clone(); 1001]),
    ];
    let lines: Vec<String> = cases
        .iter()
        .map(|(name, change)| {
            let mut e = endpoints();
            change(&mut e);
            format!("{name}: {}", e.validate().map_or_else(|e| e.to_string(), |()| "ok".into()))
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn endpoints_outside_are_named_and_taken_out() {
    let prefixes = PrefixSet::parse("p", &["10.1.0.0/16", "fd00:1::/48"]).unwrap();
    let mut e = endpoints();
    let found: Vec<String> = e.retain_inside(&prefixes).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "groups[0].endpoints[1] has 10.2.0.1, which is outside the cluster's prefixes",
            "groups[1].endpoints[1] has fd00:2::1, which is outside the cluster's prefixes"
        ]
    );
    assert_eq!(e.outside(&prefixes), []);
    assert_eq!(e.groups.iter().map(|g| g.endpoints.len()).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn one_address_outside_is_enough() {
    let prefixes = PrefixSet::parse("p", &["10.1.0.0/16"]).unwrap();
    let mut e = endpoints();
    e.groups = vec![EndpointGroup { endpoints: vec![endpoint(&["10.1.0.1", "10.9.0.1"])], ..e.groups[0].clone() }];
    assert_eq!(e.retain_inside(&prefixes).len(), 1);
    assert!(e.groups[0].endpoints.is_empty());
}

proptest! {
    #[test]
    fn whatever_a_name_is_errors_stay_short(name in "\\PC{0,300}", key in "\\PC{0,300}") {
        let mut h = header();
        h.ports[0].name = name;
        h.labels.insert(key, String::new());
        if let Err(e) = h.validate() {
            prop_assert!(e.to_string().len() < 1500, "{e}");
        }
    }
}
