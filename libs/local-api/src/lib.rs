//! The local API: the typed objects of DESIGN section 5 behind one trait, so that agent, gateway and route agent do not know
//! whether they talk to a kube-apiserver, a directory or memory.
//!
//! [`LocalApi`] is the object-safe trait over JSON values that adapters implement (memory: [`memory`]; directory:
//! `hawser-local-api-directory`); [`Client`] is the typed way to use it; [`Changes`] and [`wait_for`] follow its views.
//! [`board`] is what adapters share; `behaviour` (feature `testing`) is the suite that every adapter passes.
//!
//! What every adapter keeps:
//! - a watch begins with the full list, then gives changes; after a lost connection it gives the full list again;
//! - no order is assumed across objects or kinds;
//! - an object has one owner: writing another's is refused with [`Error::Owned`];
//! - status is written apart from the rest, by one writer; writing what is already there is not a write;
//! - a bad object is reported and skipped, its last good version stays in force.

#[cfg(any(test, feature = "testing"))]
pub mod behaviour;
pub mod board;
pub mod client;
pub mod follow;
pub mod memory;
mod reflect;
pub mod value;

use async_trait::async_trait;
use futures::stream::BoxStream;

pub use client::{Client, Key, Resource, View};
pub use follow::{Changes, synced, wait_for};
pub use reflect::{ParseError, parse};
pub use value::{Kind, Object};

/// What a watch yields.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Everything there is: replaces what was known. Always first.
    Snapshot(Vec<Object>),
    /// One object was added or changed.
    Applied(Object),
    /// One object is gone.
    Deleted(Key),
}

/// What went wrong, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else owns the object.
    #[error("{kind} {key} is written by {owner}: {remedy}")]
    Owned {
        /// The object's kind.
        kind: &'static str,
        /// Its name.
        key: Box<Key>,
        /// Its owner, e.g. a file or a process.
        owner: String,
        /// What to do.
        remedy: String,
    },
    /// No such object.
    #[error("{kind} {key} does not exist")]
    NotFound {
        /// The object's kind.
        kind: &'static str,
        /// Its name.
        key: Box<Key>,
    },
    /// The object is not valid.
    #[error("{kind} {key}: {field}: {rule}; {remedy}")]
    Invalid {
        /// The object's kind.
        kind: &'static str,
        /// Its name.
        key: Box<Key>,
        /// The field at fault.
        field: String,
        /// The rule it breaks.
        rule: String,
        /// What to do.
        remedy: String,
    },
    /// The adapter's storage failed.
    #[error("{action}")]
    Storage {
        /// What was being done.
        action: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The adapter is closed.
    #[error("the local API is closed")]
    Closed,
}

/// Held while this process leads; dropping it gives the lead up.
pub trait Leadership: Send + Sync {
    /// Whether the lead is still held at this moment.
    fn is_current(&self) -> bool;
}

/// An adapter: objects of all kinds, watched, written by one owner each.
#[async_trait]
pub trait LocalApi: Send + Sync + 'static {
    /// All objects of `kind` in all namespaces, then their changes. Ends only with the adapter.
    fn watch(&self, kind: Kind) -> BoxStream<'static, Event>;

    /// All objects of `kind` now.
    ///
    /// # Errors
    /// When the storage can't be read.
    async fn list(&self, kind: Kind) -> Result<Vec<Object>, Error>;

    /// Creates or replaces everything but the status of an object that this writer owns or nobody does. An equal object is
    /// not written again.
    ///
    /// # Errors
    /// [`Error::Owned`], [`Error::Invalid`], [`Error::Storage`].
    async fn apply(&self, object: Object) -> Result<(), Error>;

    /// Replaces the status of an existing object, whoever owns the rest. An equal status is not written again.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Storage`].
    async fn apply_status(&self, kind: Kind, key: Key, status: serde_json::Value) -> Result<(), Error>;

    /// Removes an object that this writer owns; none is fine.
    ///
    /// # Errors
    /// [`Error::Owned`], [`Error::Storage`].
    async fn delete(&self, kind: Kind, key: Key) -> Result<(), Error>;

    /// Waits until this process leads `name`. While it leads, it is the owner of what earlier leaders wrote.
    ///
    /// # Errors
    /// [`Error::Storage`].
    async fn lead(&self, name: &str) -> Result<Box<dyn Leadership>, Error>;
}

/// Now, as Kubernetes writes times: RFC 3339, whole seconds.
#[must_use]
pub fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}
