//! Objects as JSON, with their kind: what adapters store and hand out.

use std::sync::Arc;

use hawser_api::mcs::ServiceExport;
use serde_json::{Map, Value};

use crate::Error;
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
    pub const fn of<K: Resource>() -> Self {
        Self { api_version: K::API_VERSION, kind: K::KIND, namespaced: K::NAMESPACED }
    }

    /// The kind that a manifest means by its `apiVersion` and `kind`. Older served versions of the same schema count as the
    /// stored one.
    #[must_use]
    pub fn named(api_version: &str, kind: &str) -> Option<Self> {
        let stored = match api_version {
            "multicluster.x-k8s.io/v1alpha1" => "multicluster.x-k8s.io/v1beta1",
            "about.k8s.io/v1alpha1" => "about.k8s.io/v1beta1",
            other => other,
        };
        crate::client::KINDS.iter().copied().find(|known| known.api_version == stored && known.kind == kind)
    }
}

/// An object: its kind, key and JSON form (with `apiVersion`, `kind`, `metadata`, and `status` where it has one). It is kept
/// as text, shared between whoever keeps the object: a tree of values takes ten times as much memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub key: Key,
    /// Fields in the order of their names, so that equal objects are equal texts.
    json: Arc<str>,
}

/// Longest JSON form of an object, bytes: what a kube-apiserver takes, roughly.
pub const MAX_OBJECT_BYTES: usize = 1024 * 1024;

const NAME_RULE: &str = "must be a DNS subdomain (RFC 1123): labels of a-z, 0-9 and '-' joined by '.', at most 253";
const NAMESPACE_RULE: &str = "must be a DNS label (RFC 1123): at most 63 of a-z, 0-9 and '-'";

impl Object {
    /// Takes a typed object.
    ///
    /// # Errors
    /// As [`Object::from_value`].
    pub fn of<K: Resource>(object: &K) -> Result<Self, Error> {
        let kind = Kind::of::<K>();
        match serde_json::to_value(object) {
            Ok(value) => Self::from_value(kind, value),
            Err(error) => Err(invalid(kind, object.key(), "object", &error.to_string(), "fix the field named")),
        }
    }

    /// Checks a JSON object's kind and name and takes it. Its `apiVersion` becomes the stored one.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field and the rule that is broken.
    pub fn from_value(kind: Kind, mut value: Value) -> Result<Self, Error> {
        let key = key_of(kind, &value);
        let broken = |field, rule: &str, remedy: &str| Err(invalid(kind, key.clone(), field, rule, remedy));
        let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        if Kind::named(&field("apiVersion"), &field("kind")) != Some(kind) {
            return broken("kind", &format!("must be {} of {}", kind.kind, kind.api_version), "write both as said");
        }
        if !is_dns_subdomain(&key.name) {
            return broken("metadata.name", NAME_RULE, "rename it");
        }
        if kind.namespaced && !is_dns_label(&key.namespace) {
            return broken("metadata.namespace", NAMESPACE_RULE, "name the namespace it lives in");
        }
        if let Some(map) = value.as_object_mut() {
            map.insert("apiVersion".to_owned(), kind.api_version.into());
            if !kind.namespaced
                && let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut)
            {
                metadata.remove("namespace");
            }
            // The standard's exports need no spec; their type has one.
            if kind == Kind::of::<ServiceExport>() && map.get("spec").is_none_or(Value::is_null) {
                map.insert("spec".to_owned(), Value::Object(Map::new()));
            }
            if map.get("status").is_some_and(Value::is_null) {
                map.remove("status");
            }
        }
        Ok(Self::unchecked(kind, key, &value))
    }

    /// Takes a JSON object as it is: for what was checked before, and for adapters' own tests. Adapters check what they are
    /// given to write.
    #[must_use]
    pub fn unchecked(kind: Kind, key: Key, value: &Value) -> Self {
        Self { kind, key, json: value.to_string().into() }
    }

    /// All of it.
    ///
    /// # Panics
    /// Never: the text was written from a value.
    #[must_use]
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.json).expect("what was written as JSON is JSON")
    }

    /// Its status, if it has one.
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        self.value().get_mut("status").map(Value::take)
    }

    /// The same object with this status, or none.
    #[must_use]
    pub fn with_status(self, status: Option<Value>) -> Self {
        self.changed(|map| put(map, "status", status))
    }

    /// The same object made as a write of it over `current` should leave it: status and creation time are not the
    /// writer's to change. A new object without a creation time gets `now` (RFC 3339).
    #[must_use]
    pub fn over(self, current: Option<&Self>, now: &str) -> Self {
        let current = current.map(Self::value);
        self.changed(|map| {
            put(map, "status", current.as_ref().and_then(|current| current.get("status")).cloned());
            let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) else { return };
            let created = match &current {
                Some(current) => current["metadata"].get("creationTimestamp").cloned(),
                None => metadata.get("creationTimestamp").cloned().or_else(|| Some(now.into())),
            };
            put(metadata, "creationTimestamp", created);
        })
    }

    /// The same object with something changed in its JSON form.
    fn changed(self, change: impl FnOnce(&mut Map<String, Value>)) -> Self {
        let mut value = self.value();
        value.as_object_mut().map(change);
        Self::unchecked(self.kind, self.key, &value)
    }
}

/// Sets a field, or takes it away.
fn put(map: &mut Map<String, Value>, field: &str, value: Option<Value>) {
    match value {
        Some(value) => map.insert(field.to_owned(), value),
        None => map.remove(field),
    };
}

fn key_of(kind: Kind, value: &Value) -> Key {
    let empty = Map::new();
    let metadata = value.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let text = |field| metadata.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let namespace = if kind.namespaced { text("namespace") } else { String::new() };
    Key { namespace, name: text("name") }
}

fn invalid(kind: Kind, key: Key, field: &str, rule: &str, remedy: &str) -> Error {
    Error::Invalid {
        kind: kind.kind,
        key: Box::new(key),
        field: field.to_owned(),
        rule: rule.to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn is_dns_label(text: &str) -> bool {
    hawser_model::id::is_dns_label(text)
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const EXPORT: Kind = Kind { api_version: "multicluster.x-k8s.io/v1beta1", kind: "ServiceExport", namespaced: true };

    fn export(name: &str, namespace: &str) -> Value {
        json!({
            "apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ServiceExport",
            "metadata": {"name": name, "namespace": namespace},
        })
    }

    #[test]
    fn an_older_served_version_becomes_the_stored_one() {
        let object = Object::from_value(EXPORT, export("web", "shop")).unwrap();
        assert_eq!(object.value()["apiVersion"], "multicluster.x-k8s.io/v1beta1");
        assert_eq!(object.key, Key::namespaced("shop", "web"));
        assert_eq!(object.value()["spec"], json!({}), "an export without a spec has an empty one");
    }

    #[test]
    fn names_that_could_escape_a_path_are_refused() {
        for name in ["../../x", "", "a/b", "a\0b", "A", "a_b", &"a".repeat(64)] {
            let error = Object::from_value(EXPORT, export(name, "shop")).unwrap_err().to_string();
            assert!(error.contains("metadata.name"), "{name}: {error}");
        }
        for namespace in ["", "..", "a.b", "a/b"] {
            let error = Object::from_value(EXPORT, export("web", namespace)).unwrap_err().to_string();
            assert!(error.contains("metadata.namespace"), "{namespace}: {error}");
        }
    }

    #[test]
    fn a_write_keeps_status_and_creation_time() {
        let parse = |value| Object::from_value(EXPORT, value).unwrap();
        let first = parse(export("web", "shop")).over(None, "2026-01-01T00:00:00Z").with_status(Some(json!({"a": 1})));
        assert_eq!(first.value()["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
        let mut changed = export("web", "shop");
        changed["metadata"]["creationTimestamp"] = json!("2027-01-01T00:00:00Z");
        changed["status"] = json!({"b": 2});
        let second = parse(changed).over(Some(&first), "2028-01-01T00:00:00Z");
        assert_eq!(second, first);
    }
}
