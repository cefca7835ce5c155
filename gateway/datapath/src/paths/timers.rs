//! Deadlines of many paths: the next one in constant time, however many there are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hawser_liveness::Time;

use crate::forwarding::PathIndex;

/// Entries that are no matter for any number of paths.
const FEW: usize = 64;

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

    /// Forgets entries that wake nobody any more, where they have become many: `armed` tells a path's own entry.
    pub(crate) fn tidy(&mut self, paths: usize, armed: impl Fn(PathIndex) -> Option<Time>) {
        if self.heap.len() > 4 * paths + FEW {
            self.heap.retain(|Reverse((at, path, _))| armed(*path) == Some(*at));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_that_move_to_and_fro_leave_little_behind() {
        let mut timers = Timers::default();
        let mut armed = [None; 3];
        for round in 0..10_000_u64 {
            let path = (round % 3) as PathIndex;
            let slot = &mut armed[usize::from(path)];
            *slot = None;
            timers.arm(path, slot, Some((Time::from_millis(100_000 - round), "due")));
            timers.tidy(3, |path| armed[usize::from(path)]);
        }
        assert!(timers.heap.len() <= 4 * 3 + FEW + 1, "{}", timers.heap.len());
        let mut woken = Vec::new();
        while let Some((at, path)) = timers.pop(Time::from_millis(200_000)) {
            if armed[usize::from(path)] == Some(at) {
                woken.push(path);
            }
        }
        woken.sort_unstable();
        assert_eq!(woken, [0, 1, 2], "each once");
    }
}
