//! Makes faults happen, heals them, and keeps the reference true.

use std::time::Duration;

use hawser_liveness::Time;

use super::{Event, Process, World};
use crate::board::Board;
use crate::faults::{self, Change};
use crate::lane::{Instructions, Lane};
use crate::node::Voice;
use crate::reference::{Disturbance, Revival};
use crate::story::Entry;
use crate::topology::{HostId, Topology};
use crate::underlay::Datagram;

impl World {
    pub(super) fn change(&mut self, change: Change) {
        self.summary.changes += 1;
        if change != Change::Episode {
            self.tell(Entry::Change(change));
        }
        match change {
            Change::Episode => {
                for (after, change) in faults::episode(&self.topology, &mut self.dice) {
                    self.after(after, Event::Change(change));
                }
            }
            Change::Cut { from, to } => {
                self.underlay.link_mut(from, to).cuts += 1;
                self.disturb(from, to, false);
            }
            Change::Mend { from, to } => {
                self.underlay.link_mut(from, to).cuts -= 1;
                self.disturb(from, to, false);
            }
            Change::Weather { a, b, weather } => {
                self.underlay.link_mut(a, b).weather = weather[0];
                self.underlay.link_mut(b, a).weather = weather[1];
                self.disturb(a, b, false);
            }
            Change::Stop { host } => {
                self.machines[host].process = None;
                self.watch.forget(host);
                self.disturb_all(host, false);
            }
            Change::Start { host } => self.start(host),
            Change::Renumber { host } => {
                self.underlay.renumber(host);
                self.publish_candidates();
                self.disturb_all(host, false);
            }
            Change::Stall { host, lane, pause } => self.stall(host, lane, pause),
            Change::Unstall { host } => self.disturb_loops(host),
            Change::Sluggish { host, by } => {
                self.machines[host].sluggish = by;
                self.disturb_all(host, false);
            }
            Change::Drain { host, draining } => {
                self.machines[host].instructions.draining = draining;
                self.instruct(host);
            }
            Change::Forget { host, cluster } => {
                self.machines[host].instructions.clusters.retain(|c| Topology::cluster_of(&c.id) != cluster);
                self.instruct(host);
                self.disturb_cluster(host, cluster, false);
            }
            Change::Recall { host, cluster } => self.recall(host, cluster),
            Change::Forge { from, to } => self.forge(from, to),
        }
    }

    fn start(&mut self, host: HostId) {
        if self.machines[host].process.is_some() {
            return;
        }
        let (now, count) = (self.now, self.topology.hosts[host].shape.lanes);
        let lanes = (0..count).map(|lane| Lane::new(host, lane, count, self.dice.word() >> 16, now)).collect();
        let board = Board { epoch: 1, ..Board::default() };
        self.machines[host].process = Some(Process { lanes, board, instance: now.as_nanos(), voice: Voice::default() });
        self.instruct(host);
        self.disturb_all(host, true);
    }

    /// Hands a gateway its instructions.
    fn instruct(&mut self, host: HostId) {
        let (now, machine) = (self.now, &mut self.machines[host]);
        let Instructions { clusters, .. } = &machine.instructions;
        let known: Vec<usize> = clusters.iter().map(|c| Topology::cluster_of(&c.id)).collect();
        let Some(process) = &mut machine.process else { return };
        process.board.draining = machine.instructions.draining;
        let applied: Result<(), String> =
            process.lanes.iter_mut().try_for_each(|lane| lane.apply(&machine.instructions, &process.board, now));
        process.board.notes.retain(|to, _| known.contains(&self.topology.hosts[*to].cluster));
        if let Err(violation) = applied {
            self.fail(&violation);
        }
        self.watch.forget(host);
        self.speak_up(host);
        for lane in 0..self.topology.hosts[host].shape.lanes {
            self.wake_at(host, lane, now + Duration::from_nanos(1));
        }
    }

    fn recall(&mut self, host: HostId, cluster: usize) {
        let generation = self.dice.of(&[1, 1, 2]);
        let at = self.dice.below(self.machines[host].instructions.clusters.len() + 1);
        let clusters = &mut self.machines[host].instructions.clusters;
        if clusters.iter().any(|c| Topology::cluster_of(&c.id) == cluster) {
            return;
        }
        clusters.insert(at, self.topology.remote(cluster, generation));
        self.instruct(host);
        self.disturb_cluster(host, cluster, true);
    }

    fn stall(&mut self, host: HostId, lane: u8, pause: Duration) {
        let until = self.now + pause;
        let machine = &mut self.machines[host];
        machine.held_up_until = machine.held_up_until.max(until);
        if let Some(process) = &mut machine.process {
            let stalled = &mut process.lanes[usize::from(lane)].stalled_until;
            *stalled = until.max(*stalled);
        }
        self.disturb_loops(host);
    }

    /// An ICMP error that quotes nothing that was sent.
    fn forge(&mut self, from: HostId, to: HostId) {
        let (at, about) = (self.underlay.address(from, 0), self.underlay.address(to, 0));
        let datagram = Datagram::Unreachable { to: about, quoted: self.dice.word() };
        self.after(Duration::from_millis(1), Event::Arrive { from: about, to: at, datagram });
    }

    /// Tells everybody where to find public gateways.
    pub(super) fn publish_candidates(&mut self) {
        let found =
            |(host, h): (HostId, &crate::topology::Host)| (!h.shape.nat).then(|| self.underlay.address(host, 0));
        self.candidates = self.topology.hosts.iter().enumerate().map(found).collect();
    }

    /// Whether two gateways can reach each other and both would answer.
    fn is_ok(&self, a: HostId, b: HostId) -> bool {
        let knows = |x: HostId, y: HostId| {
            let cluster = self.topology.hosts[y].cluster;
            self.machines[x].instructions.clusters.iter().any(|c| Topology::cluster_of(&c.id) == cluster)
        };
        let runs = |x: HostId| self.machines[x].process.is_some();
        let carries = |x, y| self.underlay.carries(x, y);
        carries(a, b) && carries(b, a) && runs(a) && runs(b) && knows(a, b) && knows(b, a)
    }

    /// Something between two gateways changed; `revived`: `a` came back.
    fn disturb(&mut self, a: HostId, b: HostId, revived: bool) {
        self.note(a, b, revived, false);
    }

    fn note(&mut self, a: HostId, b: HostId, revived: bool, loops: bool) {
        if self.topology.hosts[a].cluster == self.topology.hosts[b].cluster {
            return;
        }
        let weather = [(a, b), (b, a)].map(|(from, to)| self.underlay.link(from, to).weather);
        let one_way = self.underlay.carries(a, b) != self.underlay.carries(b, a);
        let revival = match (revived, self.topology.hosts[b].shape.nat) {
            (false, _) => Revival::None,
            (true, false) => Revival::Asks,
            (true, true) => Revival::Waits,
        };
        let change = Disturbance { ok: self.is_ok(a, b), one_way, weather, revival, loops };
        self.reference.disturb((a, b), &change, self.now);
    }

    fn disturb_all(&mut self, host: HostId, revived: bool) {
        (0..self.machines.len()).for_each(|other| self.disturb(host, other, revived));
    }

    /// A loop of a gateway stands still, or goes on.
    fn disturb_loops(&mut self, host: HostId) {
        (0..self.machines.len()).for_each(|other| self.note(host, other, false, true));
    }

    fn disturb_cluster(&mut self, host: HostId, cluster: usize, revived: bool) {
        for other in self.topology.clusters[cluster].clone() {
            self.disturb(host, other, revived);
        }
    }

    /// Whether one of a gateway's loops stands still.
    pub(super) fn is_stalled(&self, host: HostId, now: Time) -> bool {
        self.machines[host].held_up_until > now
    }
}
