//! A lane's path set and its clock together, as a lane's loop drives them, in virtual time.

mod support;

use std::time::Duration;

use hawser_datapath::paths::{Clock, Job};
use hawser_datapath::probe::Kind;
use hawser_datapath::{PathConfig, PathSet, Probe};
use hawser_liveness::{Config, State, Time};
use support::{cluster, gateway, prefixes};

const MS: Duration = Duration::from_millis(1);

/// A lane with one path to a gateway that answers at once while it lives.
struct Lane {
    set: PathSet,
    clock: Clock,
    now: Time,
    alive: bool,
    jobs: Vec<(Time, Job)>,
    lag: Duration,
    probes: u64,
}

impl Lane {
    fn new() -> Self {
        let now = Time::from_millis(1000);
        let mut set = PathSet::new(PathConfig { lane: 0, liveness: Config::default() });
        let east = cluster("east", &["10.2.0.0/16"], vec![gateway("e1", 1, &[])]);
        set.apply(&prefixes(&["10.1.0.0/16"]), &[east], now);
        set.handle(0, now, |life| life.handle_session(true, now));
        Self { set, clock: Clock::new(now), now, alive: true, jobs: Vec::new(), lag: Duration::ZERO, probes: 0 }
    }

    /// What is left of a turn of the loop after its packets.
    fn turn(&mut self) {
        let now = self.now;
        let next = |set: &PathSet| set.poll_timeout().map(|(at, _)| at);
        let Some(turn) = self.clock.turn(next(&self.set), false, now) else { return };
        self.jobs.push((now, turn.job));
        self.lag = self.lag.max(turn.lag);
        self.set.handle_lag(now, turn.lag);
        match turn.job {
            Job::Publish => {
                self.clock.published(1, now);
            }
            Job::Ask => self.ask(),
            Job::Sessions | Job::Change => {}
        }
        while self.set.poll_event().is_some() {
            self.clock.changed();
        }
        self.clock.rest(next(&self.set), turn.job != Job::Ask, now);
    }

    fn ask(&mut self) {
        if self.clock.seeks(self.now) {
            self.clock.seek_after(Duration::from_secs(1), self.now);
        }
        self.set.handle_timeout(self.now);
        while let Some((path, probe)) = self.set.poll_probe(self.now) {
            self.probes += 1;
            if self.alive {
                let answer = Probe { kind: Kind::Answer, echo: probe.seq, ..probe };
                assert_eq!(self.set.handle_probe(path, &answer, self.now), None);
            }
        }
    }

    /// Nothing comes in for so long.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.clock.due().max(self.now);
            if due > end {
                break;
            }
            self.now = due;
            self.turn();
        }
        self.now = end;
    }
}

#[test]
fn a_path_that_died_while_nobody_used_it_is_found_dead_within_the_bound_once_somebody_does() {
    let mut slowest = Duration::ZERO;
    for offset in (0..1_500).step_by(13) {
        let mut lane = Lane::new();
        lane.run(Duration::from_secs(30));
        assert_eq!(lane.set.state(0), Some(State::Up));
        // The gateway dies just before the first packet after a long time.
        lane.run(offset * MS);
        lane.alive = false;
        let began = lane.now;
        while lane.set.state(0) != Some(State::Down) {
            lane.set.handle_sent(0, 1, 100, lane.now);
            lane.turn();
            lane.run(MS);
            assert!(lane.now.since(began) < Duration::from_secs(3), "{:?}", lane.set.path_row(0, lane.now));
        }
        slowest = slowest.max(lane.now.since(began));
        assert!(lane.lag <= MS, "what became due just now is not late: {:?}", lane.lag);
    }
    eprintln!("slowest of all: {slowest:?}");
    assert!(slowest <= 400 * MS, "{slowest:?}");
}

#[test]
fn a_peer_that_keeps_changing_its_mind_does_not_keep_a_busy_lane_from_asking_others() {
    let mut lane = Lane::new();
    lane.run(Duration::from_secs(2));
    (lane.jobs, lane.probes) = (Vec::new(), 0);
    let (began, mut seq) = (lane.now, 0);
    while lane.now.since(began) < Duration::from_secs(2) {
        seq += 1;
        let ask = Probe {
            kind: Kind::Ask,
            seq,
            sent: lane.now,
            echo: 0,
            draining: seq % 2 == 0,
            healthy: true,
            rx_packets: 0,
        };
        assert!(lane.set.handle_probe(0, &ask, lane.now).is_some());
        lane.clock.request();
        lane.turn();
        lane.now = lane.now + MS / 10;
    }
    let count = |job| lane.jobs.iter().filter(|(_, j)| *j == job).count();
    let (published, asked) = (count(Job::Publish), count(Job::Ask));
    eprintln!("{published} publications, {asked} looks, {} probes in 2 s", lane.probes);
    assert!(published <= 40, "{published} publications in 2 s");
    assert!((18..=22).contains(&lane.probes), "{} probes in 2 s", lane.probes);
    let row = lane.set.path_row(0, lane.now).unwrap();
    assert_eq!(row.state, State::Up);
}
