//! A server on loopback, the zone of the table, and a client.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hawser_dns::{Counters, EndpointsInput, ImportInput, Zone, ZoneInput};
use hawser_model::export::{Endpoint, EndpointPort, Protocol, ServiceKind, ServicePort};
use hawser_model::{ClusterId, ServiceName};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) const Z: &str = "clusterset.local.";
const PATIENCE: Duration = Duration::from_secs(10);

/// A server on its own threads; stops with the test, however that ends.
pub(crate) struct TestServer {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) zone: watch::Sender<Arc<Zone>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stop: CancellationToken,
    pub(crate) ended: std::sync::mpsc::Receiver<std::io::Result<()>>,
}

impl TestServer {
    pub(crate) fn new(input: &ZoneInput) -> Self {
        Self::on(input, &["127.0.0.1:0", "[::1]:0"])
    }

    pub(crate) fn on(input: &ZoneInput, addresses: &[&str]) -> Self {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let (zone, zone_rx) = watch::channel(Arc::new(Zone::new(input)));
        let (counters, stop) = (Arc::new(Counters::default()), CancellationToken::new());
        let (bound_tx, bound_rx) = std::sync::mpsc::channel();
        let (ended_tx, ended) = std::sync::mpsc::channel();
        let (their_counters, their_stop) = (counters.clone(), stop.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let (udp, tcp) = hawser_dns::bind(&addresses).unwrap();
                bound_tx.send(udp.iter().map(|s| s.local_addr().unwrap()).collect()).unwrap();
                let result = hawser_dns::serve(udp, tcp, zone_rx, their_counters, their_stop).await;
                ended_tx.send(result).ok();
            });
        });
        let addresses = bound_rx.recv_timeout(PATIENCE).expect("the server binds its sockets");
        Self { addresses, zone, counters, stop, ended }
    }

    pub(crate) fn udp(&self, query: &[u8]) -> Vec<u8> {
        udp(self.addresses[0], query).expect("an answer by UDP")
    }

    pub(crate) fn tcp(&self, query: &[u8]) -> Vec<u8> {
        let mut stream = connect(self.addresses[0]);
        write_framed(&mut stream, query);
        read_framed(&mut stream).expect("an answer by TCP")
    }

    pub(crate) fn ask(&self, name: &str, kind: RecordType) -> Message {
        parse(&self.udp(&query(name, kind)))
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn udp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv6() { std::net::Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    let socket = UdpSocket::bind((any, 0))?;
    // Connected: an answer from any other address than the one asked doesn't arrive.
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(query)?;
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

pub(crate) fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&server, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn connect_from(own: &str, server: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&own.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect_timeout(&server.into(), PATIENCE).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

pub(crate) fn framed(query: &[u8]) -> Vec<u8> {
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    [&length, query].concat()
}

pub(crate) fn write_framed(stream: &mut TcpStream, query: &[u8]) {
    stream.write_all(&framed(query)).unwrap();
}

pub(crate) fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

pub(crate) fn message(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x4857, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

pub(crate) fn query(name: &str, kind: RecordType) -> Vec<u8> {
    message(name, kind).to_vec().unwrap()
}

pub(crate) fn with_edns(name: &str, kind: RecordType, payload: u16) -> Vec<u8> {
    let mut message = message(name, kind);
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message.to_vec().unwrap()
}

pub(crate) fn parse(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).unwrap_or_else(|e| panic!("the answer is no DNS message: {e}: {bytes:02x?}"))
}

pub(crate) fn cluster(id: &str) -> ClusterId {
    ClusterId::new(id).unwrap()
}

pub(crate) fn import(service: &str, kind: ServiceKind, vips: &[&str], ports: &[(&str, Protocol, u16)]) -> ImportInput {
    let port =
        |&(name, protocol, port): &(&str, _, _)| ServicePort { name: name.into(), protocol, app_protocol: None, port };
    ImportInput {
        service: service.parse::<ServiceName>().unwrap(),
        kind,
        vips: vips.iter().map(|v| v.parse().unwrap()).collect(),
        ports: ports.iter().map(port).collect(),
    }
}

/// One slice; endpoints are written `ADDRESS` or `ADDRESS HOSTNAME`.
pub(crate) fn slice(service: &str, id: &str, ports: &[(&str, Protocol, u16)], endpoints: &[&str]) -> EndpointsInput {
    let port = |&(name, protocol, port): &(&str, _, _)| EndpointPort {
        name: name.into(),
        protocol,
        app_protocol: None,
        port,
        service_port: Some(port),
    };
    let endpoint = |e: &&str| {
        let (address, hostname) = e.split_once(' ').map_or((*e, None), |(a, h)| (a, Some(h.to_owned())));
        Endpoint {
            addresses: vec![address.parse().unwrap()],
            hostname,
            zone: None,
            ready: true,
            serving: true,
            terminating: false,
        }
    };
    EndpointsInput {
        service: service.parse().unwrap(),
        cluster: cluster(id),
        ports: ports.iter().map(port).collect(),
        endpoints: endpoints.iter().map(endpoint).collect(),
    }
}

pub(crate) fn namespaces(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|n| Arc::from(*n)).collect()
}

/// The zone of the table.
pub(crate) fn fixture() -> ZoneInput {
    let http = [("http", Protocol::Tcp, 80)];
    let virtual_ip = |service, vips: &[&str]| import(service, ServiceKind::ClusterSetIp, vips, &http);
    let headless = |service| import(service, ServiceKind::Headless, &[], &http);
    let two_protocols = [("tcp", Protocol::Tcp, 42), ("udp", Protocol::Udp, 42)];
    ZoneInput {
        namespaces: namespaces(&["testns", "kube-system", "svc-nons"]),
        imports: vec![
            virtual_ip("testns/svc1", &["10.0.0.1"]),
            virtual_ip("testns/svcempty", &["10.0.0.1"]),
            virtual_ip("testns/svc6", &["1234:abcd::1"]),
            virtual_ip("testns/svc-dual-stack", &["10.0.0.3", "10::3"]),
            virtual_ip("testns/svc-pending", &[]),
            virtual_ip("nsnoexist/svc1", &["10.0.0.1"]),
            headless("testns/hdls1"),
            headless("testns/hdlsprtls"),
            import("testns/unnamed", ServiceKind::ClusterSetIp, &["10.0.0.5"], &[("", Protocol::Tcp, 80)]),
            import("testns/hello", ServiceKind::ClusterSetIp, &["10.0.0.6"], &two_protocols),
            import("kube-system/kubedns", ServiceKind::ClusterSetIp, &["10.0.0.10"], &[("dns", Protocol::Udp, 53)]),
        ],
        endpoints: vec![
            slice("testns/svc1", "west", &http, &["172.0.0.1 ep1a"]),
            slice(
                "testns/hdls1",
                "west",
                &http,
                &["172.0.0.2", "172.0.0.3", "172.0.0.4 dup-name", "172.0.0.5 dup-name"],
            ),
            slice("testns/hdls1", "west", &http, &["5678:abcd::1", "5678:abcd::2"]),
            slice("testns/hdlsprtls", "west", &[], &["172.0.0.20"]),
        ],
        dark: BTreeSet::new(),
        synced: true,
        serial: 1_800_000_000,
        nameservers: vec!["10.0.0.53".parse().unwrap(), "fd00::53".parse().unwrap()],
    }
}
