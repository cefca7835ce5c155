//! What all lanes together say of a path and of a cluster. The rows are in the module above.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_datapath::paths::ClusterRow;
use hawser_datapath::pmtu::Phase;
use hawser_liveness::{ClusterState, State, Time};
use hawser_model::ClusterId;

use super::{Failover, LanePath, LaneStatus, NextKey, PathStatus, Traffic};
use crate::snapshot::{PathKey, PathSpec, Snapshot};

/// A path as all lanes together see it: a lane that says it lives is believed unless another found it dead later than
/// that lane's last proof.
fn sum_up<'a>(lanes: &[&'a LanePath]) -> Option<&'a LanePath> {
    let fell = lanes.iter().filter(|p| p.state == State::Down).map(|p| p.since).max();
    let believed = |p: &&&LanePath| fell.is_none_or(|fell| p.last_proof.is_some_and(|proof| proof > fell));
    let best = |states: &[State]| lanes.iter().filter(|p| states.contains(&p.state)).find(believed);
    best(&[State::Up, State::Suspect])
        .or_else(|| best(&[State::Held]))
        .or_else(|| lanes.iter().filter(|p| p.state == State::Down).max_by_key(|p| p.since))
        .or_else(|| lanes.iter().find(|p| p.state == State::Unknown))
        .or_else(|| lanes.first())
        .copied()
}

/// What is least settled of the searches that lanes run.
fn phase(lanes: impl Iterator<Item = Phase>) -> Phase {
    lanes
        .max_by_key(|phase| {
            [Phase::Idle, Phase::Found, Phase::Searching, Phase::Failed].iter().position(|p| p == phase)
        })
        .unwrap_or_default()
}

/// The rows of one snapshot, out of what lanes published.
pub(crate) struct Summary<'a> {
    snapshot: &'a Snapshot,
    published: &'a [Arc<LaneStatus>],
    lanes: Vec<BTreeMap<&'a PathKey, &'a LanePath>>,
}

impl<'a> Summary<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, lanes: &'a [Arc<LaneStatus>]) -> Self {
        Self {
            snapshot,
            published: lanes,
            lanes: lanes.iter().map(|l| l.paths.iter().map(|p| (&p.key, p)).collect()).collect(),
        }
    }

    fn of_path(&self, key: &PathKey) -> Vec<&'a LanePath> {
        self.lanes.iter().filter_map(|lane| lane.get(key).copied()).collect()
    }

    /// How far the next keys are with a path, by lanes that have had them since snapshot `prepared`.
    pub(crate) fn next_key(&self, key: &PathKey, prepared: u64) -> NextKey {
        let lanes = self.published.iter().zip(&self.lanes);
        let of = lanes.filter_map(|(lane, paths)| {
            let path = paths.get(key)?;
            let said = path.next_key.filter(|_| lane.revision >= prepared);
            Some(said.unwrap_or(if path.state.carries() { NextKey::Waiting } else { NextKey::Dark }))
        });
        of.max().unwrap_or(NextKey::Dark)
    }

    /// One row per path.
    pub(crate) fn paths(&self, now: Time) -> Vec<PathStatus> {
        let row = |spec: &PathSpec| {
            let lanes = self.of_path(&spec.key);
            let view = sum_up(&lanes)?;
            let mut traffic = Traffic::default();
            lanes.iter().for_each(|p| traffic.add(&p.row));
            let heard = lanes.iter().filter_map(|p| p.last_heard).max();
            Some(PathStatus {
                cluster: spec.key.cluster.clone(),
                gateway: spec.key.gateway.clone(),
                state: view.state,
                since: now.since(view.since),
                reason: view.row.reason.as_str(),
                draining: lanes.iter().any(|p| p.row.draining),
                endpoint: view.endpoint,
                rtt: view.row.rtt,
                jitter: view.row.jitter,
                loss: view.row.loss,
                proof_age: heard.map(|at| now.since(at)),
                session_age: view.session_age,
                mtu: spec.mtu(),
                mtu_phase: phase(lanes.iter().map(|p| p.row.mtu_phase)),
                traffic,
            })
        };
        self.snapshot.paths.iter().filter_map(row).collect()
    }

    /// Cluster `index`: state, reason, live and total paths, last failover.
    pub(crate) fn cluster(&self, index: usize) -> (ClusterState, String, u32, u32, Option<Failover>) {
        let specs = self.snapshot.paths_of(index).iter();
        // A path that no lane has spoken of yet is unknown, not absent.
        let states: Vec<State> =
            specs.map(|spec| sum_up(&self.of_path(&spec.key)).map_or(State::Unknown, |view| view.state)).collect();
        let state = ClusterState::of_paths(states.iter().copied());
        let live = states.iter().filter(|s| s.is_live()).count();
        let cluster = &self.snapshot.peers.clusters[index];
        let rows: Vec<(&LaneStatus, &ClusterRow)> = self
            .published
            .iter()
            // A lane that goes by this snapshot has it at the same place.
            .filter_map(|lane| {
                let is = |row: &&ClusterRow| row.is(&cluster.id, cluster.generation);
                let row = lane.clusters.get(index).filter(is).or_else(|| lane.clusters.iter().find(is))?;
                Some((lane.as_ref(), row))
            })
            .collect();
        let reason = rows.iter().find(|(_, row)| row.state == state).map_or_else(
            || if states.is_empty() { "it has no gateways" } else { "the lanes differ about it" }.to_owned(),
            |(_, row)| row.reason(),
        );
        let failovers = rows
            .iter()
            .filter_map(|(lane, row)| row.last_failover.map(|(ago, took)| Failover { at: lane.at.before(ago), took }));
        (state, reason, live as u32, states.len() as u32, failovers.max_by_key(|f| f.at))
    }
}

trait Is {
    fn is(&self, id: &ClusterId, generation: u64) -> bool;
}

impl Is for ClusterRow {
    fn is(&self, id: &ClusterId, generation: u64) -> bool {
        self.cluster == *id && self.generation == generation
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hawser_datapath::paths::PathRow;
    use hawser_model::NodeName;

    use super::*;
    use crate::config::Peers;

    fn path(state: State, since: u64, proof: Option<u64>) -> LanePath {
        LanePath {
            key: PathKey {
                cluster: ClusterId::new("east").unwrap(),
                generation: 1,
                gateway: NodeName::new("e1").unwrap(),
            },
            state,
            since: Time::from_millis(since),
            row: row(state),
            last_proof: proof.map(Time::from_millis),
            last_heard: None,
            endpoint: None,
            session_age: None,
            next_key: None,
        }
    }

    fn row(state: State) -> PathRow {
        PathRow {
            cluster: ClusterId::new("east").unwrap(),
            gateway: NodeName::new("e1").unwrap(),
            state,
            since: Duration::ZERO,
            reason: hawser_liveness::Reason::Answered,
            draining: false,
            rtt: None,
            jitter: None,
            loss: None,
            heard: None,
            proof: None,
            rx_packets: 1,
            rx_bytes: 2,
            tx_packets: 3,
            tx_bytes: 4,
            peer_rx_packets: None,
            mtu: 1200,
            mtu_phase: Phase::Idle,
        }
    }

    #[test]
    fn a_sleepy_lane_does_not_hide_a_dead_path() {
        let (dead, sleepy) = (path(State::Down, 1000, Some(700)), path(State::Up, 10, Some(900)));
        assert_eq!(sum_up(&[&dead, &sleepy]).unwrap().state, State::Down);
        let proven = path(State::Up, 10, Some(1001));
        assert_eq!(sum_up(&[&dead, &proven]).unwrap().state, State::Up, "its own port only is dead");
    }

    #[test]
    fn a_path_waits_for_its_last_lane() {
        let snapshot = Snapshot::new(Peers::none(ClusterId::new("west").unwrap()).into(), None, |_| 1420, Vec::new());
        let next_key = |rows: &[(u64, State, Option<NextKey>)]| {
            let row = |&(revision, state, next_key): &(u64, State, Option<NextKey>)| LaneStatus {
                revision,
                paths: vec![LanePath { next_key, ..path(state, 1, None) }],
                ..LaneStatus::default()
            };
            let lanes: Vec<Arc<LaneStatus>> = rows.iter().map(row).map(Arc::new).collect();
            Summary::new(&snapshot, &lanes).next_key(&path(State::Up, 1, None).key, 5)
        };
        let (moved, waits) = (Some(NextKey::InUse), Some(NextKey::Waiting));
        assert_eq!(next_key(&[(5, State::Up, moved), (6, State::Up, moved)]), NextKey::InUse);
        assert_eq!(next_key(&[(5, State::Up, moved), (6, State::Up, waits)]), NextKey::Waiting);
        assert_eq!(
            next_key(&[(5, State::Up, moved), (4, State::Up, moved)]),
            NextKey::Waiting,
            "of an earlier rotation"
        );
        assert_eq!(next_key(&[(5, State::Up, moved), (6, State::Down, Some(NextKey::Dark))]), NextKey::InUse);
        assert_eq!(next_key(&[(4, State::Down, None)]), NextKey::Dark);
        assert_eq!(next_key(&[]), NextKey::Dark);
    }

    #[test]
    fn the_best_view_counts() {
        let all = [path(State::Unknown, 1, None), path(State::Held, 5, Some(9)), path(State::Suspect, 3, Some(9))];
        assert_eq!(sum_up(&all.iter().collect::<Vec<_>>()).unwrap().state, State::Suspect);
        assert_eq!(sum_up(&all[..2].iter().collect::<Vec<_>>()).unwrap().state, State::Held);
        assert!(sum_up(&[]).is_none());
    }
}
