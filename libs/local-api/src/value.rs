//! Objects as JSON, with their kind: what adapters store.

use serde_json::Value;

use crate::client::{Key, Resource};

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// e.g. `hawser.dev/v1alpha1`.
    pub api_version: &'static str,
    /// e.g. `Membership`.
    pub kind: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Kind {
    /// The kind of a typed object.
    #[must_use]
    pub fn of<K: Resource>() -> Self {
        Self { api_version: K::API_VERSION, kind: K::KIND, namespaced: K::NAMESPACED }
    }
}

/// An object: its kind, key and JSON form (with `apiVersion`, `kind`, `metadata`, and `status` where it has one).
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub key: Key,
    /// All of it.
    pub value: Value,
}
