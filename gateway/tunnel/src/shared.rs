//! What lanes and control share: the snapshot of peers, each lane's doorbell and ring, what each lane found.
//!
//! On the packet path a lane only loads the snapshot pointer and an epoch counter; the mutexes are taken when a lane's
//! timers publish figures.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use hawser_datapath::paths::LanePaths;
use hawser_datapath::{Counters, PathConfig, Policy};
use hawser_liveness::{State, Time};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::Notify;

use crate::config::LANES_MAX;
use crate::lane::BoxedPair;
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
    /// Memory for sessions that it did not have before.
    pub(crate) blank: Vec<BoxedPair>,
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

/// How each lane sees one path, for the others to read.
#[derive(Default)]
pub(crate) struct Board {
    slots: [AtomicU8; LANES_MAX],
    /// When each lane last had proof of both directions; 0 for never.
    proofs: [AtomicU64; LANES_MAX],
    /// The largest inner packet that passes from each lane; 0 where the lane does not know.
    mtus: [AtomicU16; LANES_MAX],
    /// The smallest of them, 0 where none is known: read for every packet.
    mtu: AtomicU16,
    /// When packets of each lane were last refused by the peer's host; 0 for never.
    refusals: [AtomicU64; LANES_MAX],
    /// Grows when a lane wants the others to look at the path.
    hints: AtomicU64,
    /// Grows with all of this but proofs: who has seen it need not read the rest.
    news: AtomicU64,
}

impl Board {
    pub(crate) fn set(&self, lane: usize, state: Option<State>) {
        let code = match state {
            None => 0,
            Some(State::Unknown) => 1,
            Some(State::Up) => 2,
            Some(State::Suspect) => 3,
            Some(State::Held) => 4,
            Some(State::Down) => 5,
        };
        if self.slots[lane].swap(code, Ordering::AcqRel) != code {
            self.stir();
        }
    }

    /// Something changed; after the change, so that whoever sees this sees that.
    fn stir(&self) {
        self.news.fetch_add(1, Ordering::AcqRel);
    }

    /// Another figure than when it was read last: there is something to read.
    pub(crate) fn news(&self) -> u64 {
        self.news.load(Ordering::Acquire)
    }

    pub(crate) fn get(&self, lane: usize) -> Option<State> {
        match self.slots[lane].load(Ordering::Acquire) {
            1 => Some(State::Unknown),
            2 => Some(State::Up),
            3 => Some(State::Suspect),
            4 => Some(State::Held),
            5 => Some(State::Down),
            _ => None,
        }
    }

    pub(crate) fn prove(&self, lane: usize, at: Option<Time>) {
        self.proofs[lane].store(at.map_or(0, Time::as_nanos), Ordering::Relaxed);
    }

    pub(crate) fn refuse(&self, lane: usize, at: Time) {
        self.refusals[lane].store(at.as_nanos(), Ordering::Release);
        self.stir();
    }

    /// When packets of a lane other than `lane` were last refused.
    pub(crate) fn refused(&self, lane: usize) -> Option<Time> {
        let others = self.refusals.iter().enumerate().filter(|(other, _)| *other != lane);
        let latest = others.map(|(_, at)| at.load(Ordering::Acquire)).max();
        latest.filter(|at| *at > 0).map(Time::from_nanos)
    }

    /// A lane other than `lane` whose path can carry packets, proven later than `after`.
    pub(crate) fn helper(&self, lane: usize, lanes: usize, after: Time) -> Option<usize> {
        (0..lanes).filter(|&other| other != lane).find(|&other| {
            let usable = self.get(other).is_some_and(State::carries);
            usable && Time::from_nanos(self.proofs[other].load(Ordering::Relaxed)) > after
        })
    }

    /// What passes from `lane`; `None` while its path is not in use.
    pub(crate) fn set_mtu(&self, lane: usize, mtu: Option<u16>) {
        let mtu = mtu.unwrap_or(0);
        if self.mtus[lane].swap(mtu, Ordering::SeqCst) == mtu {
            return;
        }
        let smallest = || self.mtus.iter().map(|m| m.load(Ordering::SeqCst)).filter(|&m| m > 0).min().unwrap_or(0);
        // Two lanes may do so at once: whoever is last has looked after the other wrote.
        loop {
            let found = smallest();
            self.mtu.store(found, Ordering::SeqCst);
            if smallest() == found {
                break;
            }
        }
        self.stir();
    }

    /// What passes from every lane that knows: lanes share the smaller result, as any may carry any packet of the path.
    #[inline]
    pub(crate) fn mtu(&self) -> Option<u16> {
        Some(self.mtu.load(Ordering::Relaxed)).filter(|&mtu| mtu > 0)
    }

    /// Whether some lane's path carries packets.
    pub(crate) fn carries(&self) -> bool {
        (0..LANES_MAX).any(|lane| self.get(lane).is_some_and(State::carries))
    }

    /// Asks the other lanes to look; the count including this one.
    pub(crate) fn hint(&self) -> u64 {
        let hints = self.hints.fetch_add(1, Ordering::AcqRel) + 1;
        self.stir();
        hints
    }

    pub(crate) fn hints(&self) -> u64 {
        self.hints.load(Ordering::Acquire)
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

    #[test]
    fn lanes_hear_of_others_refusals_only() {
        let board = Board::default();
        assert_eq!(board.refused(0), None);
        board.refuse(1, Time::from_nanos(5));
        board.refuse(2, Time::from_nanos(9));
        assert_eq!([0, 1, 2].map(|lane| board.refused(lane).map(Time::as_nanos)), [Some(9), Some(9), Some(5)]);
    }

    #[test]
    fn the_board_keeps_every_state() {
        let board = Board::default();
        assert_eq!(board.get(7), None);
        for state in [State::Unknown, State::Up, State::Suspect, State::Held, State::Down] {
            board.set(7, Some(state));
            assert_eq!((board.get(7), board.get(6)), (Some(state), None));
        }
    }

    #[test]
    fn lanes_share_the_smallest_mtu_that_is_known() {
        let board = Board::default();
        assert_eq!(board.mtu(), None);
        board.set_mtu(0, Some(1420));
        board.set_mtu(3, Some(1320));
        assert_eq!(board.mtu(), Some(1320));
        board.set_mtu(3, None);
        assert_eq!(board.mtu(), Some(1420));
    }

    #[test]
    fn a_board_has_news_when_something_changed_and_not_when_it_was_said_again() {
        let board = Board::default();
        let mut seen = board.news();
        let mut stirred = || std::mem::replace(&mut seen, board.news()) != board.news();
        assert!(!stirred());
        for _ in 0..2 {
            board.set(1, Some(State::Up));
            board.set_mtu(1, Some(1420));
        }
        assert!(stirred() && !stirred());
        board.set(1, Some(State::Up));
        board.set_mtu(1, Some(1420));
        board.prove(1, Some(Time::from_millis(5)));
        assert!(!stirred(), "said again");
        board.set(1, Some(State::Suspect));
        assert!(stirred());
        board.set_mtu(1, Some(1320));
        assert!(stirred());
        board.refuse(1, Time::from_millis(6));
        assert!(stirred());
        assert!(board.hint() == 1 && stirred());
    }

    #[test]
    fn only_a_lane_with_newer_proof_helps() {
        let (board, fell) = (Board::default(), Time::from_millis(500));
        board.set(1, Some(State::Up));
        assert_eq!(board.helper(0, 2, Time::START), None, "never proven");
        board.prove(1, Some(Time::from_millis(400)));
        assert_eq!(board.helper(0, 2, fell), None, "it has not noticed yet");
        board.prove(1, Some(Time::from_millis(501)));
        assert_eq!(board.helper(0, 2, fell), Some(1));
        assert_eq!(board.helper(1, 2, fell), None, "not itself");
        board.set(1, Some(State::Down));
        assert_eq!(board.helper(0, 2, fell), None);
    }
}
