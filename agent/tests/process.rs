//! The real process on a site's directory: starts unjoined, says so, takes up a join, ends on SIGTERM.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use hawser_broker_client::{IdentityDir, Join, member};
use world::{Broker, until};

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SITE: &str = "
apiVersion: hawser.dev/v1alpha1
kind: Membership
metadata: {name: default}
spec:
  clusterId: west
  prefixes: [10.1.0.0/16, 'fd00:1::/48']
  vipPrefixes: [10.99.0.0/24]
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.5], nodeName: n1}]
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {name: web, namespace: shop}
";

/// Everything below the agent's folder, as text.
fn written(site: &Path) -> String {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            // Names with a dot are of files not yet written.
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if entry.path().is_dir() { walk(&entry.path(), out) } else { out.push(entry.path()) }
        }
    }
    let mut files = Vec::new();
    walk(&site.join("generated/agent-n1"), &mut files);
    files.sort();
    let text = |p: &PathBuf| format!("# {}\n{}", p.display(), std::fs::read_to_string(p).unwrap_or_default());
    files.iter().map(text).collect::<Vec<_>>().join("\n")
}

fn http(socket: &Path, path: &str) -> String {
    let Ok(mut stream) = UnixStream::connect(socket) else { return String::new() };
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_from_nothing_to_member_and_back() {
    let broker = Broker::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (site, state) = (dir.path().join("site"), dir.path().join("state"));
    std::fs::create_dir(&site).unwrap();
    std::fs::write(site.join("site.yaml"), SITE).unwrap();
    let mut process = Process(
        Command::new(env!("CARGO_BIN_EXE_hawser-agent"))
            .args(["--node", "n1", "--log-filter", "debug,h2=info,hyper=info"])
            .args([Path::new("--site"), &site, Path::new("--state"), &state])
            .spawn()
            .unwrap(),
    );
    until("not joined", || async { written(&site) }, |t| t.contains("NotJoined")).await;
    let socket = state.join("agent/admin.sock");
    until("ready", || async { http(&socket, "/ready") }, |t| t.starts_with("HTTP/1.1 200")).await;
    assert!(http(&socket, "/metrics").contains("hawser_agent_leading 1"));

    let secrets = IdentityDir::of_site(&site);
    secrets.ensure_probe_key().unwrap();
    let token = broker.token("west", &[]).await;
    let prefixes = vec!["10.1.0.0/16".to_owned(), "fd00:1::/48".to_owned()];
    let join = Join { token: &token, key: secrets.join_key().unwrap(), replace: false, prefixes };
    secrets.store(&member::join(join).await.unwrap().identity).unwrap();
    // Each is a file of its own, written when its time comes.
    let all = ["reason: Exported", "clusterset.k8s.io", "kind: ServiceImport", "10.99.0.", "nodeName: n1"];
    until("exported and imported", || async { written(&site) }, |t| all.iter().all(|part| t.contains(part))).await;
    assert!(http(&socket, "/metrics").contains("hawser_agent_broker_connected 1"));
    assert!(secrets.path().join("roster").exists() && state.join("agent/roster").exists());

    secrets.remove().unwrap();
    until(
        "clean",
        || async { written(&site) },
        |t| t.contains("NotJoined") && !t.contains("kind: ServiceImport") && !t.contains("ClusterProperty"),
    )
    .await;

    let pid = process.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = tokio::task::spawn_blocking(move || process.0.wait().unwrap()).await.unwrap();
    assert!(ended.success(), "{ended:?}");
    assert!(!socket.exists(), "the socket goes with the process");
}
