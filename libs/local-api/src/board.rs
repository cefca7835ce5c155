//! The objects an adapter knows, and the watches that follow them: what adapters have in common.
//!
//! Each watch has a set of keys that changed since it last looked, so that a slow reader gets the latest value of each
//! and costs bounded memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::Notify;

use crate::{Event, Key, Kind, Object};

/// Objects of all kinds as they stand.
#[derive(Debug, Default)]
pub struct Board {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    topics: HashMap<Kind, Topic>,
    next_id: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Topic {
    objects: BTreeMap<Key, Arc<Object>>,
    followers: HashMap<u64, Follower>,
}

#[derive(Debug)]
struct Follower {
    /// False until its snapshot was taken.
    begun: bool,
    dirty: BTreeSet<Key>,
    wake: Arc<Notify>,
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Puts an object up; false when it stood there already.
    pub fn set(&self, object: Object) -> bool {
        let mut state = self.lock();
        let topic = state.topics.entry(object.kind).or_default();
        if topic.objects.get(&object.key).is_some_and(|old| **old == object) {
            return false;
        }
        let key = object.key.clone();
        topic.objects.insert(key.clone(), Arc::new(object));
        topic.changed(&key);
        true
    }

    /// Takes an object down; false when there was none.
    pub fn remove(&self, kind: Kind, key: &Key) -> bool {
        let mut state = self.lock();
        let Some(topic) = state.topics.get_mut(&kind) else { return false };
        if topic.objects.remove(key).is_none() {
            return false;
        }
        topic.changed(key);
        true
    }

    /// An object as it stands.
    #[must_use]
    pub fn get(&self, kind: Kind, key: &Key) -> Option<Arc<Object>> {
        self.lock().topics.get(&kind)?.objects.get(key).cloned()
    }

    /// All objects of a kind.
    #[must_use]
    pub fn list(&self, kind: Kind) -> Vec<Arc<Object>> {
        self.lock().topics.get(&kind).map(|topic| topic.objects.values().cloned().collect()).unwrap_or_default()
    }

    /// Ends all watches.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for follower in state.topics.values().flat_map(|topic| topic.followers.values()) {
            follower.wake.notify_one();
        }
    }

    /// Follows a kind: all of it first, then what changes.
    pub fn watch(self: &Arc<Self>, kind: Kind) -> BoxStream<'static, Event> {
        let wake = Arc::new(Notify::new());
        let id = {
            let mut state = self.lock();
            state.next_id += 1;
            let id = state.next_id;
            let follower = Follower { begun: false, dirty: BTreeSet::new(), wake: Arc::clone(&wake) };
            state.topics.entry(kind).or_default().followers.insert(id, follower);
            id
        };
        let watch = Watch { board: Arc::clone(self), kind, id, wake, ready: VecDeque::new() };
        futures::stream::unfold(watch, async |mut watch| {
            let event = watch.next().await?;
            Some((event, watch))
        })
        .boxed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Topic {
    fn changed(&mut self, key: &Key) {
        for follower in self.followers.values_mut().filter(|follower| follower.begun) {
            if follower.dirty.insert(key.clone()) {
                follower.wake.notify_one();
            }
        }
    }

    /// What a follower hasn't seen yet.
    fn news(&mut self, id: u64) -> Vec<Event> {
        let Some(follower) = self.followers.get_mut(&id) else { return Vec::new() };
        if !follower.begun {
            follower.begun = true;
            return vec![Event::Snapshot(self.objects.values().map(|object| (**object).clone()).collect())];
        }
        let dirty = std::mem::take(&mut follower.dirty);
        let event = |key: Key| match self.objects.get(&key) {
            Some(object) => Event::Applied((**object).clone()),
            None => Event::Deleted(key),
        };
        dirty.into_iter().map(event).collect()
    }
}

struct Watch {
    board: Arc<Board>,
    kind: Kind,
    id: u64,
    wake: Arc<Notify>,
    ready: VecDeque<Event>,
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            {
                let mut state = self.board.lock();
                if state.closed {
                    return None;
                }
                self.ready = state.topics.get_mut(&self.kind)?.news(self.id).into();
            }
            if self.ready.is_empty() {
                self.wake.notified().await;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(topic) = self.board.lock().topics.get_mut(&self.kind) {
            topic.followers.remove(&self.id);
        }
    }
}
