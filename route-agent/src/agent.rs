//! The loop: whatever changes, the plan is made anew and the kernel follows.
//!
//! Three ways in, from the fastest: gateways changed → only routes move, one operation each, then the rest follows; objects or
//! devices changed → a full pass; every [`PERIOD`] → a full pass, which finds what somebody else did.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hawser_model::NodeName;
use hawser_model::defaults::{TUN_DEVICE, VXLAN_DEVICE};
use hawser_route_kernel::monitor::{Event, Monitor};
use hawser_route_kernel::{Kernel, Report};
use hawser_route_plan::{Desired, Host, Input, Node, Path, plan, select};
use hawser_telemetry::{Readiness, ReadyHandle};
use tokio::sync::{mpsc, watch};

use crate::metrics::Metrics;
use crate::names::Names;
use crate::objects::{self, Known, Problem, Seen};
use crate::probe::{Asked, Gateways, OwnGatewayGone};
use crate::view::Views;

/// Between full passes while nothing changes.
const PERIOD: Duration = Duration::from_secs(10);
/// Between full passes while the kernel refuses something.
const RETRY: Duration = Duration::from_secs(1);
/// What comes in this time is one pass.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// How long a fresh process waits for gateways' first answers before it moves routes that an earlier one left: until then it
/// knows less than they say.
const FIRST_ANSWERS: Duration = Duration::from_millis(600);

/// What the loop is made of.
pub(crate) struct Parts {
    pub(crate) node: NodeName,
    pub(crate) views: Views,
    pub(crate) kernel: Kernel,
    pub(crate) monitor: Monitor,
    pub(crate) gateways: watch::Receiver<Gateways>,
    pub(crate) asked: watch::Sender<Asked>,
    pub(crate) gone: mpsc::Sender<OwnGatewayGone>,
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

/// Why there is a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Period,
    Changed,
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
        let mut pass: Option<(Instant, Cause)> = Some((Instant::now(), Cause::Changed));
        loop {
            let at = pass.map_or(Instant::now() + PERIOD, |(at, _)| at);
            let soon = |pass: &mut Option<(Instant, Cause)>| {
                let at = Instant::now() + DEBOUNCE;
                *pass = Some(
                    pass.filter(|(_, c)| *c == Cause::Changed).map_or((at, Cause::Changed), |(a, c)| (a.min(at), c)),
                );
            };
            tokio::select! {
                biased;
                changed = self.parts.gateways.changed() => {
                    changed.context("The node probes ended")?;
                    if !self.gateways_changed().await {
                        soon(&mut pass);
                    }
                }
                event = self.parts.monitor.next() => {
                    let event = event.context("The kernel ended the watch on devices")?;
                    if self.device_event(&event) {
                        soon(&mut pass);
                    }
                }
                changed = self.parts.views.changed() => {
                    changed.context("The local API ended")?;
                    soon(&mut pass);
                }
                () = tokio::time::sleep_until(at.into()) => {
                    let cause = pass.map_or(Cause::Period, |(_, cause)| cause);
                    let next = if self.pass(cause).await { (PERIOD, Cause::Period) } else { (RETRY, Cause::Changed) };
                    pass = Some((Instant::now() + next.0, next.1));
                }
            }
        }
    }

    /// Whether a pass is due. The TUN's end is told to every node at once.
    fn device_event(&self, event: &Event) -> bool {
        match event {
            Event::DeviceGone(name) if name == TUN_DEVICE => {
                tracing::info!("this node's gateway is gone, telling the other nodes");
                if self.parts.gone.try_send(OwnGatewayGone).is_err() {
                    tracing::warn!("the end of this node's gateway could not be told");
                }
                true
            }
            Event::DeviceGone(_) => true,
            // Our own changes: a pass is not due to them.
            Event::Device(name) => name != VXLAN_DEVICE && (name == TUN_DEVICE || !self.knows(name)),
            Event::Address => true,
        }
    }

    fn knows(&self, device: &str) -> bool {
        self.host.uplinks.iter().any(|u| u.name == device) || self.host.pod_bridges.contains(device)
    }

    /// A full pass; false where something was refused.
    async fn pass(&mut self, cause: Cause) -> bool {
        let Some(objects) = self.parts.views.now() else { return true };
        match objects::see(&objects, &self.parts.node) {
            Seen::Member(known) => self.known = Some(*known),
            Seen::NotMember => self.known = None,
            Seen::NoMembership => {
                tracing::warn!("there is no Membership named default: the kernel stays as it is; restore the object");
                return true;
            }
        }
        self.report_problems();
        let member = self.known.is_some();
        if let Some(known) = &self.known {
            let (me, others): (Vec<&Node>, Vec<&Node>) =
                known.input.nodes.iter().partition(|n| n.name == self.parts.node);
            match self.parts.kernel.host(me.first().copied(), &others).await {
                Ok(host) => self.host = host,
                Err(error) => tracing::warn!(%error, "this host can't be looked at"),
            }
            if me.is_empty() {
                tracing::warn!(node = %self.parts.node, "there is no Node of this name: no routes between nodes; add one");
            }
        }
        if member && self.applied.is_none() {
            self.first_answers().await;
        }
        let wanted = self.wanted();
        let report = self.parts.kernel.converge(&wanted).await;
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
        if !failed {
            self.ready.take();
        }
        !failed
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

    /// The short way: what is known of gateways changed, so routes move first, and what follows from it comes after. False
    /// where something was refused.
    async fn gateways_changed(&mut self) -> bool {
        let gateways = Arc::clone(&self.parts.gateways.borrow_and_update());
        let Some(before) = self.applied.take() else { return true };
        let wanted = self.wanted();
        let mut refused = false;
        if before.routes != wanted.routes {
            let report = self.parts.kernel.move_routes(&before.routes, &wanted.routes).await;
            self.parts.metrics.failovers.inc();
            tracing::info!(changes = report.changes.len(), "routes moved as gateways changed");
            refused |= !report.errors.is_empty();
            self.note(&report);
        }
        self.parts.metrics.gateways(&gateways);
        let more = before.nft != wanted.nft;
        self.applied = Some(wanted);
        self.serve_names();
        if more && let Some(wanted) = self.applied.clone() {
            let report = self.parts.kernel.converge(&wanted).await;
            refused |= !report.errors.is_empty();
            self.note(&report);
        }
        !refused
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

    /// Says which nodes to ask, on which device.
    async fn ask_gateways(&self) {
        let device = match self.parts.kernel.device_index(VXLAN_DEVICE).await {
            Ok(index) => index.filter(|_| self.host.ipv6 && self.known.is_some()),
            Err(error) => {
                tracing::warn!(%error, "the device between nodes can't be looked at");
                return;
            }
        };
        let nodes = self.known.iter().flat_map(|k| &k.input.nodes);
        let asked = Asked {
            device,
            gateways: nodes.clone().filter(|n| n.gateway).map(|n| n.name.clone()).collect(),
            nodes: nodes.map(|n| n.name.clone()).collect(),
        };
        self.parts.asked.send_if_modified(|known| {
            let changed = *known != asked;
            *known = asked;
            changed
        });
    }

    /// Says what DNS should answer now.
    fn serve_names(&mut self) {
        match (&self.known, self.input()) {
            (Some(known), Some(input)) => {
                self.parts.names.serve(&known.zone, select::dark(&input), &input.dns_addresses);
            }
            _ => self.parts.names.stop(),
        }
    }

    /// Says once what is wrong with objects.
    fn report_problems(&mut self) {
        let now = self.known.as_ref().map(|k| k.problems.clone()).unwrap_or_default();
        for problem in now.difference(&self.problems) {
            tracing::warn!(object = %problem.object, field = problem.field, rule = %problem.rule, "skipped; mend the object");
        }
        self.problems = now;
    }
}
