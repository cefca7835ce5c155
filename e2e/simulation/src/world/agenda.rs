//! What is under way, in the order of time; of what happens at the same time, the first planned comes first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hawser_liveness::Time;

use crate::faults::Change;
use crate::node::Said;
use crate::topology::HostId;
use crate::underlay::{Addr, Datagram};

/// Something to come.
#[derive(Debug)]
pub(super) enum Event {
    Arrive {
        from: Addr,
        to: Addr,
        datagram: Datagram,
    },
    Wake {
        host: HostId,
        lane: u8,
    },
    Talk(usize),
    Node(usize),
    /// Something said between a node and a gateway of its cluster arrives.
    Said {
        node: usize,
        said: Said,
    },
    Change(Change),
    Check,
}

/// Everything to come.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    queue: BinaryHeap<Reverse<(Time, u64, usize)>>,
    order: u64,
    /// The events that `queue` names by their places; places are used again.
    events: Vec<Option<Event>>,
    free: Vec<usize>,
}

impl Agenda {
    pub(super) fn add(&mut self, at: Time, event: Event) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[slot] = Some(event);
        self.order += 1;
        self.queue.push(Reverse((at, self.order, slot)));
    }

    /// Takes the next event, if it happens until `end`.
    pub(super) fn pop(&mut self, end: Time) -> Option<(Time, Event)> {
        self.queue.peek().filter(|Reverse((at, ..))| *at <= end)?;
        let Reverse((at, _, slot)) = self.queue.pop()?;
        self.free.push(slot);
        self.events[slot].take().map(|event| (at, event))
    }
}
