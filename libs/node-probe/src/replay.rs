//! Refuses datagrams that were seen before.

use std::collections::HashMap;
use std::time::Duration;

use hawser_liveness::Time;
use hawser_model::NodeName;

use crate::message::Role;

/// Senders remembered; beyond it the one silent for longest is forgotten.
const MAX_SENDERS: usize = 16_384;
/// After this much silence of a run an earlier-numbered one is believed: the host's clock was set back between two starts.
/// What could be repeated then is at worst an old notice of a gateway that no longer answers and is not chosen for that.
const STALE_RUN: Duration = Duration::from_secs(5);

/// The last 128 counters of one sender's run.
#[derive(Debug, Clone, Copy)]
struct Run {
    instance: u64,
    highest: u64,
    /// Bit `i`: `highest - i` was seen.
    seen: u128,
    last: Time,
}

impl Run {
    fn admit(&mut self, counter: u64) -> bool {
        if counter > self.highest {
            let shift = u32::try_from(counter - self.highest).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(shift).unwrap_or(0) | 1;
            self.highest = counter;
            return true;
        }
        let bit = u32::try_from(self.highest - counter).ok().and_then(|age| 1_u128.checked_shl(age));
        match bit {
            Some(bit) if self.seen & bit == 0 => {
                self.seen |= bit;
                true
            }
            Some(_) | None => false,
        }
    }
}

/// All senders' runs.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    runs: HashMap<(NodeName, Role), Run>,
}

impl Replay {
    /// Whether this datagram is new; remembers it.
    pub(crate) fn admit(&mut self, node: &NodeName, role: Role, instance: u64, counter: u64, now: Time) -> bool {
        let fresh = Run { instance, highest: counter, seen: 1, last: now };
        let key = (node.clone(), role);
        let Some(run) = self.runs.get_mut(&key) else {
            self.make_room();
            self.runs.insert(key, fresh);
            return true;
        };
        let stale = now.since(run.last) > STALE_RUN;
        if instance > run.instance || (instance < run.instance && stale) {
            *run = fresh;
            return true;
        }
        let admitted = instance == run.instance && run.admit(counter);
        if admitted {
            run.last = run.last.max(now);
        }
        admitted
    }

    fn make_room(&mut self) {
        if self.runs.len() < MAX_SENDERS {
            return;
        }
        let oldest = self.runs.iter().min_by_key(|(_, run)| run.last).map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.runs.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_is_admitted_once_in_any_order_within_the_window() {
        let (mut replay, node) = (Replay::default(), NodeName::new("n").unwrap());
        let mut admit =
            |instance, counter, ms| replay.admit(&node, Role::Gateway, instance, counter, Time::from_millis(ms));
        assert!(admit(10, 200, 0) && admit(10, 198, 0) && admit(10, 199, 0));
        assert!(!admit(10, 198, 0) && !admit(10, 200, 0));
        assert!(admit(10, 400, 0));
        assert!(admit(10, 273, 0), "127 back");
        assert!(!admit(10, 272, 0), "beyond the window nothing is known");
        assert!(admit(11, 0, 0), "a restart counts from anew");
        assert!(!admit(10, 500, 0), "and ends the earlier run");
        assert!(!admit(10, 500, 5_000));
        assert!(admit(10, 500, 5_001), "unless the later one is silent: its clock was wrong");
    }

    #[test]
    fn processes_of_a_node_are_told_apart_and_memory_is_bounded() {
        let mut replay = Replay::default();
        let node = NodeName::new("n").unwrap();
        assert!(replay.admit(&node, Role::Gateway, 1, 1, Time::from_millis(0)));
        assert!(replay.admit(&node, Role::RouteAgent, 1, 1, Time::from_millis(1)));
        for i in 0..MAX_SENDERS as u64 {
            let node = NodeName::new(format!("n{i}")).unwrap();
            assert!(replay.admit(&node, Role::Gateway, 1, 1, Time::from_millis(2 + i)));
        }
        assert_eq!(replay.runs.len(), MAX_SENDERS);
        assert!(!replay.runs.contains_key(&(node, Role::Gateway)));
    }
}
