//! Ending a process: the first signal asks it to end, a second one ends it at once.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::tasks::Task;

/// Tells a process to end; cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown {
    token: CancellationToken,
    /// Listens for signals as long as any clone lives.
    _signals: Option<Arc<Task>>,
}

impl Shutdown {
    /// Ends the process on SIGTERM or SIGINT: the first cancels the token, a second one exits with code 1 at once.
    ///
    /// # Errors
    /// When the signal handlers can't be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let token = CancellationToken::new();
        let cancel = token.clone();
        let signals = Task::spawn("signals", async move {
            for abort in [false, true] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if abort {
                    tracing::warn!(signal = name, "ending at once");
                    std::process::exit(1);
                }
                tracing::info!(signal = name, "shutting down");
                cancel.cancel();
            }
            Ok(())
        });
        Ok(Self { token, _signals: Some(Arc::new(signals)) })
    }

    /// Ends only by [`Shutdown::trigger`]: for tests and for processes inside another.
    #[must_use]
    pub fn manual() -> Self {
        Self { token: CancellationToken::new(), _signals: None }
    }

    /// Is cancelled when the process should end. Clones and children of it are the caller's to make.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Asks the process to end, as the first signal does.
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Waits until the process should end.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }
}
