//! The event loop: virtual time and whose turn it is.
//!
//! `agenda` holds what is under way; `turns` runs lanes' loops; `changes` makes faults happen and keeps the reference;
//! `packets` carries users' packets, `nodes` what nodes and gateways say to each other; `checks` compares.

mod agenda;
mod changes;
mod checks;
mod nodes;
mod packets;
mod summary;
mod turns;

use std::time::Duration;

use hawser_liveness::Time;

use crate::board::Board;
use crate::dice::Dice;
use crate::faults::Change;
use crate::lane::{Effects, Instructions, Lane};
use crate::node::{Node, Voice};
use crate::reference::Reference;
use crate::story::{Entry, Story, seconds};
use crate::topology::{GatewayShape, HostId, Topology};
use crate::traffic::Talk;
use crate::underlay::{Addr, Underlay};

use self::agenda::{Agenda, Event};
use self::checks::Watch;

pub use self::summary::Summary;

/// Between comparisons of all states with the reference.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// A running gateway process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) lanes: Vec<Lane>,
    pub(crate) board: Board,
    /// Grows from start to start.
    pub(crate) instance: u64,
    pub(crate) voice: Voice,
}

/// A gateway host.
#[derive(Debug)]
struct Machine {
    process: Option<Process>,
    instructions: Instructions,
    /// Each turn of its loops is late by up to this.
    sluggish: Duration,
    /// One of its loops stands still before.
    held_up_until: Time,
}

/// A network of gateways, and everything that happens to it.
#[derive(Debug)]
pub struct World {
    seed: u64,
    now: Time,
    dice: Dice,
    topology: Topology,
    underlay: Underlay,
    machines: Vec<Machine>,
    nodes: Vec<Node>,
    candidates: Vec<Option<Addr>>,
    talks: Vec<Talk>,
    agenda: Agenda,
    fx: Effects,
    reference: Reference,
    watch: Watch,
    story: Story,
    summary: Summary,
}

impl World {
    /// A world with these clusters of gateways, at most one cluster of which sits behind translators. `nodes`: whether each
    /// cluster has a node beside its gateways that probes and chooses them, by which users' packets come.
    #[must_use]
    pub fn new(seed: u64, clusters: &[Vec<GatewayShape>], nodes: bool) -> Self {
        let topology = Topology::new(clusters);
        let hidden = clusters.iter().filter(|c| c.iter().any(|g| g.nat)).count();
        assert!(hidden <= 1, "two gateways behind translators never meet");
        let (hosts, count) = (topology.hosts.len(), clusters.len());
        let underlay = Underlay::new(hosts);
        let machine = |host| Machine {
            process: None,
            instructions: instructions(&topology, host),
            sluggish: Duration::ZERO,
            held_up_until: Time::START,
        };
        let pairs = (0..count).flat_map(|a| (0..count).filter(move |b| *b != a).map(move |b| (a, b)));
        let mut world = Self {
            seed,
            now: Time::from_millis(1),
            dice: Dice::new(seed),
            machines: (0..hosts).map(machine).collect(),
            nodes: if nodes { (0..count).map(|c| Node::new(c, &topology)).collect() } else { Vec::new() },
            candidates: Vec::new(),
            talks: pairs.map(|(a, b)| Talk::new(a, b)).collect(),
            agenda: Agenda::default(),
            fx: Effects::default(),
            reference: Reference::new(hosts),
            watch: Watch::new(hosts),
            story: Story::default(),
            summary: Summary::default(),
            underlay,
            topology,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.publish_candidates();
        for host in 0..self.machines.len() {
            self.change(Change::Start { host });
        }
        for talk in 0..self.talks.len() {
            self.after(Duration::from_millis(500 * talk as u64), Event::Talk(talk));
        }
        for node in 0..self.nodes.len() {
            self.after(Duration::ZERO, Event::Node(node));
        }
        self.after(Duration::from_secs(5), Event::Change(Change::Episode));
        self.after(CHECK_EVERY, Event::Check);
    }

    /// Lets `span` of virtual time pass.
    ///
    /// # Panics
    /// Where what is checked does not hold: with the seed, the time and the last events.
    pub fn run(&mut self, span: Duration) -> &Summary {
        let end = self.now + span;
        while let Some((at, event)) = self.agenda.pop(end) {
            self.now = self.now.max(at);
            self.happen(event);
        }
        self.now = end;
        self.summary.time += span;
        &self.summary
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { from, to, datagram } => self.arrive(from, to, datagram),
            Event::Wake { host, lane } => self.wake(host, lane),
            Event::Talk(talk) => self.talk(talk),
            Event::Node(node) => self.node_wakes(node),
            Event::Said { node, said } => self.said(node, &said),
            Event::Change(change) => self.change(change),
            Event::Check => {
                self.check();
                self.after(CHECK_EVERY, Event::Check);
            }
        }
    }

    fn after(&mut self, span: Duration, event: Event) {
        self.at(self.now + span, event);
    }

    fn at(&mut self, at: Time, event: Event) {
        self.agenda.add(at, event);
    }

    /// Says what is wrong, and everything that is needed to see it again.
    fn fail(&self, what: &str) -> ! {
        panic!(
            "seed {} at {:.6} s: {what}\nthe last events, in seconds:\n{}",
            self.seed,
            seconds(self.now),
            self.story
        );
    }

    fn tell(&mut self, entry: Entry) {
        self.story.tell(self.now, entry);
    }
}

fn instructions(topology: &Topology, host: HostId) -> Instructions {
    let cluster = topology.hosts[host].cluster;
    let others = (0..topology.clusters.len()).filter(|c| *c != cluster);
    Instructions {
        own: Topology::prefixes(cluster),
        clusters: others.map(|c| topology.remote(c, 1)).collect(),
        hosts: topology.link_addresses(host).to_vec(),
        draining: false,
    }
}
