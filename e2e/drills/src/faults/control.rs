//! What packets must not notice at all: the control plane dies, keys change.

use anyhow::{Context as _, Result};
use hawser_testbed::Outer;

use super::{ms, nothing};
use crate::fault::{Bound, Fault, Kind, Sessions};
use crate::stage::{AGENT, ROUTE_AGENT, Stage};

const BROKER: Fault = Fault {
    id: "broker",
    title: "broker killed",
    bound: Bound::NothingLost,
    kind: Kind::Repeated(ms(700)),
    prepare: nothing,
    cause: |stage, _| stage.rope.lab.take_broker()?.kill(),
    heal: |stage, _| stage.rope.lab.start_broker(),
    rest: None,
    after: Some(ms(700)),
    reset: false,
    even: false,
    outer: Outer::Dual,
};

pub(super) const FAULTS: &[Fault] = &[
    BROKER,
    Fault {
        id: "agent",
        title: "agents killed, on both sides",
        cause: |stage, _| stage.kill_all(&[AGENT]),
        heal: |stage, _| stage.start_all(&[AGENT]),
        ..BROKER
    },
    Fault {
        id: "route-agent",
        title: "route agents killed, on all nodes",
        cause: |stage, _| stage.kill_all(&[ROUTE_AGENT]),
        heal: |stage, _| stage.start_all(&[ROUTE_AGENT]),
        ..BROKER
    },
    Fault {
        id: "all-three",
        title: "broker, agents and route agents killed",
        cause: |stage, _| {
            stage.rope.lab.take_broker()?.kill()?;
            stage.kill_all(&[AGENT, ROUTE_AGENT])
        },
        heal: |stage, _| {
            stage.rope.lab.start_broker()?;
            stage.start_all(&[AGENT, ROUTE_AGENT])
        },
        ..BROKER
    },
    Fault {
        id: "rotate",
        title: "key rotation (`hawser rotate keys`)",
        bound: Bound::NothingLostOver(Sessions { replaced: 2, oldest_s: 0 }),
        kind: Kind::Repeated(ms(500)),
        prepare: has_rotation,
        cause: rotate,
        heal: nothing,
        ..BROKER
    },
];

/// All keys of one gateway, to the end: both its paths get new sessions.
fn rotate(stage: &mut Stage, run: u32) -> Result<()> {
    let node = stage.side(run).node(1).name.clone();
    stage.hawser(run, &["rotate", "keys", "--node", &node, "--wait"])?;
    Ok(())
}

fn has_rotation(stage: &mut Stage, _: u32) -> Result<()> {
    stage.rope.lab.hawser(&["rotate", "keys", "--help"]).context("there is no `hawser rotate keys`")?;
    Ok(())
}
