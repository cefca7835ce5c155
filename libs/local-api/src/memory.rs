//! The memory adapter: the reference for what an adapter does, for tests and for parts that have no disk.
//!
//! ```
//! # use hawser_local_api::{Client, memory::Store};
//! let store = Store::new();
//! let operator = Client::new(store.writer("operator"));
//! let agent = Client::new(store.writer("agent-a"));
//! ```

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::Notify;

use crate::board::Board;
use crate::{Error, Event, Key, Kind, Leadership, LocalApi, Object};

/// Objects in memory, shared by its writers; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    board: Arc<Board>,
    state: Mutex<State>,
    lead_changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Who wrote which object.
    owners: HashMap<(Kind, Key), String>,
    leads: HashMap<String, Lead>,
    next_term: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Lead {
    /// The term and writer that leads now.
    current: Option<(u64, String)>,
    /// Every writer that ever led.
    ever: BTreeSet<String>,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The store as one writer sees it: what it applies is its own.
    #[must_use]
    pub fn writer(&self, name: &str) -> Arc<dyn LocalApi> {
        Arc::new(Writer { name: name.to_owned(), shared: Arc::clone(&self.shared) })
    }

    /// Takes the lead from whoever has it, as a lost lock would.
    pub fn depose(&self, lead: &str) {
        if let Some(lead) = self.shared.lock().leads.get_mut(lead) {
            lead.current = None;
        }
        self.shared.lead_changed.notify_waiters();
    }

    /// Ends all watches and refuses everything from now on, as a lost API does.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.board.close();
        self.shared.lead_changed.notify_waiters();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn open(&self) -> Result<(), Error> {
        if self.closed { Err(Error::Closed) } else { Ok(()) }
    }

    /// Whether `writer` may write what `owner` wrote.
    fn owns(&self, writer: &str, owner: &str) -> bool {
        let leads_after =
            |lead: &Lead| lead.current.as_ref().is_some_and(|c| c.1 == writer) && lead.ever.contains(owner);
        writer == owner || self.leads.values().any(leads_after)
    }

    fn check(&self, writer: &str, kind: Kind, key: &Key) -> Result<(), Error> {
        match self.owners.get(&(kind, key.clone())) {
            Some(owner) if !self.owns(writer, owner) => Err(Error::Owned {
                kind: kind.kind,
                key: Box::new(key.clone()),
                owner: owner.clone(),
                remedy: format!("let {owner} change it"),
            }),
            Some(_) | None => Ok(()),
        }
    }
}

struct Writer {
    name: String,
    shared: Arc<Shared>,
}

#[async_trait]
impl LocalApi for Writer {
    fn watch(&self, kind: Kind) -> BoxStream<'static, Event> {
        self.shared.board.watch(kind)
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Object>, Error> {
        self.shared.lock().open()?;
        Ok(self.shared.board.list(kind).iter().map(|object| (**object).clone()).collect())
    }

    async fn apply(&self, object: Object) -> Result<(), Error> {
        let object = Object::from_value(object.kind, object.value())?;
        let mut state = self.shared.lock();
        state.open()?;
        state.check(&self.name, object.kind, &object.key)?;
        let current = self.shared.board.get(object.kind, &object.key);
        state.owners.insert((object.kind, object.key.clone()), self.name.clone());
        self.shared.board.set(object.over(current.as_deref(), &crate::now()));
        Ok(())
    }

    async fn apply_status(&self, kind: Kind, key: Key, status: serde_json::Value) -> Result<(), Error> {
        let state = self.shared.lock();
        state.open()?;
        let Some(current) = self.shared.board.get(kind, &key) else {
            return Err(Error::NotFound { kind: kind.kind, key: Box::new(key) });
        };
        self.shared.board.set((*current).clone().with_status(Some(status)));
        drop(state);
        Ok(())
    }

    async fn delete(&self, kind: Kind, key: Key) -> Result<(), Error> {
        let mut state = self.shared.lock();
        state.open()?;
        state.check(&self.name, kind, &key)?;
        self.shared.board.remove(kind, &key);
        state.owners.remove(&(kind, key));
        Ok(())
    }

    async fn lead(&self, name: &str) -> Result<Box<dyn Leadership>, Error> {
        loop {
            let changed = self.shared.lead_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.shared.lock();
                state.open()?;
                state.next_term += 1;
                let term = state.next_term;
                let lead = state.leads.entry(name.to_owned()).or_default();
                if lead.current.is_none() {
                    lead.current = Some((term, self.name.clone()));
                    lead.ever.insert(self.name.clone());
                    return Ok(Box::new(Held { lead: name.to_owned(), term, shared: Arc::clone(&self.shared) }));
                }
            }
            changed.await;
        }
    }
}

struct Held {
    lead: String,
    term: u64,
    shared: Arc<Shared>,
}

impl Held {
    fn is(&self, state: &State) -> bool {
        let lead = state.leads.get(&self.lead);
        lead.and_then(|lead| lead.current.as_ref()).is_some_and(|(term, _)| *term == self.term)
    }
}

impl Leadership for Held {
    fn is_current(&self) -> bool {
        self.is(&self.shared.lock())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if self.is(&state)
            && let Some(lead) = state.leads.get_mut(&self.lead)
        {
            lead.current = None;
        }
        drop(state);
        self.shared.lead_changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::behaviour_tests!(async || {
        let store = Store::new();
        ((), move |name: &str| store.writer(name))
    });

    #[tokio::test]
    async fn a_closed_store_ends_watches_and_refuses() {
        use futures::StreamExt as _;
        let store = Store::new();
        let api = store.writer("a");
        let kind = crate::client::KINDS[0];
        let mut watch = api.watch(kind);
        assert_eq!(watch.next().await, Some(Event::Snapshot(Vec::new())));
        store.close();
        assert_eq!(watch.next().await, None);
        assert!(matches!(api.list(kind).await, Err(Error::Closed)));
        assert!(matches!(api.lead("x").await.err(), Some(Error::Closed)));
    }
}
