//! Another configuration: what stays keeps its life. What can be worked out beforehand is [`crate::paths::Layout`]'s.

use hawser_liveness::{ClusterState, Time};
use hawser_model::{PrefixSet, RemoteCluster};

use super::{Cluster, PathSet};
use crate::forwarding::PathIndex;
use crate::paths::layout::{Exchanged, LanePaths, Layout, Leftovers};
use crate::paths::places::Places;
use crate::paths::slot::BoxedSlot;
use crate::prefixes::Skipped;

impl PathSet {
    /// Makes the set that of these clusters, this cluster's prefixes being `own`; see [`Self::exchange`]. Returns the prefixes
    /// that had to be left out.
    pub fn apply(&mut self, own: &PrefixSet, clusters: &[RemoteCluster], now: Time) -> Vec<Skipped> {
        let layout = Layout::new(own, clusters);
        self.exchange(layout.of_lane(&self.cfg, |_, _| 0, now), now);
        layout.skipped().to_vec()
    }

    /// Goes by another configuration. Paths are numbered anew, in its order; those that stay keep their life. One whose
    /// generation or remote lane changed starts a new one, or whose key did without being announced before as the next one.
    /// Takes some ten microseconds per hundred paths that stay, few for those that are new, and leaves what takes longer to the
    /// caller: to work the configuration out, to drop what was given up.
    pub fn exchange(&mut self, new: LanePaths, now: Time) -> Exchanged {
        let LanePaths { slots, hashes, places, clusters, mut selector, timers } = new;
        let hashes = std::mem::replace(&mut self.hashes, hashes);
        let (kept, slots) = self.exchange_slots(slots, &hashes, &places);
        let clusters = self.exchange_clusters(clusters);
        selector.adopt(&self.selector);
        let selector = std::mem::replace(&mut self.selector, selector);
        let timers = std::mem::replace(&mut self.timers, timers);
        // Their numbers are other paths' now; who takes a configuration over looks at the state of every path that is kept.
        self.events.retain(|event| event.path().is_none());
        self.probing.clear();
        self.sizing.clear();
        self.stale.clear();
        for &path in &kept {
            self.rearm(path);
            self.mark_stale(path);
        }
        self.judge_exchanged(&kept, now);
        Exchanged { kept, leftovers: Leftovers { slots, clusters, selector, timers, places } }
    }

    /// Returns which paths are kept, and all slots that go: old ones, and new ones in whose place old ones stay.
    fn exchange_slots(
        &mut self,
        mut new: Vec<BoxedSlot>,
        hashes: &[u64],
        places: &Places,
    ) -> (Vec<PathIndex>, Vec<BoxedSlot>) {
        let mut old = std::mem::take(&mut self.slots);
        let mut kept = Vec::new();
        for (slot, hash) in old.iter_mut().zip(hashes) {
            let Some(place) = places.find(*hash).find(|&at| slot.info.goes_on_as(&new[at].info)) else { continue };
            slot.follow(&mut new[place]);
            std::mem::swap(slot, &mut new[place]);
            // A path's place fits: `Layout` numbers no more.
            kept.push(place as PathIndex);
        }
        self.slots = new;
        (kept, old)
    }

    /// Derives the clusters' states, where they are not those of new ones.
    fn judge_exchanged(&mut self, kept: &[PathIndex], now: Time) {
        let with_kept =
            kept.iter().filter_map(|&path| self.slot(path)).map(|slot| usize::from(slot.info.cluster_index));
        let mut clusters: Vec<usize> = with_kept.collect();
        let other = |c: &Cluster| c.state != ClusterState::Unknown || c.paths.is_empty();
        clusters.extend(self.clusters.iter().enumerate().filter(|(_, c)| other(c)).map(|(index, _)| index));
        clusters.sort_unstable();
        clusters.dedup();
        clusters.into_iter().for_each(|cluster| self.judge(cluster, now));
    }

    fn exchange_clusters(&mut self, mut new: Vec<Cluster>) -> Vec<Cluster> {
        let places = Places::new(self.clusters.iter().map(|cluster| cluster.hash));
        for cluster in &mut new {
            let same = |at: &usize| {
                let old = &self.clusters[*at];
                old.generation == cluster.generation && old.id == cluster.id
            };
            if let Some(place) = places.find(cluster.hash).find(same) {
                let old = &self.clusters[place];
                (cluster.state, cluster.since) = (old.state, old.since);
                (cluster.last_traffic, cluster.idle) = (old.last_traffic, old.idle);
                cluster.last_failover = old.last_failover;
            }
        }
        std::mem::replace(&mut self.clusters, new)
    }
}
