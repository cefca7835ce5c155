//! A lane's sessions: which there are follows from each snapshot, those that stay go on.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hawser_datapath::paths::lane_pairs;
use hawser_datapath::{PathIndex, PathSet};
use hawser_liveness::Time;
use hawser_model::PublicKey;

use super::attempts::Attempts;
use super::lazy::Lazy;
use super::newest::Newest;
use super::seek::Seek;
use super::sent::Sent;
use crate::session::{Identity, Session as _, WireGuard};
use crate::snapshot::{PathSpec, Snapshot, is_inner};

/// Keepalive of sessions with peers that are not probed, seconds: keeps address translators on the way open.
const PLAIN_KEEPALIVE: u16 = 25;
/// Session numbers have 24 bits.
const SLOT_MASK: u32 = 0x00ff_ffff;

/// Pairs change hands by pointer when the configuration changes.
pub(crate) type BoxedPair = Box<Pair>;

/// One session with one remote lane.
pub(crate) struct Pair {
    /// The path it belongs to, in the lane's path set.
    pub(crate) path: PathIndex,
    /// The same in [`Snapshot::paths`].
    pub(crate) spec: usize,
    pub(crate) remote_lane: usize,
    pub(crate) key: PublicKey,
    /// Where the peer's probes come from.
    pub(crate) probe_address: Ipv6Addr,
    /// Whether this lane sends the path's packets by it; it only receives by others.
    pub(crate) sends: bool,
    pub(crate) slot: u32,
    pub(crate) session: Lazy<WireGuard>,
    /// Where the peer was last heard from, by authenticated data.
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) newest: Newest,
    /// Answers to our last initiation that are let in past the guard against floods.
    pub(crate) answers: u8,
    /// Its UDP port at every candidate address.
    pub(crate) port: u16,
    pub(crate) attempts: Attempts,
    pub(crate) seek: Seek,
    pub(crate) sent: Sent,
}

/// Where a path of the path set leads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// Index in [`Snapshot::paths`].
    pub(crate) spec: usize,
    /// The session to send by, if this lane has one.
    pub(crate) sender: Option<usize>,
    /// Hints of other lanes that were seen.
    pub(crate) hints: u64,
}

/// See the module.
pub(crate) struct Peers {
    lane: usize,
    lanes: usize,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) pairs: Vec<BoxedPair>,
    /// By path index; indexes that are not in use have none.
    links: Vec<Option<Link>>,
    by_slot: HashMap<u32, usize>,
    by_key: HashMap<PublicKey, usize>,
    next_slot: u32,
}

impl Peers {
    /// No sessions; the first [`Self::apply`] makes them.
    pub(crate) fn new(lane: usize, lanes: usize, snapshot: Arc<Snapshot>) -> Self {
        Self {
            lane,
            lanes,
            snapshot,
            pairs: Vec::new(),
            links: Vec::new(),
            by_slot: HashMap::new(),
            by_key: HashMap::new(),
            next_slot: 1,
        }
    }

    /// Takes over a snapshot that `paths` was just given: sessions with the same peer lane and key go on, all others end
    /// here and now. Returns those, which are best dropped elsewhere.
    pub(crate) fn apply(&mut self, snapshot: Arc<Snapshot>, paths: &PathSet, now: Time) -> impl Send + use<> {
        let old_snapshot = Arc::clone(&self.snapshot);
        let mut old: HashMap<(u64, usize, PublicKey), BoxedPair> = self
            .pairs
            .drain(..)
            .map(|pair| ((old_snapshot.paths[pair.spec].number, pair.remote_lane, pair.key), pair))
            .collect();
        self.by_slot.clear();
        self.by_key.clear();
        self.links.clear();
        let mut specs = snapshot.paths.iter().enumerate();
        for (path, info) in paths.paths() {
            // Both are in the order of the peers; gateways that get no path are left out of one.
            let of =
                |spec: &PathSpec| spec.cluster == usize::from(info.cluster_index) && spec.key.gateway == info.gateway;
            let Some((spec_index, spec)) = specs.find(|(_, spec)| of(spec)) else { break };
            let mut link = Link { spec: spec_index, sender: None, hints: spec.board.hints() };
            for remote in self.remote_lanes(spec) {
                let lane = &spec.lanes[remote];
                let mut pair = old
                    .remove(&(spec.number, remote, lane.public_key))
                    .unwrap_or_else(|| self.new_pair(spec, remote, now));
                if old_snapshot.paths.get(pair.spec).is_some_and(|old| old.addresses != spec.addresses) {
                    pair.seek.hurry(now);
                }
                (pair.path, pair.spec, pair.port) = (path, spec_index, lane.port);
                pair.sends = usize::from(info.remote_lane) == remote;
                if pair.sends {
                    link.sender = Some(self.pairs.len());
                }
                self.by_slot.insert(pair.slot, self.pairs.len());
                self.by_key.insert(pair.key, self.pairs.len());
                self.pairs.push(pair);
            }
            let at = usize::from(path);
            if self.links.len() <= at {
                self.links.resize(at + 1, None);
            }
            self.links[at] = Some(link);
        }
        (old, old_snapshot, std::mem::replace(&mut self.snapshot, snapshot))
    }

    /// The lanes of a path's far end that this lane has sessions with.
    fn remote_lanes(&self, spec: &PathSpec) -> Vec<usize> {
        if !spec.probes {
            return if self.lane == 0 { vec![0] } else { Vec::new() };
        }
        // At most 8 lanes each.
        let pairs = lane_pairs(self.lanes as u8, spec.lanes.len() as u8);
        pairs.filter(|&(here, _)| usize::from(here) == self.lane).map(|(_, there)| usize::from(there)).collect()
    }

    fn new_pair(&mut self, spec: &PathSpec, remote: usize, now: Time) -> BoxedPair {
        let slot = self.next_slot & SLOT_MASK;
        self.next_slot = self.next_slot.wrapping_add(1);
        let key = spec.lanes[remote].public_key;
        Box::new(Pair {
            path: 0,
            spec: 0,
            remote_lane: remote,
            key,
            probe_address: spec.probe_addresses[remote],
            sends: false,
            slot,
            session: Lazy::Asleep,
            endpoint: None,
            newest: Newest::default(),
            answers: 0,
            port: 0,
            attempts: Attempts::new(now, key.0[0]),
            seek: Seek::new(now, key.0[1]),
            sent: Sent::default(),
        })
    }

    /// Makes the session of a pair, if it has none yet: a key agreement.
    pub(crate) fn wake(&mut self, pair: usize, identity: &Identity) {
        let pair = &mut self.pairs[pair];
        let (key, slot, probes) = (pair.key, pair.slot, self.snapshot.paths[pair.spec].probes);
        let keepalive = (!probes).then_some(PLAIN_KEEPALIVE);
        pair.session.wake(|| WireGuard::new(identity, key, slot, keepalive));
    }

    /// The pair whose session takes receiver index `receiver`.
    #[inline]
    pub(crate) fn by_receiver(&self, receiver: u32) -> Option<usize> {
        self.by_slot.get(&(receiver >> 8)).copied()
    }

    /// The pair with that peer lane.
    pub(crate) fn by_key(&self, key: PublicKey) -> Option<usize> {
        self.by_key.get(&key).copied()
    }

    /// The pairs that talk to `address`, for ICMP errors.
    pub(crate) fn by_endpoint(&self, address: SocketAddr) -> impl Iterator<Item = usize> + '_ {
        self.pairs.iter().enumerate().filter(move |(_, p)| p.endpoint == Some(address)).map(|(index, _)| index)
    }

    /// Where a path leads.
    #[inline]
    pub(crate) fn link(&self, path: PathIndex) -> Option<&Link> {
        self.links.get(usize::from(path))?.as_ref()
    }

    /// All paths and where they lead.
    pub(crate) fn links(&self) -> impl Iterator<Item = (PathIndex, Link)> + '_ {
        self.links.iter().enumerate().filter_map(|(index, link)| Some((index as PathIndex, (*link)?)))
    }

    pub(crate) fn saw_hints(&mut self, path: PathIndex, hints: u64) {
        if let Some(Some(link)) = self.links.get_mut(usize::from(path)) {
            link.hints = hints;
        }
    }

    /// The path's sending session and the peer's address, if packets can be sealed now.
    #[inline]
    pub(crate) fn ready_sender(&self, path: PathIndex) -> Option<(usize, SocketAddr)> {
        let index = self.link(path)?.sender?;
        let pair = &self.pairs[index];
        if pair.session.ready() { pair.endpoint.map(|e| (index, e)) } else { None }
    }

    /// Where a handshake initiation of `pair` goes: to the one endpoint while it works, else everywhere.
    pub(crate) fn targets(&self, pair: usize, everywhere: bool) -> Vec<SocketAddr> {
        let pair = &self.pairs[pair];
        if let (Some(endpoint), false) = (pair.endpoint, everywhere) {
            return vec![endpoint];
        }
        let addresses = &self.snapshot.paths[pair.spec].addresses;
        let mut targets: Vec<SocketAddr> = addresses.iter().map(|&a| SocketAddr::new(a, pair.port)).collect();
        targets.extend(pair.endpoint.filter(|e| !targets.contains(e)));
        targets
    }

    /// The candidates of a pair that are not in use.
    pub(crate) fn others(&self, pair: usize) -> impl Iterator<Item = SocketAddr> + '_ {
        let pair = &self.pairs[pair];
        let all = self.snapshot.paths[pair.spec].addresses.iter().map(|&a| SocketAddr::new(a, pair.port));
        all.filter(|&a| pair.endpoint != Some(a))
    }

    /// Whether a packet from `address` may make it the peer's endpoint.
    pub(crate) fn may_roam_to(&self, address: IpAddr) -> bool {
        !is_inner(&self.snapshot.peers, address)
    }
}
