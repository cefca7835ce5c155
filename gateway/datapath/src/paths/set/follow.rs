//! What follows from a path's change: events, deadlines, its cluster's state and pace.

use std::time::Duration;

use hawser_liveness::{ClusterState, Event, Pace, Reason, State, Time};
use hawser_model::{ClusterId, NodeName};

use super::PathSet;
use crate::forwarding::PathIndex;
use crate::paths::event::PathEvent;

/// Events kept for a caller that does not poll; the oldest go first.
const MAX_EVENTS: usize = 4096;
/// A cluster without traffic for this long is probed at the idle pace.
const IDLE_AFTER: Duration = Duration::from_secs(10);
/// Traffic is noted at this grain.
const TRAFFIC_GRAIN: Duration = Duration::from_secs(1);

impl PathSet {
    /// Takes in what a path's liveness has to say after it was told something.
    pub(super) fn follow(&mut self, path: PathIndex, now: Time) {
        self.follow_events(path, now);
        self.rearm(path);
    }

    pub(super) fn rearm(&mut self, path: PathIndex) {
        if let Some(slot) = self.slots.get_mut(usize::from(path)) {
            slot.arm(path, &mut self.timers);
            self.timers.tidy(self.slots.len(), |path| self.slots.get(usize::from(path)).and_then(|slot| slot.armed));
        }
    }

    pub(super) fn follow_events(&mut self, path: PathIndex, now: Time) {
        while let Some((event, info)) =
            self.slot_mut(path).and_then(|slot| slot.life.poll_event().map(|event| (event, slot.info.clone())))
        {
            let (cluster, gateway) = (info.cluster, info.gateway);
            match event {
                Event::PeerDraining(draining) => {
                    self.mark_stale(path);
                    self.emit(PathEvent::Draining { cluster, gateway, draining });
                }
                Event::State { from, to, reason, at, last_proof } => {
                    // A suspect carries what it carried before.
                    if !(from.is_live() && to.is_live()) {
                        self.mark_stale(path);
                    }
                    let index = usize::from(info.cluster_index);
                    let (id, node) = (cluster.clone(), gateway.clone());
                    self.emit(PathEvent::State { path, cluster, gateway, from, to, reason, at });
                    let usable = to.carries();
                    self.resize(path, |size| size.handle_usable(usable, now));
                    if self.concerns_other_lanes(to, reason) {
                        self.emit(PathEvent::Hint { cluster: id.clone(), gateway: node.clone() });
                    }
                    if from.is_live() && to == State::Down {
                        self.note_failover(index, (id, node), at, last_proof);
                    }
                    self.judge(index, now);
                }
            }
        }
    }

    /// The selector is told anew how a path stands, before the next packet.
    pub(super) fn mark_stale(&mut self, path: PathIndex) {
        if let Some(slot) = self.slot_mut(path)
            && !std::mem::replace(&mut slot.stale, true)
        {
            self.stale.push(path);
        }
    }

    /// Whether the other lanes should have a look at their paths to the same gateway. Of mere suspicions, only lane 0's
    /// count: on a lossy path the lanes would keep each other suspicious otherwise.
    pub(super) fn concerns_other_lanes(&self, to: State, reason: Reason) -> bool {
        match (to, reason) {
            (State::Suspect, Reason::AnswerMissed) => self.cfg.lane == 0,
            (State::Down, Reason::Silent | Reason::OneWay | Reason::Refused) => true,
            _ => false,
        }
    }

    /// Records that flows left a dead path, if there was another to go to.
    pub(super) fn note_failover(
        &mut self,
        index: usize,
        of: (ClusterId, NodeName),
        at: Time,
        last_proof: Option<Time>,
    ) {
        let Some(cluster) = self.clusters.get(index) else { return };
        let others = cluster.paths.iter().any(|&p| self.state(p).is_some_and(State::is_live));
        if let Some(proof) = last_proof.filter(|_| others) {
            let took = at.since(proof);
            self.clusters[index].last_failover = Some((at, took));
            self.emit(PathEvent::Failover { cluster: of.0, gateway: of.1, at, took });
        }
    }

    /// Derives a cluster's state from its paths'.
    pub(super) fn judge(&mut self, index: usize, now: Time) {
        let Some(cluster) = self.clusters.get(index) else { return };
        let to = ClusterState::of_paths(cluster.paths.iter().filter_map(|&p| self.state(p)));
        let from = cluster.state;
        if from != to {
            let cluster = &mut self.clusters[index];
            (cluster.state, cluster.since) = (to, now);
            let id = cluster.id.clone();
            self.emit(PathEvent::Cluster { cluster: id, from, to, at: now });
        }
    }

    /// Any traffic of a cluster keeps all its paths at the normal pace: they are where its flows would go.
    pub(super) fn note_traffic(&mut self, index: usize, now: Time) {
        let Some(cluster) = self.clusters.get_mut(index) else { return };
        if now.since(cluster.last_traffic) < TRAFFIC_GRAIN {
            return;
        }
        cluster.last_traffic = now;
        if std::mem::take(&mut cluster.idle) {
            for path in cluster.paths.clone() {
                self.handle(path, now, |life| life.set_pace(Pace::Normal));
            }
        }
    }

    /// Slows the probes of a path whose cluster has gone idle.
    pub(super) fn pace(&mut self, path: PathIndex, now: Time) {
        let Some(slot) = self.slots.get_mut(usize::from(path)) else { return };
        let Some(cluster) = self.clusters.get_mut(usize::from(slot.info.cluster_index)) else { return };
        if now.since(cluster.last_traffic) > IDLE_AFTER {
            cluster.idle = true;
            slot.life.set_pace(Pace::Idle);
        }
    }

    pub(super) fn emit(&mut self, event: PathEvent) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

#[cfg(test)]
mod tests {
    use hawser_liveness::Config;
    use hawser_model::{Gateway, Lane, PublicKey, RemoteCluster};

    use super::*;
    use crate::paths::PathConfig;

    #[test]
    fn a_suspicion_leaves_the_tables_as_they_are() {
        let lane = Lane { public_key: PublicKey([7; 32]), port: 1, next_public_key: None };
        let gateway = Gateway {
            node: NodeName::new("g").expect("a name"),
            lanes: vec![lane],
            candidates: Vec::new(),
            preferred: Vec::new(),
            probes: true,
        };
        let id = ClusterId::new("east").expect("an id");
        let east = RemoteCluster { id, generation: 1, prefixes: std::iter::empty().collect(), gateways: vec![gateway] };
        let mut set = PathSet::new(PathConfig { lane: 0, liveness: Config::default() });
        let at = Time::from_millis(1000);
        set.apply(&std::iter::empty().collect(), &[east], at);
        let mut shown = |f: fn(&mut hawser_liveness::Path, Time)| {
            let _ = set.forwarding(at);
            set.handle(0, at, |life| f(life, at));
            (set.state(0), !set.stale.is_empty())
        };
        let answer = |life: &mut hawser_liveness::Path, at| {
            life.handle_session(true, at);
            let seq = life.poll_probe(at).expect("a probe is due");
            life.handle_probe_answer(seq, at);
        };
        assert_eq!(shown(answer), (Some(State::Up), true));
        assert_eq!(shown(|life, at| life.handle_hint(at)), (Some(State::Suspect), false));
        assert_eq!(shown(answer), (Some(State::Up), false));
        assert_eq!(shown(|life, at| life.handle_hint(at)), (Some(State::Suspect), false));
        assert_eq!(shown(|life, at| life.handle_drain(true, at)), (Some(State::Suspect), true));
        assert_eq!(shown(|life, at| life.handle_gone(at)), (Some(State::Down), true));
        assert_eq!(shown(answer), (Some(State::Held), true));
    }
}
