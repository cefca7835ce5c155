//! Waiting for views: for one to hold something, for any of several to change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

use crate::client::View;
use crate::{Error, Key};

/// Waits until a view holds what `predicate` asks for, and gives that view.
///
/// # Errors
/// [`Error::Closed`] when the adapter is closed before.
pub async fn wait_for<K>(
    view: &mut watch::Receiver<View<K>>,
    mut predicate: impl FnMut(&BTreeMap<Key, Arc<K>>) -> bool,
) -> Result<Arc<BTreeMap<Key, Arc<K>>>, Error> {
    let found = view.wait_for(|view| view.as_deref().is_some_and(&mut predicate)).await.map_err(|_| Error::Closed)?;
    found.clone().ok_or(Error::Closed)
}

/// Waits for a view's first list.
///
/// # Errors
/// [`Error::Closed`] when the adapter is closed before.
pub async fn synced<K>(view: &mut watch::Receiver<View<K>>) -> Result<Arc<BTreeMap<Key, Arc<K>>>, Error> {
    wait_for(view, |_| true).await
}

/// Says that something changed in any of several receivers, so that a control loop derives anew once per burst.
///
/// The loop reads its receivers itself; what changes while it works is reported by the next [`Changes::next`].
#[must_use]
pub struct Changes {
    quiet: Duration,
    sources: SelectAll<BoxStream<'static, ()>>,
    /// A change was seen and not reported yet.
    pending: bool,
}

impl Changes {
    /// Follows nothing yet. After a first change, `quiet` passes for others to come along.
    pub fn new(quiet: Duration) -> Self {
        Self { quiet, sources: SelectAll::new(), pending: false }
    }

    /// Follows `receiver` too. Its present value counts as seen.
    pub fn with<T: Clone + Send + Sync + 'static>(mut self, receiver: &watch::Receiver<T>) -> Self {
        self.sources.push(WatchStream::from_changes(receiver.clone()).map(|_| ()).boxed());
        self
    }

    /// Waits for a change, then for the burst to pass. False when all senders are gone. Cancel-safe: a change that a dropped
    /// call saw is reported by the next one.
    pub async fn next(&mut self) -> bool {
        if !self.pending {
            self.pending = self.sources.next().await.is_some();
        }
        if !self.pending {
            return false;
        }
        tokio::time::sleep(self.quiet).await;
        while let Some(Some(())) = self.sources.next().now_or_never() {}
        self.pending = false;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_one_change() {
        let (a, rx_a) = watch::channel(0);
        let (b, rx_b) = watch::channel("x");
        let mut changes = Changes::new(Duration::from_millis(20)).with(&rx_a).with(&rx_b);
        assert!(changes.next().now_or_never().is_none(), "present values count as seen");
        a.send_replace(1);
        b.send_replace("y");
        a.send_replace(2);
        assert!(changes.next().await);
        assert!(changes.next().now_or_never().is_none(), "one burst, one change");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_call_loses_nothing() {
        let (a, rx_a) = watch::channel(0);
        let mut changes = Changes::new(Duration::from_millis(20)).with(&rx_a);
        a.send_replace(1);
        assert!(tokio::time::timeout(Duration::from_millis(5), changes.next()).await.is_err());
        assert!(changes.next().await);
    }

    #[tokio::test]
    async fn it_ends_with_its_senders() {
        let (a, rx_a) = watch::channel(0);
        let mut changes = Changes::new(Duration::ZERO).with(&rx_a);
        drop(a);
        assert!(!changes.next().await);
    }
}
