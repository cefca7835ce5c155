//! A typed view of one kind, kept up to date by a task of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::watch;

use crate::client::View;
use crate::{Event, Key, LocalApi, Object, Resource, value::Kind};

/// Events taken in one go before the view is published.
const BATCH: usize = 4096;

pub(crate) fn reflect<K: Resource>(api: &dyn LocalApi) -> watch::Receiver<View<K>> {
    let (sender, receiver) = watch::channel(None);
    let events = api.watch(Kind::of::<K>());
    tokio::spawn(follow::<K>(events, sender));
    receiver
}

/// Publishes until the adapter closes or nobody listens any more.
async fn follow<K: Resource>(events: BoxStream<'static, Event>, sender: watch::Sender<View<K>>) {
    let mut events = events.ready_chunks(BATCH);
    let mut reflection = Reflection::<K>::default();
    loop {
        let batch = tokio::select! {
            () = sender.closed() => return,
            batch = events.next() => batch,
        };
        let Some(batch) = batch else { return };
        let mut changed = sender.borrow().is_none();
        for event in batch {
            changed |= reflection.take(event);
        }
        if changed {
            sender.send_replace(Some(Arc::new(reflection.view.clone())));
        }
    }
}

struct Reflection<K> {
    view: BTreeMap<Key, Arc<K>>,
    /// What is wrong with objects that don't parse, so that each is logged once.
    bad: BTreeMap<Key, String>,
}

impl<K> Default for Reflection<K> {
    fn default() -> Self {
        Self { view: BTreeMap::new(), bad: BTreeMap::new() }
    }
}

impl<K: Resource> Reflection<K> {
    /// Takes an event in; true when the view changed.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Snapshot(objects) => {
                let keys: std::collections::BTreeSet<Key> = objects.iter().map(|object| object.key.clone()).collect();
                let before = self.view.len();
                self.view.retain(|key, _| keys.contains(key));
                self.bad.retain(|key, _| keys.contains(key));
                let mut changed = self.view.len() != before;
                for object in &objects {
                    changed |= self.apply(object);
                }
                changed
            }
            Event::Applied(object) => self.apply(&object),
            Event::Deleted(key) => {
                self.bad.remove(&key);
                self.view.remove(&key).is_some()
            }
        }
    }

    fn apply(&mut self, object: &Object) -> bool {
        let key = object.key.clone();
        match parse::<K>(object) {
            Ok(parsed) => {
                self.bad.remove(&key);
                if self.view.get(&key).is_some_and(|old| **old == parsed) {
                    return false;
                }
                self.view.insert(key, Arc::new(parsed));
                true
            }
            Err(error) => {
                let problem = error.to_string();
                if self.bad.get(&key) != Some(&problem) {
                    let kept = self.view.contains_key(&key);
                    tracing::warn!(kind = K::KIND, %key, field = error.field, rule = error.rule, kept, "object skipped");
                    self.bad.insert(key, problem);
                }
                false
            }
        }
    }
}

/// Why an object is no `K`.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct ParseError {
    /// The path of the field at fault.
    pub field: String,
    /// What is wrong with it.
    pub rule: String,
}

/// Reads an object as its type.
///
/// # Errors
/// Names the first field that breaks a rule.
pub fn parse<K: Resource>(object: &Object) -> Result<K, ParseError> {
    // From values: readers of text for every type would make each program a megabyte larger.
    serde_path_to_error::deserialize(object.value())
        .map_err(|error| ParseError { field: error.path().to_string(), rule: error.inner().to_string() })
}
