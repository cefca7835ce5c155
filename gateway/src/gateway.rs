//! The loop: looks at the local API, applies what follows to the tunnel, writes this gateway's own object.
//!
//! Level-triggered: each turn derives everything anew and applies the difference. A turn that fails is taken again. `keys`
//! is the part of a turn that replaces the lanes' keys.

mod keys;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hawser_api::core::Node;
use hawser_api::hawser::{GatewayDrain, GatewayNode, GatewayNodeSpec, KeyRotation, Membership, RemoteCluster};
use hawser_api::mcs::ClusterProperty;
use hawser_local_api::Client;
use hawser_local_api::client::View;
use hawser_local_api::follow::Changes;
use hawser_node_probe::ProbeKey;
use hawser_telemetry::{Readiness, ReadyHandle, Task};
use hawser_tunnel::{Config, LaneInfo, Tunnel};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::drain::Drain;
use crate::heap;
use crate::memory::{Memory, Roster};
use crate::plan::{Plan, Problem, lane_spec};
use crate::planner::Planner;
use crate::publish::{self, Publisher};
use crate::resolve::{self, Answers};
use crate::responder::{Counts, Responder, Said, States, next_state};
use crate::rotation::{Rotation, Wishes};
use crate::state::Shared;
use crate::view::{Inputs, Seen, look, wishes};

/// After a first change, how long others may come along.
const QUIET: Duration = Duration::from_millis(20);
/// Between turns without a change: retries what failed, follows underlay MTUs.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between the announcement of a stop and the stop: peers and route agents choose other gateways meanwhile.
const FAREWELL: Duration = Duration::from_millis(400);
/// How long lanes may take to let go of a peer before the roster is acknowledged.
const SETTLE: Duration = Duration::from_secs(1);

struct Views {
    properties: watch::Receiver<View<ClusterProperty>>,
    memberships: watch::Receiver<View<Membership>>,
    nodes: watch::Receiver<View<Node>>,
    remotes: watch::Receiver<View<RemoteCluster>>,
    drains: watch::Receiver<View<GatewayDrain>>,
    rotations: watch::Receiver<View<KeyRotation>>,
    gateways: watch::Receiver<View<GatewayNode>>,
}

/// See the module.
pub(crate) struct Gateway {
    config: Config,
    probe_key: PathBuf,
    shared: Shared,
    counts: Counts,
    memory: Memory,
    views: Views,
    planner: Planner,
    names: watch::Sender<BTreeSet<String>>,
    answers: watch::Receiver<Answers>,
    said: watch::Sender<Arc<Said>>,
    responder: Option<(String, Task)>,
    states: Option<States>,
    publisher: Publisher,
    drain: Drain,
    rotation: Rotation,
    problems: BTreeSet<Problem>,
    nodes: Vec<hawser_model::NodeName>,
    local_api: Option<ReadyHandle>,
    stopping: bool,
}

impl Gateway {
    /// The loop, and the resolver's task beside it.
    pub(crate) fn new(
        client: Client,
        dir: &Path,
        config: Config,
        probe_key: PathBuf,
        shared: Shared,
        counts: Counts,
        readiness: &Readiness,
    ) -> (Self, impl Future<Output = anyhow::Result<()>> + Send + use<>) {
        let (names, names_rx) = watch::channel(BTreeSet::new());
        let (answers_tx, answers) = watch::channel(Answers::default());
        let views = Views {
            properties: client.reflect(),
            memberships: client.reflect(),
            nodes: client.reflect(),
            remotes: client.reflect(),
            drains: client.reflect(),
            rotations: client.reflect(),
            gateways: client.reflect(),
        };
        let memory = Memory::open(dir);
        let gateway = Self {
            publisher: Publisher::new(client, config.node.clone()),
            drain: Drain::default(),
            rotation: Rotation::new(memory.answered()),
            config,
            probe_key,
            shared,
            counts,
            memory,
            views,
            planner: Planner::default(),
            names,
            answers,
            said: watch::channel(Arc::default()).0,
            responder: None,
            states: None,
            problems: BTreeSet::new(),
            nodes: Vec::new(),
            local_api: Some(readiness.handle("local API")),
            stopping: false,
        };
        (gateway, resolve::run(names_rx, answers_tx))
    }

    /// Runs until the token is cancelled, then says farewell and stops the tunnel.
    pub(crate) async fn run(mut self, token: CancellationToken) -> anyhow::Result<()> {
        let mut changes = Changes::new(QUIET)
            .with(&self.views.properties)
            .with(&self.views.memberships)
            .with(&self.views.nodes)
            .with(&self.views.remotes)
            .with(&self.views.drains)
            .with(&self.views.rotations)
            .with(&self.answers);
        loop {
            self.turn().await?;
            tokio::select! {
                () = token.cancelled() => break,
                more = changes.next() => if !more { bail!("The local API is closed") },
                () = next_of(&mut self.states) => {}
                // What a change left free, once all is calm.
                () = tokio::time::sleep(INTERVAL) => if self.planner.take_new() { heap::trim() },
            }
        }
        self.stop().await;
        Ok(())
    }

    /// One full pass.
    async fn turn(&mut self) -> anyhow::Result<()> {
        let seen = {
            let (properties, memberships) =
                (self.views.properties.borrow().clone(), self.views.memberships.borrow().clone());
            let (nodes, remotes) = (self.views.nodes.borrow().clone(), self.views.remotes.borrow().clone());
            let drains = self.views.drains.borrow().clone();
            look(&properties, &memberships, &nodes, &remotes, &drains)
        };
        match seen {
            Seen::Incomplete => {
                if let Some(inputs) = self.memory.inputs().cloned() {
                    self.apply(&inputs, None, None).await?;
                }
                return Ok(());
            }
            Seen::NotMember => self.leave().await,
            Seen::Member { inputs, roster } => {
                let wishes = {
                    let (memberships, rotations, gateways) =
                        (self.views.memberships.borrow(), self.views.rotations.borrow(), self.views.gateways.borrow());
                    wishes(self.config.node.as_str(), &memberships, &rotations, &gateways)
                };
                self.apply(&inputs, roster.as_ref(), wishes.as_ref()).await?;
                self.memory.remember(&inputs);
            }
        }
        self.local_api = None;
        Ok(())
    }

    /// Brings tunnel, responder and object in line with the inputs.
    async fn apply(
        &mut self,
        inputs: &Inputs,
        offered: Option<&Roster>,
        wishes: Option<&Wishes>,
    ) -> anyhow::Result<()> {
        let roster = match self.memory.roster(offered) {
            Ok(roster) => roster,
            Err(error) => {
                tracing::warn!(%error, "the roster can't be kept on disk, so it is not applied yet");
                return Ok(());
            }
        };
        let answers = Arc::clone(&self.answers.borrow());
        let mut next = match self.planner.plan(inputs, &roster, &self.config.node, &answers) {
            Ok(plan) => plan,
            Err(problem) => {
                self.note_problems(BTreeSet::from([problem]));
                return Ok(());
            }
        };
        if self.lanes().is_empty() {
            self.start(&next).await?;
        }
        self.note_problems(std::mem::take(&mut next.problems));
        self.names.send_if_modified(|names| {
            let changed = *names != next.names;
            names.clone_from(&next.names);
            changed
        });
        self.nodes.clone_from(&next.nodes);
        let settled = {
            let mut state = self.shared.lock();
            let Some(tunnel) = &state.tunnel else { bail!("The tunnel is gone") };
            if !tunnel.is_healthy() {
                bail!("A lane of the tunnel ended: was its device {} removed?", self.config.device);
            }
            tunnel.set_draining(next.draining || self.stopping);
            tunnel.apply(Arc::clone(&next.peers));
            let settled = tunnel.settled();
            state.cluster = next.peers.cluster.to_string();
            state.draining = next.draining;
            settled
        };
        let in_force = tokio::time::timeout(SETTLE, settled).await.is_ok();
        if in_force {
            self.shared.lock().roster_revision = roster.revision;
        } else {
            tracing::warn!(roster = roster.revision, "lanes have not taken the peers over yet");
        }
        self.say();
        self.respond();
        let clusters = self.states.as_ref().map(|s| Arc::clone(&s.borrow())).unwrap_or_default();
        let revision = self.shared.lock().roster_revision;
        let packets = self.shared.lock().user_packets();
        let drain = self.drain.judge(next.draining, packets, Instant::now());
        if let Some(wishes) = wishes.filter(|_| in_force && !self.stopping) {
            self.rotate(wishes);
        }
        let lanes = self.lanes();
        let spec = GatewayNodeSpec { lanes: lanes.iter().map(lane_spec).collect(), ..next.spec };
        let keys = publish::keys(&lanes, &self.rotation);
        self.publisher.write(spec, revision, drain, keys, &clusters).await;
        Ok(())
    }

    fn lanes(&self) -> Vec<LaneInfo> {
        self.shared.lock().tunnel.as_ref().map(Tunnel::lanes).unwrap_or_default()
    }

    async fn start(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let cluster = plan.peers.cluster.clone();
        let tunnel = Tunnel::start(self.config.clone(), cluster.clone()).await.context("Failed to start the tunnel")?;
        tracing::info!(%cluster, lanes = tunnel.lanes().len(), port = self.config.port, "tunnel started");
        self.states = Some(tunnel.cluster_states());
        self.shared.lock().tunnel = Some(tunnel);
        Ok(())
    }

    /// No member any more: nothing stays, in the kernel, in the local API or on disk, but the keys.
    async fn leave(&mut self) {
        self.responder = None;
        self.states = None;
        let tunnel = {
            let mut state = self.shared.lock();
            (state.cluster, state.roster_revision, state.rotation) = (String::new(), 0, None);
            state.tunnel.take()
        };
        if let Some(tunnel) = tunnel {
            tunnel.shutdown().await;
            tracing::info!("no member of a cluster set any more: tunnel stopped");
        }
        self.memory.clear();
        self.planner.clear();
        self.rotation = Rotation::default();
        self.publisher.remove().await;
    }

    /// Peers and route agents are told first; those that listen have moved on when the tunnel goes.
    async fn stop(&mut self) {
        self.stopping = true;
        let carries = {
            let state = self.shared.lock();
            state.tunnel.as_ref().is_some_and(|tunnel| {
                tunnel.set_draining(true);
                tunnel.cluster_states().borrow().iter().any(|c| c.live_paths > 0)
            })
        };
        if carries {
            self.say();
            tokio::time::sleep(FAREWELL).await;
        }
        let tunnel = self.shared.lock().tunnel.take();
        if let Some(tunnel) = tunnel {
            tunnel.shutdown().await;
        }
    }

    fn note_problems(&mut self, problems: BTreeSet<Problem>) {
        for problem in problems.difference(&self.problems) {
            let Problem { object, field, rule, remedy } = problem;
            tracing::warn!(object, field, rule, remedy, "left out");
        }
        self.problems = problems;
    }

    /// What route agents get to know.
    fn say(&self) {
        let said = Said { draining: self.stopping || self.shared.lock().draining, nodes: self.nodes.clone() };
        self.said.send_if_modified(|current| {
            let changed = **current != said;
            if changed {
                *current = Arc::new(said);
            }
            changed
        });
    }

    /// Keeps the responder running with the key that is on disk.
    fn respond(&mut self) {
        let text = match std::fs::read_to_string(&self.probe_key) {
            Ok(text) => text,
            Err(error) => {
                tracing::debug!(path = %self.probe_key.display(), %error, "no key for node probes");
                return;
            }
        };
        if self.responder.as_ref().is_some_and(|(known, task)| *known == text && !task.is_finished()) {
            return;
        }
        let Some(states) = self.states.clone() else { return };
        let Ok(key) = ProbeKey::from_text(&text) else {
            tracing::warn!(path = %self.probe_key.display(), "the key for node probes is not 32 bytes in base64");
            return;
        };
        let (node, said) = (self.config.node.clone(), self.said.subscribe());
        let responder = Responder::new(&key, node, said, states, self.counts.clone());
        self.responder = Some((text, Task::spawn("node probes", responder.run())));
    }
}

async fn next_of(states: &mut Option<States>) {
    match states {
        Some(states) => next_state(states).await,
        None => std::future::pending().await,
    }
}
