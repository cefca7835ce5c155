//! The state machine step by step.

use std::time::Duration;

use hawser_liveness::{Config, Event, Mode, Path, Reason, State, Time};

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

/// Runs timeouts and probes from `from` to `to`, every millisecond; probes are answered at once where `answer`.
fn run(path: &mut Path, from: u64, to: u64, answer: bool) -> Vec<u64> {
    let mut sent = Vec::new();
    for ms in from..to {
        path.handle_timeout(at(ms));
        while let Some(seq) = path.poll_probe(at(ms)) {
            sent.push(ms);
            if answer {
                path.handle_probe_answer(seq, at(ms));
            }
        }
    }
    sent
}

fn up(mode: Mode) -> Path {
    let mut path = Path::new(Config { mode, ..Config::default() }, at(0));
    path.handle_session(true, at(0));
    run(&mut path, 0, 1_000, true);
    assert_eq!(path.state(), State::Up);
    path
}

#[test]
fn a_path_is_unknown_until_it_answers_and_then_up_without_hold_down() {
    let mut path = Path::new(Config::default(), at(0));
    assert_eq!(run(&mut path, 0, 10_000, false).len(), 100);
    assert_eq!((path.state(), path.reason()), (State::Unknown, Reason::Started));
    run(&mut path, 10_000, 10_101, true);
    assert_eq!((path.state(), path.since()), (State::Up, at(10_000)));
}

#[test]
fn a_miss_makes_it_suspect_and_the_next_answer_clears_it() {
    let mut path = up(Mode::Probes);
    let sent = run(&mut path, 1_000, 1_090, false);
    assert_eq!(sent, [1_000, 1_020, 1_040, 1_060, 1_080]);
    assert_eq!((path.state(), path.reason()), (State::Suspect, Reason::AnswerMissed));
    run(&mut path, 1_090, 1_101, true);
    assert_eq!((path.state(), path.reason()), (State::Up, Reason::Answered));
    let sent = run(&mut path, 1_101, 1_401, true);
    assert_eq!(sent, [1_200, 1_300, 1_400], "back to the normal pace");
}

#[test]
fn silence_is_a_verdict_after_300_ms() {
    let mut path = up(Mode::Probes);
    run(&mut path, 1_000, 1_200, false);
    assert_eq!(path.state(), State::Suspect);
    run(&mut path, 1_200, 1_202, false);
    assert_eq!((path.state(), path.reason(), path.since()), (State::Down, Reason::Silent, at(1_200)));
    let events: Vec<Event> = std::iter::from_fn(|| path.poll_event()).collect();
    let last = events.last().expect("events");
    assert!(
        matches!(last, Event::State { to: State::Down, last_proof: Some(p), .. } if *p == at(900)),
        "the verdict says when the path was last proven: {events:?}"
    );
}

#[test]
fn two_refusals_of_different_packets_are_a_verdict_and_one_repeated_is_not() {
    let mut path = up(Mode::Probes);
    path.handle_port_unreachable(7, at(1_000));
    path.handle_port_unreachable(7, at(1_010));
    assert_eq!((path.state(), path.reason()), (State::Suspect, Reason::Hint));
    assert!(path.poll_probe(at(1_010)).is_some(), "a suspect is probed at once");
    path.handle_port_unreachable(8, at(1_011));
    assert_eq!((path.state(), path.reason()), (State::Down, Reason::Refused));

    let mut path = up(Mode::Probes);
    path.handle_port_unreachable(7, at(1_000));
    path.handle_port_unreachable(8, at(1_201));
    assert_eq!(path.state(), State::Suspect, "200 ms apart is too far");
}

#[test]
fn a_refusal_of_each_of_two_lanes_is_a_verdict_on_both_and_the_other_lane_s_alone_is_not() {
    let mut path = up(Mode::Probes);
    path.handle_sibling_refusal(at(1_000), at(1_001));
    path.handle_sibling_refusal(at(1_002), at(1_003));
    assert_eq!(path.state(), State::Up, "nothing of ours was refused");
    path.handle_port_unreachable(7, at(1_010));
    assert_eq!((path.state(), path.reason()), (State::Down, Reason::Refused));

    let mut path = up(Mode::Probes);
    path.handle_port_unreachable(7, at(1_000));
    path.handle_sibling_refusal(at(1_001), at(1_002));
    assert_eq!((path.state(), path.reason()), (State::Down, Reason::Refused));

    let mut path = up(Mode::Probes);
    path.handle_sibling_refusal(at(1_000), at(1_000));
    path.handle_port_unreachable(7, at(1_201));
    assert_eq!(path.state(), State::Suspect, "200 ms apart is too far");
}

#[test]
fn a_sibling_s_refusal_ends_a_suspect_that_does_not_answer_and_no_other() {
    let mut path = up(Mode::Probes);
    path.handle_sibling_refusal(at(1_000), at(1_000));
    path.handle_hint(at(1_000));
    run(&mut path, 1_000, 1_150, false);
    assert_eq!((path.state(), path.reason()), (State::Down, Reason::Refused), "at {:?}", path.since());
    assert!(path.since() < at(1_100), "{:?}", path.since());

    let mut path = up(Mode::Probes);
    path.handle_sibling_refusal(at(1_000), at(1_000));
    path.handle_hint(at(1_000));
    run(&mut path, 1_000, 1_150, true);
    assert_eq!(path.state(), State::Up, "it answers: only the other lane's port is closed");

    let mut path = up(Mode::Probes);
    path.handle_sibling_refusal(at(1_000), at(1_000));
    path.handle_hint(at(1_000));
    path.postpone_probe(at(1_200));
    run(&mut path, 1_000, 1_220, false);
    assert_eq!(path.state(), State::Suspect, "nobody asked before 1.2 s");
    run(&mut path, 1_220, 1_222, false);
    assert_eq!((path.state(), path.reason()), (State::Down, Reason::Refused));
}

#[test]
fn a_hint_is_disproven_only_by_a_probe_sent_after_it() {
    let mut path = up(Mode::Probes);
    let early = path.poll_probe(at(1_000)).expect("due");
    path.handle_hint(at(1_001));
    path.handle_probe_answer(early, at(1_002));
    assert_eq!(path.state(), State::Suspect);
    let late = path.poll_probe(at(1_002)).expect("a suspect is probed at once");
    path.handle_probe_answer(late, at(1_003));
    assert_eq!(path.state(), State::Up);
}

#[test]
fn own_lag_is_never_held_against_the_path() {
    let mut path = up(Mode::Probes);
    run(&mut path, 1_000, 1_019, false);
    path.handle_lag(at(1_900), Duration::from_millis(880));
    path.handle_timeout(at(1_900));
    assert_eq!(path.state(), State::Up);
    run(&mut path, 1_900, 2_100, false);
    assert_eq!(path.state(), State::Suspect, "a machine that stood still begins anew");
    run(&mut path, 2_100, 2_102, false);
    assert_eq!(path.state(), State::Down);

    let mut path = up(Mode::Probes);
    let waiting = path.poll_probe(at(1_000)).expect("due");
    path.handle_lag(at(1_150), Duration::from_millis(130));
    run(&mut path, 1_150, 1_170, false);
    assert_eq!(path.state(), State::Up, "its answer may wait in the socket");
    path.handle_probe_answer(waiting, at(1_010));
    run(&mut path, 1_170, 1_400, true);
    assert_eq!(path.state(), State::Up);

    let mut path = up(Mode::Probes);
    run(&mut path, 1_000, 1_019, false);
    path.handle_lag(at(1_200), Duration::from_millis(49));
    run(&mut path, 1_200, 1_202, false);
    assert_eq!(path.state(), State::Suspect, "less than half an interval is no excuse");
}

#[test]
fn own_lag_costs_a_verdict_no_more_than_the_probes_it_kept_from_being_sent() {
    let mut path = up(Mode::Probes);
    assert_eq!(run(&mut path, 1_000, 1_139, false).len(), 7);
    path.handle_lag(at(1_200), Duration::from_millis(60));
    run(&mut path, 1_200, 1_220, false);
    assert_eq!(path.state(), State::Suspect, "the eighth probe was sent at 1.2 s");
    run(&mut path, 1_220, 1_222, false);
    assert_eq!((path.state(), path.reason()), (State::Down, Reason::Silent));
}

#[test]
fn echoes_prove_a_path_whose_answers_are_lost_and_stale_ones_do_not() {
    let mut path = up(Mode::Probes);
    for ms in 1_000..3_000 {
        path.handle_timeout(at(ms));
        if let Some(seq) = path.poll_probe(at(ms)) {
            path.handle_peer_probe(ms, seq, at(ms));
        }
    }
    assert_eq!(path.state(), State::Up);
    for ms in 3_000..3_500 {
        path.handle_timeout(at(ms));
        let _lost = path.poll_probe(at(ms));
        path.handle_peer_probe(ms, 10, at(ms));
    }
    assert_eq!((path.state(), path.reason()), (State::Down, Reason::OneWay));
}

#[test]
fn hold_down_doubles_while_it_flaps_and_can_be_released() {
    let mut path = up(Mode::Probes);
    let mut ms = 1_000;
    for hold in [5_000, 10_000, 20_000] {
        run(&mut path, ms, ms + 1_000, false);
        assert_eq!(path.state(), State::Down);
        ms += 1_000;
        run(&mut path, ms, ms + hold - 1, true);
        assert_eq!((path.state(), path.reason()), (State::Held, Reason::HoldDown), "{hold}");
        run(&mut path, ms + hold - 1, ms + hold + 200, true);
        assert_eq!((path.state(), path.reason()), (State::Up, Reason::HoldOver), "{hold}");
        ms += hold + 200;
    }
    run(&mut path, ms, ms + 1_000, false);
    run(&mut path, ms + 1_000, ms + 1_200, true);
    assert_eq!(path.state(), State::Held);
    path.release_hold(at(ms + 1_200));
    assert_eq!((path.state(), path.reason()), (State::Up, Reason::Released));
}

#[test]
fn a_path_that_fails_in_its_hold_down_gets_the_same_again() {
    let mut path = up(Mode::Probes);
    let mut ms = 1_000;
    for _ in 0..6 {
        run(&mut path, ms, ms + 1_000, false);
        assert_eq!(path.state(), State::Down);
        run(&mut path, ms + 1_000, ms + 2_000, true);
        assert_eq!(path.state(), State::Held);
        ms += 2_000;
    }
    run(&mut path, ms, ms + 4_500, true);
    assert_eq!((path.state(), path.reason()), (State::Up, Reason::HoldOver));
}

#[test]
fn refusals_of_what_was_sent_before_an_answered_probe_are_forgotten() {
    let mut path = up(Mode::Probes);
    path.handle_port_unreachable(1, at(1_000));
    path.handle_port_unreachable(2, at(1_001));
    assert_eq!((path.state(), path.reason()), (State::Down, Reason::Refused));
    run(&mut path, 1_002, 1_100, true);
    assert_eq!(path.state(), State::Held, "a process took the place of the one that ended");
    let since = path.since();
    // The new process opens its other lane a little later.
    path.handle_sibling_refusal(at(1_100), at(1_100));
    run(&mut path, 1_100, 1_150, true);
    path.handle_sibling_refusal(at(1_150), at(1_150));
    assert_eq!((path.state(), path.since()), (State::Held, since));
}

#[test]
fn silence_ends_a_held_path_too() {
    let mut path = up(Mode::Probes);
    run(&mut path, 1_000, 2_000, false);
    run(&mut path, 2_000, 2_500, true);
    assert_eq!(path.state(), State::Held);
    run(&mut path, 2_500, 3_000, false);
    assert_eq!(path.state(), State::Down);
}

#[test]
fn probes_need_a_session_where_the_mode_says_so() {
    let mut path = Path::new(Config { mode: Mode::ProbesInSession, ..Config::default() }, at(0));
    assert_eq!(path.poll_probe(at(0)), None);
    assert_eq!(path.poll_timeout(), None, "nothing to do until there is one");
    path.handle_session(true, at(50));
    assert!(path.poll_probe(at(50)).is_some());

    let mut path = up(Mode::ProbesInSession);
    path.handle_session(false, at(1_000));
    assert_eq!((path.state(), path.reason()), (State::Down, Reason::NoSession));
    path.handle_session(true, at(1_100));
    run(&mut path, 1_100, 1_201, true);
    assert_eq!(path.state(), State::Held);
}

#[test]
fn a_plain_peer_lives_by_its_session() {
    let mut path = Path::new(Config { mode: Mode::SessionOnly, ..Config::default() }, at(0));
    path.handle_session(true, at(10));
    assert_eq!((path.state(), path.reason()), (State::Up, Reason::Session));
    assert!(run(&mut path, 10, 5_000, false).is_empty());
    path.handle_hint(at(5_000));
    assert_eq!(path.state(), State::Up);
    path.handle_session(false, at(5_001));
    assert_eq!((path.state(), path.reason()), (State::Down, Reason::NoSession));
    path.handle_session(true, at(5_002));
    assert_eq!(path.state(), State::Up);
}

#[test]
fn the_peers_drain_is_told_once() {
    let mut path = up(Mode::Probes);
    while path.poll_event().is_some() {}
    path.handle_drain(true, at(1_000));
    path.handle_drain(true, at(1_001));
    assert!(path.peer_draining());
    assert_eq!(path.poll_event(), Some(Event::PeerDraining(true)));
    assert_eq!(path.poll_event(), None);
}

#[test]
fn a_peer_that_keeps_changing_its_mind_is_followed_now_and_then_and_in_the_end() {
    let mut path = up(Mode::Probes);
    while path.poll_event().is_some() {}
    let mut told = Vec::new();
    for ms in 1_000..2_000 {
        path.handle_timeout(at(ms));
        if let Some(seq) = path.poll_probe(at(ms)) {
            path.handle_probe_answer(seq, at(ms));
        }
        path.handle_drain(ms % 2 == 1, at(ms));
        told.extend(std::iter::from_fn(|| path.poll_event()).map(|event| (ms, event)));
    }
    assert_eq!(told.first(), Some(&(1_001, Event::PeerDraining(true))), "the first change counts at once");
    assert!((8..=10).contains(&told.len()), "{told:?}");
    // The last word was "draining"; nothing more is heard.
    let due = path.poll_timeout();
    assert!(path.peer_draining() || due.is_some_and(|(due, _)| due <= at(2_100)), "{due:?}");
    run(&mut path, 2_000, 2_100, true);
    assert!(path.peer_draining());
    // After a while of peace a change is prompt again.
    path.handle_drain(false, at(2_200));
    assert!(!path.peer_draining());
}

/// As [`run`], with a round trip of `rtt` ms; `answer` says for each probe's time whether it is answered.
fn run_far(path: &mut Path, span: std::ops::Range<u64>, rtt: u64, answer: impl Fn(u64) -> bool) {
    let mut wire = std::collections::VecDeque::new();
    for ms in span {
        while wire.front().is_some_and(|(due, _)| *due <= ms)
            && let Some((_, seq)) = wire.pop_front()
        {
            path.handle_probe_answer(seq, at(ms));
        }
        path.handle_timeout(at(ms));
        while let Some(seq) = path.poll_probe(at(ms)) {
            if answer(ms) {
                wire.push_back((ms + rtt, seq));
            }
        }
    }
}

#[test]
fn a_path_with_round_trips_of_seconds_is_judged_too() {
    for rtt in [700, 2_000, 5_000] {
        let mut path = Path::new(Config::default(), at(0));
        run_far(&mut path, 0..75_000, rtt, |ms| ms < 50_000);
        assert_eq!(path.state(), State::Down, "{rtt}: {:?}", path.stats(at(75_000)));
        let mut path = Path::new(Config::default(), at(0));
        run_far(&mut path, 0..50_000, rtt, |_| true);
        assert_eq!(path.state(), State::Up, "{rtt}");
        // Suspected long before anything is overdue.
        path.handle_hint(at(50_000));
        run_far(&mut path, 50_000..50_000 + 3 * rtt, rtt, |_| false);
        assert_eq!(path.state(), State::Down, "{rtt}: {:?}", path.stats(at(50_000 + 3 * rtt)));
    }
}

#[test]
fn a_loop_that_was_late_for_long_finds_a_dead_path_once_it_is_not() {
    let mut path = up(Mode::Probes);
    for ms in (1_000..20_000).step_by(60) {
        path.handle_lag(at(ms), Duration::from_millis(59));
        path.handle_timeout(at(ms));
        while path.poll_probe(at(ms)).is_some() {}
    }
    assert_eq!(path.state(), State::Up, "nothing is held against it by a loop that lags");
    run(&mut path, 20_000, 20_100, false);
    assert_eq!((path.state(), path.reason()), (State::Down, Reason::Silent));
}

#[test]
fn word_that_the_peer_is_gone_is_believed_at_once_and_the_path_may_return() {
    let mut path = up(Mode::Probes);
    path.handle_gone(at(1_000));
    assert_eq!((path.state(), path.reason()), (State::Down, Reason::Gone));
    run(&mut path, 1_000, 1_101, true);
    assert_eq!(path.state(), State::Held);
}

/// A peer that was held up answers many probes at once: what comes later is judged by its prompt answers, not by those.
#[test]
fn a_burst_of_late_answers_does_not_delay_the_next_verdict() {
    let mut path = up(Mode::Probes);
    let mut held_up = Vec::new();
    for ms in 1_000..2_000 {
        path.handle_timeout(at(ms));
        held_up.extend(path.poll_probe(at(ms)));
    }
    assert_eq!(path.state(), State::Down);
    held_up.iter().for_each(|seq| path.handle_probe_answer(*seq, at(2_000)));
    assert_eq!(path.state(), State::Held);
    run(&mut path, 2_001, 2_402, true);
    run(&mut path, 2_402, 2_802, false);
    assert_eq!(path.state(), State::Down, "{:?}", path.stats(at(2_802)));
}
