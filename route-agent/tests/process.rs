//! The process itself on the hosts of a site: real kernels, real sockets; gateways are played by the test.

#![allow(clippy::unwrap_used, reason = "test code outside test functions")]

use std::fs;
use std::net::{SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use hawser_liveness::Time;
use hawser_model::defaults::{NODE_NOTICE_PORT, NODE_PROBE_PORT};
use hawser_model::{ClusterId, NodeName};
use hawser_node_probe::{ClusterState, Listener, Message, ProbeKey, Reach, Speaker, link_local, pages};
use hawser_testbed::traffic::{admin, dns, http, udp};
use hawser_testbed::{Lab, Netns, Site, SiteOptions, Workload, wait_for};

const LIMIT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(2);
const PROGRAM: &str = "hawser-route-agent";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A site of two gateways and a worker with route agents, the remote cluster `east` behind the gateways, and one more pod of
/// this cluster.
struct World {
    gateways: Vec<Gateway>,
    far: Netns,
    client: Workload,
    local: Workload,
    site: Site,
    _echoes: Vec<udp::Echo>,
    _web: Vec<http::Server>,
    lab: Lab,
}

fn world(name: &str) -> World {
    let lab = Lab::new(name).unwrap();
    let mut site = lab.add_site(SiteOptions::new(1, "west")).unwrap();
    let client = site.add_workload(3).unwrap();
    let local = site.add_workload(2).unwrap();
    fs::create_dir_all(site.dir.join("secrets")).unwrap();
    fs::write(site.dir.join("secrets/probe.key"), format!("{KEY}\n")).unwrap();
    site.write("joined.yaml", JOINED).unwrap();
    site.write("east.yaml", EAST).unwrap();
    site.write("import.yaml", &imports(&local)).unwrap();
    let far = far(&site);
    let names = [(&far, "far"), (&local.ns, "local")];
    let echoes = names.map(|(ns, name)| udp::Echo::start(ns, 5353, name).unwrap()).into();
    let web = names.map(|(ns, name)| http::Server::start(ns, 8080, name).unwrap()).into();
    (1..=3).for_each(|n| site.start(n, PROGRAM).unwrap());
    let gateways = (1..=2).map(|n| Gateway::start(&site, n)).collect();
    let world = World { gateways, far, client, local, site, _echoes: echoes, _web: web, lab };
    (1..=3).for_each(|n| world.ready(n));
    world
}

const JOINED: &str = "apiVersion: about.k8s.io/v1beta1\nkind: ClusterProperty\nmetadata: {name: clusterset.k8s.io}\nspec: {value: set}\n";
const EAST: &str = "apiVersion: hawser.dev/v1alpha1\nkind: RemoteCluster\nmetadata: {name: east}\nspec:\n  clusterId: east\n  \
    generation: 1\n  rosterRevision: 1\n  prefixes: [10.2.0.0/16, 'fd10:2::/32']\n  gateways: []\n";

/// Two imports with an endpoint in each cluster: `web` with virtual addresses, `peers` headless.
fn imports(local: &Workload) -> String {
    let mut yaml = String::new();
    for (name, more) in [("web", "type: ClusterSetIP\n  ips: [10.250.1.7, 'fd25:1::7']"), ("peers", "type: Headless")] {
        yaml += &format!(
            "---\napiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceImport\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  {more}\n  ipFamilies: [IPv4, IPv6]\n  ports:\n  - {{name: http, protocol: TCP, port: 80}}\n  \
             - {{name: echo, protocol: UDP, port: 53}}\n"
        );
        for (cluster, v4, v6) in [
            ("east", "10.2.5.10".to_owned(), "fd10:2:5::10".to_owned()),
            ("west", local.v4.to_string(), local.v6.to_string()),
        ] {
            for (family, address) in [("IPv4", v4), ("IPv6", v6)] {
                yaml += &format!(
                    "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-{cluster}-{}\n  \
                     namespace: shop\n  labels:\n    multicluster.kubernetes.io/service-name: {name}\n    \
                     multicluster.kubernetes.io/source-cluster: {cluster}\n    \
                     endpointslice.kubernetes.io/managed-by: agent.hawser.dev\naddressType: {family}\n\
                     ports:\n- {{name: http, protocol: TCP, port: 8080}}\n- {{name: echo, protocol: UDP, port: 5353}}\n\
                     endpoints:\n- addresses: ['{address}']\n  conditions: {{ready: true}}\n",
                    family.to_lowercase()
                );
            }
        }
    }
    yaml
}

/// The remote cluster: one host, joined to each gateway by a stand-in of its TUN with the routes a gateway process makes.
fn far(site: &Site) -> Netns {
    let ns = Netns::new("far", None).unwrap();
    ns.ip("addr add 10.2.5.10/32 dev lo").unwrap();
    ns.ip("addr add fd10:2:5::10/128 dev lo nodad").unwrap();
    for n in 1..=2 {
        let host = &site.node(n).ns;
        ns.ip(&format!("link add tun{n} type veth peer name hawser-tun netns {}", host.path().display())).unwrap();
        for line in [format!("link set tun{n} up"), format!("addr add fe80::{n}/64 dev tun{n} nodad")] {
            ns.ip(&line).unwrap();
        }
        let mut lines = vec![
            "link set hawser-tun up".to_owned(),
            format!("addr add 10.1.{n}.1/32 dev hawser-tun"),
            "addr add fe80::99/64 dev hawser-tun nodad".to_owned(),
        ];
        for table in [4857, 4858] {
            lines.push(format!(
                "route add 10.2.0.0/16 via inet6 fe80::{n} dev hawser-tun table {table} metric 100 src 10.1.{n}.1"
            ));
            lines.push(format!("-6 route add fd10:2::/32 via fe80::{n} dev hawser-tun table {table} metric 100"));
        }
        lines.iter().for_each(|line| drop(host.ip(line).unwrap()));
    }
    let back = "nexthop via inet6 fe80::99 dev tun1 nexthop via inet6 fe80::99 dev tun2";
    ns.ip(&format!("route add 10.1.0.0/16 src 10.2.5.10 {back}")).unwrap();
    ns.ip(&format!("-6 route add fd10:1::/32 src fd10:2:5::10 {}", back.replace("inet6 ", ""))).unwrap();
    ns
}

/// Plays a gateway process towards route agents.
struct Gateway {
    said: Arc<Mutex<(u64, bool, ClusterState)>>,
    silent: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    nodes: Vec<NodeName>,
    socket: UdpSocket,
    index: u32,
    speaker: Arc<Mutex<Speaker>>,
}

impl Gateway {
    fn start(site: &Site, n: u8) -> Self {
        let host = &site.node(n).ns;
        let socket = wait_for("hawser-vx", LIMIT, || {
            host.run(|| -> Result<(UdpSocket, u32)> {
                let index = fs::read_to_string("/sys/class/net/hawser-vx/ifindex")?.trim().parse()?;
                let up = fs::read_to_string("/sys/class/net/hawser-vx/flags")?;
                ensure!(up.trim().ends_with('3'), "not up");
                Ok((UdpSocket::bind(("::", NODE_PROBE_PORT))?, index))
            })
        });
        let (socket, index) = socket.unwrap_or_else(|e| panic!("{e:#}\n{}", site.log(n, PROGRAM)));
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let instance = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        let key = || ProbeKey::from_text(KEY).unwrap();
        let node = NodeName::new(&site.node(n).name).unwrap();
        let gateway = Self {
            said: Arc::new(Mutex::new((1, false, ClusterState::Live))),
            silent: Arc::default(),
            stop: Arc::default(),
            nodes: site.nodes.iter().map(|n| NodeName::new(&n.name).unwrap()).collect(),
            socket: socket.try_clone().unwrap(),
            index,
            speaker: Arc::new(Mutex::new(Speaker::new(key(), node, instance))),
        };
        let (said, silent, stop) = (Arc::clone(&gateway.said), Arc::clone(&gateway.silent), Arc::clone(&gateway.stop));
        let speaker = Arc::clone(&gateway.speaker);
        let mut listener = Listener::new(key(), instance);
        std::thread::spawn(move || {
            let start = Instant::now();
            let mut buffer = [0; 1300];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let now = Time::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap());
                let Ok(heard) = listener.open(&buffer[..length], now) else { continue };
                let Message::Ask { seq, .. } = heard.message else { continue };
                if silent.load(Ordering::Relaxed) {
                    continue;
                }
                let page = page(*said.lock().unwrap());
                let answer = speaker.lock().unwrap().seal(Message::Answer { asker: heard.instance, seq, page });
                let _ = socket.send_to(&answer, from);
            }
        });
        gateway
    }

    /// Changes what it says, and says so unasked.
    fn say(&self, draining: bool, east: ClusterState) {
        let state = {
            let mut said = self.said.lock().unwrap();
            *said = (said.0 + 1, draining, east);
            *said
        };
        for node in &self.nodes {
            let notice = self.speaker.lock().unwrap().seal(Message::Notice { page: page(state) });
            let to = SocketAddrV6::new(link_local(node), NODE_NOTICE_PORT, 0, self.index);
            self.socket.send_to(&notice, to).unwrap();
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn page((version, draining, east): (u64, bool, ClusterState)) -> hawser_node_probe::LivePage {
    pages(version, draining, &[(ClusterId::new("east").unwrap(), Reach { state: east, mtu: 1420 })]).remove(0)
}

impl World {
    fn admin(&self, n: u8, path: &str) -> Result<String> {
        admin::get(&self.site.node(n).state.join("route-agent/admin.sock"), path)
    }

    fn ready(&self, n: u8) {
        let ready = wait_for("readiness", LIMIT, || self.admin(n, "/ready"));
        ready.unwrap_or_else(|e| panic!("node {n}: {e:#}\n{}", self.site.log(n, PROGRAM)));
    }

    /// The gateways that the worker's routes to the remote cluster lead over, by number.
    fn via(&self, family: &str) -> Result<Vec<u8>> {
        let routes = self.site.node(3).ns.ip(&format!("{family} route show table 4857 metric 200"))?;
        let over = |n: u8| routes.contains(&link_local(&NodeName::new(&self.site.node(n).name).unwrap()).to_string());
        Ok((1..=2).filter(|n| over(*n)).collect())
    }

    fn wait_via(&self, wanted: &[u8]) {
        for family in ["", "-6"] {
            let same = wait_for("routes over the right gateways", LIMIT, || {
                let via = self.via(family)?;
                ensure!(via == wanted, "they lead over {via:?} instead of {wanted:?}");
                Ok(())
            });
            same.unwrap_or_else(|e| panic!("{e:#}\n{}", self.site.log(3, PROGRAM)));
        }
    }

    /// Asks a virtual address until each of `servers` has answered and no other does.
    fn served_by(&self, servers: &[&str]) {
        for to in ["10.250.1.7:53", "[fd25:1::7]:53"] {
            let outcome = wait_for("the right servers", LIMIT, || {
                let mut seen = std::collections::BTreeSet::new();
                for _ in 0..40 {
                    let answer = udp::ask(&self.client.ns, to.parse()?, ANSWER)?;
                    seen.insert(answer.split_once(' ').context("no space")?.0.trim_start_matches("server=").to_owned());
                }
                ensure!(seen.iter().eq(servers), "{to}: {seen:?} instead of {servers:?}");
                Ok(())
            });
            outcome.unwrap_or_else(|e| panic!("{e:#}\n{}", self.site.log(3, PROGRAM)));
        }
    }

    fn names(&self, name: &str, wanted: &[&str]) {
        for server in self.site.dns() {
            let kind = if wanted[0].contains(':') { "AAAA" } else { "A" };
            let right = wait_for("the right addresses", LIMIT, || {
                let answer = dns::query(&self.client.ns, server, &format!("{name}.shop.svc.clusterset.local."), kind)?;
                ensure!(answer.data == wanted, "{answer:?}");
                Ok(())
            });
            right.unwrap_or_else(|e| panic!("{name} at {server}: {e:#}\n{}", self.site.log(3, PROGRAM)));
        }
    }
}

#[test]
fn a_site_serves_names_and_virtual_addresses_and_drops_a_cluster_gone_dark_from_both() {
    let world = world("ra-dark");
    world.wait_via(&[1, 2]);
    world.served_by(&["far", "local"]);
    world.names("web", &["10.250.1.7"]);
    world.names("web", &["fd25:1::7"]);
    assert_eq!(world.local.v4.to_string(), "10.1.2.11");
    world.names("peers", &["10.1.2.11", "10.2.5.10"]);
    let direct = http::get(&world.client.ns, "10.2.5.10:8080".parse().unwrap(), "/", ANSWER).unwrap();
    assert_eq!(direct, format!("server=far client={}", world.client.v4));
    let metrics = world.admin(3, "/metrics").unwrap();
    assert_eq!(metrics.matches("hawser_route_agent_gateway_usable{").count(), 2, "{metrics}");

    world.gateways[0].say(false, ClusterState::Dark);
    world.wait_via(&[2]);
    world.gateways[1].say(false, ClusterState::Dark);
    world.wait_via(&[]);
    world.served_by(&["local"]);
    world.names("peers", &["10.1.2.11"]);
    world.names("web", &["10.250.1.7"]);
    let error = http::get(&world.client.ns, "10.2.5.10:8080".parse().unwrap(), "/", ANSWER).unwrap_err();
    assert!(format!("{error:#}").contains("No route to host"), "{error:#}");

    world.gateways[1].say(false, ClusterState::Live);
    world.wait_via(&[2]);
    world.served_by(&["far", "local"]);
    world.names("peers", &["10.1.2.11", "10.2.5.10"]);
    let metrics = world.admin(3, "/metrics").unwrap();
    for name in ["hawser_route_agent_failovers_total", "hawser_route_agent_dns_queries_total{type=\"A\"}"] {
        let value = metrics.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {metrics}"));
        assert!(value.trim().parse::<u64>().unwrap() > 0, "{name}: {metrics}");
    }
    world.lab.pass();
}

#[test]
fn gateways_that_drain_fall_silent_or_lose_their_tun_are_left() {
    let world = world("ra-leave");
    world.wait_via(&[1, 2]);
    world.gateways[0].say(true, ClusterState::Live);
    world.wait_via(&[2]);
    world.gateways[0].say(false, ClusterState::Live);
    world.wait_via(&[1, 2]);

    let stream = udp::Stream::start(&world.client.ns, "10.2.5.10:5353".parse().unwrap(), 8).unwrap();
    // Its TUN goes with the gateway process: the node's route agent says so to all.
    world.far.ip("link del tun1").unwrap();
    world.gateways[0].silent.store(true, Ordering::Relaxed);
    world.far.ip("route replace 10.1.0.0/16 via inet6 fe80::99 dev tun2 src 10.2.5.10").unwrap();
    world.wait_via(&[2]);
    // What comes through afterwards ends the gap.
    std::thread::sleep(Duration::from_millis(300));
    let loss = stream.finish().unwrap();
    println!("the gateway's TUN vanished: {loss:?}");
    assert!(world.site.log(3, PROGRAM).contains("its host says that it is gone"), "{}", world.site.log(3, PROGRAM));

    world.gateways[1].silent.store(true, Ordering::Relaxed);
    world.wait_via(&[]);
    assert!(world.site.log(3, PROGRAM).contains("nothing is heard from the peer"), "{}", world.site.log(3, PROGRAM));
    world.gateways[1].silent.store(false, Ordering::Relaxed);
    // In hold-down, but better than nothing.
    world.wait_via(&[2]);
    world.lab.pass();
}

#[test]
fn restarts_and_kills_under_load_lose_nothing_and_leaving_cleans_up() {
    let mut world = world("ra-restart");
    world.wait_via(&[1, 2]);
    let targets: [SocketAddr; 4] =
        ["10.2.5.10:5353", "[fd10:2:5::10]:5353", "10.250.1.7:53", "[fd25:1::7]:53"].map(|to| to.parse().unwrap());
    let streams = targets.map(|to| udp::Stream::start(&world.client.ns, to, 2).unwrap());
    for round in 0..3 {
        for n in 1..=3 {
            if round == 1 {
                world.site.kill(n, PROGRAM).unwrap();
            } else {
                let status = world.site.take(n, PROGRAM).unwrap().stop().unwrap();
                assert!(status.success(), "{status}: {}", world.site.log(n, PROGRAM));
            }
            world.site.start(n, PROGRAM).unwrap();
            world.ready(n);
        }
        world.wait_via(&[1, 2]);
    }
    let loss = streams.map(|s| s.finish().unwrap());
    let lost: u64 = loss.iter().map(udp::Loss::lost).sum();
    let unread: u64 = [&world.far, &world.client.ns, &world.local.ns].into_iter().map(overflows).sum();
    assert_eq!(lost, unread, "{loss:?}");

    fs::remove_file(world.site.dir.join("joined.yaml")).unwrap();
    for n in 1..=3 {
        let clean = wait_for("nothing of ours", LIMIT, || {
            let text = world.site.ns_text(n)?;
            let rules = world.site.node(n).ns.ip("rule")? + &world.site.node(n).ns.ip("-6 rule")?;
            let left: Vec<&str> = text.lines().chain(rules.lines()).filter(|l| !l.contains("hawser-tun")).collect();
            let left: Vec<&str> = left.into_iter().filter(|l| l.contains("hawser") || l.contains("485")).collect();
            ensure!(left.is_empty(), "{left:#?}");
            Ok(())
        });
        clean.unwrap_or_else(|e| panic!("node {n}: {e:#}\n{}", world.site.log(n, PROGRAM)));
    }
    world.site.write("joined.yaml", JOINED).unwrap();
    world.wait_via(&[1, 2]);
    world.served_by(&["far", "local"]);
    world.lab.pass();
}

/// Datagrams that found their socket's buffer full: not lost on the way, but not read in time by a starved test program.
fn overflows(ns: &Netns) -> u64 {
    let read = |file: &'static str| ns.run(move || fs::read_to_string(file).unwrap());
    let v4 = read("/proc/thread-self/net/snmp");
    let rows: Vec<Vec<&str>> = v4.lines().filter(|l| l.starts_with("Udp:")).map(|l| l.split(' ').collect()).collect();
    let column = rows[0].iter().position(|n| *n == "RcvbufErrors").unwrap();
    let v6 = read("/proc/thread-self/net/snmp6");
    let v6 = v6.lines().find_map(|l| l.strip_prefix("Udp6RcvbufErrors")).unwrap().trim().parse::<u64>().unwrap();
    rows[1][column].parse::<u64>().unwrap() + v6
}
