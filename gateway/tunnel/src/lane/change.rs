//! What a snapshot makes of a lane's sessions (`peers`): those between lanes and keys that stay go on, new ones begin asleep.
//! Those of new paths come ready made (`newcomers`).

use std::ops::Range;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use hawser_datapath::{PathIndex, PathSet};
use hawser_liveness::Time;
use hawser_model::{Lane, PublicKey};

use super::newcomers::{NewPair, Newcomers, keys, remote_lanes};
use super::pair::{BoxedPair, Pair, Standing};
use super::peers::{Link, Peers};
use crate::rotation::Identities;
use crate::snapshot::{PathSpec, Snapshot};

/// What there was, and the keys to go on with.
struct Old {
    own: Identities,
    snapshot: Arc<Snapshot>,
    pairs: Vec<Option<BoxedPair>>,
    /// Which pairs are with the same remote lane: by number of the path, and lane.
    groups: HashMap<(u64, usize), Range<usize>>,
}

impl Peers {
    /// Takes over a snapshot that `paths` was just given: sessions between the same lanes and keys go on. Those of a key
    /// that was replaced as announced still receive for a while; all others end here and now. `new` are the paths that it has
    /// beyond the one before, or beyond a later one that this lane was not given. Returns the other paths, and what ended:
    /// best dropped elsewhere.
    pub(crate) fn apply(
        &mut self,
        snapshot: &Arc<Snapshot>,
        mut new: Newcomers,
        paths: &PathSet,
        now: Time,
    ) -> (Vec<PathIndex>, impl Send + use<>) {
        let mut old = self.take_all(Arc::clone(snapshot));
        let by_spec = new.take_paths();
        let expected = old.pairs.len().max(by_spec.len()).max(new.pairs());
        self.pairs.reserve(expected);
        self.by_slot.reserve(expected);
        self.by_key.reserve(expected);
        let count = by_spec.iter().flatten().max().map_or(0, |&last| usize::from(last) + 1);
        self.links.resize(count, None);
        let mut others = Vec::new();
        for (index, path) in by_spec.iter().enumerate() {
            let Some(path) = *path else { continue };
            let link = if let Some((link, pairs)) = new.next_of(index) {
                self.add_new(link, pairs)
            } else {
                others.push(path);
                let sends = paths.info_of(path).map(|info| usize::from(info.remote_lane));
                self.add_known((path, index), sends, &mut old, now)
            };
            self.links[usize::from(path)] = Some(link);
        }
        let by_spec = std::mem::replace(&mut self.by_spec, by_spec);
        // Those that ended had kept their numbers, so that nobody got one twice.
        for ended in old.pairs.iter().flatten() {
            self.by_slot.remove(&ended.slot);
        }
        (others, (old.snapshot, old.pairs, new, by_spec, std::mem::take(&mut self.endpoints)))
    }

    /// Puts a path in its place that came ready made. What it consists of is not looked at: it is in no cache yet.
    fn add_new(&mut self, link: Link, pairs: impl Iterator<Item = NewPair>) -> Link {
        let first = self.pairs.len();
        for NewPair { mut pair, mut slot, remote, group } in pairs {
            self.by_key.insert(remote, first + group);
            if self.by_slot.contains_key(&slot) {
                pair = self.number(pair);
                slot = pair.slot;
            }
            self.push(slot, pair);
        }
        Link { sender: link.sender.map(|sender| first + sender), ..link }
    }

    /// Adds the sessions of a path, which `sends` by those with that remote lane.
    fn add_known(&mut self, (path, index): (PathIndex, usize), sends: Option<usize>, old: &mut Old, now: Time) -> Link {
        let snapshot = Arc::clone(&self.snapshot);
        let spec = &snapshot.paths[index];
        let mut link = Link { spec: index, sender: None, hints: spec.board.hints(), news: None };
        for remote in remote_lanes(self.lane, self.lanes, spec) {
            let group = self.add_group(spec, remote, old, now);
            for at in group.clone() {
                let pair = &mut self.pairs[at];
                (pair.path, pair.spec, pair.port) = (path, index, spec.lanes[remote].port);
                pair.sends = sends == Some(remote);
                if pair.ends.is_none() {
                    self.by_key.insert(pair.keys.1, group.start);
                }
            }
            if sends == Some(remote) {
                link.sender = self.best(group);
            }
        }
        link
    }

    fn take_all(&mut self, next: Arc<Snapshot>) -> Old {
        let snapshot = std::mem::replace(&mut self.snapshot, next);
        let mut groups: HashMap<_, Range<usize>> = HashMap::with_capacity(self.pairs.len());
        for (index, pair) in self.pairs.iter().enumerate() {
            let lane = (snapshot.paths[pair.spec].number, pair.remote_lane);
            groups.entry(lane).or_insert(index..index).end = index + 1;
        }
        self.by_key.clear();
        self.links.clear();
        let own = self.identities().clone();
        let pairs = std::mem::take(&mut self.pairs).into_iter().map(Some).collect();
        Old { own, snapshot, pairs, groups }
    }

    /// Adds the sessions with one remote lane: one for each of our keys and each of its, and those that are running out.
    fn add_group(&mut self, spec: &PathSpec, remote: usize, old: &mut Old, now: Time) -> Range<usize> {
        let known = old.groups.get(&(spec.number, remote)).cloned().unwrap_or_default();
        let known = &mut old.pairs[known];
        let before = known.iter().flatten().next().map(|pair| &old.snapshot.paths[pair.spec]);
        let (first, lane, own) = (self.pairs.len(), &spec.lanes[remote], &old.own);
        for (identity, key, standing) in keys(own, lane) {
            let same = |pair: &&mut Option<BoxedPair>| {
                pair.as_ref().is_some_and(|pair| pair.keys == (identity.key(), key) && pair.ends.is_none())
            };
            let mut pair = match known.iter_mut().find(same).and_then(Option::take) {
                Some(pair) => pair,
                None => self.number(Box::new(Pair::new(identity, spec, (remote, key), now))),
            };
            pair.standing = standing;
            self.push(pair.slot, pair);
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
                self.push(pair.slot, pair);
            }
        }
    }

    /// `slot` is the pair's: whoever knows it spares a look at one that is in no cache.
    fn push(&mut self, slot: u32, pair: BoxedPair) {
        self.by_slot.insert(slot, self.pairs.len());
        self.pairs.push(pair);
    }

    /// Gives a new pair a session number that is not in use.
    fn number(&mut self, mut pair: BoxedPair) -> BoxedPair {
        loop {
            pair.slot = self.numbers.give();
            if !self.by_slot.contains_key(&pair.slot) {
                return pair;
            }
        }
    }
}

/// Whether a lane's keys go on from others as those announced.
fn follows(before: &Lane, now: &Lane) -> bool {
    now.public_key == before.public_key || Some(now.public_key) == before.next_public_key
}
