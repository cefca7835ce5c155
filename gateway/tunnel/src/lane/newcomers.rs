//! Paths that a configuration brings, with their sessions: made by whoever leaves it to a lane, so that the lane has no more
//! to do for each than to put it in its place. `change` does that.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use hawser_datapath::PathIndex;
use hawser_datapath::paths::{LanePaths, PathInfo, lane_pairs};
use hawser_liveness::Time;
use hawser_model::{Lane, PublicKey};

use super::pair::{BoxedPair, Pair, Standing};
use super::peers::Link;
use crate::rotation::Identities;
use crate::session::Identity;
use crate::snapshot::{PathSpec, Snapshot};

/// Session numbers have 24 bits.
const SLOT_MASK: u32 = 0x00ff_ffff;

/// Numbers for sessions, one after the other: they follow from how many there were, by a secret, so that whoever is off the path
/// can't guess them. One may come twice.
#[derive(Default)]
pub(super) struct Numbers {
    secret: RandomState,
    given: u64,
}

impl Numbers {
    pub(super) fn give(&mut self) -> u32 {
        self.given += 1;
        // The upper bits don't matter.
        self.secret.hash_one(self.given) as u32 & SLOT_MASK
    }
}

/// See the module. In the order of the configuration.
pub(crate) struct Newcomers {
    /// The path of each of [`Snapshot::paths`].
    by_spec: Vec<Option<PathIndex>>,
    paths: std::vec::IntoIter<NewPath>,
    pairs: std::vec::IntoIter<NewPair>,
}

struct NewPath {
    /// Its session to send by is counted among its own.
    link: Link,
    pairs: usize,
}

/// A session, and what a lane has to know to find it.
pub(super) struct NewPair {
    pub(super) pair: BoxedPair,
    pub(super) slot: u32,
    pub(super) remote: PublicKey,
    /// The first of those with the same remote lane, counted among its path's.
    pub(super) group: usize,
}

impl Newcomers {
    /// What `next` brings beyond `last` on a lane, which will number its paths as `paths` does.
    pub(crate) fn new(last: &Snapshot, next: &Snapshot, paths: &LanePaths, lane: usize, now: Time) -> Self {
        let known: HashSet<u64> = last.paths.iter().map(|spec| spec.number).collect();
        let mut numbers = Numbers::default();
        let (own, lanes) = (&next.identities[lane], next.identities.len());
        let mut by_spec = vec![None; next.paths.len()];
        let (mut new, mut pairs) = (Vec::new(), Vec::new());
        let mut specs = next.paths.iter().enumerate();
        for (path, info) in paths.paths() {
            // Both are in the order of the peers; gateways that get no path are left out of one.
            let Some((index, spec)) = specs.find(|(_, spec)| is_of(spec, info)) else { break };
            by_spec[index] = Some(path);
            if known.contains(&spec.number) {
                continue;
            }
            let (first, mut sender) = (pairs.len(), None);
            for remote in remote_lanes(lane, lanes, spec) {
                let sends = usize::from(info.remote_lane) == remote;
                let group = pairs.len() - first;
                for (identity, key, standing) in keys(own, &spec.lanes[remote]) {
                    let slot = numbers.give();
                    let mut pair = Box::new(Pair::new(identity, spec, (remote, key), now));
                    (pair.path, pair.spec, pair.port) = (path, index, spec.lanes[remote].port);
                    (pair.standing, pair.slot, pair.sends) = (standing, slot, sends);
                    pairs.push(NewPair { pair, slot, remote: key, group });
                }
                if sends {
                    sender = (group..pairs.len() - first).max_by_key(|&i| pairs[first + i].pair.merit());
                }
            }
            let link = Link { spec: index, sender, hints: spec.board.hints(), news: None };
            new.push(NewPath { link, pairs: pairs.len() - first });
        }
        Self { by_spec, paths: new.into_iter(), pairs: pairs.into_iter() }
    }

    /// None, the paths being those.
    pub(super) fn none(by_spec: Vec<Option<PathIndex>>) -> Self {
        Self { by_spec, paths: Vec::new().into_iter(), pairs: Vec::new().into_iter() }
    }

    pub(super) fn take_paths(&mut self) -> Vec<Option<PathIndex>> {
        std::mem::take(&mut self.by_spec)
    }

    #[cfg(test)]
    pub(super) fn made(&self) -> impl Iterator<Item = *const Pair> {
        self.pairs.as_slice().iter().map(|new| &raw const *new.pair)
    }

    /// Sessions that are left.
    pub(super) fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// The next path and its sessions, if it is the one of that number in [`Snapshot::paths`].
    pub(super) fn next_of(&mut self, spec: usize) -> Option<(Link, impl Iterator<Item = NewPair>)> {
        if self.paths.as_slice().first()?.link.spec != spec {
            return None;
        }
        let NewPath { link, pairs } = self.paths.next()?;
        Some((link, self.pairs.by_ref().take(pairs)))
    }
}

fn is_of(spec: &PathSpec, info: &PathInfo) -> bool {
    spec.cluster == usize::from(info.cluster_index) && spec.key.gateway == info.gateway
}

/// The lanes of a path's far end that lane `lane` of `lanes` has sessions with.
pub(super) fn remote_lanes(lane: usize, lanes: usize, spec: &PathSpec) -> impl Iterator<Item = usize> + use<> {
    // At most 8 lanes each.
    let probed = spec.probes.then(|| lane_pairs(lanes as u8, spec.lanes.len() as u8));
    let plain = (!spec.probes && lane == 0).then_some(0);
    let here = probed.into_iter().flatten().filter(move |&(here, _)| usize::from(here) == lane);
    here.map(|(_, there)| usize::from(there)).chain(plain)
}

/// The sessions with one remote lane: one for each of our keys and each of its, and where they stand.
pub(super) fn keys<'a>(
    own: &'a Identities,
    lane: &Lane,
) -> impl Iterator<Item = (&'a Identity, PublicKey, (Standing, Standing))> + use<'a> {
    let (current, next) = (lane.public_key, lane.next_public_key);
    let theirs = [Some((current, Standing::Current)), next.filter(|k| *k != current).map(|k| (k, Standing::Next))];
    let ours = [Some((&*own.current, Standing::Current)), own.next.as_deref().map(|next| (next, Standing::Next))];
    let with =
        move |(identity, ours)| theirs.into_iter().flatten().map(move |(key, theirs)| (identity, key, (ours, theirs)));
    ours.into_iter().flatten().flat_map(with)
}
