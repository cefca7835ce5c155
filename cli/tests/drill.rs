//! Drills on loopback, of both families.
#![allow(clippy::unwrap_used, reason = "test helpers, which the lint does not know for tests")]

#[expect(dead_code, reason = "these commands need no broker")]
mod lab;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lab::hawser;

/// An address where nobody listens.
fn free(ip: IpAddr) -> String {
    std::net::UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap().to_string()
}

async fn watch(to: &str, more: &[&str]) -> lab::Outcome {
    let mut args = vec!["drill", "watch", "--to", to, "--for", "400ms", "--flows", "3"];
    args.extend(more);
    hawser(&args, &[], "").await
}

#[tokio::test]
async fn a_drill_counts_what_comes_back() {
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
        let at = free(ip);
        let echo = ["drill", "echo", "--listen", &at, "--for", "8s", "-o", "json"];
        let watching = async {
            // UDP tells of nobody listening by an error only: asked until something comes back.
            while watch(&at, &[]).await.code == 1 {}
            let good = watch(&at, &["-o", "json", "--every", "5ms", "--max-gap", "10s", "--max-loss", "100%"]).await;
            let bad = watch(&at, &["-o", "json", "--max-gap", "0ms", "--max-loss", "0"]).await;
            (good, bad)
        };
        let (echoed, (good, bad)) = tokio::join!(hawser(&echo, &[], ""), watching);
        let document = good.exits(0).json();
        let flows = document["flows"].as_array().unwrap();
        assert_eq!(flows.len(), 3, "{document:#}");
        let sum = |key: &str| flows.iter().map(|f| f[key].as_u64().unwrap()).sum::<u64>();
        let total = &document["total"];
        assert_eq!((&total["sent"], &total["lost"]), (&sum("sent").into(), &sum("lost").into()), "{document:#}");
        assert!(sum("sent") > 3 && sum("lost") < sum("sent"), "{document:#}");
        let worst = flows.iter().map(|f| f["longestGapMs"].as_u64().unwrap()).max().unwrap();
        assert_eq!(total["longestGapMs"], worst, "{document:#}");
        assert!(flows.iter().any(|f| f["port"] == total["port"]), "{document:#}");
        assert_eq!(document["exceeded"].as_array().unwrap().len(), 0, "{document:#}");
        // Every packet takes longer than nothing to come back.
        let bad = bad.exits(7);
        assert!(bad.stderr.contains("more than acceptable: a gap of"), "{bad:?}");
        assert!(bad.json()["exceeded"][0].as_str().unwrap().contains("0 ms were acceptable"), "{bad:?}");
        let connections = document["connections"].as_array().unwrap();
        assert_eq!(connections.len(), 8, "{document:#}");
        let lived = connections.iter().all(|c| c["lived"] == true && c["exchanges"].as_u64().unwrap() > 1);
        assert!(lived, "{document:#}");
        let echoed = echoed.exits(0).json();
        assert!(echoed["echoed"].as_u64().unwrap() > 0 && echoed["connections"].as_u64().unwrap() >= 16, "{echoed:#}");
    }
}

/// The fault is the end of the other end: connections break, and packets don't come back.
#[tokio::test]
async fn a_command_is_the_fault() {
    let at = free(Ipv4Addr::LOCALHOST.into());
    let mut echo = tokio::process::Command::new(env!("CARGO_BIN_EXE_hawser"));
    let mut echo = echo.args(["drill", "echo", "--listen", &at]).kill_on_drop(true).spawn().unwrap();
    while watch(&at, &[]).await.code == 1 {}
    let ok = watch(&at, &["-o", "json", "--max-broken", "0", "--", "sh", "-c", "echo told"]).await.exits(0);
    assert!(ok.stderr.contains("told"), "what it prints is no data: {ok:?}");
    assert!(ok.json()["fault"]["tookMs"].is_u64() && ok.json()["fault"]["failed"].is_null(), "{ok:?}");
    let failed = watch(&at, &["-o", "json", "--", "sh", "-c", "exit 3"]).await.exits(1);
    assert_eq!(failed.json()["fault"]["failed"], "exit status: 3", "{failed:?}");
    let kill = format!("kill -9 {}", echo.id().unwrap());
    let bounds = ["-o", "json", "--max-broken", "0", "--connections", "2", "--", "sh", "-c", &kill];
    let killed = watch(&at, &bounds).await.exits(7);
    echo.wait().await.unwrap();
    let document = killed.json();
    let connections = document["connections"].as_array().unwrap();
    assert!(
        connections.len() == 2 && connections.iter().all(|c| c["lived"] == false && c["why"].is_string()),
        "{document:#}"
    );
    assert_eq!(document["exceeded"][0], "2 connections broke, 0 were acceptable", "{document:#}");
    let nobody = watch(&at, &["--max-broken", "0"]).await.exits(1);
    assert!(
        nobody.stderr.contains("no TCP connection to") && nobody.stderr.contains("hawser drill echo"),
        "{nobody:?}"
    );
    watch(&at, &["--connections", "0", "--", "/nonexistent/program"]).await.exits(3);
}

#[tokio::test]
async fn what_can_t_be_measured_is_said_with_a_remedy() {
    let silent = watch(&free(Ipv4Addr::LOCALHOST.into()), &[]).await.exits(1);
    assert!(silent.stderr.contains("hawser drill echo"), "{silent:?}");
    let nobody = ["drill", "watch", "--state", "/nonexistent", "--for", "100ms"];
    let nobody = hawser(&nobody, &[], "").await.exits(3);
    assert!(nobody.stderr.contains("--state DIR"), "{nobody:?}");
    for wrong in [&["drill", "watch"][..], &["drill"], &["drill", "watch", "--state", "x", "--max-loss", "0"]] {
        hawser(wrong, &[], "").await.exits(2);
    }
    for (flag, value) in [("--every", "0ms"), ("--every", "2s"), ("--max-loss", "101%"), ("--flows", "0")] {
        watch("127.0.0.1:9", &[flag, value]).await.exits(2);
    }
}

#[tokio::test]
async fn help_teaches_with_an_example() {
    let help = hawser(&["drill", "watch", "--help"], &[], "").await.exits(0);
    assert!(help.stdout.contains("kill -9") && help.stdout.contains("hawser drill echo"), "{}", help.stdout);
}
