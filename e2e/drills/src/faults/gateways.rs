//! Gateways that die, are cut off, drained, restarted, starved of their CPU, moved to another address.

use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use hawser_testbed::{Outer, Process};

use super::{minutes, ms, nothing};
use crate::fault::{Bound, Fault, Kind};
use crate::stage::{GATEWAY, Stage};

const KILLED: Fault = Fault {
    id: "kill-near",
    title: "gateway process killed (-9), the senders' side",
    bound: Bound::Silence(100),
    kind: Kind::Repeated(ms(1_000)),
    prepare: nothing,
    cause: |stage, run| stage.rope.east.kill(Stage::turn(run), GATEWAY),
    heal: |stage, run| stage.rope.east.start(Stage::turn(run), GATEWAY),
    rest: None,
    after: None,
    reset: true,
    even: true,
    outer: Outer::Dual,
};

const CUT_OFF: Fault = Fault {
    id: "cut-near",
    title: "gateway host cut off (no FIN, no ICMP), the senders' side",
    bound: Bound::Silence(400),
    kind: Kind::Repeated(ms(1_200)),
    cause: |stage, run| cut_off(stage, 0, run),
    heal: reconnect,
    ..KILLED
};

pub(super) const FAULTS: &[Fault] = &[
    KILLED,
    Fault {
        id: "kill-far",
        title: "gateway process killed (-9), the other side",
        cause: |stage, run| stage.rope.west.kill(Stage::turn(run), GATEWAY),
        heal: |stage, run| stage.rope.west.start(Stage::turn(run), GATEWAY),
        ..KILLED
    },
    CUT_OFF,
    Fault {
        id: "cut-far",
        title: "gateway host cut off (no FIN, no ICMP), the other side",
        cause: |stage, run| cut_off(stage, 1, run),
        ..CUT_OFF
    },
    Fault {
        id: "wan-lost",
        title: "a gateway keeps its LAN and loses its WAN",
        cause: |stage, run| {
            let name = stage.side(run).node(1).name.clone();
            stage.rope.lab.wan().isolate(&name)
        },
        ..CUT_OFF
    },
    Fault {
        id: "cpu",
        title: "CPU of a gateway saturated: pinned to core 0 with 4 busy loops, all else on core 1",
        bound: Bound::Steady(None),
        kind: Kind::OnceAlone(minutes(5)),
        prepare: saturate,
        cause: nothing,
        heal: relax,
        rest: None,
        after: None,
        reset: true,
        even: false,
        outer: Outer::Dual,
    },
    Fault {
        id: "drain",
        title: "drain (`hawser drain gateway`) and back",
        bound: Bound::NothingLost,
        kind: Kind::Repeated(ms(1_000)),
        prepare: nothing,
        cause: |stage, run| drain(stage, run, &[]),
        heal: |stage, run| drain(stage, run, &["--undo"]),
        rest: None,
        after: Some(ms(1_000)),
        reset: true,
        even: true,
        outer: Outer::Dual,
    },
    Fault {
        id: "restart-drained",
        title: "gateway restarted (upgrade), drained before",
        bound: Bound::NothingLost,
        kind: Kind::Repeated(ms(300)),
        prepare: nothing,
        cause: |stage, run| {
            drain(stage, run, &["--wait", "20s"])?;
            restart(stage, run)?;
            stage.rope.wait_up()
        },
        heal: |stage, run| drain(stage, run, &["--undo", "--wait", "20s"]),
        rest: None,
        after: Some(ms(500)),
        reset: true,
        even: true,
        outer: Outer::Dual,
    },
    Fault {
        id: "restart",
        title: "gateway restarted (upgrade), not drained",
        bound: Bound::Silence(100),
        kind: Kind::Repeated(ms(1_200)),
        prepare: nothing,
        cause: restart,
        heal: nothing,
        rest: None,
        after: None,
        reset: true,
        even: true,
        outer: Outer::Dual,
    },
    Fault {
        id: "address",
        title: "underlay addresses of a gateway change",
        bound: Bound::Silence(1_000),
        kind: Kind::Repeated(ms(2_000)),
        prepare: nothing,
        cause: |stage, run| readdress(stage, run, 0, 100),
        heal: |stage, run| readdress(stage, run, 100, 0),
        rest: None,
        after: None,
        reset: true,
        even: true,
        outer: Outer::Dual,
    },
];

fn cut_off(stage: &mut Stage, side: u32, run: u32) -> Result<()> {
    let site = stage.side(side);
    let name = site.node(Stage::turn(run)).name.clone();
    site.lan.isolate(&name)?;
    stage.rope.lab.wan().isolate(&name)
}

fn reconnect(stage: &mut Stage, _: u32) -> Result<()> {
    stage.rope.lab.wan().heal()?;
    [0, 1].into_iter().try_for_each(|side| stage.side(side).lan.heal())
}

fn drain(stage: &mut Stage, run: u32, more: &[&str]) -> Result<()> {
    let name = stage.side(run).node(1).name.clone();
    let mut args = vec!["drain", "gateway", &name];
    args.extend(more);
    stage.hawser(run, &args)?;
    Ok(())
}

fn restart(stage: &mut Stage, run: u32) -> Result<()> {
    let site = stage.side(run);
    let status = site.take(1, GATEWAY)?.stop()?;
    ensure!(status.success(), "The gateway ended with {status}");
    site.start(1, GATEWAY)
}

/// Moves the WAN addresses of the first gateway; the last numbers differ by what is given.
fn readdress(stage: &mut Stage, run: u32, from: u16, to: u16) -> Result<()> {
    let site = stage.side(run);
    let host = 10 * u16::from(site.options.number) + 1;
    let ns = &site.node(1).ns;
    let lines = |verb: &str, plus: u16| {
        let (v4, v6) = (host + plus, host + plus);
        [format!("addr {verb} 198.51.100.{v4}/24 dev wan0"), format!("addr {verb} 2001:db8:0:ff::{v6:x}/64 dev wan0")]
    };
    lines("del", from).iter().chain(&lines("add", to)).try_for_each(|line| ns.ip(line).map(drop))
}

/// A gateway of `west` and four busy loops on core 0, everything else on core 1.
fn saturate(stage: &mut Stage, _: u32) -> Result<()> {
    ensure!(thread::available_parallelism()?.get() >= 2, "one core is not enough: the gateway needs one of its own");
    let victim = stage.rope.west.process(1, GATEWAY)?.pid();
    let others: Vec<u32> = stage.processes().map(|(_, _, pid)| pid).filter(|pid| *pid != victim).collect();
    let broker = stage.rope.lab.broker()?.pid();
    for pid in others.into_iter().chain([broker, std::process::id()]) {
        pin(pid, "1")?;
    }
    pin(victim, "0")?;
    let logs = stage.rope.lab.logs();
    for i in 0..4 {
        let mut busy = Command::new("taskset");
        busy.args(["-c", "0", "sh", "-c", "while :; do :; done"]);
        let process = Process::start(&stage.rope.west.node(1).ns, &format!("busy{i}"), busy, &logs)?;
        stage.extras.push(process);
    }
    Ok(())
}

fn relax(stage: &mut Stage, _: u32) -> Result<()> {
    stage.extras.clear();
    pin(std::process::id(), "0-1023")
}

/// All threads of a process.
fn pin(pid: u32, cores: &str) -> Result<()> {
    let output = Command::new("taskset").args(["-acp", cores, &pid.to_string()]).output();
    let output = output.context("Failed to run taskset; install util-linux")?;
    if !output.status.success() {
        bail!("taskset -acp {cores} {pid}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
