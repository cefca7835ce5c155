//! A plain WireGuard implementation as the other end: `wireguard-go` (Debian packages wireguard-go and wireguard-tools).
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Host, LIMIT, Outer, PORT, Pinged, inner, outer_address, ping, prefixes, tcp_echo, udp_echo};
use hawser_liveness::ClusterState;
use hawser_model::{ClusterId, Gateway, Lane, NodeName, PublicKey};
use hawser_testbed::{Process, Switch, wait_for};
use hawser_tunnel::{PeerCluster, PeerGateway};

const PLAIN: u8 = 2;

/// `wireguard-go` on host 2, with host 1's lane 0 as its peer.
fn start_plain(host: &Host, peer: PublicKey, outer: Outer, dir: &Path) -> (Process, PublicKey) {
    // Its control socket has a fixed place in the file system.
    host.ns.output("sh", &["-c", "mkdir -p /run/wireguard && mount -t tmpfs tmpfs /run/wireguard"], None).unwrap();
    let mut command = Command::new("wireguard-go");
    command.args(["-f", "wg0"]).env("WG_PROCESS_FOREGROUND", "1").env("LOG_LEVEL", "verbose");
    let process = Process::start(&host.ns, "wireguard-go", command, dir)
        .expect("wireguard-go must be installed: packages wireguard-go and wireguard-tools");
    let private = host.ns.output("wg", &["genkey"], None).unwrap();
    let public = host.ns.output("wg", &["pubkey"], Some(&private)).unwrap();
    let key_file = dir.join("plain.key");
    std::fs::write(&key_file, &private).unwrap();
    let endpoint = std::net::SocketAddr::new(outer_address(1, outer), PORT).to_string();
    let peer = STANDARD.encode(peer.0);
    let listen = PORT.to_string();
    wait_for("wireguard-go to take its configuration", LIMIT, || {
        let file = key_file.to_str().unwrap();
        let args = ["set", "wg0", "listen-port", &listen, "private-key", file, "peer", &peer, "endpoint", &endpoint];
        let more = ["allowed-ips", "10.1.0.0/16,fd01::/16"];
        host.ns.output("wg", &[&args[..], &more[..]].concat(), None)
    })
    .unwrap();
    for line in [
        format!("addr add {}/32 dev wg0", inner(PLAIN, Outer::V4)),
        format!("addr add {}/128 dev wg0 nodad", inner(PLAIN, Outer::V6)),
        "link set wg0 mtu 1420 up".to_owned(),
        "route add 10.1.0.0/16 dev wg0".to_owned(),
        "-6 route add fd01::/16 dev wg0".to_owned(),
    ] {
        host.ns.ip(&line).unwrap();
    }
    let bytes: [u8; 32] = STANDARD.decode(public.trim()).unwrap().try_into().unwrap();
    (process, PublicKey(bytes))
}

fn plain_peer(key: PublicKey, addresses: Vec<std::net::IpAddr>) -> PeerCluster {
    let gateway = Gateway {
        node: NodeName::new("plain").unwrap(),
        lanes: vec![Lane { public_key: key, port: PORT, next_public_key: None }],
        candidates: Vec::new(),
        preferred: Vec::new(),
        probes: false,
    };
    PeerCluster {
        id: ClusterId::new("plain").unwrap(),
        generation: 1,
        prefixes: prefixes(PLAIN),
        gateways: vec![PeerGateway { gateway, addresses }],
    }
}

fn packets_pass(lanes: usize, outer: Outer, we_know_its_address: bool) {
    let dir = tempfile::tempdir().unwrap();
    let switch = Switch::new("wire").unwrap();
    let (mut a, plain) = (Host::new(&switch, 1), Host::new(&switch, PLAIN));
    a.start(dir.path(), lanes);
    let (process, key) = start_plain(&plain, a.tunnel().lanes()[0].key, outer, dir.path());
    let addresses = if we_know_its_address { vec![outer_address(PLAIN, outer)] } else { Vec::new() };
    a.apply(vec![plain_peer(key, addresses)]);
    if !we_know_its_address {
        // It begins, and we learn where it is.
        assert_eq!(ping(&plain, a.inner(Outer::V4), 56), Pinged::Reply, "{}", process.log());
    }
    a.wait_state(&ClusterId::new("plain").unwrap(), ClusterState::Live);
    for family in [Outer::V4, Outer::V6] {
        wait_for("the first echo", LIMIT, || match ping(&a, inner(PLAIN, family), 56) {
            Pinged::Reply => Ok(()),
            other => anyhow::bail!("{other:?}"),
        })
        .unwrap();
        assert_eq!(ping(&plain, a.inner(family), 56), Pinged::Reply);
        // The kernel spreads flows over all lanes; those but lane 0 hand theirs over.
        for _ in 0..2 * lanes {
            udp_echo(&a, &plain, family, 900);
            udp_echo(&plain, &a, family, 900);
        }
        assert_eq!(tcp_echo(&a, &plain, family, 200_000), 200_000);
        assert_eq!(tcp_echo(&plain, &a, family, 200_000), 200_000);
    }
    let shown = plain.ns.output("wg", &["show", "wg0", "latest-handshakes"], None).unwrap();
    assert!(!shown.trim().ends_with("\t0"), "no handshake by its own account: {shown}");
}

#[test]
fn a_plain_endpoint_over_ipv4() {
    packets_pass(1, Outer::V4, true);
}

#[test]
fn a_plain_endpoint_over_ipv6_with_many_lanes() {
    packets_pass(4, Outer::V6, true);
}

#[test]
fn a_plain_client_that_comes_from_anywhere() {
    packets_pass(2, Outer::V4, false);
}

#[test]
fn bursts_that_lane_0_sends_for_another_arrive_whole() {
    let dir = tempfile::tempdir().unwrap();
    let switch = Switch::new("wire").unwrap();
    let (mut a, plain) = (Host::new(&switch, 1), Host::new(&switch, PLAIN));
    a.start(dir.path(), 4);
    let (_process, key) = start_plain(&plain, a.tunnel().lanes()[0].key, Outer::V4, dir.path());
    a.apply(vec![plain_peer(key, vec![outer_address(PLAIN, Outer::V4)])]);
    a.wait_state(&ClusterId::new("plain").unwrap(), ClusterState::Live);
    udp_echo(&a, &plain, Outer::V4, 900);
    let (here, there) = (a.inner(Outer::V4), inner(PLAIN, Outer::V4));
    let server = plain.ns.run(move || UdpSocket::bind((there, 0)).unwrap());
    let target = server.local_addr().unwrap();
    for flow in 0..8 {
        // More than lane 0 takes in a turn, fewer than wait for it.
        const BURST: usize = 200;
        let client = a.ns.run(move || UdpSocket::bind((here, 0)).unwrap());
        (0..BURST).for_each(|_| assert_eq!(client.send_to(&[flow; 100], target).unwrap(), 100));
        server.set_read_timeout(Some(LIMIT)).unwrap();
        let mut buffer = [0; 200];
        let arrived = (0..BURST).take_while(|_| server.recv(&mut buffer).is_ok()).count();
        assert_eq!(arrived, BURST, "flow {flow}: {:?}", a.tunnel().report().drops);
    }
}
