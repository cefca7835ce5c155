//! What every name answers, asked through real sockets: by UDP and TCP, over IPv4 and IPv6.

use std::str::FromStr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};

use crate::common::{TestServer, Z, connect, fixture, parse, read_framed, udp, with_edns, write_framed};

/// Row number, name, type, expected. In names and answers `@` is `clusterset.local.` and `T` is `testns.svc.clusterset.local.`;
/// N: no such name, D: no data; both with SOA.
#[rustfmt::skip]
const ROWS: &[(u32, &str, &str, &str)] = &[
    (1, "svc1.T", "A", "5 A 10.0.0.1"),
    (2, "svcempty.T", "A", "5 A 10.0.0.1"),
    (3, "svc1.T", "SRV", "5 SRV 0 100 80 svc1.T (svc1.T A 10.0.0.1)"),
    (4, "svcempty.T", "SRV", "5 SRV 0 100 80 svcempty.T (svcempty.T A 10.0.0.1)"),
    (5, "svc6.T", "SRV", "5 SRV 0 100 80 svc6.T (svc6.T AAAA 1234:abcd::1)"),
    (6, "_http._tcp.svc1.T", "SRV", "5 SRV 0 100 80 svc1.T (svc1.T A 10.0.0.1)"),
    (7, "_http._tcp.svcempty.T", "SRV", "5 SRV 0 100 80 svcempty.T (svcempty.T A 10.0.0.1)"),
    (8, "hdls1.T", "A", "5 A 172.0.0.2, 5 A 172.0.0.3, 5 A 172.0.0.4, 5 A 172.0.0.5"),
    (9, "hdlsprtls.T", "A", "5 A 172.0.0.20"),
    (9, "hdlsprtls.T", "SRV", "D"),
    (10, "172-0-0-20.west.hdlsprtls.T", "A", "5 A 172.0.0.20"),
    (11, "172-0-0-2.west.hdls1.T", "A", "5 A 172.0.0.2"),
    (12, "172-0-0-3.west.hdls1.T", "A", "5 A 172.0.0.3"),
    (13, "dup-name.west.hdls1.T", "A", "5 A 172.0.0.4, 5 A 172.0.0.5"),
    (14, "west.hdls1.T", "A", "N"),
    (14, "west.svc1.T", "A", "N"),
    (15, "_http._tcp.hdls1.T", "SRV", "5 SRV 0 16 80 172-0-0-2.west.hdls1.T, 5 SRV 0 16 80 172-0-0-3.west.hdls1.T, \
         5 SRV 0 16 80 5678-abcd--1.west.hdls1.T, 5 SRV 0 16 80 5678-abcd--2.west.hdls1.T, 5 SRV 0 16 80 dup-name.west.hdls1.T \
         (172-0-0-2.west.hdls1.T A 172.0.0.2, 172-0-0-3.west.hdls1.T A 172.0.0.3, 5678-abcd--1.west.hdls1.T AAAA 5678:abcd::1, \
         5678-abcd--2.west.hdls1.T AAAA 5678:abcd::2, dup-name.west.hdls1.T A 172.0.0.4, dup-name.west.hdls1.T A 172.0.0.5)"),
    (15, "_http._udp.hdls1.T", "SRV", "N"),
    (15, "_http._tcp.hdls1.T", "A", "D"),
    (16, "5678-abcd--2.west.hdls1.T", "AAAA", "5 AAAA 5678:abcd::2"),
    (17, "5678-abcd--1.west.hdls1.T", "AAAA", "5 AAAA 5678:abcd::1"),
    (17, "5678-abcd--1.west.hdls1.T", "A", "D"),
    (18, "svc1.T", "AAAA", "D"),
    (19, "svc0.T", "AAAA", "N"),
    (20, "svc0.T", "A", "N"),
    (21, "svc0.svc-nons.svc.@", "A", "N"),
    (22, "dns-version.@", "TXT", "28800 TXT 1.0.0"),
    (22, "dns-version.@", "A", "D"),
    (23, "svc1.T", "TXT", "D"),
    (24, "svc0.svc-nons.svc.@", "TXT", "N"),
    (25, "bogusendpoint.west.hdls1.T", "A", "N"),
    (25, "172-0-0-2.east.hdls1.T", "A", "N"),
    (26, "bogusendpoint.west.svc0.T", "A", "N"),
    (27, "bogusendpoint.hdls1.T", "A", "N"),
    (27, "bogusendpoint.svc0.T", "A", "N"),
    (28, "5678-abcd--1.hdls1.T", "AAAA", "N"),
    (29, "svc6.T", "AAAA", "5 AAAA 1234:abcd::1"),
    (30, "_http._tcp.svc6.T", "SRV", "5 SRV 0 100 80 svc6.T (svc6.T AAAA 1234:abcd::1)"),
    (31, "hdls1.T", "AAAA", "5 AAAA 5678:abcd::1, 5 AAAA 5678:abcd::2"),
    (32, "svc.@", "A", "D"),
    (33, "pod.@", "A", "D"),
    (34, "T", "A", "D"),
    (35, "svc.@", "NS", "D"),
    (35, "T", "NS", "D"),
    (36, "foo.@", "NS", "N"),
    (36, "foo.svc.@", "NS", "N"),
    (37, "svc-dual-stack.T", "A", "5 A 10.0.0.3"),
    (38, "svc-dual-stack.T", "AAAA", "5 AAAA 10::3"),
    (39, "svc-dual-stack.T", "SRV", "5 SRV 0 50 80 svc-dual-stack.T (svc-dual-stack.T A 10.0.0.3, svc-dual-stack.T AAAA 10::3)"),
    (40, "svc1.T", "SOA", "D"),
    (41, "endpoint.external.T", "CNAME", "N"),
    (41, "subdomain.subdomain.external.T", "CNAME", "N"),
    (42, "svc1.nsnoexist.svc.@", "A", "N"),
    (42, "nsnoexist.svc.@", "A", "N"),
    (44, "ep1a.west.svc1.T", "A", "N"),
    (45, "@", "SOA", "5 SOA ns.dns.@ hostmaster.@ 1800000000 7200 1800 86400 5"),
    (45, "@", "HINFO", "D"),
    (45, "@", "NS", "5 NS ns.dns.@ (ns.dns.@ A 10.0.0.53, ns.dns.@ AAAA fd00::53)"),
    (45, "@", "A", "D"),
    (45, "@", "AAAA", "D"),
    (45, "@", "SRV", "D"),
    (45, "ns.dns.@", "A", "5 A 10.0.0.53"),
    (45, "dns.@", "A", "D"),
    (46, "not-a-service.testns.svc.ClUsTeR-SeT.local.", "A", "REFUSED"),
    (46, "not-a-service.testns.svc.ClUsTeRsEt.lOcAl.", "A", "N"),
    (47, "SvC1.TeStNs.SvC.cLuStErSeT.LoCaL.", "A", "5 A 10.0.0.1"),
    (48, "_HtTp._TcP.sVc1.TeStNs.SvC.cLuStErSeT.LoCaL.", "SRV",
         "5 SRV 0 100 80 svc1.testns.svc.cLuStErSeT.LoCaL. (svc1.testns.svc.cLuStErSeT.LoCaL. A 10.0.0.1)"),
    (49, "webs.ns.pood.@", "A", "N"),
    (49, "too.long.for.what.I.am.trying.to.pod.testns.pod.@", "A", "N"),
    (49, "us-west-2a.pin._zone.svc1.T", "A", "N"),
    (50, "hello.T", "SRV", "5 SRV 0 50 42 hello.T (hello.T A 10.0.0.6)"),
    (51, "unnamed.T", "SRV", "5 SRV 0 100 80 unnamed.T (unnamed.T A 10.0.0.5)"),
    (51, "_._tcp.unnamed.T", "SRV", "N"),
    (52, "svc-pending.T", "A", "D"),
    (52, "svc-pending.T", "SRV", "D"),
    (53, "kubedns.kube-system.svc.@", "A", "5 A 10.0.0.10"),
    (54, "svc-dual-stack.T", "ANY", "5 A 10.0.0.3, 5 AAAA 10::3"),
    (55, "1.0.0.10.in-addr.arpa.", "PTR", "REFUSED"),
    (55, "svc1.testns.svc.cluster.local.", "A", "REFUSED"),
    (55, ".", "NS", "REFUSED"),
];

fn full(short: &str) -> String {
    let name = short.replace('@', Z);
    match name.strip_suffix('T') {
        Some(left) if left.is_empty() || left.ends_with('.') => format!("{left}testns.svc.{Z}"),
        Some(_) | None => name,
    }
}

fn shorten(text: &str) -> String {
    text.replace(&format!("testns.svc.{Z}"), "T").replace(Z, "@")
}

fn render(response: &Message, name: &str) -> String {
    let owner = Name::from_ascii(name).unwrap();
    for record in &response.answers {
        assert!(record.name.eq_case(&owner), "owner {} is not spelt as asked, {owner}", record.name);
    }
    let (meta, soa) = (&response.metadata, soa_of(response));
    assert!(meta.recursion_desired && !meta.recursion_available && !meta.truncation, "{meta:?}");
    assert_eq!(meta.authoritative, meta.response_code != ResponseCode::Refused, "AA");
    match meta.response_code {
        ResponseCode::NXDomain => format!("N{soa}"),
        ResponseCode::NoError if response.answers.is_empty() => format!("D{soa}"),
        ResponseCode::NoError => answers(response) + &soa,
        ResponseCode::Refused => format!("REFUSED{soa}"),
        other => panic!("{other}"),
    }
}

/// Nothing where there is an SOA exactly if nothing was answered.
fn soa_of(response: &Message) -> String {
    let negative = response.answers.is_empty() && response.metadata.response_code != ResponseCode::Refused;
    let zone: String =
        response.queries[0].name().to_ascii().chars().rev().take(Z.len()).collect::<String>().chars().rev().collect();
    let expected =
        negative.then(|| format!("{zone} 5 IN SOA ns.dns.{zone} hostmaster.{zone} 1800000000 7200 1800 86400 5"));
    let found: Vec<String> = response.authorities.iter().map(ToString::to_string).collect();
    if found == Vec::from_iter(expected) { String::new() } else { format!(" with authority {found:?}") }
}

fn answers(response: &Message) -> String {
    let text = |r: &Record| format!("{} {}", r.record_type(), r.data);
    let mut answers: Vec<String> = response.answers.iter().map(|r| format!("{} {}", r.ttl, text(r))).collect();
    let mut additional: Vec<String> = response.additionals.iter().map(|r| format!("{} {}", r.name, text(r))).collect();
    answers.sort();
    additional.sort();
    let joined = answers.join(", ");
    shorten(&if additional.is_empty() { joined } else { format!("{joined} ({})", additional.join(", ")) })
}

/// All rows by `ask`, the failing ones listed together.
fn run_table(mut ask: impl FnMut(&[u8]) -> Vec<u8>) {
    let mut wrong = Vec::new();
    for (row, short, kind, want) in ROWS {
        let name = full(short);
        let response = parse(&ask(&with_edns(&name, RecordType::from_str(kind).unwrap(), 1232)));
        let got = render(&response, &name);
        if got != *want {
            wrong.push(format!("row {row}: {short} {kind}\n  want {want}\n  got  {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn by_udp_over_ipv4() {
    let server = TestServer::new(&fixture());
    run_table(|query| udp(server.addresses[0], query).unwrap());
}

#[test]
fn by_udp_over_ipv6() {
    let server = TestServer::new(&fixture());
    run_table(|query| udp(server.addresses[1], query).unwrap());
}

#[test]
fn by_one_tcp_connection() {
    let server = TestServer::new(&fixture());
    for address in &server.addresses {
        let mut stream = connect(*address);
        run_table(|query| {
            write_framed(&mut stream, query);
            read_framed(&mut stream).unwrap()
        });
    }
}

/// Row 43: what is not known yet is not denied.
#[test]
fn before_the_first_complete_view() {
    let input = hawser_dns::ZoneInput { synced: false, ..fixture() };
    let server = TestServer::new(&input);
    let missing = server.ask(&full("svc0.T"), RecordType::A);
    assert_eq!((missing.metadata.response_code, missing.authorities.len()), (ResponseCode::ServFail, 1));
    for (name, kind) in [("svc1.T", RecordType::AAAA), ("foo.svc.@", RecordType::A), ("x.west.hdls1.T", RecordType::A)]
    {
        assert_eq!(server.ask(&full(name), kind).metadata.response_code, ResponseCode::ServFail, "{name}");
    }
    for (name, kind) in [("svc1.T", RecordType::A), ("dns-version.@", RecordType::TXT), ("@", RecordType::A)] {
        assert_eq!(server.ask(&full(name), kind).metadata.response_code, ResponseCode::NoError, "{name}");
    }
    assert_eq!(server.ask("foo.clusterset.local.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
}
