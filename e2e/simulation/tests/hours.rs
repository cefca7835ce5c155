//! A hundred hours of virtual time: every world is made from a fixed seed and goes through whatever that seed holds.
//!
//! `HAWSER_SIMULATION_SEED=7` runs other worlds, `HAWSER_SIMULATION_HOURS=1000` longer ones (shared out as below). A world
//! that goes wrong says its seed, the time, and its last events; `HAWSER_SIMULATION_WORLD` with that seed runs it alone, and
//! it goes wrong again at the same time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hawser_simulation::{GatewayShape, World};

/// Hours of all tests of this file together, without the environment's say.
const HOURS: f64 = 100.0;
/// Worlds of one test that run at a time.
const THREADS: usize = 2;

fn number(name: &str) -> Option<f64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Runs worlds with these clusters for `hours` of the [`HOURS`], each world for its part.
fn worlds(name: u64, hours: f64, worlds: u64, nodes: bool, clusters: &[Vec<GatewayShape>]) {
    let share = number("HAWSER_SIMULATION_HOURS").unwrap_or(HOURS) / HOURS;
    let seed = number("HAWSER_SIMULATION_SEED").unwrap_or(0.0) as u64;
    let span = Duration::from_secs_f64(3600.0 * hours * share / worlds as f64);
    let next = AtomicU64::new(0);
    let run = || {
        loop {
            let world = next.fetch_add(1, Ordering::Relaxed);
            if world >= worlds {
                return;
            }
            let seed = seed.wrapping_mul(1_000_000) + name * 1_000 + world;
            if number("HAWSER_SIMULATION_WORLD").is_none_or(|only| only as u64 == seed) {
                run_world(seed, span, nodes, clusters);
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(run))));
}

#[expect(clippy::print_stderr, reason = "what a world was made of, for who reads the output")]
fn run_world(seed: u64, span: Duration, nodes: bool, clusters: &[Vec<GatewayShape>]) {
    let started = std::time::Instant::now();
    let mut world = World::new(seed, clusters, nodes);
    let summary = world.run(span);
    eprintln!("seed {seed}: {summary}; took {:?}", started.elapsed());
    assert!(summary.delivered > 0 && summary.verdicts > 0, "nothing happened: {summary}");
}

fn public(n: usize, lanes: u8) -> Vec<GatewayShape> {
    vec![GatewayShape::public(lanes); n]
}

#[test]
fn two_clusters_of_two_gateways() {
    worlds(1, 40.0, 4, false, &[public(2, 1), public(2, 1)]);
}

#[test]
fn one_cluster_behind_translators() {
    worlds(2, 15.0, 3, false, &[vec![GatewayShape::nat(1); 2], public(2, 1)]);
}

#[test]
fn lanes_of_different_numbers() {
    let east = vec![GatewayShape::public(2), GatewayShape::public(1).preferred()];
    worlds(3, 30.0, 3, false, &[public(2, 2), east]);
}

#[test]
fn three_clusters_and_their_nodes() {
    let third = vec![GatewayShape::nat(1), GatewayShape::nat(1).preferred()];
    worlds(4, 15.0, 3, true, &[public(2, 1), public(1, 1), third]);
}
