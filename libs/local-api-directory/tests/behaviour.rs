//! The behaviour that every adapter has, on real files.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use hawser_local_api::LocalApi;
use hawser_local_api_directory::{DirectoryApi, SiteArgs};

/// Writers are made before the test's body runs, since making one is async.
const WRITERS: [(&str, &str, &str); 4] =
    [("agent-a", "agent", "a"), ("agent-b", "agent", "b"), ("gateway-a", "gateway", "a"), ("cli-a", "cli", "a")];

hawser_local_api::behaviour_tests!(async || {
    let dir = tempfile::tempdir().unwrap();
    let writers: Mutex<HashMap<&str, Arc<DirectoryApi>>> = Mutex::default();
    for (name, process, node) in WRITERS {
        let state = dir.path().join("state");
        let args = SiteArgs { site: dir.path().to_owned(), node: node.parse().unwrap(), state };
        let api = DirectoryApi::open(&args, process).await.unwrap();
        writers.lock().unwrap().insert(name, api);
    }
    (dir, move |name: &str| Arc::clone(&writers.lock().unwrap()[name]) as Arc<dyn LocalApi>)
});
