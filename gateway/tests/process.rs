//! The process on two hosts that are sites of their own: local API in, packets and status out.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hawser_api::report::GatewayReport;
use hawser_gateway::Args;
use hawser_liveness::{ClusterState, Time};
use hawser_local_api_directory::SiteArgs;
use hawser_model::NodeName;
use hawser_model::defaults::{
    NODE_NOTICE_PORT, NODE_PROBE_PORT, OUTER_MARK, OUTER_MARK_MASK, TABLE_REMOTE, TUN_DEVICE,
};
use hawser_node_probe::{Listener, Message, ProbeKey, Speaker, link_local};
use hawser_telemetry::{AdminArgs, Shutdown};
use hawser_testbed::{Netns, Switch, wait_for};

const LIMIT: Duration = Duration::from_secs(20);
const PROBE_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n";

/// A site of one host, which is its gateway: number `n` has `192.0.2.n` outside and `10.n.0.0/16`, `fd0n::/16` inside.
struct Site {
    number: u8,
    ns: Arc<Netns>,
    dir: PathBuf,
    running: Option<(Shutdown, std::thread::JoinHandle<Result<()>>)>,
}

impl Site {
    fn new(switch: &Switch, root: &Path, number: u8) -> Self {
        let ns = Netns::new(&format!("g{number}"), None).unwrap();
        switch.plug(&ns, "eth0", 1500).unwrap();
        for line in [
            format!("addr add 192.0.2.{number}/24 dev eth0"),
            format!("rule add prio 4857 not fwmark {OUTER_MARK:#x}/{OUTER_MARK_MASK:#x} lookup {TABLE_REMOTE}"),
            format!("-6 rule add prio 4857 not fwmark {OUTER_MARK:#x}/{OUTER_MARK_MASK:#x} lookup {TABLE_REMOTE}"),
        ] {
            ns.ip(&line).unwrap();
        }
        let dir = root.join(format!("site{number}"));
        std::fs::create_dir_all(dir.join("secrets")).unwrap();
        std::fs::write(dir.join("secrets/probe.key"), PROBE_KEY).unwrap();
        let site = Self { number, ns: Arc::new(ns), dir, running: None };
        let node = format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: g{number}, labels: {{hawser.dev/gateway: 'true'}}}}\n\
             spec: {{podCIDRs: [10.{number}.1.0/24, 'fd0{number}:1::/64']}}\n\
             status: {{addresses: [{{type: InternalIP, address: 192.0.2.{number}}}]}}\n"
        );
        site.write("node.yaml", &node);
        site.membership(&[]);
        site
    }

    fn write(&self, file: &str, text: &str) {
        let draft = self.dir.join(format!("{file}.new"));
        std::fs::create_dir_all(draft.parent().unwrap()).unwrap();
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, self.dir.join(file)).unwrap();
    }

    fn membership(&self, drained: &[&str]) {
        let (n, drained) = (self.number, drained.join(", "));
        self.write(
            "membership.yaml",
            &format!(
                "apiVersion: hawser.dev/v1alpha1\nkind: Membership\nmetadata: {{name: default}}\n\
                 spec: {{clusterId: c{n}, prefixes: [10.{n}.0.0/16, 'fd0{n}::/16'], drainedNodes: [{drained}]}}\n"
            ),
        );
    }

    /// What the agent would write: the roster, at a revision.
    fn roster(&self, revision: i64, members: &[&str]) {
        let members: Vec<String> = members.iter().map(|m| format!("{{clusterId: {m}, generation: 1}}")).collect();
        let text = format!(
            "apiVersion: hawser.dev/v1alpha1\nkind: Membership\nmetadata: {{name: default}}\n\
             status: {{rosterRevision: {revision}, members: [{}]}}\n",
            members.join(", ")
        );
        self.write("generated/agent-g0/status/Membership/_default.yaml", &text);
    }

    fn join(&self) {
        self.write(
            "property.yaml",
            "apiVersion: about.k8s.io/v1beta1\nkind: ClusterProperty\nmetadata: {name: clusterset.k8s.io}\nspec: {value: set}\n",
        );
    }

    fn leave(&self) {
        std::fs::remove_file(self.dir.join("property.yaml")).unwrap();
    }

    /// What the agent would write about another site, from what that one published.
    fn learn(&self, other: &Self) {
        let (n, keys) = (other.number, other.published_keys());
        let lanes: Vec<String> =
            keys.iter().map(|(key, port)| format!("{{publicKey: '{key}', port: {port}}}")).collect();
        self.write(
            &format!("remote-c{n}.yaml"),
            &format!(
                "apiVersion: hawser.dev/v1alpha1\nkind: RemoteCluster\nmetadata: {{name: c{n}}}\n\
                 spec:\n  clusterId: c{n}\n  generation: 1\n  rosterRevision: 1\n  prefixes: [10.{n}.0.0/16, 'fd0{n}::/16']\n  \
                 gateways:\n  - {{node: g{n}, lanes: [{}], candidates: [192.0.2.{n}]}}\n",
                lanes.join(", ")
            ),
        );
    }

    /// Lane keys and ports of the `GatewayNode` that this site's gateway wrote.
    fn published_keys(&self) -> Vec<(String, u16)> {
        wait_for("the gateway's own object", LIMIT, || {
            let found = files(&self.dir.join(format!("generated/gateway-g{}", self.number)))
                .into_iter()
                .find(|(path, _)| path.contains("GatewayNode/") && !path.contains("status/"));
            let (_, text) = found.context("not written")?;
            let value: serde_json::Value = serde_saphyr::from_str(&text)?;
            let lanes = value["spec"]["lanes"].as_array().context("no lanes")?;
            let lane = |l: &serde_json::Value| {
                Some((l["publicKey"].as_str()?.to_owned(), u16::try_from(l["port"].as_u64()?).ok()?))
            };
            lanes.iter().map(lane).collect::<Option<Vec<_>>>().context("lanes without keys")
        })
        .unwrap()
    }

    fn status(&self) -> Result<serde_json::Value> {
        let found = files(&self.dir.join(format!("generated/gateway-g{}", self.number)))
            .into_iter()
            .find(|(path, _)| path.contains("status/GatewayNode/"));
        let (_, text) = found.context("no status")?;
        let value: serde_json::Value = serde_saphyr::from_str(&text)?;
        Ok(value["status"].clone())
    }

    fn start(&mut self) {
        let args = Args {
            site: SiteArgs {
                site: self.dir.clone(),
                node: NodeName::new(format!("g{}", self.number)).unwrap(),
                state: self.state(),
            },
            admin: AdminArgs::default(),
            lanes: Some(2),
            port: 51820,
        };
        let shutdown = Shutdown::manual();
        let handed = shutdown.clone();
        let thread = self.ns.run(move || {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                runtime.block_on(hawser_gateway::run(args, handed))
            })
        });
        self.running = Some((shutdown, thread));
    }

    fn stop(&mut self) {
        let (shutdown, thread) = self.running.take().unwrap();
        shutdown.trigger();
        thread.join().unwrap().unwrap();
    }

    fn state(&self) -> PathBuf {
        self.dir.with_file_name(format!("state{}", self.number))
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = UnixStream::connect(self.state().join("gateway/admin.sock"))?;
        stream.set_read_timeout(Some(LIMIT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no body")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
        Ok(body.to_owned())
    }

    fn report(&self) -> Result<GatewayReport> {
        Ok(serde_json::from_str(&self.get("/report")?)?)
    }

    fn wait_cluster(&self, cluster: &str, state: &str) -> GatewayReport {
        wait_for(&format!("{cluster} to be {state} from g{}", self.number), LIMIT, || {
            let report = self.report()?;
            let found = report.clusters.iter().any(|c| c.cluster == cluster && c.state == state);
            if found { Ok(report) } else { bail!("{report:#?}") }
        })
        .unwrap()
    }

    fn address(&self) -> IpAddr {
        format!("10.{}.1.1", self.number).parse().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some((shutdown, thread)) = self.running.take() {
            shutdown.trigger();
            let _ = thread.join();
        }
    }
}

fn files(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            found.insert(path.display().to_string(), text);
        }
    }
    found
}

/// Datagrams there and back between the two gateways' own addresses.
fn echo(from: &Site, to: &Site) {
    let (here, there) = (from.address(), to.address());
    let server = to.ns.run(move || UdpSocket::bind(SocketAddr::new(there, 0)).unwrap());
    let client = from.ns.run(move || UdpSocket::bind(SocketAddr::new(here, 0)).unwrap());
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    }
    wait_for("a datagram to come back", LIMIT, || {
        client.send_to(b"hello", server.local_addr()?)?;
        let mut buffer = [0; 64];
        let (n, peer) = server.recv_from(&mut buffer)?;
        ensure!(peer == client.local_addr()?, "the source became {peer}");
        server.send_to(&buffer[..n], peer)?;
        ensure!(client.recv(&mut buffer)? == 5, "cut");
        Ok(())
    })
    .unwrap();
}

/// Two joined sites that reach each other.
fn two_sites(root: &Path) -> (Switch, Site, Site) {
    let switch = Switch::new("wire").unwrap();
    let (mut a, mut b) = (Site::new(&switch, root, 1), Site::new(&switch, root, 2));
    for site in [&mut a, &mut b] {
        site.join();
        site.roster(1, &["c1", "c2"]);
        site.start();
    }
    a.learn(&b);
    b.learn(&a);
    a.wait_cluster("c2", "Live");
    b.wait_cluster("c1", "Live");
    (switch, a, b)
}

#[test]
fn two_sites_connect_report_and_leave_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (_switch, mut a, b) = two_sites(root.path());
    echo(&a, &b);

    let report = a.report().unwrap();
    assert_eq!((report.node.as_str(), report.cluster.as_str(), report.roster_revision), ("g1", "c1", 1));
    assert_eq!(report.lanes.len(), 2);
    let status = wait_for("the status to say so", LIMIT, || {
        let status = a.status()?;
        if status["clusters"][0]["state"] == "Live" { Ok(status) } else { bail!("{status}") }
    })
    .unwrap();
    assert_eq!(status["rosterRevision"], 1);
    let metrics = a.get("/metrics").unwrap();
    for expected in [
        "hawser_path_state{cluster=\"c2\",gateway=\"g2\",state=\"Up\"} 1",
        "hawser_cluster_state{cluster=\"c2\",state=\"Live\"} 1",
        "hawser_dropped_packets_total{reason=\"ingress_source\"} 0",
        "hawser_path_rtt_seconds{cluster=\"c2\",gateway=\"g2\"}",
    ] {
        assert!(metrics.contains(expected), "{expected} is not in\n{metrics}");
    }
    assert!(a.get("/ready").is_ok());

    a.leave();
    wait_for("everything to be gone", LIMIT, || {
        let links = a.ns.ip("-o link show")?;
        ensure!(!links.contains(TUN_DEVICE), "{links}");
        let generated = files(&a.dir.join("generated/gateway-g1"));
        ensure!(!generated.keys().any(|k| k.contains("/GatewayNode/") && !k.contains("status")), "{generated:?}");
        let kept = files(&a.state());
        ensure!(kept.keys().all(|k| k.ends_with(".key")), "{:?}", kept.keys());
        Ok(())
    })
    .unwrap();
    a.stop();
}

#[test]
fn a_gateway_alone_comes_back_with_its_peers() {
    let root = tempfile::tempdir().unwrap();
    let (_switch, mut a, b) = two_sites(root.path());
    a.stop();
    // No agent, no broker, and a local API that knows no peer's status or roster any more.
    std::fs::remove_dir_all(a.dir.join("generated/agent-g0")).unwrap();
    a.start();
    a.wait_cluster("c2", "Live");
    echo(&a, &b);
}

#[test]
fn a_dropped_member_stays_dropped_whatever_the_local_api_offers() {
    let root = tempfile::tempdir().unwrap();
    let (_switch, mut a, b) = two_sites(root.path());
    a.roster(2, &["c1"]);
    wait_for("the acknowledgement", LIMIT, || {
        let status = a.status()?;
        ensure!(status["rosterRevision"] == 2, "{status}");
        let report = a.report()?;
        ensure!(report.paths.is_empty() && report.roster_revision == 2, "{report:#?}");
        Ok(())
    })
    .unwrap();
    b.wait_cluster("c1", "Dark");
    // An older view comes back, and so does the gateway.
    a.roster(1, &["c1", "c2"]);
    a.stop();
    a.start();
    wait_for("the gateway to be up again", LIMIT, || {
        let report = a.report()?;
        ensure!(report.roster_revision == 2, "{report:#?}");
        Ok(())
    })
    .unwrap();
    assert!(a.report().unwrap().paths.is_empty());
}

#[test]
fn node_probes_are_answered_and_changes_are_told_unasked() {
    let root = tempfile::tempdir().unwrap();
    let (_switch, a, _b) = two_sites(root.path());
    // The node's own route agent, on a stand-in for the device that it makes.
    let node = NodeName::new("g1").unwrap();
    let own = link_local(&node);
    a.ns.ip("link add hawser-vx type veth peer name hawser-vx-far").unwrap();
    a.ns.ip("link set hawser-vx-far up").unwrap();
    a.ns.ip(&format!("addr add {own}/64 dev hawser-vx nodad")).unwrap();
    a.ns.ip("link set hawser-vx up").unwrap();
    let socket = a.ns.run(move || {
        let index = nix::net::if_::if_nametoindex("hawser-vx").unwrap();
        let socket = UdpSocket::bind(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, NODE_NOTICE_PORT, 0, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        (socket, index)
    });
    let (socket, index) = socket;
    let gateway = SocketAddrV6::new(own, NODE_PROBE_PORT, 0, index);
    let key = ProbeKey::from_text(PROBE_KEY).unwrap();
    let (mut speaker, mut listener) = (Speaker::new(key.clone(), node, 5), Listener::new(key, 5));
    let mut buffer = [0u8; 2048];
    let mut seq = 0;
    wait_for("an answer", LIMIT, || {
        seq += 1;
        socket.send_to(&speaker.seal(Message::Ask { seq, echo: 0 }), gateway)?;
        let (n, _) = socket.recv_from(&mut buffer)?;
        let heard = listener.open(&buffer[..n], Time::from_millis(seq)).map_err(|e| anyhow::anyhow!("{e:?}"))?;
        let Message::Answer { page, .. } = heard.message else { bail!("{heard:?}") };
        let live = page.clusters.iter().any(|(id, reach)| id.as_str() == "c2" && reach.state == ClusterState::Live);
        ensure!(live && !page.draining, "{page:?}");
        Ok(())
    })
    .unwrap();

    // A forged question is not answered.
    let stranger = ProbeKey::new(&[9; 32]);
    let mut forger = Speaker::new(stranger, NodeName::new("g9").unwrap(), 6);
    socket.send_to(&forger.seal(Message::Ask { seq: 1, echo: 0 }), gateway).unwrap();

    a.membership(&["g1"]);
    let mut notices = 0;
    wait_for("the drain to be told, more than once", LIMIT, || {
        let (n, _) = socket.recv_from(&mut buffer)?;
        let heard = listener.open(&buffer[..n], Time::from_millis(seq)).map_err(|e| anyhow::anyhow!("{e:?}"))?;
        if let Message::Notice { page } = heard.message {
            notices += u32::from(page.draining);
        }
        ensure!(notices >= 3, "{notices}");
        Ok(())
    })
    .unwrap();
    let metrics = a.get("/metrics").unwrap();
    assert!(metrics.contains("hawser_node_probe_refused_total 1"), "{metrics}");
}
