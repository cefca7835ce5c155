//! A lane's sessions, and how they are found. Which there are follows from each snapshot: `change`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use hawser_datapath::PathIndex;
use hawser_model::PublicKey;

use super::endpoints::Endpoints;
use super::newcomers::Numbers;
use super::pair::{BoxedPair, Pair};
use crate::rotation::Identities;
use crate::session::Session as _;
use crate::snapshot::Snapshot;
use crate::status::NextKey;

/// Where a path of the path set leads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// Index in [`Snapshot::paths`].
    pub(crate) spec: usize,
    /// The session to send by, if this lane has one: the best of its like.
    pub(crate) sender: Option<usize>,
    /// Hints of other lanes that were seen.
    pub(crate) hints: u64,
    /// How far its board was read; none: not yet.
    pub(crate) news: Option<u64>,
}

/// See the module.
pub(crate) struct Peers {
    pub(super) lane: usize,
    pub(super) lanes: usize,
    pub(crate) snapshot: Arc<Snapshot>,
    /// Those of one path are neighbours, and among these the ones with the same remote lane.
    pub(crate) pairs: Vec<BoxedPair>,
    /// By path index; indexes that are not in use have none.
    pub(super) links: Vec<Option<Link>>,
    /// The path of each of [`Snapshot::paths`].
    pub(super) by_spec: Vec<Option<PathIndex>>,
    /// Looked at for every packet. Nobody but us chooses the numbers, so that a quick hash will do.
    pub(super) by_slot: foldhash::HashMap<u32, usize>,
    /// The first pair with the lane of a peer's key.
    pub(super) by_key: HashMap<PublicKey, usize>,
    pub(super) endpoints: Endpoints,
    pub(super) numbers: Numbers,
}

impl Peers {
    /// No sessions; the first change makes them.
    pub(crate) fn new(lane: usize, lanes: usize, snapshot: Arc<Snapshot>) -> Self {
        Self {
            lane,
            lanes,
            snapshot,
            pairs: Vec::new(),
            links: Vec::new(),
            by_spec: Vec::new(),
            by_slot: HashMap::default(),
            by_key: HashMap::new(),
            endpoints: Endpoints::default(),
            numbers: Numbers::default(),
        }
    }

    /// This lane's own keys.
    pub(crate) fn identities(&self) -> &Identities {
        &self.snapshot.identities[self.lane]
    }

    /// Makes the session of a pair, if it has none yet: a key agreement. A key that was replaced makes none. Whether it did.
    pub(crate) fn wake(&mut self, pair: usize) -> bool {
        let pair = &mut self.pairs[pair];
        let mut own = self.snapshot.identities[self.lane].iter();
        let identity = own.find(|identity| identity.key() == pair.keys.0);
        identity.is_some_and(|identity| pair.wake(identity, self.snapshot.paths[pair.spec].probes))
    }

    /// The pair whose session takes receiver index `receiver`.
    #[inline]
    pub(crate) fn by_receiver(&self, receiver: u32) -> Option<usize> {
        self.by_slot.get(&(receiver >> 8)).copied()
    }

    /// The pair of that key of ours and that one of a peer, if neither was replaced.
    pub(crate) fn by_keys(&self, own: PublicKey, remote: PublicKey) -> Option<usize> {
        let is = |index: &usize| self.pairs[*index].keys == (own, remote) && self.pairs[*index].ends.is_none();
        self.like(*self.by_key.get(&remote)?).find(is)
    }

    /// The pairs that talk to `address` and send.
    pub(crate) fn senders_to(&mut self, address: SocketAddr) -> Vec<usize> {
        let all = self.pairs.iter().enumerate().filter_map(|(index, pair)| Some((index, pair.endpoint?)));
        let there = self.endpoints.at(address, all).iter().copied();
        there.filter(|&index| self.pairs[index].sends).collect()
    }

    /// The peer of a pair is at `to` now; true where nobody knew where it was.
    pub(crate) fn move_to(&mut self, pair: usize, to: SocketAddr) -> bool {
        let from = self.pairs[pair].endpoint.replace(to);
        self.endpoints.moved(pair, from, to);
        from.is_none()
    }

    /// Where a path leads.
    #[inline]
    pub(crate) fn link(&self, path: PathIndex) -> Option<&Link> {
        self.links.get(usize::from(path))?.as_ref()
    }

    /// The path of one of [`Snapshot::paths`].
    #[inline]
    pub(crate) fn path_of(&self, spec: usize) -> Option<PathIndex> {
        *self.by_spec.get(spec)?
    }

    /// All paths and where they lead.
    pub(crate) fn links(&self) -> impl Iterator<Item = (PathIndex, Link)> + '_ {
        self.links.iter().enumerate().filter_map(|(index, link)| Some((index as PathIndex, (*link)?)))
    }

    /// One more than the largest path index.
    pub(crate) fn indexes(&self) -> usize {
        self.links.len()
    }

    /// Paths whose boards have changed since they were last taken, `most` at most.
    pub(crate) fn take_news(&mut self, most: usize) -> Vec<(PathIndex, Link)> {
        let snapshot = &self.snapshot;
        let links =
            self.links.iter_mut().enumerate().filter_map(|(index, link)| Some((index as PathIndex, link.as_mut()?)));
        let stirred = links.filter_map(|(path, link)| {
            let news = Some(snapshot.paths[link.spec].board.news());
            (std::mem::replace(&mut link.news, news) != news).then_some((path, *link))
        });
        stirred.take(most).collect()
    }

    pub(crate) fn saw_hints(&mut self, path: PathIndex, hints: u64) {
        if let Some(Some(link)) = self.links.get_mut(usize::from(path)) {
            link.hints = hints;
        }
    }

    /// The neighbours of a pair that are like it in something, and itself.
    fn around<K: PartialEq>(&self, pair: usize, what: impl Fn(&Pair) -> K) -> Range<usize> {
        let same = |index: &usize| what(&self.pairs[*index]) == what(&self.pairs[pair]);
        let first = (0..pair).rev().take_while(same).last().unwrap_or(pair);
        let last = (pair..self.pairs.len()).take_while(same).last().unwrap_or(pair);
        first..last + 1
    }

    /// All pairs with the same remote lane as `pair`.
    fn like(&self, pair: usize) -> Range<usize> {
        self.around(pair, |pair| (pair.path, pair.remote_lane))
    }

    pub(super) fn best(&self, group: Range<usize>) -> Option<usize> {
        group.max_by_key(|&index| self.pairs[index].merit())
    }

    /// Chooses a path's sending session anew; whether packets can be sealed by it.
    pub(crate) fn choose(&mut self, path: PathIndex) -> bool {
        let Some(sender) = self.link(path).and_then(|link| link.sender) else { return false };
        let best = self.best(self.like(sender));
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
        let best = self.best(self.like(pair))?;
        Some(self.pairs[best].as_ref()).filter(|best| best.is_usable())
    }

    /// How far our next key is with a path: nothing, where there is no next key.
    pub(crate) fn next_key(&self, path: PathIndex) -> Option<NextKey> {
        let next = self.identities().next.as_ref()?.key();
        let of_path = &self.pairs[self.around(self.link(path)?.sender?, |pair| pair.path)];
        let ready = || of_path.iter().filter(|pair| pair.session.ready());
        let moved: Vec<usize> = ready().filter(|pair| pair.keys.0 == next).map(|pair| pair.remote_lane).collect();
        let waits = ready().any(|pair| !moved.contains(&pair.remote_lane));
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

    /// The candidates of a pair that are not in use.
    pub(crate) fn others(&self, pair: usize) -> impl Iterator<Item = SocketAddr> + '_ {
        let pair = &self.pairs[pair];
        let all = self.snapshot.paths[pair.spec].addresses.iter().map(|&a| SocketAddr::new(a, pair.port));
        all.filter(|&a| pair.endpoint != Some(a))
    }

    /// Whether a packet from `address` may make it the peer's endpoint.
    pub(crate) fn may_roam_to(&self, address: IpAddr) -> bool {
        !self.snapshot.is_inner(address)
    }
}
