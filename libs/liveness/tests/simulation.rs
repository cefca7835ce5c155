//! Two ends of a path over a simulated link: loss, delay, blackouts, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use hawser_liveness::{Config, Event, Pace, Path, Reason, State, Time};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

/// A fixed pseudo-random sequence (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Packet {
    Probe { seq: u64, echo: u64 },
    Answer { seq: u64, echo: u64 },
}

/// Ends 0 and 1, and what is under way to them.
struct World {
    ends: [Path; 2],
    /// (arrival, order, receiver, packet).
    wire: BinaryHeap<Reverse<(Time, u64, usize, Packet)>>,
    order: u64,
    dice: Dice,
    now: Time,
    /// Chance to lose a packet towards end 0 and end 1.
    loss: [f64; 2],
    delay: Duration,
    jitter: Duration,
    /// State changes: (when, end, from, to, why).
    log: Vec<(Time, usize, State, State, Reason)>,
}

impl World {
    fn new(seed: u64, loss: [f64; 2], delay: Duration, jitter: Duration) -> Self {
        let path = |seq| Path::new(Config { first_seq: seq, ..Config::default() }, Time::START);
        Self {
            ends: [path(1), path(1_000_000)],
            wire: BinaryHeap::new(),
            order: 0,
            dice: Dice(seed),
            now: Time::START,
            loss,
            delay,
            jitter,
            log: Vec::new(),
        }
    }

    fn send(&mut self, to: usize, packet: Packet) {
        if self.dice.roll() >= self.loss[to] {
            self.order += 1;
            let at = self.now + self.delay + self.jitter.mul_f64(self.dice.roll());
            self.wire.push(Reverse((at, self.order, to, packet)));
        }
    }

    fn arrive(&mut self, to: usize, packet: Packet) {
        match packet {
            Packet::Probe { seq, echo } => {
                self.ends[to].handle_peer_probe(seq, echo, self.now);
                self.send(1 - to, Packet::Answer { seq, echo: seq });
            }
            Packet::Answer { seq, echo } => {
                self.ends[to].handle_echo(echo.min(seq), self.now);
                self.ends[to].handle_probe_answer(seq, self.now);
            }
        }
    }

    fn run_until(&mut self, end: Time) {
        loop {
            let arrival = self.wire.peek().map(|Reverse((at, ..))| *at);
            let timeout = self.ends.iter().filter_map(|p| p.poll_timeout().map(|(at, _)| at)).min();
            let Some(next) = arrival.into_iter().chain(timeout).min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            while let Some(Reverse((at, _, to, packet))) =
                self.wire.peek().copied().filter(|Reverse((at, ..))| *at <= self.now)
            {
                assert!(at <= self.now);
                self.wire.pop();
                self.arrive(to, packet);
            }
            for end in 0..2 {
                self.ends[end].handle_timeout(self.now);
                while let Some(seq) = self.ends[end].poll_probe(self.now) {
                    let echo = self.ends[end].echo();
                    self.send(1 - end, Packet::Probe { seq, echo });
                }
                while let Some(event) = self.ends[end].poll_event() {
                    if let Event::State { from, to, reason, at, .. } = event {
                        self.log.push((at, end, from, to, reason));
                    }
                }
            }
        }
        self.now = end;
    }

    fn downs(&self) -> Vec<&(Time, usize, State, State, Reason)> {
        self.log.iter().filter(|(.., to, _)| *to == State::Down).collect()
    }

    fn down_after(&self, cut: Time, end: usize) -> Option<Duration> {
        self.log
            .iter()
            .find(|(at, e, _, to, _)| *at >= cut && *e == end && *to == State::Down)
            .map(|(at, ..)| at.since(cut))
    }
}

fn hours(h: u64) -> Time {
    Time::START + Duration::from_secs(3600 * h)
}

#[test]
fn hours_of_loss_never_take_a_path_down() {
    for (seed, loss, span) in [(1, 0.05, 4), (2, 0.2, 4), (3, 0.3, 1)] {
        for (delay, jitter) in [(MS / 5, MS / 10), (20 * MS, 10 * MS), (90 * MS, 5 * MS)] {
            let mut world = World::new(seed, [loss, loss], delay, jitter);
            world.run_until(hours(span));
            assert!(world.downs().is_empty(), "{loss} lost each way, {delay:?} delay: {:?}", world.downs());
            assert!(world.ends.iter().all(|p| p.state().is_live()));
            let measured = world.ends[0].stats(world.now).loss.expect("probes were sent");
            let expected = 1.0 - (1.0 - loss) * (1.0 - loss);
            assert!((measured - expected).abs() < 0.2, "measured {measured}, true {expected}");
        }
    }
}

/// The simulation can tell: a fixed count of eight takes a path that loses half its round trips down many times an hour.
#[test]
fn without_regard_to_loss_it_would_flap() {
    let mut world = World::new(3, [0.3, 0.3], MS, MS);
    let fixed = Config { max_unanswered: 8, silence: 100 * MS, ..Config::default() };
    world.ends = [Path::new(fixed, Time::START), Path::new(fixed, Time::START)];
    world.run_until(hours(1));
    assert!(world.downs().len() > 10, "{:?}", world.downs());
}

#[test]
fn idle_paths_survive_loss_too() {
    let mut world = World::new(9, [0.2, 0.2], MS, MS);
    world.ends.iter_mut().for_each(|p| p.set_pace(Pace::Idle));
    world.run_until(hours(12));
    assert!(world.downs().is_empty(), "{:?}", world.downs());
}

#[test]
fn recovery_passes_through_a_hold_down() {
    let mut world = World::new(4, [0.0, 0.0], MS, MS);
    world.run_until(Time::from_millis(10_000));
    world.loss = [1.0, 1.0];
    world.run_until(Time::from_millis(12_000));
    world.loss = [0.0, 0.0];
    world.run_until(Time::from_millis(20_000));
    let states: Vec<State> = world.log.iter().filter(|l| l.1 == 0).map(|l| l.3).collect();
    assert_eq!(states, [State::Up, State::Suspect, State::Down, State::Held, State::Up], "{:?}", world.log);
    let at = |state| world.log.iter().rev().find(|l| l.1 == 0 && l.3 == state).map(|l| l.0).expect("logged");
    let held = at(State::Up).since(at(State::Held));
    assert_eq!(held, Duration::from_secs(5), "{:?}", world.log);
    assert!(at(State::Held).since(Time::from_millis(12_000)) < 150 * MS, "{:?}", world.log);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whenever the link is cut, both ends know within 400 ms, and not before 200 ms of it.
    #[test]
    fn a_blackout_is_noticed_in_time(seed: u64, cut_ms in 5_000_u64..7_000, loss in 0.0..0.05, delay_us in 50_u64..8_000) {
        let mut world = World::new(seed, [loss, loss], Duration::from_micros(delay_us), Duration::from_micros(delay_us / 4));
        let cut = Time::from_millis(cut_ms);
        world.run_until(cut);
        world.loss = [1.0, 1.0];
        world.run_until(cut + 2_000 * MS);
        for end in 0..2 {
            let took = world.down_after(cut, end);
            prop_assert!(took.is_some_and(|t| t <= 400 * MS && t >= 100 * MS), "end {end}: {took:?}, {:?}", world.log);
        }
    }

    /// A link that dies in one direction is down at both ends, though one still hears the other.
    #[test]
    fn a_one_way_blackout_is_noticed_at_both_ends(seed: u64, cut_ms in 5_000_u64..7_000, deaf in 0_usize..2) {
        let mut world = World::new(seed, [0.0, 0.0], MS, MS);
        let cut = Time::from_millis(cut_ms);
        world.run_until(cut);
        world.loss[deaf] = 1.0;
        world.run_until(cut + 2_000 * MS);
        for end in 0..2 {
            let took = world.down_after(cut, end);
            prop_assert!(took.is_some_and(|t| t <= 400 * MS), "end {end}: {took:?}, {:?}", world.log);
        }
        let one_way = world.log.iter().any(|l| l.1 == 1 - deaf && l.4 == Reason::OneWay);
        prop_assert!(one_way, "{:?}", world.log);
    }

    /// Any sequence of calls leaves a machine that wakes again and never in a busy loop.
    #[test]
    fn any_input_is_survived(calls in proptest::collection::vec((0_u8..13, 0_u64..200, 0_u64..400), 1..300)) {
        let mut now = Time::START;
        let mut path = Path::new(Config::default(), now);
        for (call, step_ms, x) in calls {
            now = now + Duration::from_millis(step_ms);
            match call {
                0 => path.handle_probe_answer(x, now),
                1 => path.handle_peer_probe(x, x / 2, now),
                2 => path.handle_authenticated(now),
                3 => path.handle_hint(now),
                4 => path.handle_port_unreachable(x % 3, now),
                5 => path.handle_lag(now, x as u32 * MS),
                6 => path.handle_session(x % 2 == 0, now),
                7 => path.release_hold(now),
                8 => path.set_pace(if x % 2 == 0 { Pace::Idle } else { Pace::Normal }),
                9 => path.handle_drain(x % 2 == 0, now),
                _ => {
                    path.handle_timeout(now);
                    while path.poll_probe(now).is_some() {}
                }
            }
            path.handle_timeout(now);
            while path.poll_probe(now).is_some() {}
            let next = path.poll_timeout();
            prop_assert!(next.is_some_and(|(at, _)| at > now), "{next:?} at {now:?} in {path:?}");
        }
    }
}
