//! A lane's sessions, rebuilt from each snapshot without losing what stays.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use hawser_datapath::paths::{PathInfo, lane_pairs};
use hawser_datapath::{PathIndex, PathSet};
use hawser_liveness::Time;
use hawser_model::{Lane, PublicKey};

use super::pair::{Origin, Pair, Standing};
use crate::rotation::Identities;
use crate::session::{Identity, Session as _};
use crate::snapshot::{PathKey, PathSpec, Snapshot, is_inner};
use crate::status::NextKey;

/// Keepalive of sessions with peers that are not probed, seconds: keeps address translators on the way open.
const PLAIN_KEEPALIVE: u16 = 25;
/// Session numbers have 24 bits.
const SLOT_MASK: u32 = 0x00ff_ffff;
/// Sessions of replaced keys end by age at this at the latest (WireGuard's REJECT_AFTER_TIME).
const SESSION_MAX: Duration = Duration::from_secs(180);

/// Where a path of the path set leads.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// Index in [`Snapshot::paths`].
    pub(crate) spec: usize,
    /// The session to send by, if this lane has one: the best of `choices`.
    pub(crate) sender: Option<usize>,
    /// The sessions with the lane that this one sends to.
    choices: Range<usize>,
    /// These, and those with the lanes that it only receives from.
    all: Range<usize>,
    /// Hints of other lanes that were seen.
    pub(crate) hints: u64,
}

/// See the module.
pub(crate) struct Peers {
    lane: usize,
    lanes: usize,
    pub(crate) snapshot: Arc<Snapshot>,
    /// Those with the same remote lane are neighbours.
    pub(crate) pairs: Vec<Pair>,
    /// By path index; indexes that are not in use have none.
    links: Vec<Option<Link>>,
    by_slot: HashMap<u32, usize>,
    by_keys: HashMap<(PublicKey, PublicKey), usize>,
    next_slot: u32,
}

/// The pairs of the last snapshot, by path and remote lane.
type Old = HashMap<(PathKey, usize), Vec<Pair>>;

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
            by_keys: HashMap::new(),
            next_slot: 1,
        }
    }

    /// This lane's own keys.
    pub(crate) fn identities(&self) -> &Identities {
        &self.snapshot.identities[self.lane]
    }

    /// Takes over a snapshot that `paths` was just given: sessions between the same lanes and keys go on. Those of a key that
    /// was replaced as announced still receive for a while; all others end here and now.
    pub(crate) fn apply(&mut self, snapshot: &Arc<Snapshot>, paths: &PathSet, now: Time) {
        let old_snapshot = std::mem::replace(&mut self.snapshot, Arc::clone(snapshot));
        let mut old = Old::new();
        for pair in self.pairs.drain(..) {
            let key = old_snapshot.paths[pair.spec].key.clone();
            old.entry((key, pair.remote_lane)).or_default().push(pair);
        }
        self.by_slot.clear();
        self.by_keys.clear();
        self.links.clear();
        for (path, info) in paths.paths() {
            let is = |spec: &PathSpec| {
                let (key, of) = (&spec.key, (&info.cluster, info.generation, &info.gateway));
                (&key.cluster, key.generation, &key.gateway) == of
            };
            // Both are in the order of the configuration, from which the set may have left some out.
            let same = Some(usize::from(path)).filter(|&at| snapshot.paths.get(at).is_some_and(is));
            let Some(index) = same.or_else(|| snapshot.paths.iter().position(is)) else { continue };
            let spec = &snapshot.paths[index];
            let mut link = Link { spec: index, sender: None, choices: 0..0, all: 0..0, hints: spec.board.hints() };
            let start = self.pairs.len();
            for remote in self.remote_lanes(spec) {
                let known = old.remove(&(spec.key.clone(), remote)).unwrap_or_default();
                let before = known.first().and_then(|pair| old_snapshot.paths[pair.spec].lanes.get(remote));
                let announced = before.is_some_and(|before| follows(before, &spec.lanes[remote]));
                let first = self.pairs.len();
                self.add_group(spec, remote, known, announced, now);
                self.place(first, path, index, info);
                if usize::from(info.remote_lane) == remote {
                    link.choices = first..self.pairs.len();
                    link.sender = self.best(&link.choices);
                }
            }
            link.all = start..self.pairs.len();
            let at = usize::from(path);
            if self.links.len() <= at {
                self.links.resize(at + 1, None);
            }
            self.links[at] = Some(link);
        }
    }

    /// The sessions with one remote lane: one for each of our keys and each of its, and those that are running out.
    fn add_group(&mut self, spec: &PathSpec, remote: usize, mut known: Vec<Pair>, announced: bool, now: Time) {
        let (own, lane) = (self.identities().clone(), &spec.lanes[remote]);
        let own = [(Some(&own.current), Standing::Current), (own.next.as_ref(), Standing::Next)];
        let theirs = [(Some(lane.public_key), Standing::Current), (lane.next_public_key, Standing::Next)];
        for (identity, ours) in own.iter().filter_map(|&(identity, standing)| Some((identity?, standing))) {
            for (key, standing) in theirs.iter().filter_map(|&(key, standing)| Some((key?, standing))) {
                let at = known.iter().position(|pair| pair.keys == (identity.key(), key) && pair.ends.is_none());
                let mut pair = match at {
                    Some(at) => known.swap_remove(at),
                    None => self.new_pair(identity, spec, remote, key, now),
                };
                pair.standing = (ours, standing);
                self.pairs.push(pair);
            }
        }
        let current = own[0].0.map(|identity| identity.key());
        for mut pair in known.into_iter().filter(|_| announced) {
            let ends = *pair.ends.get_or_insert(now + SESSION_MAX);
            let of = |ours: bool| if ours { Standing::Current } else { Standing::Old };
            pair.standing = (of(Some(pair.keys.0) == current), of(pair.keys.1 == lane.public_key));
            if pair.session.ready() && now < ends {
                self.pairs.push(pair);
            }
        }
    }

    fn new_pair(
        &mut self,
        identity: &Identity,
        spec: &PathSpec,
        remote_lane: usize,
        remote: PublicKey,
        now: Time,
    ) -> Pair {
        let slot = self.next_slot & SLOT_MASK;
        self.next_slot = self.next_slot.wrapping_add(1);
        let keepalive = (!spec.probes).then_some(PLAIN_KEEPALIVE);
        Pair::new(&Origin { identity, remote, remote_lane, slot, keepalive }, now)
    }

    /// Tells the pairs from `first` on where they belong, and finds them from now on.
    fn place(&mut self, first: usize, path: PathIndex, spec: usize, info: &PathInfo) {
        for index in first..self.pairs.len() {
            let pair = &mut self.pairs[index];
            (pair.path, pair.spec) = (path, spec);
            pair.port = self.snapshot.paths[spec].lanes[pair.remote_lane].port;
            pair.sends = usize::from(info.remote_lane) == pair.remote_lane;
            self.by_slot.insert(pair.slot, index);
            if pair.ends.is_none() {
                self.by_keys.insert(pair.keys, index);
            }
        }
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

    /// The pair whose session takes receiver index `receiver`.
    #[inline]
    pub(crate) fn by_receiver(&self, receiver: u32) -> Option<usize> {
        self.by_slot.get(&(receiver >> 8)).copied()
    }

    /// The pair of that key of ours and that one of a peer.
    pub(crate) fn by_keys(&self, own: PublicKey, remote: PublicKey) -> Option<usize> {
        self.by_keys.get(&(own, remote)).copied()
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
    pub(crate) fn links(&self) -> impl Iterator<Item = (PathIndex, &Link)> + '_ {
        self.links.iter().enumerate().filter_map(|(index, link)| Some((index as PathIndex, link.as_ref()?)))
    }

    pub(crate) fn saw_hints(&mut self, path: PathIndex, hints: u64) {
        if let Some(Some(link)) = self.links.get_mut(usize::from(path)) {
            link.hints = hints;
        }
    }

    fn best(&self, choices: &Range<usize>) -> Option<usize> {
        choices.clone().max_by_key(|&index| self.pairs[index].merit())
    }

    /// Chooses a path's sending session anew; whether packets can be sealed by it.
    pub(crate) fn choose(&mut self, path: PathIndex) -> bool {
        let Some(choices) = self.link(path).map(|link| link.choices.clone()) else { return false };
        let best = self.best(&choices);
        if let Some(Some(link)) = self.links.get_mut(usize::from(path)) {
            link.sender = best;
        }
        best.is_some_and(|pair| self.pairs[pair].session.ready())
    }

    /// The path's sending session and the peer's address, if packets can be sealed now.
    #[inline]
    pub(crate) fn ready_sender(&self, path: PathIndex) -> Option<(usize, SocketAddr)> {
        let index = self.link(path)?.sender?;
        let pair = &self.pairs[index];
        if pair.session.ready() { pair.endpoint.map(|e| (index, e)) } else { None }
    }

    /// The best usable pair with the same remote lane as `pair`.
    pub(crate) fn usable_like(&self, pair: usize) -> Option<&Pair> {
        let like = &self.pairs[pair];
        let same = |other: &&Pair| (other.path, other.remote_lane) == (like.path, like.remote_lane);
        let after = self.pairs[pair..].iter().take_while(same);
        let before = self.pairs[..pair].iter().rev().take_while(same);
        after.chain(before).filter(|other| other.is_usable()).max_by_key(|other| other.merit())
    }

    /// Whether some session of a replaced key has run out, so that another [`Self::apply`] drops it.
    pub(crate) fn has_ended(&self, now: Time) -> bool {
        self.pairs.iter().any(|pair| pair.ends.is_some_and(|ends| now >= ends || !pair.session.ready()))
    }

    /// How far our next key is with a path: nothing, where there is no next key.
    pub(crate) fn next_key(&self, path: PathIndex) -> Option<NextKey> {
        let next = self.identities().next.as_ref()?.key();
        let of_path = self.pairs[self.link(path)?.all.clone()].iter().filter(|pair| pair.session.ready());
        let moved: Vec<usize> =
            of_path.clone().filter(|pair| pair.keys.0 == next).map(|pair| pair.remote_lane).collect();
        let waits = of_path.clone().any(|pair| !moved.contains(&pair.remote_lane));
        Some(if waits {
            NextKey::Waiting
        } else if moved.is_empty() {
            NextKey::Dark
        } else {
            NextKey::InUse
        })
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

    /// Whether a packet from `address` may make it the peer's endpoint.
    pub(crate) fn may_roam_to(&self, address: IpAddr) -> bool {
        !is_inner(&self.snapshot.peers, address)
    }
}

/// Whether a lane's keys go on from others as those announced.
fn follows(before: &Lane, now: &Lane) -> bool {
    now.public_key == before.public_key || Some(now.public_key) == before.next_public_key
}
