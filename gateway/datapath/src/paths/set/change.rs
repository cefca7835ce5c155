//! Another configuration: what stays keeps its life. What can be worked out beforehand is [`crate::paths::Layout`]'s.

use hawser_liveness::Time;
use hawser_model::{PrefixSet, RemoteCluster};

use super::{Cluster, PathSet};
use crate::forwarding::PathIndex;
use crate::paths::layout::{LanePaths, Layout, Leftovers};
use crate::paths::places::Places;
use crate::paths::slot::BoxedSlot;
use crate::prefixes::Skipped;

impl PathSet {
    /// Makes the set that of these clusters, this cluster's prefixes being `own`; see [`Self::exchange`]. Returns the prefixes
    /// that had to be left out.
    pub fn apply(&mut self, own: &PrefixSet, clusters: &[RemoteCluster], now: Time) -> Vec<Skipped> {
        let layout = Layout::new(own, clusters);
        self.exchange(layout.of_lane(&self.cfg, now), now);
        layout.skipped().to_vec()
    }

    /// Goes by another configuration. Paths are numbered anew, in its order; those that stay keep their life. One whose
    /// generation or remote lane changed starts a new one, or whose key did without being announced before as the next one.
    /// Takes some ten microseconds per hundred paths, and leaves what takes longer to the caller: to work the configuration
    /// out, to drop what was given up.
    pub fn exchange(&mut self, new: LanePaths, now: Time) -> Leftovers {
        let LanePaths { slots, clusters, mut selector } = new;
        let (slots, displaced) = self.exchange_slots(slots);
        let clusters = self.exchange_clusters(clusters);
        selector.adopt(&self.selector);
        let selector = std::mem::replace(&mut self.selector, selector);
        self.stale = true;
        // Their numbers are other paths' now; who takes a configuration over looks at every path's state anyway.
        self.events.retain(|event| event.path().is_none());
        self.timers.clear();
        self.probing.clear();
        self.sizing.clear();
        (0..self.slots.len()).for_each(|slot| self.rearm(slot as PathIndex));
        (0..self.clusters.len()).for_each(|cluster| self.judge(cluster, now));
        Leftovers { slots, displaced, clusters, selector }
    }

    /// Returns the slots that go, and the new ones in whose place old ones stay.
    fn exchange_slots(&mut self, mut new: Vec<BoxedSlot>) -> (Vec<Option<BoxedSlot>>, Vec<BoxedSlot>) {
        let places = Places::new(self.slots.iter().map(|slot| slot.hash));
        let mut old: Vec<Option<BoxedSlot>> = self.slots.drain(..).map(Some).collect();
        let mut displaced = Vec::with_capacity(old.len());
        for slot in &mut new {
            let same = |at: &usize| old[*at].as_ref().is_some_and(|o| o.info.goes_on_as(&slot.info));
            let Some(place) = places.find(slot.hash).find(same) else { continue };
            let Some(mut kept) = old[place].take() else { continue };
            kept.follow(slot);
            displaced.push(std::mem::replace(slot, kept));
        }
        self.slots = new;
        (old, displaced)
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
