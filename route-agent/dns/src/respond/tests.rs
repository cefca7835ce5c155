//! Whatever bytes come in, an answer is due or not, and is well-formed.

use super::*;
use crate::zone::{EndpointsInput, ImportInput, ZoneInput};
use hawser_model::export::{Endpoint, EndpointPort, Protocol, ServiceKind};
use hawser_model::{ClusterId, ServiceName};
use hickory_proto::op::Query;
use hickory_proto::rr::Name;
use proptest::prelude::*;
use std::sync::LazyLock;

/// A headless service with more endpoints than fit, and one with a virtual address.
static ZONE: LazyLock<Zone> = LazyLock::new(|| {
    let service = |name| ServiceName::new("shop", name).unwrap();
    let endpoint = |i: u8| Endpoint {
        addresses: vec![[10, 1, i, 1].into(), [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(i)].into()],
        hostname: None,
        zone: None,
        ready: true,
        serving: true,
        terminating: false,
    };
    let port =
        EndpointPort { name: "sql".into(), protocol: Protocol::Tcp, app_protocol: None, port: 1, service_port: None };
    let import = |name, kind, vips: &[[u8; 4]]| ImportInput {
        service: service(name),
        kind,
        vips: vips.iter().map(|v| (*v).into()).collect(),
        ports: Vec::new(),
    };
    Zone::new(&ZoneInput {
        namespaces: ["shop".into()].into(),
        imports: vec![
            import("db", ServiceKind::Headless, &[]),
            import("web", ServiceKind::ClusterSetIp, &[[10, 9, 0, 1]]),
        ],
        endpoints: vec![EndpointsInput {
            service: service("db"),
            cluster: ClusterId::new("west").unwrap(),
            ports: vec![port],
            endpoints: (0..100).map(endpoint).collect(),
        }],
        synced: true,
        ..ZoneInput::default()
    })
});

const NAMES: &[&str] = &[
    "db.shop.svc.clusterset.local.",
    "web.shop.svc.clusterset.local.",
    "_sql._tcp.db.shop.svc.clusterset.local.",
    "10-1-3-1.west.db.shop.svc.clusterset.local.",
    "clusterset.local.",
    "dns-version.clusterset.local.",
    "example.com.",
    ".",
];

fn check(query: &[u8], transport: Transport) -> Result<(), TestCaseError> {
    let counters = Counters::default();
    let Some(answer) = respond(&ZONE, query, transport, &counters) else {
        prop_assert_eq!(counters.ignored(), 1);
        prop_assert!(query.len() < HEADER || query[2] & 0x80 != 0, "no answer to {:02x?}", query);
        return Ok(());
    };
    let response = Message::from_vec(&answer).map_err(|e| TestCaseError::fail(format!("{e}: {answer:02x?}")))?;
    prop_assert_eq!(response.metadata.id.to_be_bytes(), [query[0], query[1]]);
    prop_assert_eq!(response.metadata.message_type, MessageType::Response);
    let limit = if transport == Transport::Udp { usize::from(UDP_PAYLOAD) } else { 65_535 };
    prop_assert!(answer.len() <= limit);
    if Message::from_vec(query).is_err() {
        prop_assert_eq!(response.metadata.response_code, ResponseCode::FormErr);
    }
    Ok(())
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Udp), Just(Transport::Tcp)]
}

fn good_query() -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(NAMES), any::<u16>(), prop::option::of(any::<u16>()), any::<u16>()).prop_map(
        |(name, kind, edns, id)| {
            let mut message = Message::new(id, MessageType::Query, OpCode::Query);
            message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::from(kind % 300)));
            if let Some(payload) = edns {
                let mut edns = Edns::new();
                edns.set_max_payload(payload);
                message.set_edns(edns);
            }
            message.to_vec().unwrap()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes(query in proptest::collection::vec(any::<u8>(), 0..600), transport in transport()) {
        check(&query, transport)?;
    }

    /// Past the first checks: a plausible header before random bytes.
    #[test]
    fn random_bytes_behind_a_header(
        counts in proptest::array::uniform4(0u16..3), body in proptest::collection::vec(any::<u8>(), 0..300), transport in transport()
    ) {
        let header = [0x12, 0x34, 1, 0].into_iter().chain(counts.into_iter().flat_map(u16::to_be_bytes));
        check(&header.chain(body).collect::<Vec<u8>>(), transport)?;
    }

    #[test]
    fn mutated_queries(
        query in good_query(), transport in transport(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut query = query;
        for (index, bits) in flips {
            let i = index.index(query.len());
            query[i] ^= bits;
        }
        if let Some(cut) = cut {
            query.truncate(cut.index(query.len() + 1));
        }
        check(&query, transport)?;
    }
}
