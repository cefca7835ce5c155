//! Tasks with a name, an owner and an end. A [`Task`] is aborted when its owner drops it; [`Tasks`] are the parts of one
//! process: the first that fails ends them all, and at the end they get a moment to finish what they are doing.

use std::future::Future;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// A background task: aborted when dropped; an error it ends with is logged under its name.
#[derive(Debug)]
pub struct Task {
    abort: AbortHandle,
}

impl Task {
    /// Starts it on the current runtime.
    pub fn spawn(name: &'static str, work: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> Self {
        let work = async move {
            if let Err(error) = work.await {
                tracing::error!(task = name, error = format!("{error:#}"), "task failed");
            }
        };
        let span = tracing::debug_span!("task", name);
        Self { abort: tokio::spawn(work.instrument(span)).abort_handle() }
    }

    /// Whether it has ended, well or not.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.abort.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// The parts of a process.
#[derive(Debug)]
pub struct Tasks {
    token: CancellationToken,
    set: JoinSet<(&'static str, anyhow::Result<()>)>,
    names: std::collections::HashMap<tokio::task::Id, &'static str>,
}

impl Tasks {
    /// No parts yet. `token` is cancelled by the first failure, and its cancellation asks the parts to end.
    #[must_use]
    pub fn new(token: CancellationToken) -> Self {
        Self { token, set: JoinSet::new(), names: std::collections::HashMap::new() }
    }

    /// The token that parts should watch.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Starts a part. It may end early and well; ending with an error, or by a panic, ends the process.
    pub fn spawn(&mut self, name: &'static str, work: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let span = tracing::debug_span!("task", name);
        let handle = self.set.spawn(async move { (name, work.await) }.instrument(span));
        self.names.insert(handle.id(), name);
    }

    /// Runs until the token is cancelled or a part fails, then waits up to `drain` for the parts to end and aborts the rest.
    ///
    /// # Errors
    /// The first failure, named after its part.
    pub async fn run(mut self, drain: Duration) -> anyhow::Result<()> {
        let mut first = None;
        loop {
            let ended = tokio::select! {
                biased;
                () = self.token.cancelled() => break,
                ended = self.set.join_next_with_id() => ended,
            };
            match ended {
                Some(ended) => self.note(ended, &mut first),
                None => break,
            }
        }
        let deadline = tokio::time::Instant::now() + drain;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.set.join_next_with_id()).await {
            self.note(ended, &mut first);
        }
        if !self.set.is_empty() {
            let mut left: Vec<_> = self.names.values().copied().collect();
            left.sort_unstable();
            tracing::warn!(?left, ?drain, "tasks did not end in time, aborting them");
            self.set.shutdown().await;
        }
        first.map_or(Ok(()), Err)
    }

    fn note(&mut self, ended: Ended, first: &mut Option<anyhow::Error>) {
        let (name, result) = match ended {
            Ok((id, (name, result))) => {
                self.names.remove(&id);
                (name, result)
            }
            Err(error) => {
                let name = self.names.remove(&error.id()).unwrap_or("task");
                (name, Err(anyhow::Error::new(error)))
            }
        };
        match result {
            Ok(()) => tracing::debug!(task = name, "task ended"),
            Err(error) => {
                tracing::error!(task = name, error = format!("{error:#}"), "task failed");
                first.get_or_insert_with(|| error.context(name));
                self.token.cancel();
            }
        }
    }
}

type Ended = Result<(tokio::task::Id, (&'static str, anyhow::Result<()>)), JoinError>;
