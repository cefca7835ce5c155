//! The loop: whatever changes, the plan is made anew and the kernel follows.
//!
//! Three ways in, from the fastest: gateways changed → only routes move, one operation each, then the rest follows, and a full
//! pass that is under way is broken off for it; objects changed → a full pass, if the plan did; devices changed, or time has
//! passed → a full pass, which finds what somebody else did. When each is due is `schedule`'s.

mod schedule;
mod tell;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hawser_model::NodeName;
use hawser_model::defaults::{TUN_DEVICE, VXLAN_DEVICE};
use hawser_route_kernel::monitor::Event;
use hawser_route_kernel::{Kernel, Report};
use hawser_route_plan::{Desired, Host, Input, Node, Path, plan};
use hawser_telemetry::{Readiness, ReadyHandle};
use tokio::sync::{mpsc, watch};

use crate::metrics::Metrics;
use crate::names::Names;
use crate::objects::{self, Known, Problem, Seen};
use crate::probe::{Asked, Gateways};
use crate::view::Views;
use schedule::{Cause, Passed, Schedule};

/// How long a fresh process waits for gateways' first answers before it moves routes that an earlier one left: until then it
/// knows less than they say.
const FIRST_ANSWERS: Duration = Duration::from_millis(600);

/// What the loop is made of.
pub(crate) struct Parts {
    pub(crate) node: NodeName,
    pub(crate) views: Views,
    pub(crate) kernel: Kernel,
    /// What the kernel tells of devices and addresses.
    pub(crate) devices: mpsc::UnboundedReceiver<Event>,
    pub(crate) gateways: watch::Receiver<Gateways>,
    pub(crate) asked: watch::Sender<Asked>,
    pub(crate) names: Names,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
}

/// See the module.
pub(crate) struct Agent {
    parts: Parts,
    /// What the objects said last.
    known: Option<Known>,
    host: Host,
    /// What the kernel was last made to hold; none before the first pass.
    applied: Option<Desired>,
    problems: BTreeSet<Problem>,
    /// What the kernel refused last time: said once.
    refused: BTreeSet<String>,
    ready: Option<[ReadyHandle; 2]>,
}

impl Agent {
    pub(crate) fn new(parts: Parts) -> Self {
        let ready = Some([parts.readiness.handle("local API"), parts.readiness.handle("kernel")]);
        Self {
            parts,
            known: None,
            host: Host::default(),
            applied: None,
            problems: BTreeSet::new(),
            refused: BTreeSet::new(),
            ready,
        }
    }

    /// Runs until the local API or the kernel's socket ends.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let mut schedule = Schedule::new(Instant::now());
        loop {
            tokio::select! {
                biased;
                changed = self.parts.gateways.changed() => {
                    changed.context("The node probes ended")?;
                    if self.gateways_changed().await {
                        schedule.note(Cause::Host, Instant::now());
                    }
                }
                event = self.parts.devices.recv() => {
                    let event = event.context("The watch on devices ended")?;
                    if self.is_reason(&event) {
                        schedule.note(Cause::Host, Instant::now());
                    }
                }
                changed = self.parts.views.changed() => {
                    changed.context("The local API ended")?;
                    schedule.note(Cause::Objects, Instant::now());
                }
                () = tokio::time::sleep_until(schedule.at().into()) => {
                    let cause = schedule.begin(Instant::now());
                    let passed = self.pass(cause, schedule.may_break()).await;
                    schedule.end(passed, Instant::now());
                    if passed == Passed::Broken {
                        self.gateways_changed().await;
                    }
                }
            }
        }
    }

    /// Whether a pass is due to it.
    fn is_reason(&self, event: &Event) -> bool {
        match event {
            Event::DeviceGone(_) | Event::Address => true,
            // Our own changes are no reason.
            Event::Device(name) => name != VXLAN_DEVICE && (name == TUN_DEVICE || !self.knows(name)),
        }
    }

    fn knows(&self, device: &str) -> bool {
        self.host.uplinks.iter().any(|u| u.name == device) || self.host.pod_bridges.contains(device)
    }

    /// A full pass, which gateways that change may break off.
    async fn pass(&mut self, cause: Cause, may_break: bool) -> Passed {
        let Some(objects) = self.parts.views.now() else { return Passed::Nothing };
        let known = match objects::see(&objects, &self.parts.node) {
            Seen::Member(known) => Some(*known),
            Seen::NotMember => None,
            Seen::NoMembership => {
                tracing::warn!("there is no Membership named default: the kernel stays as it is; restore the object");
                return Passed::Nothing;
            }
        };
        let before = std::mem::replace(&mut self.known, known);
        self.report_problems();
        let member = self.known.is_some();
        let (before, now) = (before.as_ref(), self.known.as_ref());
        let as_before = cause == Cause::Objects && before.map(|k| &k.input.nodes) == now.map(|k| &k.input.nodes);
        if !as_before {
            self.look_at_host().await;
        }
        if member && self.applied.is_none() {
            self.first_answers().await;
        }
        let wanted = self.wanted();
        if as_before && self.applied.as_ref() == Some(&wanted) {
            self.ask_gateways().await;
            self.serve_names();
            return Passed::Nothing;
        }
        // Without a first pass there is no fast way.
        let may_break = may_break && self.applied.is_some();
        let Parts { kernel, gateways, .. } = &mut self.parts;
        let report = tokio::select! {
            biased;
            Ok(()) = gateways.changed(), if may_break => return Passed::Broken,
            report = kernel.converge(&wanted) => report,
        };
        self.parts.metrics.passes.inc();
        if cause == Cause::Period {
            self.parts.metrics.drift.inc_by(report.changes.len() as u64);
        }
        let failed = !report.errors.is_empty();
        self.note(&report);
        let left = self.applied.as_ref().is_some_and(|a| a.vxlan.is_some()) && !member;
        if left {
            tracing::info!("this cluster is no member any more: everything of ours is removed");
        }
        self.applied = Some(wanted);
        self.parts.metrics.gateways(&self.parts.gateways.borrow());
        self.ask_gateways().await;
        self.serve_names();
        if failed {
            return Passed::Refused;
        }
        self.ready.take();
        Passed::Converged
    }

    /// Which devices and addresses there are.
    async fn look_at_host(&mut self) {
        let Some(known) = &self.known else { return };
        let (me, others): (Vec<&Node>, Vec<&Node>) = known.input.nodes.iter().partition(|n| n.name == self.parts.node);
        match self.parts.kernel.host(me.first().copied(), &others).await {
            Ok(host) => self.host = host,
            Err(error) => tracing::warn!(%error, "this host can't be looked at"),
        }
        if me.is_empty() {
            tracing::warn!(node = %self.parts.node, "there is no Node of this name: no routes between nodes; add one");
        }
    }

    /// The kernel may hold an earlier process's routes, which knew which gateways live: this one asks before it judges.
    async fn first_answers(&mut self) {
        self.ask_gateways().await;
        let expected = self.parts.asked.borrow().clone();
        if expected.device.is_none() {
            return;
        }
        let answered = |known: &Gateways| {
            expected.gateways.iter().all(|g| known.get(g).is_some_and(|view| view.path != Path::Unknown))
        };
        if tokio::time::timeout(FIRST_ANSWERS, self.parts.gateways.wait_for(answered)).await.is_err() {
            tracing::info!(waited = ?FIRST_ANSWERS, "not every gateway has answered yet");
        }
    }

    /// The plan's input as of now.
    fn input(&self) -> Option<Input> {
        let mut input = self.known.as_ref()?.input.clone();
        input.host = self.host.clone();
        input.gateways = (**self.parts.gateways.borrow()).clone();
        Some(input)
    }

    fn wanted(&self) -> Desired {
        self.input().map(|input| plan(&input)).unwrap_or_default()
    }

    /// The short way: what is known of gateways changed, so routes move. Whether a pass is due, for what else follows from it
    /// or was refused.
    async fn gateways_changed(&mut self) -> bool {
        let gateways = Arc::clone(&self.parts.gateways.borrow_and_update());
        let Some(before) = self.applied.take() else { return false };
        let wanted = self.wanted();
        let mut due = before.nft != wanted.nft;
        if before.routes != wanted.routes {
            let report = self.parts.kernel.move_routes(&before.routes, &wanted.routes).await;
            self.parts.metrics.failovers.inc();
            tracing::info!(changes = report.changes.len(), "routes moved as gateways changed");
            due |= !report.errors.is_empty();
            self.note(&report);
        }
        self.parts.metrics.gateways(&gateways);
        self.applied = Some(wanted);
        self.serve_names();
        due
    }

    fn note(&mut self, report: &Report) {
        self.parts.metrics.changes.inc_by(report.changes.len() as u64);
        self.parts.metrics.errors.inc_by(report.errors.len() as u64);
        for change in &report.changes {
            tracing::debug!(%change, "kernel");
        }
        let refused: BTreeSet<String> = report.errors.iter().map(ToString::to_string).collect();
        for error in refused.difference(&self.refused) {
            tracing::warn!(%error, "the kernel is not as it should be; tried again with every pass");
        }
        self.refused = refused;
    }
}
