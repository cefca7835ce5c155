//! Names among the candidates: resolved in the background, again now and then, the last answer kept.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Between looks at every name.
const INTERVAL: Duration = Duration::from_secs(30);
/// Between looks while some name has no answer yet.
const RETRY: Duration = Duration::from_secs(2);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses kept of one name.
const ADDRESSES_MAX: usize = 16;

/// Addresses by name.
pub(crate) type Answers = Arc<BTreeMap<String, Vec<IpAddr>>>;

/// Asks for `names` as they are at the time and publishes what changes. A name that fails to resolve keeps its last
/// addresses: a peer must not be lost with a name server.
pub(crate) async fn run(
    mut names: watch::Receiver<BTreeSet<String>>,
    answers: watch::Sender<Answers>,
) -> anyhow::Result<()> {
    loop {
        let wanted = names.borrow_and_update().clone();
        let mut found = BTreeMap::new();
        for name in &wanted {
            let known = answers.borrow().get(name).cloned();
            if let Some(addresses) = resolve(name).await.or(known) {
                found.insert(name.clone(), addresses);
            }
        }
        let complete = found.len() == wanted.len();
        answers.send_if_modified(|current| {
            let changed = **current != found;
            if changed {
                *current = Arc::new(found);
            }
            changed
        });
        let pause = tokio::time::sleep(if complete { INTERVAL } else { RETRY });
        tokio::select! {
            () = pause => {}
            changed = names.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

async fn resolve(name: &str) -> Option<Vec<IpAddr>> {
    match timeout(PATIENCE, tokio::net::lookup_host((name, 0))).await {
        Ok(Ok(found)) => {
            let addresses: BTreeSet<IpAddr> = found.map(|a| a.ip().to_canonical()).take(ADDRESSES_MAX).collect();
            Some(addresses.into_iter().collect())
        }
        Ok(Err(error)) => {
            tracing::debug!(name, %error, "a candidate's name has no answer");
            None
        }
        Err(_) => {
            tracing::debug!(name, "a candidate's name has no answer in time");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_resolved_and_forgotten() {
        let (names, names_rx) = watch::channel(BTreeSet::from(["localhost".to_owned()]));
        let (answers, mut answers_rx) = watch::channel(Answers::default());
        let task = tokio::spawn(run(names_rx, answers));
        answers_rx.wait_for(|a| a.get("localhost").is_some_and(|a| a.iter().all(IpAddr::is_loopback))).await.unwrap();
        names.send_replace(BTreeSet::new());
        answers_rx.wait_for(|a| a.is_empty()).await.unwrap();
        drop(names);
        task.await.unwrap().unwrap();
    }
}
