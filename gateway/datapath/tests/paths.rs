//! A lane's path set against simulated gateways: sessions, probes, failover, drain, reconfiguration, in virtual time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use hawser_datapath::paths::PathEvent;
use hawser_datapath::probe::Kind;
use hawser_datapath::{Packet, PathConfig, PathSet, Probe, Route};
use hawser_liveness::{ClusterState, Config, State, Time};
use hawser_model::{Gateway, PrefixSet, PublicKey, RemoteCluster};
use support::{cluster, flow, gateway, ip, prefixes};

const DELAY: Duration = Duration::from_millis(2);

/// One set, and gateways that answer its probes as long as they live.
struct World {
    set: PathSet,
    now: Time,
    /// Answers on their way: (arrival, order, gateway, answer).
    wire: BinaryHeap<Reverse<(Time, u64, String)>>,
    answers: BTreeMap<u64, Probe>,
    order: u64,
    dead: Vec<String>,
    draining: Vec<String>,
    events: Vec<PathEvent>,
    probes: u64,
}

impl World {
    fn new(clusters: &[RemoteCluster]) -> Self {
        let mut world = Self {
            set: PathSet::new(PathConfig { lane: 0, liveness: Config::default() }),
            now: Time::START,
            wire: BinaryHeap::new(),
            answers: BTreeMap::new(),
            order: 0,
            dead: Vec::new(),
            draining: Vec::new(),
            events: Vec::new(),
            probes: 0,
        };
        world.apply(clusters);
        world
    }

    /// Applies a configuration and gives every path its session.
    fn apply(&mut self, clusters: &[RemoteCluster]) {
        assert!(self.set.apply(&own(), clusters, self.now).is_empty());
        let paths: Vec<u16> = self.set.paths().map(|(path, _)| path).collect();
        for path in paths {
            self.set.handle(path, self.now, |life| life.handle_session(true, self.now));
        }
    }

    fn run(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        loop {
            let arrival = self.wire.peek().map(|Reverse((at, ..))| *at);
            let timeout = self.set.poll_timeout().map(|(at, _)| at);
            let Some(next) = arrival.into_iter().chain(timeout).min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            while let Some(Reverse((_, order, node))) =
                self.wire.peek().filter(|Reverse((at, ..))| *at <= self.now).cloned()
            {
                self.wire.pop();
                let answer = self.answers.remove(&order).unwrap();
                let path = self.set.paths().find(|(_, info)| info.gateway.as_str() == node).map(|(path, _)| path);
                if let Some(path) = path {
                    assert_eq!(self.set.handle_probe(path, &answer, self.now), None, "answers are not answered");
                }
            }
            self.set.handle_timeout(self.now);
            while let Some((path, probe)) = self.set.poll_probe(self.now) {
                self.probes += 1;
                assert_eq!(probe.kind, Kind::Ask);
                let node = self.set.info_of(path).unwrap().gateway.to_string();
                if !self.dead.contains(&node) {
                    let draining = self.draining.contains(&node);
                    let answer = Probe { kind: Kind::Answer, echo: probe.seq, draining, rx_packets: 7, ..probe };
                    self.order += 1;
                    self.answers.insert(self.order, answer);
                    self.wire.push(Reverse((self.now + DELAY, self.order, node)));
                }
            }
            self.events.extend(std::iter::from_fn(|| self.set.poll_event()));
        }
        self.now = end;
    }

    /// Runs with traffic to every path, so that nothing is idle.
    fn run_busy(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            let paths: Vec<u16> = self.set.paths().map(|(path, _)| path).collect();
            paths.iter().for_each(|&path| self.set.handle_sent(path, 1, 100, self.now));
            self.run(100);
        }
    }

    /// How many of 1,000 flows to `dst` each gateway gets; the empty name stands for none.
    fn shares(&mut self, dst: &str) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        for port in 0..1000 {
            let bytes = flow(ip("10.1.0.5"), ip(dst), port, 80);
            let hash = Packet::parse(&bytes).unwrap().flow_hash(3);
            let node = match self.set.forwarding(self.now).route(ip(dst), hash) {
                Route::Path { path, .. } => self.set.info_of(path).unwrap().gateway.to_string(),
                Route::NoPath { .. } => String::new(),
                Route::NotRemote => panic!("{dst} is in no table"),
            };
            *shares.entry(node).or_default() += 1;
        }
        shares
    }

    fn used(&mut self, dst: &str) -> Vec<String> {
        self.shares(dst).into_keys().collect()
    }

    fn state(&self, node: &str) -> State {
        let (path, _) = self.set.paths().find(|(_, info)| info.gateway.as_str() == node).unwrap();
        self.set.state(path).unwrap()
    }

    fn cluster_state(&self) -> ClusterState {
        self.set.cluster_states().next().unwrap().2
    }
}

fn own() -> PrefixSet {
    prefixes(&["10.1.0.0/16", "fd01::/48"])
}

fn east(gateways: Vec<Gateway>) -> RemoteCluster {
    cluster("east", &["10.2.0.0/16", "fd02::/48"], gateways)
}

fn two() -> Vec<RemoteCluster> {
    vec![east(vec![gateway("e1", 2, &["10.2.1.0/24"]), gateway("e2", 2, &[])])]
}

/// Clusters `c0` and on, of one gateway each: `g0` and on.
fn many(count: u32) -> Vec<RemoteCluster> {
    let one = |i: u32| {
        let prefix = format!("10.{}.{}.0/24", 64 + i / 256, i % 256);
        cluster(&format!("c{i}"), &[&prefix], vec![gateway(&format!("g{i}"), 1, &[])])
    };
    (0..count).map(one).collect()
}

#[test]
fn nothing_is_routed_before_an_answer_and_all_gateways_after() {
    let mut world = World::new(&two());
    assert_eq!(world.used("10.2.0.9"), [""]);
    assert_eq!(world.cluster_state(), ClusterState::Unknown);
    world.run(50);
    assert_eq!(world.used("10.2.0.9"), ["e1", "e2"]);
    assert_eq!(world.used("10.2.1.9"), ["e1"], "the gateway that prefers the destination");
    assert_eq!(world.cluster_state(), ClusterState::Live);
    let rows = world.set.path_rows(world.now);
    assert!(rows.iter().all(|r| r.rtt == Some(DELAY) && r.peer_rx_packets == Some(7)), "{rows:#?}");
}

#[test]
fn a_dead_gateway_loses_its_flows_to_the_other_and_gets_them_back_after_hold_down() {
    let mut world = World::new(&two());
    world.run_busy(2_000);
    let before = world.shares("10.2.0.9");
    world.dead.push("e1".to_owned());
    let cut = world.now;
    world.run_busy(400);
    assert_eq!(world.state("e1"), State::Down);
    assert_eq!((world.used("10.2.0.9"), world.used("10.2.1.9")), (vec!["e2".to_owned()], vec!["e2".to_owned()]));
    assert_eq!(world.cluster_state(), ClusterState::Live);
    let failover = world.events.iter().find_map(|event| match event {
        PathEvent::Failover { gateway, at, took, .. } => Some((gateway.to_string(), at.since(cut), *took)),
        _ => None,
    });
    let (node, after, took) = failover.clone().unwrap();
    assert!(node == "e1" && after <= Duration::from_millis(400) && took >= Duration::from_millis(300), "{failover:?}");
    let row = world.set.cluster_rows(world.now).next().unwrap();
    assert_eq!((row.live_paths, row.total_paths, row.last_failover.map(|(_, took)| took)), (1, 2, Some(took)));
    assert_eq!(row.reason(), "1 of 2 paths answer; e1: nothing is heard from the peer");
    assert!(world.events.iter().any(|e| matches!(e, PathEvent::Hint { gateway, .. } if gateway.as_str() == "e1")));

    world.dead.clear();
    world.run_busy(1_000);
    assert_eq!((world.state("e1"), world.used("10.2.0.9")), (State::Held, vec!["e2".to_owned()]));
    world.run_busy(5_000);
    assert_eq!(world.shares("10.2.0.9"), before, "every flow is back where it was");
}

#[test]
fn the_last_resort_is_a_held_path_and_a_dark_cluster_has_none() {
    let mut world = World::new(&two());
    world.run_busy(1_000);
    world.dead = vec!["e1".to_owned(), "e2".to_owned()];
    world.run_busy(1_000);
    assert_eq!((world.used("10.2.0.9"), world.cluster_state()), (vec![String::new()], ClusterState::Dark));
    let row = world.set.cluster_rows(world.now).next().unwrap();
    assert!(row.reason().starts_with("no path answers; e"), "{}", row.reason());
    world.dead = vec!["e1".to_owned()];
    world.run_busy(500);
    assert_eq!((world.used("10.2.0.9"), world.cluster_state()), (vec!["e2".to_owned()], ClusterState::Held));
    let changes = world.events.iter().filter_map(|event| match event {
        PathEvent::Cluster { from, to, .. } => Some((*from, *to)),
        _ => None,
    });
    let changes: Vec<_> = changes.collect();
    let (unknown, live) = (ClusterState::Unknown, ClusterState::Live);
    assert_eq!(changes, [(unknown, live), (live, ClusterState::Dark), (ClusterState::Dark, ClusterState::Held)]);
}

#[test]
fn a_draining_gateway_is_left_while_it_still_answers() {
    let mut world = World::new(&two());
    world.run_busy(1_000);
    world.draining.push("e2".to_owned());
    world.run_busy(200);
    assert_eq!((world.state("e2"), world.used("10.2.0.9")), (State::Up, vec!["e1".to_owned()]));
    world.draining.push("e1".to_owned());
    world.run_busy(200);
    assert_eq!(world.used("10.2.0.9"), ["e1", "e2"], "when all drain, all are used");
}

#[test]
fn a_gateway_that_keeps_changing_its_mind_about_draining_is_left_and_taken_a_few_times_a_second() {
    let mut world = World::new(&two());
    world.run_busy(1_000);
    let path = world.set.paths().next().unwrap().0;
    world.events.clear();
    for i in 0..10_000_u64 {
        let ask = Probe {
            kind: Kind::Ask,
            seq: i + 1,
            sent: world.now,
            echo: 0,
            draining: i % 2 == 0,
            healthy: true,
            rx_packets: 0,
        };
        world.set.handle_probe(path, &ask, world.now);
        if i % 10 == 9 {
            world.run(1);
        }
    }
    world.draining.push("e1".to_owned());
    world.run_busy(300);
    let told = world.events.iter().filter(|e| matches!(e, PathEvent::Draining { .. })).count();
    assert!((5..=15).contains(&told), "{told} in 1.3 s");
    assert_eq!(world.used("10.2.0.9"), ["e2"], "its last word counts");
}

#[test]
fn a_thousand_paths_never_ask_for_more_than_their_budget_and_one_of_them_is_judged_as_soon_as_ever() {
    let clusters = many(1000);
    let mut world = World::new(&clusters);
    world.run_busy(2_000);
    assert!(world.set.path_rows(world.now).iter().all(|row| row.state == State::Up));
    let falls = |world: &World| -> Vec<Time> {
        let fell = |event: &PathEvent| match event {
            PathEvent::State { to: State::Down, at, .. } => Some(*at),
            _ => None,
        };
        world.events.iter().filter_map(fell).collect()
    };
    world.dead.push("g7".to_owned());
    let (cut, before) = (world.now, world.probes);
    world.run_busy(1_000);
    let fell = falls(&world);
    assert!(fell.len() == 1 && fell[0].since(cut) <= Duration::from_millis(550), "{fell:?} after {cut:?}");
    assert!((4_900..=5_200).contains(&(world.probes - before)), "{}", world.probes - before);

    world.dead = clusters.iter().map(|c| c.gateways[0].node.to_string()).collect();
    let (cut, before) = (world.now, world.probes);
    world.run_busy(1_000);
    assert!(world.probes - before <= 10_100, "{}", world.probes - before);
    world.run_busy(1_500);
    let fell = falls(&world);
    assert_eq!(fell.len(), 1000, "all are judged");
    assert!(fell[1..].iter().all(|at| at.since(cut) >= Duration::from_millis(300)), "none without proof");
    world.dead.clear();
    world.run_busy(8_000);
    assert!(world.set.path_rows(world.now).iter().all(|row| row.state == State::Up));
}

#[test]
fn reconfiguration_keeps_the_life_of_what_stays() {
    let mut world = World::new(&two());
    world.run_busy(1_000);
    let west = cluster("a-first", &["10.3.0.0/16"], vec![gateway("w1", 1, &[])]);
    let mut east = two().remove(0);
    east.gateways[0] = gateway("e0", 1, &[]);
    world.apply(&[west.clone(), east.clone()]);
    assert_eq!(world.used("10.2.0.9"), ["e2"], "e2 has another number and is still up, e0 is not known yet");
    assert_eq!(world.state("e0"), State::Unknown);
    world.run_busy(500);
    assert_eq!((world.used("10.2.0.9"), world.used("10.3.0.9")), (vec!["e0".into(), "e2".into()], vec!["w1".into()]));

    east.generation = 2;
    world.apply(&[west.clone(), east.clone()]);
    assert_eq!(world.state("e2"), State::Unknown, "a cluster that joined anew proves itself anew");
    east.gateways[1].lanes[0].public_key.0[30] = 1;
    world.run_busy(500);
    world.apply(&[west, east]);
    assert_eq!((world.state("e2"), world.state("e0")), (State::Unknown, State::Up), "so does a new key");
    world.apply(&[]);
    assert_eq!(world.set.paths().count(), 0);
    world.run(1_000);
}

#[test]
fn what_happened_before_a_change_is_not_told_of_the_path_that_has_the_number_after_it() {
    let mut world = World::new(&two());
    world.run_busy(1_000);
    world.events.clear();
    let find = |world: &World, node: &str| {
        world.set.paths().find(|(_, info)| info.gateway.as_str() == node).map(|(path, _)| path).unwrap()
    };
    let e1 = find(&world, "e1");
    world.set.handle(e1, world.now, |life| life.handle_gone(world.now));
    // Another change follows before anybody asked what happened.
    let west = cluster("a-first", &["10.3.0.0/16"], vec![gateway("w1", 1, &[])]);
    world.set.apply(&own(), &[west, two().remove(0)], world.now);
    assert_ne!(find(&world, "e1"), e1, "it has another number");
    let told: Vec<PathEvent> = std::iter::from_fn(|| world.set.poll_event()).collect();
    for event in &told {
        if let PathEvent::State { path, gateway, .. } | PathEvent::Mtu { path, gateway, .. } = event {
            assert_eq!(world.set.info_of(*path).map(|info| &info.gateway), Some(gateway), "{told:?}");
        }
    }
    assert!(
        told.iter().any(|e| matches!(e, PathEvent::Failover { gateway, .. } if gateway.as_str() == "e1")),
        "{told:?}"
    );
    assert_eq!(world.state("e1"), State::Down);
}

#[test]
fn a_key_that_was_announced_replaces_the_other_without_a_new_life() {
    let mut world = World::new(&two());
    world.run(1000);
    let mut clusters = two();
    let next = Some(PublicKey([9; 32]));
    clusters[0].gateways[1].lanes[0].next_public_key = next;
    world.apply(&clusters);
    assert_eq!(world.state("e2"), State::Up, "a next key is announced");
    let lane = &mut clusters[0].gateways[1].lanes[0];
    (lane.public_key, lane.next_public_key) = (PublicKey([9; 32]), None);
    world.apply(&clusters);
    assert_eq!(world.state("e2"), State::Up, "it is the key now");
    clusters[0].gateways[1].lanes[0].public_key = PublicKey([8; 32]);
    world.apply(&clusters);
    assert_eq!(world.state("e2"), State::Unknown, "nobody announced this one");
}

#[test]
fn idle_clusters_are_probed_each_second_and_traffic_wakes_them() {
    let mut world = World::new(&two());
    world.run(60_000);
    let before = world.probes;
    world.run(10_000);
    assert!((18..=22).contains(&(world.probes - before)), "{} probes of two paths in 10 s", world.probes - before);
    let path = world.set.paths().next().unwrap().0;
    world.set.handle_sent(path, 1, 100, world.now);
    let before = world.probes;
    world.run(1_000);
    assert!((18..=24).contains(&(world.probes - before)), "{} probes in 1 s", world.probes - before);
}

#[test]
fn idle_paths_are_probed_together() {
    let mut world = World::new(&many(200));
    world.run(60_000);
    let (before, grain) = (world.probes, Config::default().idle_grain);
    for _ in 0..20 {
        let at = world.now.rounded_up(grain) + Duration::from_millis(1);
        world.run(u64::try_from(at.since(world.now).as_millis()).unwrap());
        let sent = world.probes;
        world.run(48);
        assert_eq!(world.probes, sent, "a probe between two ticks");
        world.run(1);
    }
    assert!((200..=220).contains(&(world.probes - before)), "{} probes of 200 paths in 1 s", world.probes - before);
}

#[test]
fn a_plain_peer_lives_by_lane_0s_session() {
    let plain = Gateway { probes: false, ..gateway("p1", 1, &[]) };
    let clusters = [east(vec![plain])];
    let mut world = World::new(&clusters);
    assert_eq!(world.used("10.2.0.9"), ["p1"]);
    world.set.handle(0, world.now, |life| life.handle_session(false, world.now));
    assert_eq!((world.used("10.2.0.9"), world.probes), (vec![String::new()], 0));

    let mut other = PathSet::new(PathConfig { lane: 3, liveness: Config::default() });
    other.apply(&own(), &clusters, Time::START);
    assert!(other.info_of(0).unwrap().hand_over);
    assert!(matches!(other.forwarding(Time::START).route(ip("10.2.0.9"), 1), Route::NoPath { .. }));
    other.handle_mirror(0, State::Up, Time::START);
    assert!(matches!(other.forwarding(Time::START).route(ip("10.2.0.9"), 1), Route::Path { path: 0, .. }));
    assert_eq!(other.cluster_states().next().unwrap().2, ClusterState::Live);
}

#[test]
fn a_probe_is_answered_with_what_the_peer_needs() {
    let mut set = PathSet::new(PathConfig { lane: 1, liveness: Config::default() });
    set.apply(&own(), &two(), Time::START);
    assert_eq!(set.info_of(0).unwrap().remote_lane, 1);
    set.set_own(true, true);
    set.handle_received(0, 3, 4_000, Time::START);
    let ask = Probe {
        kind: Kind::Ask,
        seq: 9,
        sent: Time::from_millis(77),
        echo: 0,
        draining: true,
        healthy: true,
        rx_packets: 5,
    };
    let answer = set.handle_probe(0, &ask, Time::from_millis(1)).unwrap();
    assert_eq!((answer.kind, answer.seq, answer.sent, answer.draining), (Kind::Answer, 9, ask.sent, true));
    assert_eq!(answer.rx_packets, 3);
    let row = set.path_rows(Time::from_millis(2)).remove(0);
    assert!(row.draining && row.peer_rx_packets == Some(5) && row.rx_bytes == 4_000, "{row:?}");
}
