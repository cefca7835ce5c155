//! What gateways report while a fault lasts, ten times a second: how packets spread over paths, which paths change, which
//! sessions are replaced. Figures of a report are up to a quarter of a second old.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hawser_testbed::traffic::admin;
use serde_json::Value;

const PERIOD: Duration = Duration::from_millis(100);
/// Looks that are kept: more than the window below needs.
const KEPT: usize = 64;
/// What paths carry is judged over this time.
pub const WINDOW: Duration = Duration::from_secs(1);

/// One direction of one path: the gateway that sends and the one that it sends to.
pub type Cell = (String, String);
/// Users' packets per second of each cell.
pub type Shares = BTreeMap<Cell, f64>;

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    looks: VecDeque<(Instant, BTreeMap<Cell, u64>)>,
    paths: BTreeMap<Cell, (String, u64)>,
    /// How often a path began or ceased to be one that carries packets.
    pub changes: u32,
    /// How often a path's session was replaced by a newer one.
    pub rekeys: u32,
}

impl Seen {
    /// Takes in what all gateways that answered said at `at`.
    pub fn take(&mut self, at: Instant, reports: &[Value]) {
        let mut sent = BTreeMap::new();
        for report in reports {
            let node = report["node"].as_str().unwrap_or_default();
            for path in report["paths"].as_array().into_iter().flatten() {
                let cell = (node.to_owned(), path["gateway"].as_str().unwrap_or_default().to_owned());
                sent.insert(cell.clone(), path["txPackets"].as_u64().unwrap_or(0));
                self.path(cell, path);
            }
        }
        self.looks.push_back((at, sent));
        if self.looks.len() > KEPT {
            self.looks.pop_front();
        }
    }

    fn path(&mut self, cell: Cell, path: &Value) {
        let state = path["state"].as_str().unwrap_or_default().to_owned();
        let age = path["handshakeAgeS"].as_u64().unwrap_or(0);
        let carries = |state: &str| matches!(state, "Up" | "Suspect");
        if let Some((before, older)) = self.paths.get(&cell) {
            self.changes += u32::from(carries(before) != carries(&state));
            // Ages count seconds: a session that is younger than the one before is another one.
            self.rekeys += u32::from(age < *older);
        }
        self.paths.insert(cell, (state, age));
    }

    /// Packets per second of each cell over the last [`WINDOW`], and when that began.
    #[must_use]
    pub fn shares(&self) -> Option<(Instant, Shares)> {
        let (now, newest) = self.looks.back()?;
        let (then, oldest) = self.looks.iter().rev().find(|(at, _)| now.duration_since(*at) >= WINDOW)?;
        let seconds = now.duration_since(*then).as_secs_f64();
        let rate = |(cell, count): (&Cell, &u64)| {
            let before = oldest.get(cell)?;
            Some((cell.clone(), count.checked_sub(*before)? as f64 / seconds))
        };
        Some((*then, newest.iter().filter_map(rate).collect()))
    }

    /// Since when each of these paths has carried at least `rate` packets per second, where they do.
    pub fn carried_by<'a>(&self, cells: impl IntoIterator<Item = &'a Cell>, rate: f64) -> Option<Instant> {
        let (since, now) = self.shares()?;
        cells.into_iter().all(|cell| now.get(cell).is_some_and(|r| *r >= rate)).then_some(since)
    }
}

/// Looks at gateways until it is dropped.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches the gateways with these admin sockets.
    #[must_use]
    pub fn start(sockets: Vec<PathBuf>) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let (into, stopping) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                let reports = look(&sockets);
                lock(&into).take(Instant::now(), &reports);
                thread::sleep(PERIOD);
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// What was seen so far; nothing is taken in while it is held.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// Ends it; gives how many paths changed and how many sessions were replaced.
    #[must_use]
    pub fn finish(self) -> (u32, u32) {
        let seen = self.seen();
        (seen.changes, seen.rekeys)
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

    fn report(sent: [u64; 2], state: &str, age: u64) -> Value {
        let path = |peer: &str, sent: u64, state: &str| json!({"gateway": peer, "txPackets": sent, "state": state, "handshakeAgeS": age});
        json!({"node": "a", "paths": [path("x", sent[0], "Up"), path("y", sent[1], state)]})
    }

    #[test]
    fn paths_carry_when_they_did_for_a_whole_window() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let cells: [Cell; 2] = [("a".into(), "x".into()), ("a".into(), "y".into())];
        let at = |tenths: u32| start + PERIOD * tenths;
        (0..=10).for_each(|i| seen.take(at(i), &[report([50 * u64::from(i), 0], "Down", 1)]));
        assert_eq!(seen.carried_by(&cells[..1], 400.0), Some(at(0)));
        assert_eq!(seen.carried_by(&cells, 400.0), None, "y carries nothing");
        (11..=21).for_each(|i| seen.take(at(i), &[report([50 * u64::from(i), 100 * u64::from(i - 11)], "Up", 1)]));
        assert_eq!(seen.carried_by(&cells, 400.0), Some(at(11)));
        (22..=32).for_each(|i| seen.take(at(i), &[report([u64::from(i - 22), u64::from(i)], "Up", 1)]));
        assert_eq!(seen.carried_by(&cells, 400.0), None, "counters began anew, with less");
    }

    #[test]
    fn suspicion_is_no_change_and_a_younger_session_is_another() {
        let mut seen = Seen::default();
        for (state, age) in [("Up", 100), ("Suspect", 101), ("Up", 119), ("Down", 0), ("Held", 1), ("Up", 2)] {
            seen.take(Instant::now(), &[report([0, 0], state, age)]);
        }
        assert_eq!((seen.changes, seen.rekeys), (2, 2), "both paths have that age");
    }
}
