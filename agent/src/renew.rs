//! Renews the certificate at two thirds of its life, or as soon as the process comes to it, even after it has ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hawser_broker_client::{IdentityDir, MemberIdentity, member};
use hawser_local_api::Leadership;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::link::full_jitter;
use crate::metrics::Metrics;

/// The clock is looked at at least this often: it may have been set.
const LOOK: Duration = Duration::from_secs(60);
/// After a failure; the last third of a certificate's life has room for many.
const RETRY: Duration = Duration::from_secs(30);
/// What one attempt may take.
const WITHIN: Duration = Duration::from_secs(15);

/// Runs until the token is cancelled.
pub(crate) async fn run(
    dir: IdentityDir,
    mut identities: watch::Receiver<Option<MemberIdentity>>,
    leadership: Arc<dyn Leadership>,
    metrics: Metrics,
    token: CancellationToken,
) {
    loop {
        let identity = identities.borrow_and_update().clone();
        let wait = match &identity {
            Some(identity) => match due_in(identity) {
                Some(Duration::ZERO) if leadership.is_current() => renew(&dir, identity, &metrics).await,
                Some(wait) => wait.clamp(Duration::from_millis(100), LOOK),
                None => LOOK,
            },
            None => LOOK,
        };
        tokio::select! {
            () = token.cancelled() => return,
            changed = identities.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// How long until the renewal is due; none where the certificate can't be read.
fn due_in(identity: &MemberIdentity) -> Option<Duration> {
    let at = identity.renew_at().ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO))
}

/// One attempt; how long until the next look.
async fn renew(dir: &IdentityDir, identity: &MemberIdentity, metrics: &Metrics) -> Duration {
    let result = match tokio::time::timeout(WITHIN, member::renew(identity)).await {
        // A leave or a new join may have come between: its files stay.
        Ok(Ok(renewed)) => match dir.info() {
            Ok(Some(info)) if info == identity.info => dir.store_chain(&renewed).map_err(|e| e.to_string()),
            Ok(_) => return LOOK,
            Err(e) => Err(e.to_string()),
        },
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("no answer within {WITHIN:?}")),
    };
    match result {
        Ok(()) => {
            metrics.renewals.inc();
            tracing::info!("certificate renewed");
            LOOK
        }
        Err(error) => {
            tracing::warn!(error, "the certificate can't be renewed yet");
            RETRY / 2 + full_jitter(RETRY)
        }
    }
}
