//! Asking the gateways of a site for new keys; the test plays the gateways.
#![allow(clippy::unwrap_used, reason = "test helpers, which the lint does not know for tests")]

#[expect(dead_code, reason = "these commands need no broker")]
mod lab;
mod play;

use std::path::Path;
use std::sync::Arc;

use hawser_api::hawser::KeyRotation;
use hawser_local_api::Key;
use lab::{hawser, on};
use play::Gateway;
use serde_json::{Value, json};

const MADE: &str = "2026-01-01T00:00:00Z";

async fn start(site: &Path, node: &'static str) -> Gateway {
    Gateway::start(site, node, &json!({ "rosterRevision": 1, "keys": { "created": MADE } })).await
}

impl Gateway {
    async fn says(&self, keys: &Value) {
        self.writes(&json!({ "rosterRevision": 1, "keys": keys })).await;
    }

    /// Waits for a request to this gateway other than `known`.
    async fn hears(&self, known: Option<&str>) -> String {
        let mut requests = self.client.reflect::<KeyRotation>();
        let at = |all: &std::collections::BTreeMap<Key, Arc<KeyRotation>>| {
            let mine = all.values().find(|r| r.spec.node == self.node)?;
            Some(mine.spec.requested_at.0.to_string()).filter(|at| Some(at.as_str()) != known)
        };
        let seen = requests.wait_for(|all| all.as_ref().is_some_and(|all| at(all).is_some())).await.unwrap();
        at(seen.as_ref().unwrap()).unwrap()
    }
}

#[tokio::test]
async fn a_request_is_done_when_the_gateway_says_so() {
    let site = tempfile::tempdir().unwrap();
    let gateway = start(site.path(), "gw-1").await;
    let late = on(site.path(), &["rotate", "keys", "--wait", "300ms", "-o", "json"], "").await.exits(6);
    assert!(late.error()["message"].as_str().unwrap().contains("has not taken the request up"), "{late:?}");
    let request = gateway.hears(None).await;

    let again = on(site.path(), &["rotate", "keys"], "").await.exits(0);
    assert!(again.stderr.contains("gw-1 was asked already"), "{again:?}");
    assert_eq!(gateway.hears(None).await, request, "asked twice is asked once");

    let rotation = json!({ "since": "2026-01-01T00:00:00Z", "movedPaths": 3, "totalPaths": 4,
        "waitingFor": ["east/e2, which does not use the next keys yet"] });
    gateway.says(&json!({ "created": "2026-01-01T00:00:00Z", "answered": request, "rotation": rotation })).await;
    let late = on(site.path(), &["rotate", "keys", "--node", "gw-1", "--wait", "300ms"], "").await.exits(6);
    assert!(late.stderr.contains("on 3 of 4 paths") && late.stderr.contains("east/e2"), "{late:?}");

    gateway.says(&json!({ "created": "2026-01-01T00:00:00Z", "answered": request, "rotation": rotation })).await;
    let at_it = on(site.path(), &["rotate", "keys", "-o", "json"], "").await.exits(0);
    assert_eq!(at_it.json(), json!({ "gateways": [{ "node": "gw-1", "state": "Rotating" }] }));

    gateway.says(&json!({ "created": "2026-01-02T00:00:00Z", "answered": request })).await;
    on(site.path(), &["rotate", "keys", "--wait", "300ms"], "").await.exits(6);
    let second = gateway.hears(Some(&request)).await;
    gateway.says(&json!({ "created": "2026-01-02T00:00:00Z", "answered": second })).await;
}

#[tokio::test]
async fn all_gateways_are_asked_and_waited_for() {
    let site = tempfile::tempdir().unwrap();
    let gateways = [start(site.path(), "gw-1").await, start(site.path(), "gw-2").await];
    let answer = async {
        for gateway in &gateways {
            let request = gateway.hears(None).await;
            gateway.says(&json!({ "created": "2026-01-02T00:00:00Z", "answered": request })).await;
        }
    };
    let (done, ()) = tokio::join!(on(site.path(), &["rotate", "keys", "--wait", "-o", "json"], ""), answer);
    let state = |node: &str| json!({ "node": node, "state": "Rotated" });
    assert_eq!(done.exits(0).json(), json!({ "gateways": [state("gw-1"), state("gw-2")] }));
}

#[tokio::test]
async fn what_cannot_be_asked_is_said() {
    let site = tempfile::tempdir().unwrap();
    on(site.path(), &["rotate", "keys"], "").await.exits(3);
    let gateway = start(site.path(), "gw-1").await;
    let unknown = on(site.path(), &["rotate", "keys", "--node", "gw-9", "-o", "json"], "").await.exits(3);
    assert_eq!(unknown.error()["remedy"], "name one of gw-1");

    let at = "2026-01-01T00:00:00Z";
    let manifest = format!(
        "apiVersion: hawser.dev/v1alpha1\nkind: KeyRotation\nmetadata: {{name: gw-1}}\n\
         spec: {{node: gw-1, requestedAt: '{at}'}}\n"
    );
    std::fs::write(site.path().join("rotation.yaml"), manifest).unwrap();
    let pending = on(site.path(), &["rotate", "keys", "-o", "json"], "").await.exits(0);
    assert_eq!(pending.json()["gateways"][0]["state"], "Requested", "an operator's request counts");
    gateway.says(&json!({ "created": "2026-01-02T00:00:00Z", "answered": at })).await;
    let conflict = on(site.path(), &["rotate", "keys", "-o", "json"], "").await.exits(5);
    assert!(conflict.error()["message"].as_str().unwrap().contains("rotation.yaml"), "{conflict:?}");
    let help = hawser(&["rotate", "keys", "--help"], &[], "").await;
    assert!(help.stdout.contains("rotateKeysAfter"), "{}", help.stdout);
}
