//! Virtual addresses and DNS on real kernels: from pods and hosts, to endpoints anywhere.

#![allow(clippy::unwrap_used, reason = "test code outside test functions")]

mod common;

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use common::{Cluster, Remote1, add_pod, cluster, remote, service};
use hawser_model::export::Protocol;
use hawser_testbed::Netns;
use hawser_testbed::traffic::{http, udp};

const LIMIT: Duration = Duration::from_secs(2);
const VIPS: [&str; 2] = ["10.250.0.7", "fd25::7"];

struct Lab {
    cluster: Cluster,
    far: Remote1,
    neighbour: Netns,
    _servers: Vec<udp::Echo>,
    _web: Vec<http::Server>,
}

/// Servers on a second pod of the first node, on the pod of the third, and in the remote cluster.
fn lab() -> Lab {
    let cluster = cluster(3, 1);
    let far = remote(&[&cluster.hosts[0]]);
    for host in &cluster.hosts {
        // Where this is on (and built in), the bridge itself translates answers between its pods back.
        let _ = host.ns.sysctl("bridge/bridge-nf-call-iptables", "0");
        let _ = host.ns.sysctl("bridge/bridge-nf-call-ip6tables", "0");
    }
    let neighbour = Netns::new("p1b", None).unwrap();
    add_pod(&cluster.hosts[0].ns, &neighbour, 1, 11);
    let servers = [(&neighbour, "near"), (&cluster.hosts[2].pod, "third"), (&far.ns, "far")];
    let udp = servers.iter().map(|(ns, name)| udp::Echo::start(ns, 5353, name).unwrap()).collect();
    let web = servers.iter().map(|(ns, name)| http::Server::start(ns, 8080, name).unwrap()).collect();
    Lab { cluster, far, neighbour, _servers: udp, _web: web }
}

const BACKENDS: [(&str, &str); 6] = [
    ("west", "10.1.1.11"),
    ("west", "fd10:1:1::11"),
    ("west", "10.1.3.10"),
    ("west", "fd10:1:3::10"),
    ("east", "10.2.5.10"),
    ("east", "fd10:2:5::10"),
];

/// Asks until every server has answered; gives the clients that they saw.
fn all_answer(from: &Netns, to: &str, servers: &[&str]) -> BTreeSet<String> {
    let to: SocketAddr = to.parse().unwrap();
    let (mut seen, mut clients) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..200 {
        let answer = if to.port() == 53 { udp::ask(from, to, LIMIT) } else { http::get(from, to, "/", LIMIT) };
        let answer =
            answer.unwrap_or_else(|e| panic!("{} to {to} after {seen:?}: {e:#}\n{}", from.name(), common::dump(from)));
        let (server, client) = answer.split_once(' ').unwrap();
        seen.insert(server.trim_start_matches("server=").to_owned());
        clients.insert(client.trim_start_matches("client=").to_owned());
        if servers.iter().all(|s| seen.contains(*s)) {
            break;
        }
    }
    assert_eq!(seen, servers.iter().map(|s| (*s).to_owned()).collect(), "{} to {to}", from.name());
    clients
}

#[test]
fn every_endpoint_is_reached_from_pods_and_hosts_by_tcp_and_udp_in_both_families() {
    let mut lab = lab();
    lab.cluster.services = vec![
        service("names", &VIPS, (Protocol::Udp, 53, 5353), &BACKENDS),
        service("web", &VIPS, (Protocol::Tcp, 80, 8080), &BACKENDS),
    ];
    lab.cluster.converge();
    let servers = ["near", "third", "far"];
    for vip in ["10.250.0.7", "[fd25::7]"] {
        for port in [53, 80] {
            let to = format!("{vip}:{port}");
            for host in &lab.cluster.hosts {
                let clients = all_answer(&host.pod, &to, &servers);
                // A neighbour behind the same bridge (the client itself is one) sees the host, everybody else the client.
                let (pod, own) = (host.address(vip, 10), host.address(vip, 1));
                let wanted: BTreeSet<String> = if host.number != 2 { [pod, own].into() } else { [pod].into() };
                assert_eq!(clients, wanted, "{} to {to}", host.name);
                assert_eq!(all_answer(&host.ns, &to, &servers), [host.address(vip, 1)].into(), "{} to {to}", host.name);
            }
        }
    }
    drop((lab.far, lab.neighbour));
}

#[test]
fn an_endpoint_reaches_itself_by_the_virtual_address() {
    let mut lab = lab();
    lab.cluster.services = vec![service("names", &VIPS, (Protocol::Udp, 53, 5353), &BACKENDS[..2])];
    lab.cluster.converge();
    for vip in ["10.250.0.7", "[fd25::7]"] {
        let answer = udp::ask(&lab.neighbour, format!("{vip}:53").parse().unwrap(), LIMIT).unwrap();
        assert!(answer.starts_with("server=near"), "{answer}");
    }
}

#[test]
fn a_client_with_affinity_keeps_its_endpoint_when_others_change_and_when_the_agent_restarts() {
    let mut lab = lab();
    let mut sticky = service("names", &VIPS, (Protocol::Udp, 53, 5353), &BACKENDS);
    sticky.affinity = Some(600);
    lab.cluster.services = vec![sticky.clone()];
    lab.cluster.converge();
    let web = service("web", &VIPS, (Protocol::Tcp, 80, 8080), &BACKENDS);
    for vip in ["10.250.0.7:53", "[fd25::7]:53"] {
        let ask = |lab: &Lab| udp::ask(&lab.cluster.hosts[1].pod, vip.parse().unwrap(), LIMIT).unwrap();
        let first = ask(&lab);
        let same = |lab: &Lab, why: &str| (0..20).for_each(|_| assert_eq!(ask(lab), first, "{vip} {why}"));
        same(&lab, "at once");
        let kept = ["near", "third", "far"].iter().position(|s| first.contains(s)).unwrap();
        let mut fewer = sticky.clone();
        fewer.groups.retain(|g| {
            BACKENDS.iter().position(|(_, a)| *a == g.endpoints[0].address.to_string()).unwrap() / 2 != (kept + 1) % 3
        });
        assert_eq!(fewer.groups.len(), 4);
        lab.cluster.services = vec![fewer, web.clone()];
        lab.cluster.hosts[1].pass(lab.cluster.desired(1));
        same(&lab, "after another endpoint went and a service came");
        lab.cluster.hosts[1].restart();
        lab.cluster.services = vec![sticky.clone()];
        lab.cluster.hosts[1].pass(lab.cluster.desired(1));
        same(&lab, "after a restart");
    }
    // Without the endpoint, the client goes elsewhere.
    let only = service("names", &VIPS, (Protocol::Udp, 53, 5353), &BACKENDS[4..]);
    lab.cluster.services = vec![only];
    lab.cluster.hosts[1].pass(lab.cluster.desired(1));
    let answer = udp::ask(&lab.cluster.hosts[1].pod, "10.250.0.7:53".parse().unwrap(), LIMIT).unwrap();
    assert!(answer.starts_with("server=far"), "{answer}");
    assert!(!lab.cluster.hosts[1].nft().contains("hawser-affinity"), "{}", lab.cluster.hosts[1].nft());
}

#[test]
fn an_address_without_endpoints_is_refused_at_once() {
    let mut lab = lab();
    lab.cluster.services = vec![service("web", &VIPS, (Protocol::Tcp, 80, 8080), &BACKENDS[..2])];
    lab.cluster.converge();
    let host = &lab.cluster.hosts[1];
    for ns in [&host.pod, &*host.ns] {
        for to in ["10.250.0.7:81", "[fd25::7]:81", "10.250.0.8:80", "[fd25::8]:80"] {
            let error = http::get(ns, to.parse().unwrap(), "/", LIMIT).unwrap_err();
            assert!(format!("{error:#}").contains("refused"), "{} to {to}: {error:#}", ns.name());
        }
        let error = udp::ask(ns, "10.250.0.7:53".parse().unwrap(), LIMIT).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("refused") || error.contains("not permitted"), "{}: {error}", ns.name());
    }
}

#[test]
fn dns_is_asked_on_port_53_and_answered_on_the_unprivileged_one() {
    let lab = lab();
    lab.cluster.converge();
    let host = &lab.cluster.hosts[1];
    for address in ["10.253.0.53", "fd53::53"] {
        let on = SocketAddr::new(address.parse().unwrap(), 10053);
        let socket = host.ns.run(move || UdpSocket::bind(on)).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        for client in [&host.pod, &*host.ns] {
            let to = SocketAddr::new(on.ip(), 53);
            let (answer, ()) = std::thread::scope(|scope| {
                let asked = scope.spawn(|| udp::ask(client, to, LIMIT));
                let (n, from) = socket.recv_from(&mut [0; 16]).unwrap();
                assert_eq!(n, 1);
                socket.send_to(b"name", from).unwrap();
                (asked.join().unwrap(), ())
            });
            assert_eq!(answer.unwrap(), "name", "{} to {to}", client.name());
        }
    }
}

#[test]
fn a_udp_client_that_keeps_its_port_leaves_an_endpoint_that_went_and_no_other() {
    let mut lab = lab();
    let all = service("names", &VIPS, (Protocol::Udp, 53, 5353), &BACKENDS);
    lab.cluster.services = vec![all.clone()];
    lab.cluster.converge();
    for vip in ["10.250.0.7:53", "[fd25::7]:53"] {
        let vip: SocketAddr = vip.parse().unwrap();
        let any: SocketAddr = if vip.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
        let pod = &lab.cluster.hosts[1].pod;
        let clients: Vec<UdpSocket> = (0..16).map(|_| pod.run(move || UdpSocket::bind(any)).unwrap()).collect();
        let ask = |client: &UdpSocket| {
            client.set_read_timeout(Some(LIMIT)).unwrap();
            client.send_to(b"?", vip).unwrap();
            let mut buffer = [0; 64];
            let n = client.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..n]).split(' ').next().unwrap().to_owned()
        };
        let before: Vec<String> = clients.iter().map(ask).collect();
        assert!(["near", "third", "far"].iter().all(|s| before.iter().any(|b| b.ends_with(s))), "{before:?}");
        lab.cluster.services = vec![service("names", &VIPS, (Protocol::Udp, 53, 5353), &BACKENDS[..4])];
        lab.cluster.hosts[1].pass(lab.cluster.desired(1));
        let after: Vec<String> = clients.iter().map(ask).collect();
        for (before, after) in before.iter().zip(&after) {
            assert!(!after.ends_with("far"), "{after}");
            assert!(before == after || before.ends_with("far"), "{before} became {after}");
        }
        lab.cluster.services = vec![all.clone()];
        lab.cluster.hosts[1].pass(lab.cluster.desired(1));
    }
}
