//! One fault once: numbered packets before, during and after it, and what they and the gateways say.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hawser_e2e::machine::CpuTime;
use hawser_testbed::traffic::udp::{self, Loss, Stream};

use crate::fault::Fault;
use crate::stage::{Covered, Stage};
use crate::watch::Told;
use crate::ways::{self, Spread};

/// Packets before the fault.
const BEFORE: Duration = Duration::from_millis(400);
/// How long connections may take to go on: TCP waits longer and longer between its tries.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long packets may take to be spread again: a hold-down, and what its end takes.
pub const EVEN_LIMIT: Duration = Duration::from_secs(20);
/// Between looks at the spread.
const LOOK: Duration = Duration::from_millis(50);

/// When packets were spread over all paths, in both directions, as they were before the fault; counted from where the fault
/// began to be ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Even {
    /// Nobody looked.
    #[default]
    NotAsked,
    /// After that time at the latest: a flow that moved counts on both its paths for [`ways::FRESH`], and looks take a while.
    After(Duration),
    /// Not within [`EVEN_LIMIT`].
    Never,
}

/// What one run cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// What became of the packets.
    pub loss: Loss,
    /// Share of packets lost on the way to the server and on the way back.
    pub lost_share: [f64; 2],
    /// From where the fault began to be ended to the end of the longest time without traffic.
    pub recovery: Duration,
    /// What gateways said meanwhile.
    pub told: Told,
    /// Connections that broke.
    pub broken: usize,
    /// When packets were spread over all paths again.
    pub even: Even,
    /// Packets that sockets of the measurement itself had no room for: the machine was too busy to measure.
    pub overflows: u64,
    /// Packets that gateways' queues had no room for: the machine was too busy to run them.
    pub full_queues: u64,
    /// The share of CPU time that the machine's host did not give while packets were sent, between 0 and 1.
    pub stolen: f64,
}

/// Causes a fault for `length` and measures it. `even`: also until packets are spread over all paths again.
///
/// # Errors
/// When a step fails: nothing was measured then.
pub fn once(stage: &mut Stage, fault: &Fault, run: u32, length: Duration, even: bool) -> Result<Cost> {
    stage.settle().context("before the fault")?;
    let Covered { spread: before, sockets } = stage.cover().context("before the fault")?;
    (fault.prepare)(stage, run).context("while it was prepared")?;
    let (answered, overflowed, full) = (stage.echo.answered(), stage.overflows()?, stage.full_queues());
    let cpu = CpuTime::now()?;
    let (watch, stream) = (stage.watch(), Stream::start_on(sockets)?);
    thread::sleep(BEFORE);
    (fault.cause)(stage, run).context("while it was caused")?;
    thread::sleep(length);
    let mut healed = None;
    let mut spread = Even::NotAsked;
    if even || fault.after.is_some() {
        let at = *healed.insert(Instant::now());
        (fault.heal)(stage, run).context("while it was healed")?;
        if even && fault.rest.is_none() {
            spread = wait_even(stage, &before, at)?;
        }
        thread::sleep(fault.after.unwrap_or_default());
        if even && let Some(rest) = fault.rest {
            let at = Instant::now();
            rest(stage, run).context("while the rest was healed")?;
            spread = wait_even(stage, &before, at)?;
        }
    }
    let loss = stream.finish()?;
    let arrived = stage.echo.answered() - answered;
    let told = watch.finish();
    let stolen = CpuTime::now()?.stolen_since(&cpu);
    if healed.is_none() {
        (fault.heal)(stage, run).context("while it was healed")?;
    }
    let gap_end = loss.gap_began.map(|began| began + loss.longest_gap);
    let cost = Cost {
        loss,
        lost_share: [share(loss.sent, arrived), share(arrived, loss.received + loss.duplicates)],
        recovery: healed.zip(gap_end).map_or(Duration::MAX, |(healed, end)| end.saturating_duration_since(healed)),
        told,
        broken: stage.tcp.count() - stage.tcp.alive(PATIENCE),
        even: spread,
        overflows: stage.overflows()? - overflowed,
        full_queues: stage.full_queues().saturating_sub(full),
        stolen,
    };
    if fault.reset {
        stage.reset().context("after the fault")?;
    }
    Ok(cost)
}

fn share(of: u64, left: u64) -> f64 {
    if of == 0 { 0.0 } else { of.saturating_sub(left) as f64 / of as f64 }
}

fn wait_even(stage: &Stage, before: &Spread, healed: Instant) -> Result<Even> {
    while healed.elapsed() < EVEN_LIMIT {
        if ways::is_like(&stage.spread_now()?, before) {
            return Ok(Even::After(healed.elapsed()));
        }
        thread::sleep(LOOK);
    }
    Ok(Even::Never)
}

impl Stage {
    /// Packets that gateways' queues had no room for, since each was started.
    #[must_use]
    pub fn full_queues(&self) -> u64 {
        // A gateway that does not run has no queue.
        self.rope.gateways().filter_map(|node| node.ns.queue_overflows("hawser-tun").ok()).sum()
    }

    /// Packets that the sockets of the stream and of its server had no room for so far.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn overflows(&self) -> Result<u64> {
        self.ends().into_iter().map(|end| udp::overflows(&end.ns)).sum()
    }
}
