use super::*;
use crate::export::{Protocol, Timestamp};
use proptest::prelude::*;

fn cluster(s: &str) -> ClusterId {
    ClusterId::new(s).unwrap()
}

fn port(name: &str, protocol: Protocol, port: u16) -> ServicePort {
    ServicePort { name: name.into(), protocol, app_protocol: None, port }
}

fn header(name: &str, created: i64) -> ExportHeader {
    ExportHeader {
        cluster: cluster(name),
        service: ServiceName::new("shop", "web").unwrap(),
        created: Timestamp(created),
        kind: ServiceKind::ClusterSetIp,
        ports: vec![port("tcp", Protocol::Tcp, 42), port("udp", Protocol::Udp, 42)],
        session_affinity: SessionAffinity::None,
        session_affinity_timeout: None,
        internal_traffic_policy: InternalTrafficPolicy::Cluster,
        traffic_distribution: None,
        ip_families: vec![IpFamily::V4],
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

/// Two exports, the second with `change`.
fn conflicting(change: impl FnOnce(&mut ExportHeader)) -> Merge {
    let mut second = header("cluster-2", 2);
    change(&mut second);
    merge(&[second, header("cluster-1", 1)]).unwrap()
}

#[test]
fn no_export_no_import() {
    assert_eq!(merge(&[]), None);
}

#[test]
fn equal_exports_agree() {
    let merged = conflicting(|_| {});
    assert_eq!((merged.reason().as_str(), merged.conflicts.len()), ("NoConflicts", 0));
    assert_eq!(merged.import.clusters, [cluster("cluster-1"), cluster("cluster-2")]);
    // The order of ports, of families and the cluster set's other services are no conflict.
    let merged = conflicting(|h| h.ports.reverse());
    assert_eq!(merged.reason(), "NoConflicts");
    let mut other = header("cluster-3", 9);
    other.service = ServiceName::new("shop", "db").unwrap();
    other.kind = ServiceKind::Headless;
    let merged = merge(&[header("cluster-1", 1), other]).unwrap();
    assert_eq!((merged.reason().as_str(), merged.import.clusters), ("NoConflicts", vec![cluster("cluster-1")]));
}

#[test]
fn every_reason_alone() {
    let merges = [
        conflicting(|h| h.ports.push(port("stcp", Protocol::Sctp, 142))),
        conflicting(|h| h.kind = ServiceKind::Headless),
        conflicting(|h| h.session_affinity = SessionAffinity::ClientIp),
        conflicting(|h| h.session_affinity_timeout = Some(10)),
        conflicting(|h| drop(h.annotations.insert("a".into(), "b".into()))),
        conflicting(|h| drop(h.labels.insert("a".into(), "b".into()))),
        conflicting(|h| h.internal_traffic_policy = InternalTrafficPolicy::Local),
        conflicting(|h| h.traffic_distribution = Some("PreferClose".into())),
        conflicting(|h| h.ip_families = vec![IpFamily::V6]),
    ];
    let lines: Vec<String> = merges.iter().map(|m| format!("{}: {}", m.reason(), m.message())).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_oldest_wins_everything_at_once() {
    let mut first = header("cluster-2", 1);
    first.kind = ServiceKind::Headless;
    first.labels.insert("from".into(), "two".into());
    first.annotations.insert("from".into(), "two".into());
    first.session_affinity = SessionAffinity::ClientIp;
    first.session_affinity_timeout = Some(10);
    first.internal_traffic_policy = InternalTrafficPolicy::Local;
    first.traffic_distribution = Some("PreferClose".into());
    first.ip_families = vec![IpFamily::V6, IpFamily::V4];
    first.ports = vec![port("tcp", Protocol::Tcp, 4242)];
    let merged = merge(&[header("cluster-1", 2), first.clone()]).unwrap();
    let reason = merged.reason();
    assert_eq!(
        reason,
        "PortConflict,TypeConflict,SessionAffinityConflict,SessionAffinityConfigConflict,AnnotationsConflict,LabelsConflict,\
         InternalTrafficPolicyConflict,TrafficDistributionConflict,IPFamilyConflict"
    );
    // What the CRD's schema allows for reason and message.
    assert!(reason.len() <= 1024 && reason.bytes().all(|b| b.is_ascii_alphanumeric() || b == b','));
    assert!(merged.message().len() <= 32_768);
    assert_eq!(merged.oldest, cluster("cluster-2"));
    let import = merged.import;
    assert_eq!(import.ports, [port("tcp", Protocol::Tcp, 4242), port("udp", Protocol::Udp, 42)]);
    assert_eq!((import.kind, import.labels, import.annotations), (first.kind, first.labels, first.annotations));
    assert_eq!(import.ip_families, [IpFamily::V6, IpFamily::V4]);
    assert_eq!((import.session_affinity, import.session_affinity_timeout), (SessionAffinity::ClientIp, Some(10)));
}

#[test]
fn the_message_counts_clusters() {
    let mut headers: Vec<ExportHeader> = (1..=5).map(|i| header(&format!("cluster-{i}"), i)).collect();
    headers[3].kind = ServiceKind::Headless;
    headers[4].kind = ServiceKind::Headless;
    assert_eq!(
        merge(&headers).unwrap().message(),
        "Conflicting type. Using \"ClusterSetIP\" from oldest service export in \"cluster-1\". 2/5 clusters disagree."
    );
}

#[test]
fn a_tie_goes_to_the_lower_cluster_id() {
    let (mut a, b) = (header("a", 7), header("b", 7));
    a.kind = ServiceKind::Headless;
    assert_eq!(merge(&[b, a]).unwrap().import.kind, ServiceKind::Headless);
}

/// Rows of the union rule: the ports of the older and of the younger export, and the union.
#[test]
fn ports_are_united_by_name_then_by_number() {
    let p = port;
    let (tcp, udp, sctp) = (Protocol::Tcp, Protocol::Udp, Protocol::Sctp);
    let rows = [
        (
            vec![p("tcp", tcp, 42), p("udp", udp, 42)],
            vec![p("tcp", tcp, 42), p("stcp", sctp, 142)],
            "tcp 42/TCP, udp 42/UDP, stcp 142/SCTP",
            "PortConflict",
        ),
        (vec![p("tcp", tcp, 42), p("udp", udp, 42)], vec![p("tcp", tcp, 43)], "tcp 42/TCP, udp 42/UDP", "PortConflict"),
        (vec![p("a", tcp, 1)], vec![p("b", tcp, 1)], "a 1/TCP", "PortConflict"),
        (vec![p("a", tcp, 1)], vec![p("b", udp, 1)], "a 1/TCP, b 1/UDP", "PortConflict"),
        (vec![p("", tcp, 1)], vec![p("", tcp, 2)], " 1/TCP", "PortConflict"),
        (vec![p("", tcp, 1)], vec![p("b", tcp, 2)], " 1/TCP, b 2/TCP", "PortConflict"),
        (vec![], vec![p("b", tcp, 2)], "b 2/TCP", "PortConflict"),
        (vec![p("a", tcp, 1)], vec![p("a", tcp, 1)], "a 1/TCP", "NoConflicts"),
    ];
    for (older, younger, want, reason) in rows {
        let merged = merge(&[
            ExportHeader { ports: older, ..header("x", 1) },
            ExportHeader { ports: younger, ..header("a", 2) },
        ])
        .unwrap();
        let union: Vec<String> =
            merged.import.ports.iter().map(|p| format!("{} {}/{}", p.name, p.port, p.protocol)).collect();
        assert_eq!((union.join(", ").as_str(), merged.reason().as_str()), (want, reason));
    }
    // The protocol hint is part of the comparison.
    let merged = conflicting(|h| h.ports[0].app_protocol = Some("h2c".into()));
    assert_eq!((merged.reason().as_str(), merged.import.ports[0].app_protocol.clone()), ("PortConflict", None));
}

#[test]
fn traffic_goes_to_the_ports_that_were_exported() {
    let import = [port("tcp", Protocol::Tcp, 42), port("alt", Protocol::Tcp, 4242)];
    let group = |name: &str, protocol, service_port| EndpointPort {
        name: name.into(),
        protocol,
        app_protocol: None,
        port: 8080,
        service_port,
    };
    let rows = [
        (group("tcp", Protocol::Tcp, Some(42)), Some(42)),
        (group("alt", Protocol::Tcp, Some(4242)), Some(4242)),
        // The same name for another number, another protocol, another name for the same number: all conflicts that lost.
        (group("tcp", Protocol::Tcp, Some(4242)), None),
        (group("tcp", Protocol::Udp, Some(42)), None),
        (group("web", Protocol::Tcp, Some(42)), None),
        (group("tcp", Protocol::Tcp, None), None),
        (EndpointPort { port: 42, ..group("tcp", Protocol::Tcp, None) }, Some(42)),
    ];
    for (endpoint_port, want) in rows {
        let group = [endpoint_port];
        let routable = routable_ports(&import, &group);
        assert_eq!(routable.iter().map(|(i, _)| i.port).collect::<Vec<_>>(), Vec::from_iter(want), "{group:?}");
    }
}

fn any_port() -> impl Strategy<Value = ServicePort> {
    (
        prop::sample::select(vec!["", "a", "b", "c"]),
        prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]),
        1u16..4,
        any::<bool>(),
    )
        .prop_map(|(name, protocol, port, hint)| ServicePort {
            name: name.into(),
            protocol,
            app_protocol: hint.then(|| "h2c".into()),
            port,
        })
}

prop_compose! {
    fn any_header()(
        id in 0..4u8, created in 0..3i64, headless in any::<bool>(), ports in proptest::collection::vec(any_port(), 0..5),
        bits in any::<u8>(), text in prop::sample::select(vec!["x", "y"]),
    ) -> ExportHeader {
        let mut h = header(&format!("c{id}"), created);
        h.kind = if headless { ServiceKind::Headless } else { ServiceKind::ClusterSetIp };
        h.ports = ports;
        if bits & 1 != 0 { h.session_affinity = SessionAffinity::ClientIp; }
        if bits & 2 != 0 { h.session_affinity_timeout = Some(u32::from(bits)); }
        if bits & 4 != 0 { h.internal_traffic_policy = InternalTrafficPolicy::Local; }
        if bits & 8 != 0 { h.traffic_distribution = Some(text.into()); }
        if bits & 16 != 0 { h.ip_families = vec![IpFamily::V6, IpFamily::V4]; }
        if bits & 32 != 0 { h.ip_families = vec![IpFamily::V6]; }
        if bits & 64 != 0 { h.labels.insert("k".into(), text.into()); }
        if bits & 128 != 0 { h.annotations.insert("k".into(), text.into()); }
        h
    }
}

fn headers_twice() -> impl Strategy<Value = (Vec<ExportHeader>, Vec<ExportHeader>)> {
    proptest::collection::vec(any_header(), 1..7).prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle()))
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter((headers, shuffled) in headers_twice()) {
        prop_assert_eq!(merge(&headers), merge(&shuffled));
    }

    #[test]
    fn the_union_has_each_name_and_each_number_once(headers in proptest::collection::vec(any_header(), 1..7)) {
        let import = merge(&headers).unwrap().import;
        let names: BTreeSet<_> = import.ports.iter().map(|p| &p.name).collect();
        let numbers: BTreeSet<_> = import.ports.iter().map(|p| (p.protocol, p.port)).collect();
        prop_assert_eq!((names.len(), numbers.len()), (import.ports.len(), import.ports.len()));
        let families: BTreeSet<_> = import.ip_families.iter().collect();
        prop_assert_eq!(families.len(), import.ip_families.len());
        // Every port that is left out is excluded by one that is in.
        for header in by_age(&headers) {
            for p in &header.ports {
                prop_assert!(names.contains(&p.name) || numbers.contains(&(p.protocol, p.port)));
            }
        }
    }

    #[test]
    fn there_is_a_conflict_exactly_where_headers_differ(headers in proptest::collection::vec(any_header(), 1..7)) {
        let merged = merge(&headers).unwrap();
        let by_age = by_age(&headers);
        let canonical = |h: &ExportHeader| {
            let mut h = ExportHeader { cluster: cluster("x"), created: Timestamp(0), ..h.clone() };
            h.ports.sort();
            h.ports.dedup();
            h.ip_families.sort();
            h
        };
        let differ = by_age.iter().any(|h| canonical(h) != canonical(by_age[0]));
        prop_assert_eq!(merged.conflicts.is_empty(), !differ);
        prop_assert!(merged.conflicts.is_sorted_by_key(|c| c.reason));
    }

    #[test]
    fn the_oldest_s_ports_are_routable_as_it_exported_them(headers in proptest::collection::vec(any_header(), 1..7)) {
        let merged = merge(&headers).unwrap();
        for i in &merged.import.ports {
            let own = EndpointPort {
                name: i.name.clone(), protocol: i.protocol, app_protocol: None, port: 9999, service_port: Some(i.port),
            };
            prop_assert_eq!(routable_ports(&merged.import.ports, &[own]).len(), 1);
        }
    }
}
