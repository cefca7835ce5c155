//! The search for a path's MTU in virtual time: loss, links that shrink and grow, paths that fall silent.

use std::time::Duration;

use hawser_datapath::pmtu::{BASE, Evidence, Phase, Search};
use hawser_liveness::{Config, Time};

const MS: Duration = Duration::from_millis(1);

/// A path with a round trip of 2 ms, probed by small packets every 100 ms.
struct Wire {
    search: Search,
    now: Time,
    /// Largest inner packet that passes; 0: nothing at all.
    takes: u16,
    loss: f64,
    dice: u64,
    last_proof: Option<Time>,
    answers: Vec<(Time, u64)>,
    probes: Vec<(Time, u16)>,
}

impl Wire {
    fn new(takes: u16, max: u16) -> Self {
        let now = Time::from_millis(1000);
        let mut search = Search::new(1);
        search.set_max(max, now);
        let mut wire = Self {
            search,
            now,
            takes,
            loss: 0.0,
            dice: 7,
            last_proof: Some(now),
            answers: Vec::new(),
            probes: Vec::new(),
        };
        wire.search.handle_usable(true, now);
        wire
    }

    fn lost(&mut self) -> bool {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.dice >> 33) as f64 / f64::from(1u32 << 31)) < self.loss
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            last_proof: self.last_proof,
            miss_after: 20 * MS,
            needed: Config::default().unanswered_for(self.loss),
        }
    }

    fn step(&mut self) {
        self.now = self.now + MS;
        if self.now.as_nanos().is_multiple_of(100_000_000) && self.takes > 0 && !self.lost() {
            self.last_proof = Some(self.now);
        }
        let (due, later): (Vec<_>, Vec<_>) = self.answers.drain(..).partition(|(at, _)| *at <= self.now);
        self.answers = later;
        due.into_iter().for_each(|(at, seq)| self.search.handle_answer(seq, at));
        if self.search.poll_timeout().is_none_or(|at| at > self.now) {
            return;
        }
        self.search.handle_timeout(self.now, self.evidence());
        if let Some((seq, size)) = self.search.poll_probe(self.now, self.evidence()) {
            self.probes.push((self.now, size));
            if size <= self.takes && !self.lost() {
                self.answers.push((self.now + 2 * MS, seq));
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Large packets go out all the time.
    fn run_busy(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.search.handle_large();
            self.step();
        }
    }

    fn settle(&mut self) -> Duration {
        let start = self.now;
        while self.search.phase() == Phase::Searching {
            self.step();
            assert!(self.now.since(start) < Duration::from_secs(60), "{:?}", self.search);
        }
        self.now.since(start)
    }
}

#[test]
fn a_path_as_wide_as_its_first_link_is_known_after_one_round_trip() {
    for max in [BASE, 1420, 8920] {
        let mut wire = Wire::new(max, max);
        let took = wire.settle();
        assert_eq!((wire.search.mtu(), wire.search.phase()), (max, Phase::Found));
        assert!(took <= 4 * MS, "{took:?}");
        assert!(wire.probes.len() == 1, "{:?}", wire.probes);
    }
}

#[test]
fn any_size_is_found_and_never_overestimated() {
    for takes in (BASE..=8920).step_by(7).chain([1320, 1400, 1412, 8919]) {
        let mut wire = Wire::new(takes, 8920);
        wire.settle();
        let found = wire.search.mtu();
        assert!(found <= takes && takes - found <= 8, "found {found} of {takes}");
        assert_eq!(wire.search.phase(), Phase::Found);
    }
}

#[test]
fn common_sizes_are_found_exactly() {
    for outer in [1280, 1400, 1420, 1450, 1492] {
        let mut wire = Wire::new(outer - 80, 1420);
        let took = wire.settle();
        assert_eq!(wire.search.mtu() + 80, outer);
        assert!(took < Duration::from_secs(3), "{outer}: {took:?}");
    }
}

#[test]
fn loss_is_no_smaller_mtu() {
    for (seed, loss) in [(1, 0.05), (2, 0.2), (3, 0.36), (4, 0.36), (5, 0.36)] {
        let mut wire = Wire::new(1420, 1420);
        (wire.loss, wire.dice) = (loss, seed);
        let mut fell = 0;
        wire.settle();
        assert_eq!(wire.search.mtu(), 1420, "at {loss}");
        for _ in 0..600_000 {
            wire.search.handle_large();
            wire.step();
            fell += u32::from(wire.search.mtu() < 1420);
        }
        assert_eq!(fell, 0, "at {loss}");
    }
}

#[test]
fn a_black_hole_is_left_soon_and_the_new_size_found() {
    for (before, after) in [(1420, 1320), (8920, 1420), (1420, BASE), (1420, 1377)] {
        let mut wire = Wire::new(before, before);
        wire.settle();
        wire.run_busy(Duration::from_secs(2));
        wire.takes = after;
        let cut = wire.now;
        while wire.search.mtu() > after {
            wire.search.handle_large();
            wire.step();
            assert!(wire.now.since(cut) < Duration::from_secs(2), "{:?}", wire.search);
        }
        let took = wire.now.since(cut);
        assert!(took <= 350 * MS, "{before} to {after}: {took:?}");
        wire.run_busy(Duration::from_secs(4));
        let found = wire.search.mtu();
        assert!(found <= after && after - found <= 8, "{before} to {after}: found {found}");
    }
}

#[test]
fn a_hint_makes_it_look_but_is_not_believed() {
    let mut wire = Wire::new(1420, 1420);
    wire.settle();
    let probes = wire.probes.len();
    wire.run(Duration::from_secs(5));
    assert_eq!(wire.probes.len(), probes, "an idle path is left alone");
    wire.search.handle_hint(wire.now);
    wire.run(50 * MS);
    assert_eq!((wire.probes.len(), wire.search.mtu()), (probes + 1, 1420));
    wire.takes = 1320;
    wire.search.handle_hint(wire.now);
    wire.run(Duration::from_secs(3));
    assert_eq!(wire.search.mtu(), 1320);
}

#[test]
fn a_larger_size_is_tried_again_after_ten_minutes() {
    let mut wire = Wire::new(1320, 1420);
    wire.settle();
    wire.takes = 1420;
    wire.run(Duration::from_secs(590));
    assert_eq!(wire.search.mtu(), 1320);
    wire.run(Duration::from_secs(12));
    assert_eq!((wire.search.mtu(), wire.search.phase()), (1420, Phase::Found));
    let probes = wire.probes.len();
    wire.run(Duration::from_secs(1300));
    assert_eq!(wire.probes.len(), probes, "there is nothing larger to try");
}

#[test]
fn a_silent_path_says_nothing_about_sizes() {
    let mut wire = Wire::new(1420, 1420);
    wire.settle();
    wire.takes = 0;
    wire.run_busy(Duration::from_secs(2));
    assert_eq!(wire.search.mtu(), 1420);
    let sent = wire.probes.len();
    wire.search.handle_usable(false, wire.now);
    wire.run_busy(Duration::from_secs(2));
    assert_eq!((wire.probes.len(), wire.search.phase()), (sent, Phase::Idle));
    // It comes back by a narrower way.
    wire.takes = 1320;
    wire.last_proof = Some(wire.now);
    wire.search.handle_usable(true, wire.now);
    wire.run(Duration::from_secs(4));
    assert_eq!((wire.search.mtu(), wire.search.phase()), (1320, Phase::Found));
}

/// The path goes down for a second and comes back by a way that takes `takes`: the sizes tried until it is settled, and the
/// smallest in force meanwhile.
fn flap(wire: &mut Wire, takes: u16) -> (Vec<u16>, u16) {
    wire.search.handle_usable(false, wire.now);
    wire.takes = 0;
    wire.run(Duration::from_secs(1));
    let before = wire.probes.len();
    (wire.takes, wire.last_proof) = (takes, Some(wire.now));
    wire.search.handle_usable(true, wire.now);
    let mut least = wire.search.mtu();
    while wire.search.phase() == Phase::Searching {
        wire.step();
        least = least.min(wire.search.mtu());
    }
    (wire.probes[before..].iter().map(|(_, size)| *size).collect(), least)
}

#[test]
fn a_path_that_comes_back_by_a_wider_way_is_found_to_be_wider() {
    for (first, tried) in [(1320, &[1320, 1420][..]), (BASE, &[1420][..])] {
        let mut wire = Wire::new(first, 1420);
        wire.settle();
        assert_eq!(wire.search.mtu(), first);
        assert_eq!(flap(&mut wire, 1420), (tried.to_vec(), first), "the last result first, then the largest");
        assert_eq!((wire.search.mtu(), wire.search.phase()), (1420, Phase::Found));
        assert_eq!(flap(&mut wire, 1420), (vec![1420], 1420), "nothing is left to be tried");
    }
}

#[test]
fn a_path_that_comes_back_by_the_same_way_keeps_its_size_meanwhile_and_is_tried_again_as_ever() {
    let mut wire = Wire::new(1320, 1420);
    wire.settle();
    for _ in 0..3 {
        let (_, least) = flap(&mut wire, 1320);
        assert_eq!((least, wire.search.mtu(), wire.search.phase()), (1320, 1320, Phase::Found));
    }
    wire.takes = 1420;
    wire.run(Duration::from_secs(590));
    assert_eq!(wire.search.mtu(), 1320);
    wire.run(Duration::from_secs(12));
    assert_eq!((wire.search.mtu(), wire.search.phase()), (1420, Phase::Found));
}

#[test]
fn a_path_below_the_base_is_said_to_be_one() {
    let mut wire = Wire::new(BASE - 1, 1420);
    wire.run(Duration::from_secs(20));
    assert_eq!((wire.search.mtu(), wire.search.phase()), (BASE, Phase::Failed));
    wire.takes = 1420;
    wire.run(Duration::from_secs(600));
    assert_eq!((wire.search.mtu(), wire.search.phase()), (1420, Phase::Found));
}

#[test]
fn the_first_link_decides_what_is_tried() {
    let mut wire = Wire::new(1420, 1420);
    wire.settle();
    wire.takes = 1320;
    wire.search.set_max(1320, wire.now);
    assert_eq!(wire.search.mtu(), BASE, "what a smaller link takes is proven first");
    wire.settle();
    assert_eq!(wire.search.mtu(), 1320);
    wire.takes = 8920;
    wire.search.set_max(8920, wire.now);
    assert_eq!(wire.search.mtu(), 1320, "what is proven stays meanwhile");
    wire.settle();
    assert_eq!(wire.search.mtu(), 8920);
}

#[test]
fn a_lagging_loop_blames_itself() {
    let mut wire = Wire::new(1420, 1420);
    wire.settle();
    for _ in 0..20 {
        wire.takes = 1000;
        wire.run_busy(150 * MS);
        wire.search.handle_lag(wire.now);
        wire.takes = 1420;
        wire.run_busy(50 * MS);
        assert_eq!(wire.search.mtu(), 1420);
    }
}
