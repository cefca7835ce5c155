//! Wires that fail one way, lose packets, come back.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use hawser_e2e::Rope;
use hawser_e2e::rope::LIMIT;
use hawser_testbed::{Outer, wait_for};

use super::{minutes, ms, nothing};
use crate::fault::{Bound, Fault, Kind, Sessions};
use crate::stage::Stage;

/// After a change of the underlay, until a steady state is measured.
const STEADY: Duration = Duration::from_secs(5);

const LOSS: Fault = Fault {
    id: "loss-5",
    title: "the underlay loses 5 % of all packets",
    bound: Bound::Steady(Some(5)),
    kind: Kind::Once(minutes(10)),
    prepare: |stage, _| lose(stage, 50),
    cause: nothing,
    heal,
    rest: None,
    after: None,
    reset: true,
    even: false,
    outer: Outer::Dual,
};

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        id: "one-way",
        title: "a path black-holed, one way only",
        bound: Bound::Silence(400),
        kind: Kind::Repeated(ms(1_200)),
        prepare: nothing,
        cause: |stage, run| {
            let [from, to] = if run.is_multiple_of(2) { [EAST, WEST] } else { [WEST, EAST] };
            stage.rope.lab.wan().black_hole(from, to)
        },
        heal,
        rest: None,
        after: None,
        reset: true,
        even: true,
        outer: Outer::Dual,
    },
    Fault {
        id: "back",
        title: "a path comes back, through its hold-down",
        bound: Bound::NothingLost,
        kind: Kind::Repeated(ms(0)),
        prepare: |stage, _| {
            stage.rope.lab.wan().black_hole(EAST, WEST)?;
            stage.rope.lab.wan().black_hole(WEST, EAST)?;
            wait_states(stage, "Down", 2)?;
            // It is down with the first lane that says so; each moves its own flows by its own probes, one interval later at most.
            thread::sleep(ms(200));
            Ok(())
        },
        cause: nothing,
        heal: |stage, _| {
            stage.rope.lab.wan().heal()?;
            stage.rope.wait_up()
        },
        rest: None,
        after: Some(ms(700)),
        reset: true,
        even: true,
        outer: Outer::Dual,
    },
    Fault {
        id: "all-bad",
        title: "all paths bad, one of them recovers",
        bound: Bound::Recovery(300),
        kind: Kind::Repeated(ms(1_500)),
        prepare: nothing,
        cause: |stage, _| each_way(|from, to| stage.rope.lab.wan().black_hole(from, to)),
        heal: |stage, _| {
            stage.rope.lab.wan().mend(EAST, WEST)?;
            stage.rope.lab.wan().mend(WEST, EAST)
        },
        rest: Some(heal),
        after: Some(ms(2_000)),
        reset: true,
        even: true,
        outer: Outer::Dual,
    },
    LOSS,
    Fault {
        id: "loss-20",
        title: "the underlay loses 20 % of all packets",
        bound: Bound::Steady(Some(20)),
        prepare: |stage, _| lose(stage, 200),
        ..LOSS
    },
    Fault {
        id: "rekey",
        title: "WireGuard sessions are replaced by age (every 2 minutes)",
        // Each of the 2 × 2 paths has a session per lane, of which gateways tell of one: 8 ends, each replaced 4 or 5 times at
        // an age of 120 s, or 3 times at least at 150 s.
        bound: Bound::NothingLostOver(Sessions { replaced: 20, oldest_s: 100 }),
        kind: Kind::Once(minutes(10)),
        prepare: nothing,
        cause: nothing,
        heal: nothing,
        rest: None,
        after: None,
        reset: false,
        even: false,
        // With both, looks for a better address replace more of the sessions before they get old.
        outer: Outer::V4,
    },
];

const EAST: &str = "east-gw1";
const WEST: &str = "west-gw1";

fn heal(stage: &mut Stage, _: u32) -> Result<()> {
    stage.rope.lab.wan().heal()
}

fn lose(stage: &mut Stage, per_mille: u32) -> Result<()> {
    stage.rope.lab.wan().loss(per_mille)?;
    thread::sleep(STEADY);
    Ok(())
}

fn each_way(mut step: impl FnMut(&str, &str) -> Result<()>) -> Result<()> {
    for east in ["east-gw1", "east-gw2"] {
        for west in ["west-gw1", "west-gw2"] {
            step(east, west)?;
            step(west, east)?;
        }
    }
    Ok(())
}

/// Waits until so many ends of paths, of all gateways, are in that state.
fn wait_states(stage: &Stage, state: &str, count: usize) -> Result<()> {
    wait_for(&format!("{count} ends of paths to be {state}"), LIMIT, || {
        let mut found = 0;
        for site in [&stage.rope.east, &stage.rope.west] {
            for report in Rope::reports(site)? {
                found += report["paths"].as_array().into_iter().flatten().filter(|p| p["state"] == state).count();
            }
        }
        ensure!(found == count, "{found} are");
        Ok(())
    })
}
