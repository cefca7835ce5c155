//! Exporting, waiting for the agent and status at a site; the test plays the agent and a gateway.
#![allow(clippy::unwrap_used, reason = "test helpers, which the lint does not know for tests")]

mod lab;

use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use hawser_api::core::ObjectMeta;
use hawser_api::hawser::Membership;
use hawser_api::mcs::{ClusterProperty, ClusterPropertySpec, ServiceExport, ServiceImport};
use hawser_api::report::GatewayReport;
use hawser_local_api::{Client, Key};
use hawser_local_api_directory::{DirectoryApi, SiteArgs};
use lab::{Lab, on};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    site: SiteArgs,
}

async fn agent(site: &Path) -> Client {
    let flags = Flags::parse_from(["agent", "--node", "gw-1", "--site", site.to_str().unwrap()]);
    Client::new(DirectoryApi::open(&flags.site, "agent").await.unwrap() as Arc<dyn hawser_local_api::LocalApi>)
}

fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!({ "type": type_, "status": status, "reason": reason, "message": format!("{reason} in words"),
            "lastTransitionTime": "2026-11-20T10:00:00Z" })
}

/// Waits for the export, then gives it these conditions.
fn answer(agent: &Client, conditions: Value) -> tokio::task::JoinHandle<()> {
    let agent = agent.clone();
    tokio::spawn(async move {
        let key = Key::namespaced("shop", "web");
        let mut exports = agent.reflect::<ServiceExport>();
        exports.wait_for(|all| all.as_ref().is_some_and(|all| all.contains_key(&key))).await.unwrap();
        agent.apply_status::<ServiceExport, _>(key, &json!({ "conditions": conditions })).await.unwrap();
    })
}

fn property(name: &str, value: &str) -> ClusterProperty {
    let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    ClusterProperty { metadata, spec: ClusterPropertySpec { value: value.into() }, status: None }
}

async fn join_up(agent: &Client) {
    let status = json!({ "rosterRevision": 1000, "conditions": [condition("Joined", "True", "Joined")] });
    agent.apply_status::<Membership, _>(Key::cluster("default"), &status).await.unwrap();
    agent.apply(&property("clusterset.k8s.io", "prod")).await.unwrap();
}

#[tokio::test]
async fn joining_and_leaving_wait_for_the_agent() {
    let lab = Lab::start().await;
    let site = lab.site("west", "10.1.0.0/16");
    let token = lab.token("west").await;
    let late = on(&site, &["join", "--token-file", "-", "--wait", "300ms", "-o", "json"], &token).await.exits(6);
    assert!(late.error()["remedy"].as_str().unwrap().contains("hawser-agent"), "{late:?}");
    assert_eq!(late.json()["state"], "Pending");

    let agent = agent(&site).await;
    join_up(&agent).await;
    let joined = on(&site, &["join", "--token-file", "-", "-o", "json"], &token).await.exits(0);
    assert_eq!(joined.json()["state"], "Joined");

    let late = on(&site, &["leave", "--timeout", "300ms"], "").await.exits(6);
    assert!(late.stderr.contains("has not cleaned up"), "{late:?}");
    let cleaning = tokio::spawn(async move {
        agent.delete::<ClusterProperty>(Key::cluster("clusterset.k8s.io")).await.unwrap();
    });
    on(&site, &["leave", "--timeout", "20s"], "").await.exits(0);
    cleaning.await.unwrap();
}

#[tokio::test]
async fn exports_are_waited_for() {
    let lab = Lab::start().await;
    let site = lab.site("west", "10.1.0.0/16");
    lab.join(&site, &lab.token("west").await, &[]).await.exits(0);
    let agent = agent(&site).await;
    let requested = on(&site, &["export", "shop/web", "--wait", "0s", "-o", "json"], "").await.exits(0);
    assert_eq!(requested.json()["state"], "Requested");
    let late = on(&site, &["export", "shop/web", "--wait", "300ms"], "").await.exits(6);
    assert!(late.stdout.is_empty(), "{late:?}");

    let valid = condition("Valid", "True", "Valid");
    let ready = condition("Ready", "True", "Exported");
    let cases = [
        (json!([valid, ready]), 0, "Exported", ""),
        (json!([valid, ready, condition("Conflict", "True", "PortConflict")]), 5, "Conflict", "PortConflict in words"),
        (json!([condition("Valid", "False", "NoService")]), 3, "Failed", "NoService in words"),
        (json!([condition("Valid", "False", "InvalidServiceType")]), 1, "Failed", "InvalidServiceType in words"),
    ];
    for (conditions, code, state, words) in cases {
        let answering = answer(&agent, conditions);
        answering.await.unwrap();
        let outcome = on(&site, &["export", "shop/web", "-o", "json"], "").await.exits(code);
        assert_eq!(outcome.json()["state"], state);
        assert!(outcome.stderr.contains(words), "{outcome:?}");
    }

    let import = json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
        "metadata": { "namespace": "shop", "name": "web" }, "spec": { "type": "ClusterSetIP", "ports": [] },
    });
    agent.apply(&serde_json::from_value::<ServiceImport>(import).unwrap()).await.unwrap();
    let key = Key::namespaced("shop", "web");
    let status = json!({ "clusters": [{ "cluster": "west" }] });
    agent.apply_status::<ServiceImport, _>(key.clone(), &status).await.unwrap();
    let late = on(&site, &["unexport", "shop/web", "--wait", "300ms"], "").await.exits(6);
    assert!(late.stderr.contains("still imported from west"), "{late:?}");
    on(&site, &["unexport", "shop/web"], "").await.exits(3);
}

#[tokio::test]
async fn unexport_names_an_operators_file() {
    let lab = Lab::start().await;
    let site = lab.empty_site("west");
    let manifest = "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\nmetadata: {namespace: shop, name: web}\nspec: {}\n";
    std::fs::write(site.join("export-web.yaml"), manifest).unwrap();
    let exported = on(&site, &["export", "shop/web", "--wait", "0s"], "").await.exits(0);
    assert!(exported.stderr.contains("export-web.yaml"), "{exported:?}");
    let refused = on(&site, &["unexport", "shop/web", "-o", "json"], "").await.exits(5);
    assert!(refused.error()["remedy"].as_str().unwrap().contains("export-web.yaml"), "{refused:?}");
    std::fs::remove_file(site.join("export-web.yaml")).unwrap();
    on(&site, &["unexport", "shop/web"], "").await.exits(3);
    on(&site, &["export", "shop/web", "--wait", "0s"], "").await.exits(0);
    on(&site, &["unexport", "shop/web", "--wait", "0s"], "").await.exits(0);
    on(&site, &["unexport", "shop/web", "--wait", "0s"], "").await.exits(3);
}

/// Answers every connection to the admin socket of a state directory with this body.
fn gateway(state: &Path, answer: String) {
    socket(&state.join("gateway"), answer);
}

/// A process that keeps its state in `folder` and always answers the same.
fn socket(folder: &Path, answer: String) {
    std::fs::create_dir_all(folder).unwrap();
    let listener = tokio::net::UnixListener::bind(folder.join("admin.sock")).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 512];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
}

#[tokio::test]
async fn status_asks_the_gateways() {
    let lab = Lab::start().await;
    let site = lab.site("west", "10.1.0.0/16");
    let not_joined = on(&site, &["status"], "").await.exits(7);
    assert!(not_joined.stdout.contains("NOT JOINED") && not_joined.stdout.contains("hawser join"), "{not_joined:?}");

    lab.join(&site, &lab.token("west").await, &[]).await.exits(0);
    let agent = agent(&site).await;
    join_up(&agent).await;
    let remote = json!({
        "apiVersion": "hawser.dev/v1alpha1", "kind": "RemoteCluster", "metadata": { "name": "east" },
        "spec": { "clusterId": "east", "generation": 1, "rosterRevision": 1, "prefixes": ["10.2.0.0/16"],
                  "gateways": [{ "node": "e-gw-1", "lanes": [], "candidates": [] }] },
    });
    agent.apply(&serde_json::from_value::<hawser_api::hawser::RemoteCluster>(remote).unwrap()).await.unwrap();
    let report = json!({
        "node": "gw-1", "cluster": "west", "rosterRevision": 1000, "draining": false, "lanes": [], "drops": {},
        "clusters": [{ "cluster": "east", "state": "Live", "sinceMs": 1, "reason": "", "livePaths": 1, "totalPaths": 1,
                       "lastFailoverAgoMs": null, "lastFailoverMs": null }],
        "paths": [{ "cluster": "east", "gateway": "e-gw-1", "state": "Up", "sinceMs": 1, "reason": "", "mtu": 1420,
                    "endpoint": null, "rttUs": 900, "jitterUs": 10, "lossPercent": 0.0, "proofAgeMs": 40,
                    "handshakeAgeS": 1, "rxBytes": 1, "txBytes": 2, "rxPackets": 1, "txPackets": 1 }],
    });
    serde_json::from_value::<GatewayReport>(report.clone()).unwrap();
    let states = tempfile::tempdir().unwrap();
    gateway(&states.path().join("a"), format!("HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{report}"));
    gateway(&states.path().join("b"), "HTTP/1.0 503 Service Unavailable\r\n\r\nno".into());
    gateway(&states.path().join("c"), "HTTP/1.0 200 OK\r\n\r\n<html>".into());
    let state = |name: &str| states.path().join(name).display().to_string();

    let good = on(&site, &["status", "--state", &state("a"), "-o", "json"], "").await.exits(0).json();
    assert_eq!((&good["verdict"], &good["proofAgeMs"]), (&"Healthy".into(), &40.into()));
    assert_eq!((&good["clusters"][0]["rttMinUs"], &good["clusters"][0]["state"]), (&900.into(), &"Healthy".into()));
    let all = [state("a"), state("b"), state("c"), state("gone")].join(",");
    let bad = on(&site, &["status", "--state", &all], "").await.exits(7);
    for part in ["answers with status 503", "not a report", "gone/gateway/admin.sock"] {
        assert!(bad.stdout.contains(part), "{part:?} is not in {bad:?}");
    }

    // The host's other processes: one is ready, one never ran here, one ended.
    socket(&states.path().join("a/route-agent"), "HTTP/1.0 200 OK\r\n\r\nready\n".into());
    on(&site, &["status", "--state", &state("a")], "").await.exits(0);
    std::fs::create_dir(states.path().join("a/agent")).unwrap();
    let dead = on(&site, &["status", "--state", &state("a")], "").await.exits(7);
    assert!(dead.stdout.contains("start hawser-agent"), "{dead:?}");
    socket(&states.path().join("a/agent"), "HTTP/1.0 503 Unready\r\n\r\nwaiting for: local-api\n".into());
    let waits = on(&site, &["status", "--state", &state("a")], "").await.exits(7);
    assert!(waits.stdout.contains("agent: it is not ready, waiting for: local-api"), "{waits:?}");
}

#[tokio::test]
async fn a_manifest_that_is_not_in_force_is_named() {
    let lab = Lab::start().await;
    let site = lab.site("west", "10.1.0.0/16");
    std::fs::write(site.join("svc.yaml"), "apiVersion: v1\nkind: Service\nmetadata: {name: [").unwrap();
    let status = on(&site, &["status", "-o", "json"], "").await.exits(7);
    assert!(status.stdout.contains("svc.yaml"), "{status:?}");
}
