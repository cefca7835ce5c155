//! What the server does beside the table: services over several clusters, sizes, refusals, garbage, shutdown.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_dns::clients::MAX_PER_CLIENT;
use hawser_dns::zone::MAX_HOSTS;
use hawser_dns::{Zone, ZoneInput};
use hawser_model::export::{Protocol, ServiceKind};
use hickory_proto::op::{Edns, Message, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use crate::common::{
    TestServer, cluster, connect, connect_from, fixture, framed, import, message, namespaces, parse, query,
    read_framed, slice, udp, with_edns, write_framed,
};

const DB: &str = "db.shop.svc.clusterset.local.";
const SQL: [(&str, Protocol, u16); 1] = [("sql", Protocol::Tcp, 5432)];

/// A headless service in two clusters.
fn two_clusters() -> ZoneInput {
    ZoneInput {
        namespaces: namespaces(&["shop"]),
        imports: vec![import("shop/db", ServiceKind::Headless, &[], &SQL)],
        endpoints: vec![
            slice("shop/db", "west", &SQL, &["10.1.0.1 db-0", "10.1.0.2 db-1"]),
            slice("shop/db", "east", &SQL, &["10.2.0.1 db-0"]),
        ],
        synced: true,
        ..ZoneInput::default()
    }
}

fn data(response: &Message) -> Vec<String> {
    let mut data: Vec<String> = response.answers.iter().map(|r| r.data.to_string()).collect();
    data.sort();
    data
}

fn code(response: &Message) -> ResponseCode {
    response.metadata.response_code
}

#[test]
fn a_headless_service_is_the_union_of_its_clusters() {
    let server = TestServer::new(&two_clusters());
    assert_eq!(data(&server.ask(DB, RecordType::A)), ["10.1.0.1", "10.1.0.2", "10.2.0.1"]);
    assert_eq!(data(&server.ask(&format!("db-0.west.{DB}"), RecordType::A)), ["10.1.0.1"]);
    assert_eq!(data(&server.ask(&format!("db-0.east.{DB}"), RecordType::A)), ["10.2.0.1"]);
    assert_eq!(
        data(&server.ask(&format!("_sql._tcp.{DB}"), RecordType::SRV)),
        [format!("0 33 5432 db-0.east.{DB}"), format!("0 33 5432 db-0.west.{DB}"), format!("0 33 5432 db-1.west.{DB}")]
    );
}

#[test]
fn dark_clusters_and_endpoints_that_are_not_ready_are_left_out() {
    let mut input = two_clusters();
    input.endpoints[0].endpoints[0].ready = false;
    let server = TestServer::new(&input);
    assert_eq!(data(&server.ask(DB, RecordType::A)), ["10.1.0.2", "10.2.0.1"]);
    assert_eq!(code(&server.ask(&format!("db-0.west.{DB}"), RecordType::A)), ResponseCode::NXDomain);

    input.dark.insert(cluster("west"));
    server.zone.send(Arc::new(Zone::new(&input))).unwrap();
    assert_eq!(data(&server.ask(DB, RecordType::A)), ["10.2.0.1"]);
    assert_eq!(code(&server.ask(&format!("db-1.west.{DB}"), RecordType::A)), ResponseCode::NXDomain);

    input.dark.insert(cluster("east"));
    server.zone.send(Arc::new(Zone::new(&input))).unwrap();
    assert_eq!(code(&server.ask(DB, RecordType::A)), ResponseCode::NXDomain);

    input.dark.clear();
    server.zone.send(Arc::new(Zone::new(&input))).unwrap();
    assert_eq!(data(&server.ask(DB, RecordType::A)), ["10.1.0.2", "10.2.0.1"]);
}

#[test]
fn a_virtual_address_stays_while_its_clusters_are_dark() {
    let mut input = fixture();
    input.dark.insert(cluster("west"));
    let server = TestServer::new(&input);
    assert_eq!(data(&server.ask("svc1.testns.svc.clusterset.local.", RecordType::A)), ["10.0.0.1"]);
}

/// The code of the answer to a query that `change` made of a good one.
fn code_after(server: &TestServer, change: impl FnOnce(&mut Message)) -> ResponseCode {
    let mut request = message(DB, RecordType::A);
    change(&mut request);
    let response = parse(&server.udp(&request.to_vec().unwrap()));
    assert_eq!((response.metadata.id, response.metadata.op_code), (request.metadata.id, request.metadata.op_code));
    code(&response)
}

#[test]
fn what_is_not_served_is_refused() {
    let server = TestServer::new(&two_clusters());
    assert_eq!(code_after(&server, |_| {}), ResponseCode::NoError);
    assert_eq!(
        code_after(&server, |m| drop(m.queries[0].set_query_class(DNSClass::CH).clone())),
        ResponseCode::Refused
    );
    for transfer in [RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(code_after(&server, |m| drop(m.queries[0].set_query_type(transfer).clone())), ResponseCode::Refused);
    }
    for op_code in [OpCode::Notify, OpCode::Update, OpCode::Status] {
        assert_eq!(code_after(&server, |m| m.metadata.op_code = op_code), ResponseCode::NotImp);
    }
    assert_eq!(code_after(&server, |m| m.queries.clear()), ResponseCode::FormErr);
    assert_eq!(code_after(&server, |m| m.queries.push(m.queries[0].clone())), ResponseCode::FormErr);
}

#[test]
fn edns_is_answered_and_its_future_versions_are_not() {
    let server = TestServer::new(&two_clusters());
    assert!(server.ask(DB, RecordType::A).edns.is_none());
    let response = parse(&server.udp(&with_edns(DB, RecordType::A, 4096)));
    assert_eq!(response.edns.map(|e| (e.max_payload(), e.version())), Some((1232, 0)));
    let mut request = message(DB, RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    request.set_edns(edns);
    let response = parse(&server.udp(&request.to_vec().unwrap()));
    // 16 stands for BADVERS, and in other records for BADSIG.
    assert_eq!((u16::from(code(&response)), response.answers.len()), (16, 0));
}

#[test]
fn what_does_not_fit_is_cut_and_comes_whole_by_tcp() {
    let addresses: Vec<String> = (0..900).map(|i| format!("10.1.{}.{}", i / 250, i % 250 + 1)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let input = ZoneInput { endpoints: vec![slice("shop/db", "west", &SQL, &addresses)], ..two_clusters() };
    let server = TestServer::new(&input);
    for (query, limit) in [
        (query(DB, RecordType::A), 512),
        (with_edns(DB, RecordType::A, 0), 512),
        (with_edns(DB, RecordType::A, 800), 800),
        (with_edns(DB, RecordType::A, 65_535), 1232),
        (with_edns(DB, RecordType::SRV, 65_535), 1232),
    ] {
        let bytes = server.udp(&query);
        let response = parse(&bytes);
        assert!(bytes.len() <= limit && response.metadata.truncation, "{} bytes of {limit}", bytes.len());
        assert!(response.answers.len() > limit / 100, "{} answers in {limit} bytes", response.answers.len());
        assert_eq!(response.edns.is_some(), parse(&query).edns.is_some());
    }
    let whole = parse(&server.tcp(&query(DB, RecordType::A)));
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (900, false));
    // 900 targets are more than any message holds: as many as fit, and no flag, as there is nowhere else to ask.
    let most = parse(&server.tcp(&query(DB, RecordType::SRV)));
    assert!(most.answers.len() > 600, "{}", most.answers.len());
    assert_eq!((most.additionals.len(), most.metadata.truncation), (0, false));
    assert_eq!(server.counters.truncated(), 5);
}

#[test]
fn different_queries_begin_with_different_addresses() {
    let server = TestServer::new(&two_clusters());
    let first = |id| {
        let mut request = message(DB, RecordType::A);
        request.metadata.id = id;
        parse(&server.udp(&request.to_vec().unwrap())).answers[0].data.to_string()
    };
    let mut firsts: Vec<String> = (0..3).map(first).collect();
    firsts.sort();
    assert_eq!(firsts, ["10.1.0.1", "10.1.0.2", "10.2.0.1"]);
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    let server = TestServer::on(&two_clusters(), &["0.0.0.0:0"]);
    let address = SocketAddr::new("127.0.0.53".parse().unwrap(), server.addresses[0].port());
    // The client's socket is connected: it takes answers from 127.0.0.53 alone.
    assert_eq!(parse(&udp(address, &query(DB, RecordType::A)).unwrap()).answers.len(), 3);
}

#[test]
fn queries_of_one_connection_are_answered_in_turn() {
    let server = TestServer::new(&two_clusters());
    let mut stream = connect(server.addresses[1]);
    let mut requests = Vec::new();
    for id in 0..50u16 {
        let mut request = message(DB, RecordType::A);
        request.metadata.id = id;
        requests.extend(framed(&request.to_vec().unwrap()));
    }
    stream.write_all(&requests).unwrap();
    for id in 0..50 {
        assert_eq!(parse(&read_framed(&mut stream).unwrap()).metadata.id, id);
    }
}

#[test]
fn one_client_s_connections_are_bounded_and_others_are_served() {
    let server = TestServer::new(&two_clusters());
    let request = query(DB, RecordType::A);
    let mut open: Vec<_> = (0..MAX_PER_CLIENT).map(|_| connect(server.addresses[0])).collect();
    for stream in &mut open {
        write_framed(stream, &request);
        assert_eq!(parse(&read_framed(stream).unwrap()).answers.len(), 3);
    }
    let mut refused = connect(server.addresses[0]);
    // Closed without an answer, by FIN or, if the query was still unread, by RST.
    let error = read_framed(&mut refused).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    assert_eq!(server.counters.refused_connections(), 1);
    let mut other = connect_from("127.0.0.2:0", server.addresses[0]);
    write_framed(&mut other, &request);
    assert_eq!(parse(&read_framed(&mut other).unwrap()).answers.len(), 3);
    assert_eq!(server.ask(DB, RecordType::A).answers.len(), 3);
    drop(open);
    wait_until("a connection is free again", || {
        let mut stream = connect(server.addresses[0]);
        stream.write_all(&framed(&request)).is_ok() && read_framed(&mut stream).is_ok()
    });
}

#[test]
fn garbage_gets_an_error_or_nothing_and_the_server_goes_on() {
    let server = TestServer::new(&two_clusters());
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut answer = message(DB, RecordType::A);
    answer.metadata.message_type = hickory_proto::op::MessageType::Response;
    for datagram in [&b""[..], b"x", &[0xff; 11], &[0xff; 1400], &answer.to_vec().unwrap()] {
        socket.send_to(datagram, server.addresses[0]).unwrap();
    }
    let broken = [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x3f"].concat();
    let response = parse(&server.udp(&broken));
    assert_eq!((code(&response), response.metadata.id, response.queries.len()), (ResponseCode::FormErr, 0x1234, 0));
    let mut stream = connect(server.addresses[0]);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(read_framed(&mut stream).is_err());
    assert_eq!(server.ask(DB, RecordType::A).answers.len(), 3);
    wait_until("garbage is counted", || server.counters.ignored() >= 4);
}

#[test]
fn counters_say_what_was_asked_and_answered() {
    let server = TestServer::new(&two_clusters());
    server.ask(DB, RecordType::A);
    server.ask(DB, RecordType::AAAA);
    server.ask("nothing.shop.svc.clusterset.local.", RecordType::A);
    server.ask("example.com.", RecordType::MX);
    server.tcp(&query(DB, RecordType::SRV));
    let some =
        |counts: &mut dyn Iterator<Item = (&'static str, u64)>| counts.filter(|(_, n)| *n > 0).collect::<Vec<_>>();
    assert_eq!(some(&mut server.counters.queries()), [("A", 2), ("AAAA", 1), ("SRV", 1), ("other", 1)]);
    assert_eq!(some(&mut server.counters.responses()), [("NOERROR", 3), ("NXDOMAIN", 1), ("REFUSED", 1)]);
}

#[test]
fn it_stops_although_a_client_is_connected() {
    let server = TestServer::new(&two_clusters());
    let mut stream = connect(server.addresses[0]);
    write_framed(&mut stream, &query(DB, RecordType::A));
    read_framed(&mut stream).unwrap();
    server.stop.cancel();
    server.ended.recv_timeout(Duration::from_secs(10)).expect("the server ends").unwrap();
    assert!(read_framed(&mut stream).is_err());
}

#[test]
fn it_stops_although_a_client_is_in_the_middle_of_a_query() {
    let server = TestServer::new(&two_clusters());
    let mut stream = connect(server.addresses[0]);
    write_framed(&mut stream, &query(DB, RecordType::A));
    read_framed(&mut stream).unwrap();
    stream.write_all(&[0, 40, 1, 2, 3]).unwrap();
    server.stop.cancel();
    server.ended.recv_timeout(Duration::from_secs(8)).expect("the server ends before the client's time is up").unwrap();
}

#[test]
fn a_name_stands_for_a_bounded_number_of_endpoints() {
    let addresses: Vec<String> = (0..1_500).map(|i| format!("10.1.{}.{}", i / 250, i % 250 + 1)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let input = ZoneInput { endpoints: vec![slice("shop/db", "west", &SQL, &addresses)], ..two_clusters() };
    let server = TestServer::new(&input);
    assert_eq!(parse(&server.tcp(&query(DB, RecordType::A))).answers.len(), MAX_HOSTS);
}

#[test]
fn a_port_in_use_is_named() {
    let server = TestServer::new(&two_clusters());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = server.addresses[0];
    let error = runtime.block_on(async { hawser_dns::bind(&[address]).unwrap_err() });
    assert!(error.to_string().starts_with(&format!("DNS on TCP {address}: ")), "{error}");
}

#[test]
fn names_that_would_be_too_long_are_left_out() {
    let long = "n".repeat(63);
    let service = format!("{long}/{long}");
    let host = format!("10.1.0.1 {long}");
    let input = ZoneInput {
        namespaces: namespaces(&[&long]),
        imports: vec![import(&service, ServiceKind::Headless, &[], &SQL)],
        endpoints: vec![slice(&service, &long, &SQL, &[&host])],
        synced: true,
        ..ZoneInput::default()
    };
    let server = TestServer::new(&input);
    let name = format!("{long}.{long}.svc.clusterset.local.");
    assert!(Name::from_ascii(&name).is_ok());
    assert_eq!(data(&server.ask(&name, RecordType::A)), ["10.1.0.1"]);
    assert_eq!(
        (code(&server.ask(&name, RecordType::SRV)), server.ask(&name, RecordType::SRV).answers.len()),
        (ResponseCode::NoError, 0)
    );
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
