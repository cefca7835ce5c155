//! Deadlines of many paths: the next one in constant time, however many there are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hawser_liveness::Time;

use crate::forwarding::PathIndex;

/// Wake-ups of paths. A path's deadline that moves later leaves its old entry behind, which wakes it once for nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Time, PathIndex, &'static str)>>,
}

impl Timers {
    /// Wakes `path` at `at`. `armed` is its earliest entry, kept by the caller: later deadlines need none of their own.
    pub(crate) fn arm(&mut self, path: PathIndex, armed: &mut Option<Time>, deadline: Option<(Time, &'static str)>) {
        let Some((at, why)) = deadline else { return };
        if armed.is_none_or(|earliest| at < earliest) {
            *armed = Some(at);
            self.heap.push(Reverse((at, path, why)));
        }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
    }

    /// The next wake-up and its reason.
    pub(crate) fn next(&self) -> Option<(Time, &'static str)> {
        self.heap.peek().map(|Reverse((at, _, why))| (*at, *why))
    }

    /// Takes a wake-up that is due.
    pub(crate) fn pop(&mut self, now: Time) -> Option<(Time, PathIndex)> {
        self.heap.peek().filter(|Reverse((at, ..))| *at <= now)?;
        self.heap.pop().map(|Reverse((at, path, _))| (at, path))
    }
}
