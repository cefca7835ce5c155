//! Hosts as network namespaces with a tunnel in each, on one switch.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use hawser_datapath::checksum::Sum;
use hawser_liveness::ClusterState;
use hawser_model::defaults::{OUTER_MARK, OUTER_MARK_MASK, TABLE_REMOTE, TABLE_TRANSIT, TUN_DEVICE};
use hawser_model::{ClusterId, Gateway, Lane, NodeName, PrefixSet};
use hawser_testbed::{Netns, Switch, wait_for};
use hawser_tunnel::{Config, LaneInfo, PeerCluster, PeerGateway, Peers, Tunnel};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Runtime;

/// Longest wait for anything; reached only when something is broken.
pub const LIMIT: Duration = Duration::from_secs(20);
pub const PORT: u16 = 51820;

/// A gateway host: number `n` has `192.0.2.n`, `2001:db8::n` outside and `10.n.0.1`, `fd0n::1` inside.
pub struct Host {
    pub number: u8,
    pub ns: Arc<Netns>,
    runtime: Option<Runtime>,
    tunnel: Option<Arc<Tunnel>>,
}

/// How peers reach a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outer {
    V4,
    V6,
}

impl Host {
    pub fn new(switch: &Switch, number: u8) -> Self {
        Self::with_mtu(switch, number, 1500)
    }

    /// A host whose underlay link takes packets of `mtu` bytes.
    pub fn with_mtu(switch: &Switch, number: u8, mtu: u32) -> Self {
        let ns = Netns::new(&format!("h{number}"), None).unwrap();
        switch.plug(&ns, "eth0", mtu).unwrap();
        for line in [
            format!("addr add 192.0.2.{number}/24 dev eth0"),
            format!("addr add 2001:db8::{number}/64 dev eth0 nodad"),
            format!("rule add prio 4857 not fwmark {OUTER_MARK:#x}/{OUTER_MARK_MASK:#x} lookup {TABLE_REMOTE}"),
            format!("-6 rule add prio 4857 not fwmark {OUTER_MARK:#x}/{OUTER_MARK_MASK:#x} lookup {TABLE_REMOTE}"),
        ] {
            ns.ip(&line).unwrap();
        }
        Self { number, ns: Arc::new(ns), runtime: None, tunnel: None }
    }

    pub fn start(&mut self, keys: &Path, lanes: usize) {
        let config = Config {
            node: NodeName::new(format!("h{}", self.number)).unwrap(),
            device: TUN_DEVICE.to_owned(),
            lanes,
            port: PORT,
            keys: keys.join(format!("h{}", self.number)),
        };
        let cluster = self.id();
        let (runtime, tunnel) = self.ns.run(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let tunnel = runtime.block_on(Tunnel::start(config, cluster)).unwrap();
            (runtime, Arc::new(tunnel))
        });
        (self.runtime, self.tunnel) = (Some(runtime), Some(tunnel));
    }

    pub fn tunnel(&self) -> &Arc<Tunnel> {
        self.tunnel.as_ref().expect("started")
    }

    pub fn stop(&mut self) {
        let tunnel = Arc::try_unwrap(self.tunnel.take().unwrap()).ok().expect("no other owner");
        self.runtime.take().unwrap().block_on(tunnel.shutdown());
    }

    /// Ends it as a crash would: without a word.
    pub fn drop_tunnel(&mut self) {
        self.tunnel = None;
        self.runtime = None;
    }

    pub fn id(&self) -> ClusterId {
        ClusterId::new(format!("c{}", self.number)).unwrap()
    }

    pub fn inner(&self, outer: Outer) -> IpAddr {
        inner(self.number, outer)
    }

    pub fn prefixes(&self) -> PrefixSet {
        prefixes(self.number)
    }

    /// This host as a peer cluster of its own.
    pub fn as_peer(&self, outer: Outer) -> PeerCluster {
        PeerCluster {
            id: self.id(),
            generation: 1,
            prefixes: self.prefixes(),
            gateways: vec![self.as_gateway(&[outer_address(self.number, outer)])],
        }
    }

    pub fn as_gateway(&self, addresses: &[IpAddr]) -> PeerGateway {
        let lane = |l: &LaneInfo| Lane { public_key: l.key, port: l.port, next_public_key: l.next.map(|(key, _)| key) };
        let lanes = self.tunnel().lanes();
        let gateway = Gateway {
            node: NodeName::new(format!("h{}", self.number)).unwrap(),
            lanes: lanes.iter().map(lane).collect(),
            candidates: Vec::new(),
            preferred: Vec::new(),
            probes: true,
        };
        PeerGateway { gateway, addresses: addresses.to_vec() }
    }

    pub fn apply(&self, clusters: Vec<PeerCluster>) {
        self.apply_as(self.prefixes(), clusters);
    }

    pub fn apply_as(&self, prefixes: PrefixSet, clusters: Vec<PeerCluster>) {
        let addresses = vec![self.inner(Outer::V4), self.inner(Outer::V6)];
        let peers = Peers { cluster: self.id(), prefixes, addresses, clusters };
        let tunnel = Arc::clone(self.tunnel());
        self.ns.run(move || tunnel.apply(peers.into()));
    }

    /// Waits until every lane goes by what was applied last.
    pub fn settled(&self) {
        self.runtime.as_ref().expect("started").block_on(self.tunnel().settled());
    }

    pub fn drops(&self, reason: &str) -> u64 {
        self.tunnel().report().drops.get(reason).copied().unwrap_or_default()
    }

    /// Waits until a cluster is reached over all its paths by all lanes that can, and its routes are there.
    pub fn wait_live(&self, other: &Self) {
        self.wait_state(&other.id(), ClusterState::Live);
        wait_for("routes to the other cluster", LIMIT, || {
            let prefix = format!("10.{}.0.0/16", other.number);
            let routes = self.ns.ip(&format!("route show table {TABLE_REMOTE}"))?;
            if routes.contains(&prefix) { Ok(()) } else { anyhow::bail!("{routes:?}") }
        })
        .unwrap();
    }

    pub fn wait_state(&self, id: &ClusterId, state: ClusterState) {
        wait_for(&format!("{id} to be {state} from h{}", self.number), LIMIT, || {
            let report = self.tunnel().report();
            match report.clusters.iter().find(|c| c.id == *id) {
                Some(c) if c.state == state => Ok(()),
                _ => anyhow::bail!("{report:#?}"),
            }
        })
        .unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.tunnel = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub fn inner(number: u8, outer: Outer) -> IpAddr {
    match outer {
        Outer::V4 => format!("10.{number}.0.1").parse().unwrap(),
        Outer::V6 => format!("fd0{number}::1").parse().unwrap(),
    }
}

pub fn outer_address(number: u8, outer: Outer) -> IpAddr {
    match outer {
        Outer::V4 => format!("192.0.2.{number}").parse().unwrap(),
        Outer::V6 => format!("2001:db8::{number}").parse().unwrap(),
    }
}

pub fn prefixes(number: u8) -> PrefixSet {
    PrefixSet::new([format!("10.{number}.0.0/16").parse().unwrap(), format!("fd0{number}::/16").parse().unwrap()])
}

/// Two connected hosts.
pub fn pair(keys: &Path, lanes: [usize; 2], outer: Outer) -> (Switch, Host, Host) {
    pair_with_mtu(keys, lanes, outer, 1500)
}

/// Two connected hosts, their links of this MTU.
pub fn pair_with_mtu(keys: &Path, lanes: [usize; 2], outer: Outer, mtu: u32) -> (Switch, Host, Host) {
    let switch = Switch::new("wire").unwrap();
    let (mut a, mut b) = (Host::with_mtu(&switch, 1, mtu), Host::with_mtu(&switch, 2, mtu));
    a.start(keys, lanes[0]);
    b.start(keys, lanes[1]);
    a.apply(vec![b.as_peer(outer)]);
    b.apply(vec![a.as_peer(outer)]);
    a.wait_live(&b);
    b.wait_live(&a);
    (switch, a, b)
}

/// Sends `bytes` by TCP from one host to the other and back; the number that came back.
pub fn tcp_echo(from: &Host, to: &Host, family: Outer, bytes: usize) -> usize {
    let address = to.inner(family);
    let listener = to.ns.run(move || TcpListener::bind(SocketAddr::new(address, 0)).unwrap());
    let target = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut all = vec![0u8; bytes];
        stream.read_exact(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let back = from.ns.run(move || {
        let mut stream = TcpStream::connect_timeout(&target, LIMIT).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let data: Vec<u8> = (0..bytes).map(|i| (i * 31 % 251) as u8).collect();
        let mut writer = stream.try_clone().unwrap();
        let sent = data.clone();
        let sender = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        let mut got = vec![0u8; bytes];
        stream.read_exact(&mut got).unwrap();
        sender.join().unwrap();
        assert!(got == data, "what came back differs");
        got.len()
    });
    server.join().unwrap();
    back
}

/// Sends a datagram from one host's inner address to the other's and back, until it does.
pub fn udp_echo(from: &Host, to: &Host, family: Outer, len: usize) {
    let (here, there) = (from.inner(family), to.inner(family));
    let server = to.ns.run(move || UdpSocket::bind(SocketAddr::new(there, 0)).unwrap());
    let client = from.ns.run(move || UdpSocket::bind(SocketAddr::new(here, 0)).unwrap());
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    }
    let target = server.local_addr().unwrap();
    let source = client.local_addr().unwrap();
    let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
    wait_for("a datagram to come back", LIMIT, || {
        client.send_to(&data, target)?;
        let mut buffer = vec![0u8; 65_535];
        let (n, seen) = server.recv_from(&mut buffer)?;
        anyhow::ensure!(seen == source, "the source became {seen}");
        server.send_to(&buffer[..n], seen)?;
        let n = client.recv(&mut buffer)?;
        anyhow::ensure!(buffer[..n] == data, "it changed");
        Ok(())
    })
    .unwrap();
}

/// What came back for an echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinged {
    Reply,
    /// An ICMP error: type and code.
    Error(u8, u8),
}

/// Asks for an echo from `from`'s inner address, again and again until something comes back.
pub fn ping(from: &Host, to: IpAddr, len: usize) -> Pinged {
    ping_from(&from.ns, from.inner(if to.is_ipv4() { Outer::V4 } else { Outer::V6 }), to, len)
}

/// The same from any address on any host.
pub fn ping_from(ns: &Netns, source: IpAddr, to: IpAddr, len: usize) -> Pinged {
    static NEXT: AtomicU32 = AtomicU32::new(0x4857_0001);
    // What comes late for an earlier ping, or for one of another host, is no answer to this one.
    let name = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    ns.run(move || {
        let socket = raw_socket(to, source);
        let (request, reply) = if to.is_ipv4() { (8, 0) } else { (128, 129) };
        let mut seen = Vec::new();
        wait_for("an echo", LIMIT, || {
            let mut message = vec![0u8; 8 + len];
            message[0] = request;
            message[4..8].copy_from_slice(&name);
            if to.is_ipv4() {
                let sum = Sum::default().bytes(&message).finish();
                message[2..4].copy_from_slice(&sum.to_be_bytes());
            }
            socket.send_to(&message, &SocketAddr::new(to, 0).into())?;
            let mut buffer = [0u8; 65_535];
            let (v4_header, v6_header) = (20, 40);
            loop {
                let n = (&socket).read(&mut buffer).with_context(|| format!("only {seen:?}"))?;
                let icmp = &buffer[if to.is_ipv4() { v4_header } else { 0 }..n];
                seen.push((icmp[0], icmp[1]));
                // An error quotes the packet it is about.
                let quoted = 8 + if to.is_ipv4() { v4_header } else { v6_header };
                let names = |at: usize| icmp.get(at + 4..at + 8) == Some(&name);
                match icmp[0] {
                    kind if kind == reply && names(0) => return Ok(Pinged::Reply),
                    3 | 11 if to.is_ipv4() && names(quoted) => return Ok(Pinged::Error(icmp[0], icmp[1])),
                    1..=4 if to.is_ipv6() && names(quoted) => return Ok(Pinged::Error(icmp[0], icmp[1])),
                    _ => {}
                }
            }
        })
        .unwrap()
    })
}

/// A pod behind `host`, on a link of its own: its namespace and its addresses.
pub fn pod(host: &Host) -> (Switch, Netns, [IpAddr; 2]) {
    pod_with_mtu(host, 1500)
}

/// The same on a link that takes packets of `mtu` bytes.
pub fn pod_with_mtu(host: &Host, mtu: u32) -> (Switch, Netns, [IpAddr; 2]) {
    let n = host.number;
    let switch = Switch::new("pods").unwrap();
    let pod = Netns::new("pod", None).unwrap();
    switch.plug(&host.ns, "pods0", mtu).unwrap();
    switch.plug(&pod, "eth0", mtu).unwrap();
    for line in [
        format!("addr add 10.{n}.5.1/24 dev pods0"),
        format!("addr add fd0{n}:5::1/64 dev pods0 nodad"),
        format!("rule add prio 4855 iif pods0 lookup {TABLE_TRANSIT}"),
        format!("-6 rule add prio 4855 iif pods0 lookup {TABLE_TRANSIT}"),
    ] {
        host.ns.ip(&line).unwrap();
    }
    for line in [
        format!("addr add 10.{n}.5.2/24 dev eth0"),
        format!("addr add fd0{n}:5::2/64 dev eth0 nodad"),
        format!("route add default via 10.{n}.5.1"),
        format!("-6 route add default via fd0{n}:5::1"),
    ] {
        pod.ip(&line).unwrap();
    }
    let addresses = [format!("10.{n}.5.2").parse().unwrap(), format!("fd0{n}:5::2").parse().unwrap()];
    (switch, pod, addresses)
}

fn raw_socket(to: IpAddr, source: IpAddr) -> Socket {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}
