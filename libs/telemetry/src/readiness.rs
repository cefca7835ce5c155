//! Ready when everything that has to happen first has happened: each such thing holds a named handle and drops it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a process still waits for; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    pending: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Readiness {
    /// Waits for nothing yet, so is ready: take all handles before the admin server answers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the process unready until the handle is dropped. Several handles may share a name.
    #[must_use = "dropping the handle says that the thing is ready"]
    pub fn handle(&self, name: &'static str) -> ReadyHandle {
        *self.lock().entry(name).or_default() += 1;
        ReadyHandle { name, readiness: self.clone() }
    }

    /// The names of what is awaited, in order; empty when ready.
    #[must_use]
    pub fn pending(&self) -> Vec<&'static str> {
        self.lock().keys().copied().collect()
    }

    /// Whether nothing is awaited.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a process unready; see [`Readiness::handle`].
#[derive(Debug)]
pub struct ReadyHandle {
    name: &'static str,
    readiness: Readiness,
}

impl ReadyHandle {
    /// Says that the thing is ready: the same as dropping the handle.
    pub fn ready(self) {}
}

impl Drop for ReadyHandle {
    fn drop(&mut self) {
        let mut pending = self.readiness.lock();
        if let Some(count) = pending.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                pending.remove(self.name);
            }
        }
        let left: Vec<_> = pending.keys().copied().collect();
        drop(pending);
        if left.is_empty() {
            tracing::info!(last = self.name, "ready");
        } else {
            tracing::debug!(done = self.name, ?left, "not ready yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_all_handles_are_gone() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let (a, b, c) = (readiness.handle("b"), readiness.handle("a"), readiness.handle("a"));
        assert_eq!(readiness.pending(), ["a", "b"]);
        drop(b);
        assert_eq!(readiness.pending(), ["a", "b"]);
        c.ready();
        assert_eq!(readiness.pending(), ["b"]);
        drop(a);
        assert!(readiness.is_ready());
    }
}
