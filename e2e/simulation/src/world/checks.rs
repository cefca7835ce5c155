//! Compares what the gateways think with what is so.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_datapath::PathEvent;
use hawser_datapath::paths::PathRow;
use hawser_liveness::{Reason, State, Time};

use super::World;
use crate::story::Entry;
use crate::topology::{HostId, Topology};

/// Without traffic for this long a path may be probed at the idle pace.
const RESTS_AFTER: Duration = Duration::from_secs(8);
/// A lane that lags by more than this gives no verdicts.
const VERDICT_LAG: Duration = Duration::from_millis(45);
/// A path that is good for this long is in no hold-down any more.
const HELD_AT_MOST: Duration = Duration::from_secs(75);
/// The shortest hold-down, and the longest with a loop that is late or a suspicion at its end.
const HOLD: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(65)];

/// One lane's path to one host.
type Key = (HostId, u8, HostId);

/// What is remembered between checks.
#[derive(Debug)]
pub(super) struct Watch {
    /// When a lane last had users' packets for a cluster, and when that began after a rest.
    talked: BTreeMap<(HostId, u8, usize), (Time, Time)>,
    /// Since when a state contradicts what is so.
    wrong: BTreeMap<Key, Time>,
    held: BTreeMap<Key, Time>,
    /// When each host was last held up.
    late: Vec<Time>,
}

impl Watch {
    pub(super) fn new(hosts: usize) -> Self {
        Self { talked: BTreeMap::new(), wrong: BTreeMap::new(), held: BTreeMap::new(), late: vec![Time::START; hosts] }
    }

    /// A gateway's paths begin anew.
    pub(super) fn forget(&mut self, host: HostId) {
        self.wrong.retain(|key, _| key.0 != host);
        self.held.retain(|key, _| key.0 != host);
        self.talked.retain(|key, _| key.0 != host);
    }

    pub(super) fn talked(&mut self, host: HostId, lane: u8, cluster: usize, now: Time) {
        let (last, began) = self.talked.entry((host, lane, cluster)).or_insert((Time::START, now));
        if now.since(*last) > RESTS_AFTER {
            *began = now;
        }
        *last = now;
    }

    /// When a gateway last began to have packets for a cluster.
    pub(super) fn woken(&self, host: HostId, cluster: usize) -> Time {
        let lanes = self.talked.range((host, 0, 0)..(host + 1, 0, 0)).filter(|((_, _, c), _)| *c == cluster);
        lanes.map(|(_, (_, began))| *began).max().unwrap_or(Time::START)
    }

    /// When a host's loops were last held up.
    pub(super) fn late(&self, host: HostId) -> Time {
        self.late[host]
    }

    fn rests(&self, host: HostId, lane: u8, cluster: usize, now: Time) -> bool {
        self.talked.get(&(host, lane, cluster)).is_none_or(|(last, _)| now.since(*last) > RESTS_AFTER)
    }
}

impl World {
    /// Compares all states with what is so.
    pub(super) fn check(&mut self) {
        let now = self.now;
        for host in 0..self.machines.len() {
            if self.is_stalled(host, now) {
                self.watch.late[host] = now;
                continue;
            }
            let Some(process) = &self.machines[host].process else { continue };
            let lanes = (0_u8..).zip(&process.lanes);
            let states = lanes.flat_map(|(i, lane)| lane.path_states().map(move |(to, state)| (i, to, state)));
            let states: Vec<(u8, HostId, State)> = states.collect();
            for (lane, to, state) in states {
                self.check_state((host, lane, to), state);
            }
        }
        self.check_nodes();
    }

    fn check_state(&mut self, key: Key, state: State) {
        let (host, lane, to) = key;
        let (now, reach) = (self.now, *self.reference.get(host, to));
        let usable = matches!(state, State::Up | State::Suspect | State::Held);
        let lags = |h: HostId| self.machines[h].sluggish > VERDICT_LAG;
        if usable == reach.ok || self.is_stalled(to, now) || lags(host) {
            self.watch.wrong.remove(&key);
            let calm = now.since(reach.disturbed).min(now.since(reach.since));
            if state == State::Held && reach.ok && reach.loss() < 0.005 && calm > HELD_AT_MOST && !lags(to) {
                self.fail(&format!("g{host} lane {lane} -> g{to}: still held after {calm:?} of calm"));
            }
            return;
        }
        let wrong = *self.watch.wrong.entry(key).or_insert(now);
        let since = wrong.max(reach.disturbed).max(self.watch.late[host]).max(self.watch.late[to]);
        let (here, there) = (self.topology.hosts[host].cluster, self.topology.hosts[to].cluster);
        let peer = lane % self.topology.hosts[to].shape.lanes;
        let idle = self.watch.rests(host, lane, there, now) || self.watch.rests(to, peer, here, now);
        let took = now.since(since);
        if !idle && reach.is_simple() {
            self.summary.slowest_convergence = self.summary.slowest_convergence.max(took);
        }
        if took > reach.patience(idle) {
            self.fail(&format!(
                "g{host} lane {lane} -> g{to} is {state} for {took:?} after the last change, against what is so: {reach:?} \
                 (idle: {idle}, patience {:?})\nits row: {:?}",
                reach.patience(idle),
                self.row(key)
            ));
        }
    }

    /// What a lane says of one of its paths.
    fn row(&self, (host, lane, to): Key) -> Option<PathRow> {
        let paths = &self.machines[host].process.as_ref()?.lanes[usize::from(lane)].paths;
        let (path, _) = paths.paths().find(|(_, info)| Topology::owner(&info.remote_key).0 == to)?;
        paths.path_row(path, self.now)
    }

    /// A lane's path changed.
    pub(super) fn path_event(&mut self, host: HostId, lane: u8, event: &PathEvent) {
        let PathEvent::State { cluster, gateway, from, to: is, reason, at, .. } = event else { return };
        let cluster = &self.topology.clusters[Topology::cluster_of(cluster)];
        let Some(to) = cluster.iter().copied().find(|h| self.topology.hosts[*h].node == *gateway) else { return };
        self.tell(Entry::Path { host, lane, to, was: *from, is: *is, why: *reason });
        self.summary.path_changes += 1;
        let key = (host, lane, to);
        match (from, is) {
            (_, State::Held) => {
                self.watch.held.insert(key, *at);
            }
            (State::Held, State::Up) => self.check_hold(key, *reason, *at),
            (_, State::Down) => self.check_verdict(key, *from, *reason),
            _ => {}
        }
    }

    fn check_hold(&mut self, key: Key, reason: Reason, at: Time) {
        let Some(since) = self.watch.held.remove(&key) else { return };
        let held = at.since(since);
        if reason != Reason::HoldOver || held < HOLD[0] || held > HOLD[1] {
            self.fail(&format!("{key:?} (gateway, lane, to) left its hold-down after {held:?}: {reason}"));
        }
    }

    fn check_verdict(&mut self, key: Key, was: State, reason: Reason) {
        let (host, lane, to) = key;
        let (now, reach) = (self.now, *self.reference.get(host, to));
        self.summary.verdicts += 1;
        if !reach.ok {
            return;
        }
        self.summary.hasty += 1;
        // A gateway whose own loop stood still has no reason to take others for dead.
        let other = now.since(self.watch.late[to]) > reach.steady() && reach.loss() <= 0.0;
        let calm = now.since(if other { reach.changed } else { reach.disturbed });
        if calm > reach.steady() {
            self.fail(&format!(
                "g{host} lane {lane} -> g{to} was {was} and is taken for dead ({reason}) after {calm:?} of calm: {reach:?}"
            ));
        }
    }

    /// A user's packet was sent to a host: that path must not be known dead while another lives.
    pub(super) fn check_sent(&mut self, host: HostId, lane: u8, to: HostId) {
        let (now, reach) = (self.now, *self.reference.get(host, to));
        let cluster = self.topology.hosts[to].cluster;
        self.summary.sent += 1;
        self.watch.talked(host, lane, cluster, now);
        if reach.ok {
            return;
        }
        self.summary.into_dead += 1;
        let Some(&(_, began)) = self.watch.talked.get(&(host, lane, cluster)) else { return };
        if self.machines[host].sluggish > VERDICT_LAG {
            return;
        }
        let lives = |&other: &HostId| {
            let reach = self.reference.get(host, other);
            reach.ok && now.since(reach.disturbed) > reach.patience(true)
        };
        if !self.topology.clusters[cluster].iter().any(lives) {
            return;
        }
        let late = now.since(reach.disturbed.max(began).max(self.watch.late[host]).max(self.watch.late[to]));
        let sluggish = self.machines[host].sluggish * 10;
        if sluggish.is_zero() && reach.is_calm() {
            self.summary.slowest_failover = self.summary.slowest_failover.max(late);
        }
        if late > reach.failover() + sluggish {
            self.fail(&format!(
                "g{host} lane {lane} sends users' packets to g{to}, dead for {late:?}, though others live: {reach:?}"
            ));
        }
    }
}
