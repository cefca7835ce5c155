//! The one thread that owns the core and the store.
//!
//! Operations are closures over [`State`]. Those that wait together are applied one after the other, made durable in one
//! commit, and only then answered; a reader that asks for its next messages is such an operation too, so nobody sees what
//! could still be lost. When a commit fails nothing of it is answered and the process ends: the store knows the truth.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::Context;
use hawser_broker_core::{Core, Event, Refusal, StreamId};
use hawser_broker_pki::Ca;
use hawser_broker_store::Store;
use hawser_model::export::Timestamp;
use hawser_proto::v1;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tonic::Status;

use crate::metrics::Metrics;
use crate::{convert, state};

/// Operations that wait at most; senders wait behind them.
const QUEUE: usize = 1_024;
/// Operations that share one commit.
const BATCH: usize = 512;

type Answer = Box<dyn FnOnce() + Send>;
type Operation = Box<dyn FnOnce(&mut State, Timestamp) -> Answer + Send>;

/// What operations work on.
pub(crate) struct State {
    pub(crate) core: Core,
    /// How open streams are told.
    pub(crate) streams: HashMap<StreamId, Arc<Signals>>,
}

/// How a stream ends, if not by its client's wish.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    /// A newer stream holds the shard.
    Fenced { newer_term: u64, holder: String },
    /// The membership ended.
    Over(Refusal),
}

/// Tells one stream that there is something for it.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Its reader has messages coming.
    pub(crate) wake: Notify,
    /// It has to end.
    pub(crate) ending: OnceLock<Ending>,
    /// `ending` is set.
    pub(crate) ended: Notify,
}

/// What the engine tells everybody.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    /// The signed roster.
    pub(crate) roster: watch::Receiver<Arc<v1::SignedRoster>>,
    /// Counts changes of acknowledgements and connections.
    pub(crate) acks: watch::Receiver<u64>,
}

/// Gives the engine operations.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    queue: mpsc::Sender<Operation>,
}

impl Handle {
    /// Applies `operate`; its result comes back once everything it changed is durable.
    ///
    /// # Errors
    /// `UNAVAILABLE`, when the engine has ended.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        operate: impl FnOnce(&mut State, Timestamp) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (answer, result) = oneshot::channel();
        let operation: Operation = Box::new(move |state, now| {
            let value = operate(state, now);
            // The caller may have gone; what it asked for is done all the same.
            Box::new(move || drop(answer.send(value)))
        });
        let gone = || Status::unavailable("the broker is shutting down; try again");
        self.queue.send(operation).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())
    }
}

/// The engine before it runs.
pub(crate) struct Engine {
    state: State,
    store: Box<dyn Store>,
    ca: Arc<Ca>,
    queue: mpsc::Receiver<Operation>,
    roster: watch::Sender<Arc<v1::SignedRoster>>,
    acks: watch::Sender<u64>,
    metrics: Metrics,
}

impl Engine {
    /// Takes up the core; what it changed on loading is made durable, and the roster is signed.
    pub(crate) fn new(
        core: Core,
        store: Box<dyn Store>,
        ca: Arc<Ca>,
        metrics: Metrics,
    ) -> anyhow::Result<(Self, Handle, Published)> {
        let (sender, queue) = mpsc::channel(QUEUE);
        let (roster, roster_rx) = watch::channel(Arc::new(v1::SignedRoster::default()));
        let (acks, acks_rx) = watch::channel(0);
        let state = State { core, streams: HashMap::new() };
        let mut engine = Self { state, store, ca, queue, roster, acks, metrics };
        engine.commit()?;
        engine.publish()?;
        Ok((engine, Handle { queue: sender }, Published { roster: roster_rx, acks: acks_rx }))
    }

    /// Starts the thread; the receiver says how it ended. It ends well when every handle is gone.
    pub(crate) fn start(mut self) -> anyhow::Result<oneshot::Receiver<anyhow::Result<()>>> {
        let (done, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || {
                let result = self.run();
                // The store is closed before anybody hears of the end: another process may open it then.
                drop(self);
                drop(done.send(result));
            })
            .context("start the engine's thread")?;
        Ok(ended)
    }

    fn run(&mut self) -> anyhow::Result<()> {
        while let Some(first) = self.queue.blocking_recv() {
            let now = state::timestamp(state::now());
            let mut answers = vec![first(&mut self.state, now)];
            while answers.len() < BATCH
                && let Ok(next) = self.queue.try_recv()
            {
                answers.push(next(&mut self.state, now));
            }
            self.commit()?;
            self.publish()?;
            answers.into_iter().for_each(|answer| answer());
            for stream in self.state.core.pending() {
                if let Some(signals) = self.state.streams.get(&stream) {
                    signals.wake.notify_one();
                }
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        let batch = self.state.core.take_batch();
        if batch.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        self.store.commit(&batch).context("the store can't commit; nothing of it was acknowledged")?;
        self.metrics.commits.observe(start.elapsed().as_secs_f64());
        Ok(())
    }

    fn publish(&mut self) -> anyhow::Result<()> {
        let events = self.state.core.take_events();
        // The roster first: a stream that ends hands it on as its last word.
        if events.contains(&Event::Roster) {
            let roster = convert::roster(self.state.core.roster().public()).encode();
            let signature = self.ca.sign_roster(&roster).context("sign the roster")?;
            self.roster.send_replace(Arc::new(v1::SignedRoster { roster, signature }));
        }
        if !events.is_empty() {
            self.acks.send_modify(|count| *count += 1);
        }
        for event in events {
            match event {
                Event::Roster | Event::Acks => {}
                Event::End { stream, reason } => self.end(stream, Ending::Over(reason)),
                Event::Fenced { stream, newer_term, holder } => {
                    self.end(stream, Ending::Fenced { newer_term, holder });
                }
                Event::DuplicateIdentity { cluster, holders: (older, newer) } => {
                    self.metrics.duplicate_identities.inc();
                    tracing::warn!(
                        %cluster, older, newer, reason = "DuplicateIdentity",
                        "two owners of one identity end each other's streams; remove the copy, or join it as another cluster"
                    );
                }
            }
        }
        self.metrics.observe(&self.state.core);
        Ok(())
    }

    fn end(&self, stream: StreamId, ending: Ending) {
        if let Some(signals) = self.state.streams.get(&stream) {
            // The first reason stands.
            let _ = signals.ending.set(ending);
            signals.ended.notify_waiters();
            signals.ended.notify_one();
        }
    }
}
