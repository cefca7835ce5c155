//! Draining a gateway at a site; the test plays the gateway.
#![allow(clippy::unwrap_used, reason = "test helpers, which the lint does not know for tests")]

#[expect(dead_code, reason = "these commands need no broker")]
mod lab;

use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use hawser_api::core::ObjectMeta;
use hawser_api::hawser::{GatewayDrain, GatewayNode, GatewayNodeSpec};
use hawser_local_api::{Client, Key};
use hawser_local_api_directory::{DirectoryApi, SiteArgs};
use lab::on;
use serde_json::{Value, json};
use tempfile::TempDir;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    site: SiteArgs,
}

fn site(drained: &str) -> TempDir {
    let site = tempfile::tempdir().unwrap();
    let node = |name: &str| {
        format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{hawser.dev/gateway: 'true'}}}}\n")
    };
    let membership = format!(
        "apiVersion: hawser.dev/v1alpha1\nkind: Membership\nmetadata: {{name: default}}\nspec: {{clusterId: west, prefixes: [10.1.0.0/16], drainedNodes: [{drained}]}}\n"
    );
    std::fs::write(site.path().join("membership.yaml"), membership).unwrap();
    std::fs::write(site.path().join("nodes.yaml"), node("gw-1") + &node("gw-2")).unwrap();
    site
}

/// The gateway process on gw-1.
struct Gateway(Client);

impl Gateway {
    async fn start(site: &Path) -> Self {
        let flags = Flags::parse_from(["gateway", "--node", "gw-1", "--site", site.to_str().unwrap()]);
        let api = DirectoryApi::open(&flags.site, "gateway").await.unwrap();
        let gateway = Self(Client::new(api as Arc<dyn hawser_local_api::LocalApi>));
        let metadata = ObjectMeta { name: Some("gw-1".into()), ..ObjectMeta::default() };
        let spec =
            GatewayNodeSpec { node: "gw-1".into(), lanes: vec![], candidates: vec![], preferred_prefixes: vec![] };
        gateway.0.apply(&GatewayNode { metadata, spec, status: None }).await.unwrap();
        gateway.says(&json!({ "rosterRevision": 1 })).await;
        gateway
    }

    async fn says(&self, status: &Value) {
        self.0.apply_status::<GatewayNode, _>(Key::cluster("gw-1"), status).await.unwrap();
    }

    /// Waits until a drain of this gateway is asked for, or not any more.
    async fn hears(&self, asked: bool) {
        let mut drains = self.0.reflect::<GatewayDrain>();
        let heard =
            |all: &std::collections::BTreeMap<Key, Arc<GatewayDrain>>| all.values().any(|d| d.spec.node == "gw-1");
        drains.wait_for(|all| all.as_ref().is_some_and(|all| heard(all) == asked)).await.unwrap();
    }
}

#[tokio::test]
async fn a_drain_is_done_when_the_gateway_says_so() {
    let site = site("");
    let gateway = Gateway::start(site.path()).await;
    let late = on(site.path(), &["drain", "gateway", "gw-1", "--wait", "300ms"], "").await.exits(6);
    assert!(late.stderr.contains("hawser status"), "{late:?}");
    gateway.hears(true).await;
    gateway.says(&json!({ "rosterRevision": 1, "drain": "Draining" })).await;
    on(site.path(), &["drain", "gateway", "gw-1", "--wait", "300ms"], "").await.exits(6);
    gateway.says(&json!({ "rosterRevision": 1, "drain": "Drained" })).await;
    let done = on(site.path(), &["drain", "gateway", "gw-1", "--wait", "-o", "json"], "").await.exits(0);
    assert_eq!(done.json(), json!({ "node": "gw-1", "state": "Drained" }));

    let late = on(site.path(), &["drain", "gateway", "gw-1", "--undo", "--wait", "300ms"], "").await.exits(6);
    assert!(late.stderr.contains("still says that it is drained"), "{late:?}");
    gateway.hears(false).await;
    on(site.path(), &["drain", "gateway", "gw-1", "--undo"], "").await.exits(3);
}

#[tokio::test]
async fn what_cannot_be_drained_is_said() {
    let site = site("gw-2");
    let unknown = on(site.path(), &["drain", "gateway", "gw-9", "-o", "json"], "").await.exits(3);
    assert_eq!(unknown.error()["remedy"], "name one of gw-1, gw-2");
    let last = on(site.path(), &["drain", "gateway", "gw-1"], "").await.exits(0);
    assert!(last.stderr.contains("last gateway in use"), "{last:?}");
    let listed = on(site.path(), &["drain", "gateway", "gw-2", "--undo", "-o", "json"], "").await.exits(5);
    assert!(listed.error()["remedy"].as_str().unwrap().contains("spec.drainedNodes"), "{listed:?}");

    let manifest = "apiVersion: hawser.dev/v1alpha1\nkind: GatewayDrain\nmetadata: {name: gw-2}\nspec: {node: gw-2}\n";
    std::fs::write(site.path().join("drain.yaml"), manifest).unwrap();
    let owned = on(site.path(), &["drain", "gateway", "gw-2", "--undo"], "").await.exits(5);
    assert!(owned.stderr.contains("drain.yaml"), "{owned:?}");
    let twice = on(site.path(), &["drain", "gateway", "gw-2"], "").await.exits(0);
    assert!(twice.stderr.contains("drain.yaml"), "{twice:?}");
}
