//! Users' packets on their way into a gateway, and what arrives.

use std::time::Duration;

use hawser_datapath::Packet;

use super::{Event, World};
use crate::lane::Around;
use crate::topology::HostId;
use crate::traffic::{self, Tail};

/// Share of turns in which somebody tries what is forbidden.
const HOSTILE: f64 = 0.01;

impl World {
    /// A talk's next packet, or its beginning or end.
    pub(super) fn talk(&mut self, talk: usize) {
        let now = self.now;
        if now >= self.talks[talk].until {
            return self.rest(talk);
        }
        let packet = self.talks[talk].packet(talk);
        let (from, to) = (self.talks[talk].from, self.talks[talk].to);
        self.enter(from, to, packet);
        if self.dice.chance(HOSTILE) {
            let packet = traffic::forbidden(&self.topology, from, to, &mut self.dice);
            self.enter(from, to, packet);
            self.smuggle(from, to);
        }
        let pace = self.talks[talk].pace;
        self.after(pace, Event::Talk(talk));
    }

    /// Draws when a silent talk goes on.
    fn rest(&mut self, talk: usize) {
        let second = Duration::from_secs(1);
        let silence = match self.dice.below(4) {
            0 => self.dice.between(second / 10, 5 * second),
            1..=2 => self.dice.between(5 * second, 90 * second),
            _ => self.dice.between(90 * second, 600 * second),
        };
        let span = match self.dice.below(3) {
            0 => self.dice.between(second / 10, 5 * second),
            _ => self.dice.between(5 * second, 120 * second),
        };
        let pace = self.dice.of(&[20, 50, 50, 100]);
        (self.talks[talk].pace, self.talks[talk].until) = (Duration::from_millis(pace), self.now + silence + span);
        self.after(silence, Event::Talk(talk));
    }

    /// A packet of a workload goes to one of its cluster's gateways: as the node beside them chose, else to any that runs.
    fn enter(&mut self, from: usize, to: usize, packet: Box<[u8]>) {
        let Ok(parsed) = Packet::parse(&packet) else { return };
        let (dst, hash) = (parsed.dst(), parsed.flow_hash(77));
        // What is not for a remote cluster is no business of the node's routes.
        let by_node = !self.nodes.is_empty() && self.topology.owner_of(dst) == Some(to);
        let host = if by_node {
            self.by_node(from, to, dst, hash)
        } else {
            let running = |h: &HostId| self.machines[*h].process.is_some();
            let running: Vec<HostId> = self.topology.clusters[from].iter().copied().filter(running).collect();
            (!running.is_empty()).then(|| self.dice.of(&running))
        };
        let Some(host) = host else { return };
        let Some(process) = &mut self.machines[host].process else { return };
        // The kernel picks the queue; a lane's number is a byte.
        let lane = (hash >> 32) as usize % process.lanes.len();
        process.lanes[lane].queue(packet);
        self.turn(host, lane as u8);
    }

    /// A gateway that has fallen into wrong hands sends what it likes to a peer.
    fn smuggle(&mut self, from: usize, to: usize) {
        let host = self.dice.of(&self.topology.clusters[from]);
        let victim = self.dice.of(&self.topology.clusters[to]);
        let packet = traffic::smuggled(&self.topology, from, victim, &mut self.dice);
        let now = self.now;
        let Some(process) = &mut self.machines[host].process else { return };
        let lane = self.dice.below(process.lanes.len());
        let mut fx = std::mem::take(&mut self.fx);
        process.lanes[lane].smuggle(
            victim,
            packet,
            &mut Around {
                now,
                host,
                topology: &self.topology,
                board: &mut process.board,
                candidates: &self.candidates,
                fx: &mut fx,
            },
        );
        self.follow(host, lane as u8, &mut fx);
        self.fx = fx;
    }

    /// A packet left a tunnel towards the cluster of `host`: it must belong there.
    pub(super) fn check_delivered(&mut self, from: HostId, host: HostId, packet: &[u8]) {
        self.summary.delivered += 1;
        let (Ok(parsed), Some(tail)) = (Packet::parse(packet), Tail::decode(packet)) else {
            self.fail(&format!("g{host} delivered what nobody sent: {packet:?}"));
        };
        let (src, dst) = (parsed.src(), parsed.dst());
        let cluster = self.topology.hosts[host].cluster;
        let what = format!("{src} -> {dst} from g{from}, delivered by g{host} of c{cluster}");
        if tail.hostile {
            self.fail(&format!("a packet that may go nowhere: {what}"));
        }
        if self.topology.owner_of(dst) != Some(cluster) || self.talks[tail.talk].to != cluster {
            self.fail(&format!("the wrong cluster: {what}"));
        }
        if self.topology.owner_of(src) != Some(self.topology.hosts[from].cluster) {
            self.fail(&format!("a source that is not the peer's: {what}"));
        }
        if self.topology.link_addresses(host).contains(&dst) {
            self.fail(&format!("the host itself: {what}"));
        }
        if self.talks[tail.talk].ends(tail.flow) != (src, dst) {
            self.fail(&format!("another flow's packet: {what}, {tail:?}"));
        }
        if !self.talks[tail.talk].came(tail.number) {
            self.fail(&format!("twice: {what}, {tail:?}"));
        }
    }
}
