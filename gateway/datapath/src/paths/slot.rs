//! One path of a lane: its identity, its life, its counts.

use std::sync::Arc;

use hawser_liveness::{Config, Path, Reason, State, Stats, Time};
use hawser_model::{ClusterId, Gateway, NodeName, PublicKey};
use ipnet::IpNet;

use crate::forwarding::PathIndex;
use crate::paths::budget::{Budgets, Claim};
use crate::paths::layout::weight;
use crate::paths::report::PathRow;
use crate::paths::timers::Timers;
use crate::pmtu::{Evidence, Search};
use crate::prefixes::ClusterIndex;
use crate::selector::PathState;

/// Who a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// The remote cluster.
    pub cluster: ClusterId,
    /// Its generation.
    pub generation: u64,
    /// Its place in the configuration.
    pub cluster_index: ClusterIndex,
    /// The remote gateway's node.
    pub gateway: NodeName,
    /// The remote lane that this lane sends to.
    pub remote_lane: u8,
    /// That lane's key.
    pub remote_key: PublicKey,
    /// The key that will replace it.
    pub remote_next_key: Option<PublicKey>,
    /// False for a plain WireGuard peer.
    pub probes: bool,
    /// True where this lane has no session with the peer and hands its packets to lane 0.
    pub hand_over: bool,
}

impl PathInfo {
    /// Whether `next` goes on as this path: the same ends, and the same key or the one that was announced to replace it.
    pub(crate) fn goes_on_as(&self, next: &Self) -> bool {
        let ends = |i: &Self| (i.generation, i.remote_lane, i.probes);
        let announced = self.remote_next_key == Some(next.remote_key);
        ends(self) == ends(next)
            && (self.remote_key == next.remote_key || announced)
            && self.cluster == next.cluster
            && self.gateway == next.gateway
    }
}

/// Inner packets of a path.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) rx_packets: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_packets: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) peer_rx_packets: Option<u64>,
}

/// Slots change hands by pointer when the configuration changes.
pub(crate) type BoxedSlot = Box<Slot>;

#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) info: PathInfo,
    pub(crate) weight: u16,
    pub(crate) preferred: Vec<IpNet>,
    pub(crate) life: Path,
    /// What lane 0 says of a plain peer, in the other lanes.
    pub(crate) mirror: Option<(State, Time)>,
    pub(crate) armed: Option<Time>,
    /// It stands otherwise than the selector was told.
    pub(crate) stale: bool,
    /// Its place among the probes to be sent, while one is due.
    claim: Option<Claim>,
    pub(crate) size: Search,
    /// A probe of some size may be due: its deadline counts again once the caller asked.
    pub(crate) sizing: bool,
    pub(crate) counts: Counts,
}

impl Slot {
    pub(crate) fn new(info: PathInfo, liveness: Arc<Config>, now: Time) -> Self {
        Self {
            weight: 1,
            preferred: Vec::new(),
            size: Search::new(liveness.first_seq),
            life: Path::new(liveness, now),
            mirror: info.hand_over.then_some((State::Unknown, now)),
            armed: None,
            stale: false,
            claim: None,
            sizing: false,
            counts: Counts::default(),
            info,
        }
    }

    /// With what may change without a new session.
    pub(crate) fn with(self, gateway: &Gateway) -> Self {
        Self { weight: weight(gateway), preferred: gateway.preferred.clone(), ..self }
    }

    /// Goes by the configuration of `new`, as which this path goes on; its life stays.
    pub(crate) fn follow(&mut self, new: &mut Self) {
        let PathInfo { cluster_index, remote_key, remote_next_key, .. } = new.info;
        (self.info.cluster_index, self.info.remote_key) = (cluster_index, remote_key);
        self.info.remote_next_key = remote_next_key;
        self.weight = new.weight;
        self.life.share_config(&new.life);
        std::mem::swap(&mut self.preferred, &mut new.preferred);
        (self.armed, self.sizing, self.stale) = (None, false, false);
    }

    /// The number of the probe to send at `now`, if one is due and the lane's budgets have room for it; else it comes later.
    pub(crate) fn poll_probe(&mut self, budgets: &mut Budgets, now: Time) -> Option<u64> {
        if !self.life.probe_due(now) {
            return None;
        }
        let at = budgets.claim(&mut self.claim, self.life.state(), now);
        if at > now {
            self.life.postpone_probe(at);
            return None;
        }
        self.claim = None;
        self.life.poll_probe(now)
    }

    pub(crate) fn state(&self) -> State {
        self.mirror.map_or_else(|| self.life.state(), |(state, _)| state)
    }

    pub(crate) fn since(&self) -> Time {
        self.mirror.map_or_else(|| self.life.since(), |(_, since)| since)
    }

    pub(crate) fn reason(&self) -> Reason {
        match self.mirror {
            None => self.life.reason(),
            Some((State::Unknown, _)) => Reason::Started,
            Some((state, _)) if state.is_live() => Reason::Session,
            Some(_) => Reason::NoSession,
        }
    }

    /// Wakes it, as `path`, when something is due.
    pub(crate) fn arm(&mut self, path: PathIndex, timers: &mut Timers) {
        let deadline = self.deadline();
        timers.arm(path, &mut self.armed, deadline);
    }

    /// When something is due, and what.
    pub(crate) fn deadline(&self) -> Option<(Time, &'static str)> {
        let size = self.size.poll_timeout().filter(|_| !self.sizing).map(|at| (at, "path MTU"));
        [self.life.poll_timeout(), size].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// What a verdict about a size goes by.
    pub(crate) fn evidence(&self, liveness: &Config, now: Time) -> Evidence {
        let stats = self.life.stats(now);
        Evidence {
            last_proof: stats.last_proof,
            miss_after: stats.rtt.map_or(liveness.min_miss, |rtt| (rtt * 2).max(liveness.min_miss)),
            needed: liveness.unanswered_for(stats.loss.unwrap_or(0.0)),
        }
    }

    pub(crate) fn path_state(&self, now: Time) -> PathState {
        let state = self.state();
        // Figures only choose among held paths, and loss takes counting.
        let stats = if state == State::Held { self.life.stats(now) } else { Stats::default() };
        PathState { state, draining: self.life.peer_draining(), loss: stats.loss.unwrap_or(0.0), rtt: stats.rtt }
    }

    pub(crate) fn row(&self, now: Time) -> PathRow {
        let stats = self.life.stats(now);
        PathRow {
            cluster: self.info.cluster.clone(),
            gateway: self.info.gateway.clone(),
            state: self.state(),
            since: now.since(self.since()),
            reason: self.reason(),
            draining: self.life.peer_draining(),
            rtt: stats.rtt,
            jitter: stats.jitter,
            loss: stats.loss,
            heard: stats.last_heard.map(|at| now.since(at)),
            proof: stats.last_proof.map(|at| now.since(at)),
            rx_packets: self.counts.rx_packets,
            rx_bytes: self.counts.rx_bytes,
            tx_packets: self.counts.tx_packets,
            tx_bytes: self.counts.tx_bytes,
            peer_rx_packets: self.counts.peer_rx_packets,
            mtu: self.size.mtu(),
            mtu_phase: self.size.phase(),
        }
    }
}
