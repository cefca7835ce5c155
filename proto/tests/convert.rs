//! What goes out comes back the same; what is not valid names its object, field and rule; garbage never panics.
#![allow(clippy::unwrap_used, reason = "test helpers, which the lint does not know for tests")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hawser_model::export::{
    Endpoint, EndpointGroup, EndpointPort, ExportEndpoints, ExportHeader, InternalTrafficPolicy, Protocol, ServiceKind,
    ServicePort, SessionAffinity, Timestamp,
};
use hawser_model::{Candidate, ClusterId, Gateway, IpFamily, Lane, NodeName, PrefixSet, PublicKey, ServiceName};
use hawser_proto::convert::{Member, Record, Revoked, Roster};
use hawser_proto::digest::record_key;
use hawser_proto::v1;
use proptest::prelude::*;
use prost::Message;

fn west() -> ClusterId {
    ClusterId::new("west").unwrap()
}

fn label() -> impl Strategy<Value = String> {
    "[a-z]([a-z0-9-]{0,8}[a-z0-9])?"
}

fn optional_text() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[a-z]{1,8}")
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|n| IpAddr::V4(Ipv4Addr::from_bits(n))),
        any::<u128>().prop_map(|n| IpAddr::V6(Ipv6Addr::from_bits(n | 1 << 127))),
    ]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)]
}

fn family() -> impl Strategy<Value = IpFamily> {
    prop_oneof![Just(IpFamily::V4), Just(IpFamily::V6)]
}

fn service() -> impl Strategy<Value = ServiceName> {
    (label(), label()).prop_map(|(namespace, name)| ServiceName::new(&namespace, &name).unwrap())
}

fn gateway() -> impl Strategy<Value = Record> {
    let lane = (any::<[u8; 32]>(), 1..=u16::MAX, proptest::option::of(any::<[u8; 32]>()))
        .prop_map(|(key, port, next)| Lane { public_key: PublicKey(key), port, next_public_key: next.map(PublicKey) });
    let candidate = prop_oneof![
        address().prop_map(Candidate::Address),
        (label(), label()).prop_map(|(host, top)| Candidate::Name(format!("{host}.{top}"))),
    ];
    (
        label(),
        prop::collection::vec(lane, 1..9),
        prop::collection::vec(candidate, 0..4),
        prop::collection::vec((any::<u32>(), 0..=32u8), 0..3),
        any::<bool>(),
    )
        .prop_map(|(node, lanes, candidates, preferred, probes)| {
            let preferred = preferred
                .into_iter()
                .map(|(bits, len)| ipnet::Ipv4Net::new(Ipv4Addr::from_bits(bits), len).unwrap().trunc().into())
                .collect();
            Record::Gateway(Gateway { node: NodeName::new(node).unwrap(), lanes, candidates, preferred, probes })
        })
}

fn header() -> impl Strategy<Value = Record> {
    let port = ("[a-z]{0,4}", protocol(), optional_text(), 1..=u16::MAX)
        .prop_map(|(name, protocol, app_protocol, port)| ServicePort { name, protocol, app_protocol, port });
    let map = || prop::collection::btree_map("[a-z]{1,5}", "[a-z]{0,5}", 0..4);
    (
        (service(), any::<i64>(), any::<bool>(), prop::collection::vec(port, 0..4)),
        (any::<bool>(), proptest::option::of(any::<u32>()), any::<bool>(), optional_text()),
        (prop::collection::vec(family(), 0..3), map(), map()),
    )
        .prop_map(|((service, created, headless, ports), (client_ip, timeout, local, distribution), rest)| {
            let (ip_families, labels, annotations): (_, BTreeMap<_, _>, BTreeMap<_, _>) = rest;
            Record::ExportHeader(ExportHeader {
                cluster: west(),
                service,
                created: Timestamp(created),
                kind: if headless { ServiceKind::Headless } else { ServiceKind::ClusterSetIp },
                ports,
                session_affinity: if client_ip { SessionAffinity::ClientIp } else { SessionAffinity::None },
                session_affinity_timeout: timeout,
                internal_traffic_policy: if local {
                    InternalTrafficPolicy::Local
                } else {
                    InternalTrafficPolicy::Cluster
                },
                traffic_distribution: distribution,
                ip_families,
                labels,
                annotations,
            })
        })
}

fn endpoints() -> impl Strategy<Value = Record> {
    let port = ("[a-z]{0,4}", protocol(), optional_text(), 1..=u16::MAX, proptest::option::of(1..=u16::MAX)).prop_map(
        |(name, protocol, app_protocol, port, service_port)| EndpointPort {
            name,
            protocol,
            app_protocol,
            port,
            service_port,
        },
    );
    let endpoint =
        (prop::collection::vec(address(), 0..3), optional_text(), optional_text(), any::<(bool, bool, bool)>())
            .prop_map(|(addresses, hostname, zone, (ready, serving, terminating))| Endpoint {
                addresses,
                hostname,
                zone,
                ready,
                serving,
                terminating,
            });
    let group = (family(), prop::collection::vec(port, 0..3), prop::collection::vec(endpoint, 0..4))
        .prop_map(|(family, ports, endpoints)| EndpointGroup { family, ports, endpoints });
    (service(), prop::collection::vec(group, 0..3))
        .prop_map(|(service, groups)| Record::ExportEndpoints(ExportEndpoints { cluster: west(), service, groups }))
}

proptest! {
    #[test]
    fn records_come_back_the_same(record in prop_oneof![gateway(), header(), endpoints()]) {
        let bytes = record.to_proto().encode_to_vec();
        let message = v1::Record::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(Some(record.key()), record_key(&message));
        prop_assert_eq!(Record::from_proto(&west(), message).unwrap(), record);
    }

    #[test]
    fn garbage_is_refused_or_read_but_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = v1::Record::decode(bytes.as_slice()) {
            let _ = Record::from_proto(&west(), message);
        }
        let _ = Roster::decode(&bytes);
    }

    #[test]
    fn cut_and_flipped_records_never_panic(record in endpoints(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = record.to_proto().encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        for cut in [&bytes[..], &bytes[..at]] {
            if let Ok(message) = v1::Record::decode(cut) {
                let _ = Record::from_proto(&west(), message);
            }
        }
    }
}

#[test]
fn rosters_come_back_the_same() {
    let roster = Roster {
        cluster_set: "prod".into(),
        revision: 7,
        members: vec![Member {
            id: west(),
            generation: 2,
            prefixes: PrefixSet::new(["10.1.0.0/16".parse().unwrap(), "fd00:1::/48".parse().unwrap()]),
        }],
        revoked: vec![Revoked { id: west(), generation: 1 }],
    };
    assert_eq!(Roster::decode(&roster.encode()).unwrap(), roster);
}

#[test]
fn what_is_wrong_is_named() {
    let lane = v1::Lane { public_key: vec![1; 32], port: 51820, next_public_key: vec![] };
    let gateway = |change: fn(&mut v1::Gateway)| {
        let mut body = v1::Gateway { lanes: vec![lane.clone()], ..Default::default() };
        change(&mut body);
        ("gw-1", v1::record::Body::Gateway(body))
    };
    let header = |change: fn(&mut v1::ExportHeader)| {
        let mut body = v1::ExportHeader { kind: 1, ..Default::default() };
        change(&mut body);
        ("shop/web", v1::record::Body::ExportHeader(body))
    };
    let endpoints = |addresses: Vec<Vec<u8>>| {
        let endpoints = vec![v1::Endpoint { addresses, ..Default::default() }];
        let groups = vec![v1::EndpointGroup { family: 1, endpoints, ..Default::default() }];
        ("shop/web", v1::record::Body::ExportEndpoints(v1::ExportEndpoints { groups }))
    };
    let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets().to_vec();
    let cases = [
        (gateway(|g| g.lanes.clear()), "gateway gw-1: lanes: a gateway has at least one lane"),
        (gateway(|g| g.lanes[0].port = 0), "lanes[0].port: 0 is not a port number"),
        (gateway(|g| g.lanes[0].port = 70_000), "lanes[0].port: 70000 is not a port number"),
        (gateway(|g| g.lanes[0].public_key = vec![1; 31]), "lanes[0].public_key: 31 bytes are not a key"),
        (gateway(|g| g.lanes[0].next_public_key = vec![1]), "lanes[0].next_public_key: 1 bytes"),
        (gateway(|g| g.lanes = vec![g.lanes[0].clone(); 65]), "lanes: 65 entries, more than 64"),
        (gateway(|g| g.candidates = vec![v1::Candidate { host: "10.0.0.1234".into() }]), "candidates[0].host"),
        (gateway(|g| g.preferred_prefixes = vec!["10.0.0.0".into()]), "preferred_prefixes[0]: \"10.0.0.0\" is not"),
        (header(|h| h.kind = 0), "export shop/web of west: kind: 0 is no known service kind"),
        (header(|h| h.ip_families = vec![9]), "ip_families: 9 is no known family"),
        (header(|h| h.session_affinity = 5), "session_affinity: 5 is not known"),
        (endpoints(vec![vec![1, 2, 3]]), "groups[0].endpoints[0].addresses: 3 bytes are not an address"),
        (endpoints(vec![mapped]), "::ffff:10.0.0.1 is an IPv4 address written as IPv6"),
        (("../etc", v1::record::Body::ExportHeader(v1::ExportHeader::default())), "export ../etc of west: name"),
        (("Gw", v1::record::Body::Gateway(v1::Gateway::default())), "gateway Gw: name"),
    ];
    for ((name, body), expected) in cases {
        let error = Record::from_proto(&west(), v1::Record { name: name.into(), body: Some(body) }).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected), "{text:?} does not say {expected:?}");
        assert!(!v1::Refusal::from(&error).remedy.is_empty());
    }
}
