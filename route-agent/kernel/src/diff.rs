//! Desired against actual.

use std::collections::BTreeMap;

/// What has to change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Diff<K, V> {
    /// Keys to create or replace, with what they should be, and whether something else is there now.
    pub(crate) set: Vec<(K, V, bool)>,
    /// Keys to remove.
    pub(crate) remove: Vec<K>,
}

/// The changes that turn `actual` into `desired`.
pub(crate) fn diff<K: Ord + Clone, V: PartialEq + Clone>(
    actual: &BTreeMap<K, V>,
    desired: &BTreeMap<K, V>,
) -> Diff<K, V> {
    let set = desired
        .iter()
        .filter(|(key, value)| actual.get(*key) != Some(*value))
        .map(|(key, value)| (key.clone(), value.clone(), actual.contains_key(key)))
        .collect();
    let remove = actual.keys().filter(|key| !desired.contains_key(*key)).cloned().collect();
    Diff { set, remove }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_changes() {
        let actual = BTreeMap::from([("same", 1), ("other", 1), ("gone", 1)]);
        let desired = BTreeMap::from([("same", 1), ("other", 2), ("new", 3)]);
        let diff = diff(&actual, &desired);
        assert_eq!(diff.set, [("new", 3, false), ("other", 2, true)]);
        assert_eq!(diff.remove, ["gone"]);
    }
}
