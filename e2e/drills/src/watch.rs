//! What gateways report while a fault lasts, ten times a second: which paths change, which sessions are replaced. Figures of a
//! report are up to a quarter of a second old.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hawser_testbed::traffic::admin;
use serde_json::Value;

const PERIOD: Duration = Duration::from_millis(100);

/// What was told so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// How often a path, all its lanes together, began or ceased to be one that carries packets.
    pub changes: u32,
    /// How often any lane gave a path up while it had others, also where the path lives on by other lanes.
    pub failovers: u32,
    /// How often a path's session was replaced by a newer one; of one lane, at each end.
    pub rekeys: u32,
    /// The oldest session, seconds.
    pub oldest_s: u64,
}

/// What the last reports said, and all of them together.
#[derive(Debug, Default)]
pub struct Seen {
    /// By reporting gateway and peer: state and age of the session.
    paths: BTreeMap<(String, String), (String, u64)>,
    /// By reporting gateway and remote cluster: how long ago a lane last moved flows off a path, milliseconds.
    failovers: BTreeMap<(String, String), Option<u64>>,
    told: Told,
}

impl Seen {
    /// Takes in what all gateways that answered say.
    pub fn take(&mut self, reports: &[Value]) {
        for report in reports {
            let node = text(&report["node"]);
            for path in report["paths"].as_array().into_iter().flatten() {
                self.path((node.clone(), text(&path["gateway"])), path);
            }
            for cluster in report["clusters"].as_array().into_iter().flatten() {
                self.cluster((node.clone(), text(&cluster["cluster"])), cluster["lastFailoverAgoMs"].as_u64());
            }
        }
    }

    fn path(&mut self, key: (String, String), path: &Value) {
        let (state, age) = (text(&path["state"]), path["handshakeAgeS"].as_u64().unwrap_or(0));
        let carries = |state: &str| matches!(state, "Up" | "Suspect");
        if let Some((before, older)) = self.paths.get(&key) {
            self.told.changes += u32::from(carries(before) != carries(&state));
            // Ages count seconds: a session that is younger than the one before is another one.
            self.told.rekeys += u32::from(age < *older);
        }
        self.told.oldest_s = self.told.oldest_s.max(age);
        self.paths.insert(key, (state, age));
    }

    /// What is less long ago than it was a look before is another failover.
    fn cluster(&mut self, key: (String, String), ago: Option<u64>) {
        if let Some(before) = self.failovers.get(&key) {
            self.told.failovers += u32::from(ago.is_some_and(|ago| before.is_none_or(|before| ago < before)));
        }
        self.failovers.insert(key, ago);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Looks at gateways until it is dropped.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches the gateways with these admin sockets; what they say now is what later reports are compared with.
    #[must_use]
    pub fn start(sockets: Vec<PathBuf>) -> Self {
        let mut first = Seen::default();
        first.take(&look(&sockets));
        let (seen, stop) = (Arc::new(Mutex::new(first)), Arc::new(AtomicBool::new(false)));
        let (into, stopping) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                thread::sleep(PERIOD);
                let reports = look(&sockets);
                lock(&into).take(&reports);
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// Ends it; gives what was told.
    #[must_use]
    pub fn finish(self) -> Told {
        lock(&self.seen).told
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The reports of those that answer: a gateway that was killed does not.
fn look(sockets: &[PathBuf]) -> Vec<Value> {
    let report = |socket: &PathBuf| serde_json::from_str(&admin::get(socket, "/report").ok()?).ok();
    sockets.iter().filter_map(report).collect()
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(state: &str, age: u64, failover: Option<u64>) -> Value {
        let path = |peer: &str, state: &str| json!({"gateway": peer, "state": state, "handshakeAgeS": age});
        json!({"node": "a", "paths": [path("x", "Up"), path("y", state)],
               "clusters": [{"cluster": "east", "lastFailoverAgoMs": failover}]})
    }

    #[test]
    fn suspicion_is_no_change_and_a_younger_session_is_another() {
        let mut seen = Seen::default();
        for (state, age) in [("Up", 100), ("Suspect", 101), ("Up", 119), ("Down", 0), ("Held", 1), ("Up", 2)] {
            seen.take(&[report(state, age, None)]);
        }
        assert_eq!((seen.told.changes, seen.told.rekeys), (2, 2), "both paths have that age");
        assert_eq!((seen.told.oldest_s, seen.told.failovers), (119, 0));
    }

    #[test]
    fn a_lane_that_gives_up_a_path_of_which_another_lives_is_seen() {
        let mut seen = Seen::default();
        // One of long before; then the same, a new one, the same.
        for ago in [Some(60_000), Some(60_100), Some(40), Some(140)] {
            seen.take(&[report("Up", 1, ago)]);
        }
        assert_eq!((seen.told.changes, seen.told.failovers), (0, 1));
        let mut seen = Seen::default();
        [None, Some(40), Some(140)].into_iter().for_each(|ago| seen.take(&[report("Up", 1, ago)]));
        assert_eq!(seen.told.failovers, 1, "the first of all");
        let mut seen = Seen::default();
        [None, None].into_iter().for_each(|ago| seen.take(&[report("Up", 1, ago)]));
        assert_eq!(seen.told.failovers, 0);
    }
}
