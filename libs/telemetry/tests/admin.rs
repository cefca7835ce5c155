//! The admin endpoint through real sockets.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use hawser_telemetry::admin::Server;
use hawser_telemetry::{AdminAddr, Readiness, Task};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

async fn start(addr: &AdminAddr, readiness: Readiness, token: CancellationToken) -> (AdminAddr, Task) {
    let server = Server::bind(addr).await.unwrap();
    let local = server.local_addr().clone();
    let extra = Router::new().route("/report", get(async || "{}"));
    let registry = Arc::new(hawser_telemetry::metrics::registry("test"));
    (local, Task::spawn("admin", server.serve(registry, readiness, extra, token)))
}

async fn ask(addr: &AdminAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    match addr {
        AdminAddr::Unix(socket) => {
            let mut stream = UnixStream::connect(socket).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.read_to_string(&mut answer).await.unwrap();
        }
        AdminAddr::Tcp(host) => {
            let mut stream = TcpStream::connect(host).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.read_to_string(&mut answer).await.unwrap();
        }
    }
    answer
}

async fn gone(path: &Path) {
    for _ in 0..500 {
        if !path.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} is still there", path.display());
}

#[tokio::test]
async fn pages_on_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/agent/admin.sock");
    let addr = AdminAddr::Unix(path.clone());
    let token = CancellationToken::new();
    let readiness = Readiness::new();
    let handle = readiness.handle("local api");
    let (_, _task) = start(&addr, readiness, token.clone()).await;

    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);

    let ready = ask(&addr, "/ready").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("waiting for: local api"), "{ready}");
    assert!(ask(&addr, "/live").await.starts_with("HTTP/1.1 200"));
    handle.ready();
    assert!(ask(&addr, "/ready").await.starts_with("HTTP/1.1 200"));
    let metrics = ask(&addr, "/metrics").await;
    assert!(metrics.contains("hawser_build_info{process=\"test\""), "{metrics}");
    assert!(metrics.contains("# EOF"), "{metrics}");
    assert!(ask(&addr, "/report").await.ends_with("{}"));
    assert!(ask(&addr, "/nothing").await.starts_with("HTTP/1.1 404"));

    token.cancel();
    gone(&path).await;
}

#[tokio::test]
async fn pages_on_tcp_of_both_families() {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let token = CancellationToken::new();
        let (addr, _task) = start(&host.parse().unwrap(), Readiness::new(), token).await;
        assert!(ask(&addr, "/ready").await.starts_with("HTTP/1.1 200"), "{addr}");
    }
}

#[tokio::test]
async fn garbage_costs_a_connection_only() {
    let (addr, _task) = start(&"127.0.0.1:0".parse().unwrap(), Readiness::new(), CancellationToken::new()).await;
    let AdminAddr::Tcp(host) = &addr else { panic!("{addr}") };
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\xff"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        &[b'a'; 200_000],
    ] {
        let mut stream = TcpStream::connect(host).await.unwrap();
        let _sent = stream.write_all(garbage).await;
        let mut answer = Vec::new();
        let _ended = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    }
    assert!(ask(&addr, "/live").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_address_in_use_is_a_start_up_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = AdminAddr::Tcp(taken.local_addr().unwrap().to_string());
    let error = Server::bind(&addr).await.err().unwrap().to_string();
    assert!(error.contains(&addr.to_string()) && error.contains("--admin"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let addr = AdminAddr::Unix(dir.path().join("admin.sock"));
    let _first = Server::bind(&addr).await.unwrap();
    let error = Server::bind(&addr).await.err().unwrap().to_string();
    assert!(error.contains(&addr.to_string()) && error.contains("another process"), "{error}");
}

#[tokio::test]
async fn a_dead_process_socket_is_replaced_but_a_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let addr = AdminAddr::Unix(path.clone());
    let (_, task) = start(&addr, Readiness::new(), CancellationToken::new()).await;
    assert!(ask(&addr, "/live").await.starts_with("HTTP/1.1 200"));
    drop(task);
    gone(&path).await;

    std::fs::write(&path, "precious").unwrap();
    let error = Server::bind(&addr).await.err().unwrap().to_string();
    assert!(error.contains("no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}
