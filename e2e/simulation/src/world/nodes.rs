//! Nodes and gateways on their clusters' own networks: questions, answers, notices, and what nodes should know by then.

use std::time::Duration;

use hawser_liveness::{ClusterState, State, Time};
use hawser_model::ClusterId;
use hawser_node_probe::Reach;

use super::{Event, World};
use crate::node::{MTU, NOTICE_GAP, NOTICES, Said, Way};
use crate::reference::CONVERGENCE;
use crate::topology::{HostId, Topology};

/// What a datagram takes on a cluster's own network, and the chance that it does not arrive.
const LAN: (Duration, f64) = (Duration::from_micros(300), 0.02);
/// A gateway's own processing between a verdict and what it says.
const SAYING: Duration = Duration::from_millis(500);

impl World {
    /// A node's loop.
    pub(super) fn node_wakes(&mut self, node: usize) {
        let now = self.now;
        if self.nodes[node].wakes_at.is_some_and(|at| at != now) {
            return;
        }
        self.nodes[node].wakes_at = None;
        for said in self.nodes[node].turn(&self.topology, now) {
            self.say(node, said, Duration::ZERO);
        }
        self.node_sleeps(node);
    }

    fn node_sleeps(&mut self, node: usize) {
        let Some(next) = self.nodes[node].next().map(|at| at.max(self.now + Duration::from_nanos(1))) else { return };
        if self.nodes[node].wakes_at.is_none_or(|at| next < at) {
            self.nodes[node].wakes_at = Some(next);
            self.at(next, Event::Node(node));
        }
    }

    fn say(&mut self, node: usize, said: Said, later: Duration) {
        if !self.dice.chance(LAN.1) {
            self.after(later + LAN.0, Event::Said { node, said });
        }
    }

    /// Something said arrives: a question at its gateway, all else at its node.
    pub(super) fn said(&mut self, node: usize, said: &Said) {
        let now = self.now;
        if let &Said::Ask { gateway, seq } = said {
            let Some(process) = &self.machines[gateway].process else { return };
            let answer = Said::Answer { gateway, instance: process.instance, seq, page: process.voice.page() };
            return self.say(node, answer, Duration::ZERO);
        }
        self.nodes[node].hear(said, &self.topology, now);
        self.node_sleeps(node);
    }

    /// A gateway looks at itself, and tells the node if there is news.
    pub(super) fn speak_up(&mut self, host: HostId) {
        let (now, cluster) = (self.now, self.topology.hosts[host].cluster);
        if self.nodes.is_empty() {
            return;
        }
        let machine = &mut self.machines[host];
        let Some(process) = &mut machine.process else { return };
        let notes = &process.board.notes;
        let reach = |id: &ClusterId| {
            let hosts = self.topology.clusters[Topology::cluster_of(id)].iter();
            let paths = hosts.map(|h| notes.get(h).map_or(State::Unknown, crate::board::Notes::sum_up));
            Reach { state: ClusterState::of_paths(paths), mtu: MTU }
        };
        let clusters = machine.instructions.clusters.iter().map(|c| (c.id.clone(), reach(&c.id))).collect();
        if !process.voice.prepare(machine.instructions.draining, clusters, now) {
            return;
        }
        let (instance, page) = (process.instance, process.voice.page());
        for repeat in 0..NOTICES {
            let notice = Said::Notice { gateway: host, instance, page: page.clone() };
            self.say(cluster, notice, NOTICE_GAP * repeat);
        }
    }

    /// What nodes know is what gateways say, a moment later.
    pub(super) fn check_nodes(&mut self) {
        for host in 0..self.machines.len() {
            self.speak_up(host);
        }
        for node in &self.nodes {
            for &host in &self.topology.clusters[node.cluster] {
                let Some(process) = &self.machines[host].process else { continue };
                let since = process.voice.since.max(Time::from_nanos(process.instance));
                for (id, said) in &process.voice.clusters {
                    let Some((path, known)) = node.knows(host, id) else { continue };
                    let deaf = matches!(path, State::Down | State::Unknown);
                    if (deaf || known != said.state) && self.now.since(since) > CONVERGENCE {
                        self.fail(&format!(
                            "g{host} says {id} is {} for {:?}; its node takes it for {known} and g{host} for {path}",
                            said.state,
                            self.now.since(since)
                        ));
                    }
                }
            }
        }
    }

    /// A packet of a workload goes the way its node sends it. Nothing where there is none.
    pub(super) fn by_node(&mut self, from: usize, to: usize, dst: std::net::IpAddr, hash: u64) -> Option<HostId> {
        self.summary.by_nodes += 1;
        let hosts = match self.nodes[from].route(dst) {
            Way::Via(hosts) => hosts,
            Way::Unreachable => return None,
            Way::Leak => self.fail(&format!("a packet of c{from} to {dst} leaves its node in the clear")),
        };
        // Below the number of gateways.
        let host = *hosts.get((hash % hosts.len().max(1) as u64) as usize)?;
        self.check_node(host, to);
        Some(host)
    }

    /// A node sent a packet for a cluster to a gateway: not to one known to be of no use while another is.
    fn check_node(&self, host: HostId, to: usize) {
        let now = self.now;
        let disturbed = |h: HostId, other: &HostId| self.reference.get(h, *other).disturbed;
        let remote = &self.topology.clusters[to];
        let reaches = |h: HostId| remote.iter().map(move |other| self.reference.get(h, *other));
        if reaches(host).any(|r| r.ok) || !self.machines[host].sluggish.is_zero() {
            return;
        }
        let changed = remote.iter().map(|other| disturbed(host, other)).max().unwrap_or(Time::START);
        let late = now.since(changed.max(self.watch.woken(host, to)).max(self.watch.late(host)));
        let patience = reaches(host).map(|r| r.patience(false)).max().unwrap_or(CONVERGENCE) + SAYING;
        let lives = |&other: &HostId| {
            let calm = |r: &crate::reference::Reach| r.ok && now.since(r.disturbed) > r.patience(true) + SAYING;
            self.machines[other].sluggish.is_zero()
                && !self.machines[other].instructions.draining
                && reaches(other).any(calm)
        };
        let here = &self.topology.clusters[self.topology.hosts[host].cluster];
        if late > patience && here.iter().any(lives) {
            self.fail(&format!(
                "a node sends packets for c{to} to g{host}, of no use for {late:?}, though another reaches it"
            ));
        }
    }
}
