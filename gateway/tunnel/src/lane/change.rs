//! What a snapshot makes of a lane's sessions (`peers`): those between lanes and keys that stay go on, new ones begin asleep.

use std::collections::HashSet;
use std::hash::BuildHasher as _;
use std::ops::Range;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use hawser_datapath::PathSet;
use hawser_datapath::paths::lane_pairs;
use hawser_liveness::Time;
use hawser_model::{Lane, PublicKey};

use super::pair::{BoxedPair, Pair, Standing};
use super::peers::{Link, Peers};
use crate::rotation::Identities;
use crate::session::Identity;
use crate::snapshot::{PathSpec, Snapshot};

/// Session numbers have 24 bits.
const SLOT_MASK: u32 = 0x00ff_ffff;

/// What there was, and the keys to go on with.
struct Old {
    own: Identities,
    snapshot: Arc<Snapshot>,
    pairs: Vec<Option<BoxedPair>>,
    /// Which pairs are with the same remote lane: by number of the path, and lane.
    groups: HashMap<(u64, usize), Range<usize>>,
    /// New pairs in reverse order, which this lane need not make while its packets wait.
    made: Vec<BoxedPair>,
}

/// The pairs that `next` has beyond `last` on a lane, in reverse order, but for those that it may turn out to have otherwise.
/// They want their session numbers.
pub(crate) fn new_pairs(last: &Snapshot, next: &Snapshot, lane: usize, now: Time) -> Vec<BoxedPair> {
    let known: HashSet<u64> = last.paths.iter().map(|path| path.number).collect();
    let new = next.paths.iter().filter(|path| !known.contains(&path.number));
    let (identity, lanes) = (&next.identities[lane].current, next.identities.len());
    let with = |path: &PathSpec, remote: usize| {
        let key = path.lanes.get(remote)?.public_key;
        Some(Box::new(Pair::new(identity, path, (remote, key), now)))
    };
    let of = |path| remote_lanes(lane, lanes, path).filter_map(move |remote| with(path, remote));
    let mut pairs: Vec<_> = new.flat_map(of).collect();
    pairs.reverse();
    pairs
}

impl Peers {
    /// Takes over a snapshot that `paths` was just given: sessions between the same lanes and keys go on. Those of a key
    /// that was replaced as announced still receive for a while; all others end here and now. Returns those, which are best
    /// dropped elsewhere. New sessions are taken from `made`, as far as they are there.
    pub(crate) fn apply(
        &mut self,
        snapshot: &Arc<Snapshot>,
        made: Vec<BoxedPair>,
        paths: &PathSet,
        now: Time,
    ) -> impl Send + use<> {
        let mut old = self.take_all(Arc::clone(snapshot), made);
        let count = snapshot.paths.len();
        self.pairs.reserve(count);
        self.links.reserve(count);
        self.by_slot.reserve(count);
        self.by_key.reserve(count);
        let mut specs = snapshot.paths.iter().enumerate();
        for (path, info) in paths.paths() {
            // Both are in the order of the peers; gateways that get no path are left out of one.
            let of =
                |spec: &PathSpec| spec.cluster == usize::from(info.cluster_index) && spec.key.gateway == info.gateway;
            let Some((spec_index, spec)) = specs.find(|(_, spec)| of(spec)) else { break };
            let mut link = Link { spec: spec_index, sender: None, hints: spec.board.hints(), news: None };
            for remote in remote_lanes(self.lane, self.lanes, spec) {
                let sends = usize::from(info.remote_lane) == remote;
                let group = self.add_group(spec, remote, &mut old, now);
                for index in group.clone() {
                    let pair = &mut self.pairs[index];
                    (pair.path, pair.spec, pair.port) = (path, spec_index, spec.lanes[remote].port);
                    pair.sends = sends;
                    if pair.ends.is_none() {
                        self.by_key.insert(pair.keys.1, group.start);
                    }
                }
                if sends {
                    link.sender = self.best(group);
                }
            }
            let at = usize::from(path);
            if self.links.len() <= at {
                self.links.resize(at + 1, None);
            }
            self.links[at] = Some(link);
            self.by_spec[spec_index] = Some(path);
        }
        // Those that ended had kept their numbers, so that nobody got one twice.
        for ended in old.pairs.iter().flatten() {
            self.by_slot.remove(&ended.slot);
        }
        (old.snapshot, old.pairs, old.made, std::mem::take(&mut self.endpoints))
    }

    fn take_all(&mut self, next: Arc<Snapshot>, made: Vec<BoxedPair>) -> Old {
        let snapshot = std::mem::replace(&mut self.snapshot, next);
        let mut groups: HashMap<_, Range<usize>> = HashMap::with_capacity(self.pairs.len());
        for (index, pair) in self.pairs.iter().enumerate() {
            let lane = (snapshot.paths[pair.spec].number, pair.remote_lane);
            groups.entry(lane).or_insert(index..index).end = index + 1;
        }
        self.by_key.clear();
        self.links.clear();
        self.by_spec.clear();
        self.by_spec.resize(self.snapshot.paths.len(), None);
        let own = self.identities().clone();
        let pairs = std::mem::take(&mut self.pairs).into_iter().map(Some).collect();
        Old { own, snapshot, pairs, groups, made }
    }

    /// Adds the sessions with one remote lane: one for each of our keys and each of its, and those that are running out.
    fn add_group(&mut self, spec: &PathSpec, remote: usize, old: &mut Old, now: Time) -> Range<usize> {
        let known = old.groups.get(&(spec.number, remote)).cloned().unwrap_or_default();
        let known = &mut old.pairs[known];
        let before = known.iter().flatten().next().map(|pair| &old.snapshot.paths[pair.spec]);
        let (first, lane, own) = (self.pairs.len(), &spec.lanes[remote], &old.own);
        for (identity, ours) in [(Some(&own.current), Standing::Current), (own.next.as_ref(), Standing::Next)] {
            let Some(identity) = identity else { continue };
            let next = lane.next_public_key.filter(|next| *next != lane.public_key);
            for (key, theirs) in [(Some(lane.public_key), Standing::Current), (next, Standing::Next)] {
                let Some(key) = key else { continue };
                let same = |pair: &&mut Option<BoxedPair>| {
                    pair.as_ref().is_some_and(|pair| pair.keys == (identity.key(), key) && pair.ends.is_none())
                };
                let mut pair = match known.iter_mut().find(same).and_then(Option::take) {
                    Some(pair) => pair,
                    None => self.number(made(&mut old.made, identity, spec, (remote, key), now)),
                };
                pair.standing = (ours, theirs);
                self.push(pair);
            }
        }
        if before.and_then(|spec| spec.lanes.get(remote)).is_some_and(|before| follows(before, lane)) {
            self.add_replaced(known, own, lane, now);
        }
        if before.is_some_and(|before| before.addresses != spec.addresses) {
            self.pairs[first..].iter_mut().for_each(|pair| pair.seek.hurry(now));
        }
        first..self.pairs.len()
    }

    /// Adds what is left of the sessions with a lane: they have keys that were replaced.
    fn add_replaced(&mut self, known: &mut [Option<BoxedPair>], own: &Identities, lane: &Lane, now: Time) {
        let of = |key: PublicKey, current| if key == current { Standing::Current } else { Standing::Old };
        for place in known {
            let Some(pair) = place.as_deref_mut() else { continue };
            pair.run_out(now);
            pair.standing = (of(pair.keys.0, own.current.key()), of(pair.keys.1, lane.public_key));
            if !pair.has_ended(now)
                && let Some(pair) = place.take()
            {
                self.push(pair);
            }
        }
    }

    fn push(&mut self, pair: BoxedPair) {
        self.by_slot.insert(pair.slot, self.pairs.len());
        self.pairs.push(pair);
    }

    /// Gives a new pair a session number that is not in use.
    fn number(&mut self, mut pair: BoxedPair) -> BoxedPair {
        loop {
            self.numbered += 1;
            // The upper bits don't matter.
            pair.slot = self.numbers.hash_one(self.numbered) as u32 & SLOT_MASK;
            if !self.by_slot.contains_key(&pair.slot) {
                return pair;
            }
        }
    }
}

/// The lanes of a path's far end that lane `lane` of `lanes` has sessions with.
fn remote_lanes(lane: usize, lanes: usize, spec: &PathSpec) -> impl Iterator<Item = usize> + use<> {
    // At most 8 lanes each.
    let probed = spec.probes.then(|| lane_pairs(lanes as u8, spec.lanes.len() as u8));
    let plain = (!spec.probes && lane == 0).then_some(0);
    let here = probed.into_iter().flatten().filter(move |&(here, _)| usize::from(here) == lane);
    here.map(|(_, there)| usize::from(there)).chain(plain)
}

/// The new pair of these keys: the next one that was made, if it is that.
fn made(
    made: &mut Vec<BoxedPair>,
    identity: &Identity,
    spec: &PathSpec,
    (remote, key): (usize, PublicKey),
    now: Time,
) -> BoxedPair {
    let is = |pair: &mut BoxedPair| pair.keys == (identity.key(), key) && pair.remote_lane == remote;
    made.pop_if(is).unwrap_or_else(|| Box::new(Pair::new(identity, spec, (remote, key), now)))
}

/// Whether a lane's keys go on from others as those announced.
fn follows(before: &Lane, now: &Lane) -> bool {
    now.public_key == before.public_key || Some(now.public_key) == before.next_public_key
}
