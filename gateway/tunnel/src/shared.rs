//! What lanes and control share: the snapshot of peers, each lane's doorbell and ring. What each lane found of a path is on its
//! `board`.
//!
//! On the packet path a lane only loads the snapshot pointer and an epoch counter; the mutexes are taken when a lane's
//! timers publish figures.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use hawser_datapath::paths::LanePaths;
use hawser_datapath::{Counters, PathConfig, Policy};
use hawser_liveness::Time;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::Notify;

use crate::lane::Newcomers;
use crate::snapshot::Snapshot;
use crate::status::LaneStatus;

/// Packets that wait to be sent by another lane.
const RING: usize = 512;
/// What a lane gave up and nobody dropped yet; more is dropped by the lane itself.
const LEFTOVERS: usize = 64;

/// A packet for another lane to send on one of its paths.
pub(crate) struct Handover {
    /// The snapshot that `spec` counts in.
    pub(crate) revision: u64,
    /// Index of the path in [`Snapshot::paths`].
    pub(crate) spec: usize,
    pub(crate) packet: Vec<u8>,
}

/// What a lane gave up, whatever it is.
type Leftover = Box<dyn Any + Send>;

/// A configuration for a lane to take over: all that can be worked out without it.
pub(crate) struct Change {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) paths: LanePaths,
    pub(crate) policy: Policy,
    /// Paths that it did not have before.
    pub(crate) new: Newcomers,
}

/// The way into a lane from other threads, and out of it.
pub(crate) struct Door {
    bell: EventFd,
    ring: SyncSender<Handover>,
    /// How the lane's path set was made.
    pub(crate) config: PathConfig,
    change: Mutex<Option<Change>>,
    status: Mutex<Arc<LaneStatus>>,
    leftovers: Mutex<Vec<Leftover>>,
}

impl Door {
    /// A door, and the ring's end for its lane.
    pub(crate) fn new(config: PathConfig) -> nix::Result<(Self, Receiver<Handover>)> {
        let bell = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let (ring, packets) = sync_channel(RING);
        let (change, status, leftovers) = (Mutex::default(), Mutex::default(), Mutex::default());
        Ok((Self { bell, ring, config, change, status, leftovers }, packets))
    }

    /// Leaves the next configuration, in place of one that was not taken yet.
    pub(crate) fn leave(&self, change: Change) {
        *self.change.lock().unwrap_or_else(PoisonError::into_inner) = Some(change);
    }

    /// Takes the next configuration; for the lane itself.
    pub(crate) fn take(&self) -> Option<Change> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Leaves what takes a while to drop to whoever calls [`Self::clear_out`].
    pub(crate) fn discard(&self, leftover: Leftover) {
        let mut leftovers = self.leftovers.lock().unwrap_or_else(PoisonError::into_inner);
        if leftovers.len() < LEFTOVERS {
            leftovers.push(leftover);
        }
    }

    /// Drops what the lane gave up.
    pub(crate) fn clear_out(&self) {
        let leftovers = std::mem::take(&mut *self.leftovers.lock().unwrap_or_else(PoisonError::into_inner));
        drop(leftovers);
    }

    /// Wakes the lane.
    pub(crate) fn ring(&self) {
        // Fails only when the bell rings already.
        let _ = self.bell.write(1);
    }

    /// Silences the bell; for the lane itself.
    pub(crate) fn answer(&self) {
        let _ = self.bell.read();
    }

    pub(crate) fn bell(&self) -> &EventFd {
        &self.bell
    }

    /// Leaves a packet; false when the ring is full or the lane has ended. The lane looks when it is woken ([`Self::ring`]).
    pub(crate) fn leave_packet(&self, packet: Handover) -> bool {
        self.ring.try_send(packet).is_ok()
    }

    /// Shows figures in place of the last ones, which the lane gets back to use their memory again, unless somebody reads them.
    pub(crate) fn publish(&self, status: LaneStatus) -> Option<LaneStatus> {
        let status = Arc::new(status);
        let old = std::mem::replace(&mut *self.status.lock().unwrap_or_else(PoisonError::into_inner), status);
        Arc::into_inner(old)
    }

    pub(crate) fn status(&self) -> Arc<LaneStatus> {
        Arc::clone(&self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// See the module.
pub(crate) struct Shared {
    start: Instant,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) doors: Vec<Door>,
    /// Each lane's drops.
    pub(crate) counters: Vec<Arc<Counters>>,
    pub(crate) draining: AtomicBool,
    /// MTU of the way to the other nodes: what is announced to TCP shall fit it too.
    lan_mtu: AtomicU16,
    /// Grows whenever some lane's opinion of some path changes.
    pub(crate) epoch: AtomicU64,
    stop: AtomicBool,
    /// Tells control that some lane published a change.
    pub(crate) changed: Notify,
}

impl Shared {
    pub(crate) fn new(snapshot: Snapshot, doors: Vec<Door>) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            snapshot: ArcSwap::from_pointee(snapshot),
            counters: doors.iter().map(|_| Arc::default()).collect(),
            doors,
            draining: AtomicBool::new(false),
            lan_mtu: AtomicU16::new(u16::MAX),
            epoch: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    /// Now, on the clock that all lanes share. Never zero, which stands for never.
    #[inline]
    pub(crate) fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1))
    }

    /// What packets between other nodes and this gateway may have, bytes; `u16::MAX` without other nodes.
    #[inline]
    pub(crate) fn lan_mtu(&self) -> u16 {
        self.lan_mtu.load(Ordering::Relaxed)
    }

    pub(crate) fn set_lan_mtu(&self, mtu: u16) {
        self.lan_mtu.store(mtu, Ordering::Relaxed);
    }

    /// Tells all lanes that some board changed, or what concerns all; the lane `by` knows. Returns the epoch before.
    pub(crate) fn announce(&self, by: Option<usize>) -> u64 {
        let before = self.epoch.fetch_add(1, Ordering::AcqRel);
        let others = self.doors.iter().enumerate().filter(|(lane, _)| Some(*lane) != by);
        others.for_each(|(_, door)| door.ring());
        before
    }

    pub(crate) fn ring_all(&self) {
        for door in &self.doors {
            door.ring();
        }
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.ring_all();
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_refuses_and_the_bell_is_heard_once() {
        let config = PathConfig { lane: 0, liveness: hawser_liveness::Config::default() };
        let (door, packets) = Door::new(config).unwrap();
        for _ in 0..RING {
            assert!(door.leave_packet(Handover { revision: 1, spec: 0, packet: Vec::new() }));
            door.ring();
        }
        assert!(!door.leave_packet(Handover { revision: 1, spec: 0, packet: Vec::new() }));
        assert_eq!(packets.try_iter().count(), RING);
        assert!(door.bell().read().unwrap() > 0);
        assert!(door.bell().read().is_err(), "it was silenced");
    }

    #[test]
    fn who_announces_rings_the_others() {
        let config = PathConfig { lane: 0, liveness: hawser_liveness::Config::default() };
        let doors = (0..3).map(|_| Door::new(config).unwrap().0).collect();
        let peers = crate::config::Peers::none(hawser_model::ClusterId::new("west").unwrap());
        let shared = Shared::new(Snapshot::new(peers.into(), None, |_| 1420, Vec::new()), doors);
        let rung = || [0, 1, 2].map(|lane| shared.doors[lane].bell().read().is_ok());
        assert_eq!((shared.announce(Some(1)), rung()), (0, [true, false, true]));
        assert_eq!((shared.announce(None), rung()), (1, [true; 3]));
    }
}
