//! Draining a gateway at a site; the test plays the gateway.
#![allow(clippy::unwrap_used, reason = "test helpers, which the lint does not know for tests")]

#[expect(dead_code, reason = "these commands need no broker")]
mod lab;
mod play;

use std::sync::Arc;

use hawser_api::hawser::GatewayDrain;
use hawser_local_api::Key;
use lab::on;
use play::Gateway;
use serde_json::json;
use tempfile::TempDir;

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

impl Gateway {
    /// Waits until a drain of this gateway is asked for, or not any more.
    async fn hears(&self, asked: bool) {
        let mut drains = self.client.reflect::<GatewayDrain>();
        let heard =
            |all: &std::collections::BTreeMap<Key, Arc<GatewayDrain>>| all.values().any(|d| d.spec.node == "gw-1");
        drains.wait_for(|all| all.as_ref().is_some_and(|all| heard(all) == asked)).await.unwrap();
    }
}

#[tokio::test]
async fn a_drain_is_done_when_the_gateway_says_so() {
    let site = site("");
    let gateway = Gateway::start(site.path(), "gw-1", &json!({ "rosterRevision": 1 })).await;
    let late = on(site.path(), &["drain", "gateway", "gw-1", "--wait", "300ms"], "").await.exits(6);
    assert!(late.stderr.contains("hawser status"), "{late:?}");
    gateway.hears(true).await;
    gateway.writes(&json!({ "rosterRevision": 1, "drain": "Draining" })).await;
    on(site.path(), &["drain", "gateway", "gw-1", "--wait", "300ms"], "").await.exits(6);
    gateway.writes(&json!({ "rosterRevision": 1, "drain": "Drained" })).await;
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
