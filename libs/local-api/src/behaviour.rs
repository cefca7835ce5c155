//! What every adapter does, as tests: [`behaviour_tests!`](crate::behaviour_tests) makes one test of each function here.
//!
//! A fixture hands out writers by name (`<process>-<node>`). Writers of a shared store see each other's writes after a
//! while, so what concerns two of them is awaited through a watch.

#![allow(clippy::unwrap_used, reason = "tests: a panic is how they fail")]
#![allow(missing_docs, reason = "the functions' names say what they test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use hawser_api::core::Namespace;
use hawser_api::mcs::{ServiceExport, ServiceImport};
use serde_json::{Value, json};

use crate::{Client, Error, Event, Key, Kind, LocalApi, Object, wait_for};

const EXPORT: Kind = Kind::of::<ServiceExport>();
const IMPORT: Kind = Kind::of::<ServiceImport>();
const NAMESPACE: Kind = Kind::of::<Namespace>();
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a writer of the store under test.
pub type Writers<'a> = &'a dyn Fn(&str) -> Arc<dyn LocalApi>;

/// Makes a test of every behaviour. `$fixture` is an async closure that gives a guard and a function from a writer's name to its
/// `Arc<dyn LocalApi>`.
#[macro_export]
macro_rules! behaviour_tests {
    ($fixture:expr) => {
        $crate::behaviour_tests! { $fixture =>
            a_watch_begins_with_everything, changes_follow, an_equal_write_is_no_write, status_is_apart,
            status_needs_an_object, an_object_has_one_owner, deleting_nothing_is_fine, names_are_checked,
            namespaces_keep_objects_apart, a_slow_watch_gets_the_latest, creation_time_stays, one_leads_at_a_time,
            a_leader_owns_what_earlier_leaders_wrote, a_bad_object_keeps_its_last_good_version,
            a_reflection_follows_and_ends, older_versions_are_the_same_object,
        }
    };
    ($fixture:expr => $($behaviour:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $behaviour() {
            let (_guard, writers) = ($fixture)().await;
            $crate::behaviour::$behaviour(&writers).await;
        }
    )*};
}

pub async fn a_watch_begins_with_everything(writers: Writers<'_>) {
    let api = writers("agent-a");
    assert_eq!(next(&mut api.watch(EXPORT)).await, Event::Snapshot(vec![]));
    api.apply(export("web", json!({}))).await.unwrap();
    api.apply(export("db", json!({}))).await.unwrap();
    let Event::Snapshot(objects) = next(&mut api.watch(EXPORT)).await else { panic!("no snapshot") };
    let names: Vec<_> = objects.iter().map(|object| object.key.name.as_str()).collect();
    assert_eq!(names, ["db", "web"]);
    assert_eq!(api.list(EXPORT).await.unwrap(), objects);
    assert_eq!(next(&mut api.watch(IMPORT)).await, Event::Snapshot(vec![]));
}

pub async fn changes_follow(writers: Writers<'_>) {
    let (writer, reader) = (writers("agent-a"), writers("gateway-a"));
    let mut watch = reader.watch(EXPORT);
    assert_eq!(next(&mut watch).await, Event::Snapshot(vec![]));
    for value in ["1", "2"] {
        writer.apply(export("web", json!({"exportedLabels": {"v": value}}))).await.unwrap();
        let Event::Applied(object) = next(&mut watch).await else { panic!("not applied") };
        assert_eq!(object.value()["spec"]["exportedLabels"]["v"], value);
    }
    writer.delete(EXPORT, key("web")).await.unwrap();
    assert_eq!(next(&mut watch).await, Event::Deleted(key("web")));
}

pub async fn an_equal_write_is_no_write(writers: Writers<'_>) {
    let api = writers("agent-a");
    let mut watch = api.watch(EXPORT);
    next(&mut watch).await;
    api.apply(export("web", json!({"exportedLabels": {"v": "1"}}))).await.unwrap();
    next(&mut watch).await;
    api.apply_status(EXPORT, key("web"), json!({"conditions": []})).await.unwrap();
    next(&mut watch).await;
    api.apply(export("web", json!({"exportedLabels": {"v": "1"}}))).await.unwrap();
    api.apply_status(EXPORT, key("web"), json!({"conditions": []})).await.unwrap();
    api.apply(export("other", json!({}))).await.unwrap();
    let Event::Applied(object) = next(&mut watch).await else { panic!("not applied") };
    assert_eq!(object.key, key("other"), "an equal write was announced");
}

pub async fn status_is_apart(writers: Writers<'_>) {
    let (owner, other) = (writers("cli-a"), writers("agent-a"));
    let mut watch = other.watch(EXPORT);
    let with_status = edited(export("web", json!({})), "/status", json!({"conditions": ["from apply"]}));
    owner.apply(with_status.clone()).await.unwrap();
    let object = until(&mut watch, |object| object.key == key("web")).await;
    assert_eq!(object.status(), None, "apply wrote a status");

    other.apply_status(EXPORT, key("web"), json!({"note": "of agent"})).await.unwrap();
    until(&mut owner.watch(EXPORT), |object| object.status().is_some()).await;
    owner.apply(edited(with_status, "/spec", json!({"exportedLabels": {"v": "2"}}))).await.unwrap();
    let object = until(&mut watch, |object| object.value()["spec"]["exportedLabels"]["v"] == "2").await;
    assert_eq!(object.status(), Some(json!({"note": "of agent"})), "apply lost the status");
}

pub async fn status_needs_an_object(writers: Writers<'_>) {
    let error = writers("agent-a").apply_status(EXPORT, key("web"), json!({})).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: "ServiceExport", .. }), "{error}");
}

pub async fn an_object_has_one_owner(writers: Writers<'_>) {
    let (owner, other) = (writers("agent-a"), writers("gateway-a"));
    owner.apply(export("web", json!({}))).await.unwrap();
    until(&mut other.watch(EXPORT), |object| object.key == key("web")).await;
    let errors = [
        other.apply(export("web", json!({"exportedLabels": {"v": "stolen"}}))).await.unwrap_err(),
        other.delete(EXPORT, key("web")).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::Owned { .. }), "{error}");
        assert!(error.to_string().contains("agent-a"), "{error}");
    }
    let objects = owner.list(EXPORT).await.unwrap();
    assert_eq!(objects.len(), 1);
    assert_eq!(objects[0].value()["spec"], json!({}));
}

pub async fn deleting_nothing_is_fine(writers: Writers<'_>) {
    let api = writers("agent-a");
    api.delete(EXPORT, key("web")).await.unwrap();
    api.apply(export("web", json!({}))).await.unwrap();
    api.delete(EXPORT, key("web")).await.unwrap();
    api.delete(EXPORT, key("web")).await.unwrap();
    assert_eq!(api.list(EXPORT).await.unwrap(), []);
}

pub async fn names_are_checked(writers: Writers<'_>) {
    let api = writers("agent-a");
    for name in ["../../x", "..", "a/b", "", "UPPER", "nul\0"] {
        let mut object = edited(export("web", json!({})), "/metadata/name", json!(name));
        object.key.name = name.to_owned();
        let error = api.apply(object).await.unwrap_err();
        assert!(
            matches!(error, Error::Invalid { .. }) && error.to_string().contains("metadata.name"),
            "{name}: {error}"
        );
    }
    assert_eq!(api.list(EXPORT).await.unwrap(), []);
}

pub async fn namespaces_keep_objects_apart(writers: Writers<'_>) {
    let api = writers("agent-a");
    let other = export("web", json!({"exportedLabels": {"v": "other"}}));
    let mut other = edited(other, "/metadata/namespace", json!("bank"));
    other.key.namespace = "bank".to_owned();
    api.apply(export("web", json!({}))).await.unwrap();
    api.apply(other).await.unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "web"}});
    api.apply(Object::from_value(NAMESPACE, namespace).unwrap()).await.unwrap();
    assert_eq!(api.list(EXPORT).await.unwrap().len(), 2);
    api.delete(EXPORT, Key::namespaced("bank", "web")).await.unwrap();
    let left = api.list(EXPORT).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].key, key("web"));
    assert_eq!(api.list(NAMESPACE).await.unwrap().len(), 1);
}

pub async fn a_slow_watch_gets_the_latest(writers: Writers<'_>) {
    let (writer, reader) = (writers("agent-a"), writers("gateway-a"));
    let mut watch = reader.watch(EXPORT);
    next(&mut watch).await;
    for value in 0..100 {
        writer.apply(export("web", json!({"exportedLabels": {"v": value.to_string()}}))).await.unwrap();
    }
    until(&mut watch, |object| object.value()["spec"]["exportedLabels"]["v"] == "99").await;
}

pub async fn creation_time_stays(writers: Writers<'_>) {
    let api = writers("agent-a");
    api.apply(export("web", json!({}))).await.unwrap();
    let created = |objects: Vec<Object>| objects[0].value()["metadata"]["creationTimestamp"].clone();
    let first = created(api.list(EXPORT).await.unwrap());
    assert!(first.is_string(), "{first}");
    let changed = export("web", json!({"exportedLabels": {"v": "2"}}));
    api.apply(edited(changed, "/metadata/creationTimestamp", json!("2020-01-01T00:00:00Z"))).await.unwrap();
    assert_eq!(created(api.list(EXPORT).await.unwrap()), first);
}

pub async fn one_leads_at_a_time(writers: Writers<'_>) {
    let (a, b) = (writers("agent-a"), writers("agent-b"));
    let first = a.lead("agent").await.unwrap();
    assert!(first.is_current());
    let mut second = Box::pin(b.lead("agent"));
    for _ in 0..10 {
        tokio::task::yield_now().await;
        assert!(futures::poll!(&mut second).is_pending(), "two lead");
    }
    let _unrelated = b.lead("other").await.unwrap();
    drop(first);
    let second = tokio::time::timeout(PATIENCE, second).await.expect("the lead was not handed over").unwrap();
    assert!(second.is_current());
}

pub async fn a_leader_owns_what_earlier_leaders_wrote(writers: Writers<'_>) {
    let (a, b) = (writers("agent-a"), writers("agent-b"));
    let lead = a.lead("agent").await.unwrap();
    a.apply(export("web", json!({}))).await.unwrap();
    a.apply(export("db", json!({}))).await.unwrap();
    a.apply_status(EXPORT, key("web"), json!({"by": "a"})).await.unwrap();
    let mut watch = b.watch(EXPORT);
    until(&mut watch, |object| object.key == key("web") && object.status().is_some()).await;
    let error = b.delete(EXPORT, key("web")).await.unwrap_err();
    assert!(matches!(error, Error::Owned { .. }), "{error}");

    drop(lead);
    let lead = b.lead("agent").await.unwrap();
    b.apply(export("web", json!({"exportedLabels": {"by": "b"}}))).await.unwrap();
    b.apply_status(EXPORT, key("web"), json!({"by": "b"})).await.unwrap();
    b.delete(EXPORT, key("db")).await.unwrap();
    let mut watch = a.watch(EXPORT);
    let object = until(&mut watch, |object| object.status() == Some(json!({"by": "b"}))).await;
    assert_eq!(object.value()["spec"]["exportedLabels"]["by"], "b");
    gone(&a, &key("db")).await;
    let error = a.apply(export("web", json!({}))).await.unwrap_err();
    assert!(matches!(error, Error::Owned { .. }), "the old leader still owns it: {error}");
    drop(lead);
}

pub async fn a_bad_object_keeps_its_last_good_version(writers: Writers<'_>) {
    let api = writers("agent-a");
    let client = Client::new(Arc::clone(&api));
    let mut view = client.reflect::<ServiceExport>();
    api.apply(export("web", json!({"exportedLabels": {"v": "good"}}))).await.unwrap();
    within(wait_for(&mut view, |view| view.len() == 1)).await.unwrap();
    api.apply(export("web", json!({"exportedLabels": 7}))).await.unwrap();
    api.apply(export("new", json!("bad from the start"))).await.unwrap();
    api.apply(export("other", json!({}))).await.unwrap();
    let seen = within(wait_for(&mut view, |view| view.contains_key(&key("other")))).await.unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[&key("web")].spec.exported_labels, BTreeMap::from([("v".to_owned(), "good".to_owned())]));
    assert_eq!(client.list::<ServiceExport>().await.unwrap().len(), 1);
}

pub async fn a_reflection_follows_and_ends(writers: Writers<'_>) {
    let client = Client::new(writers("agent-a"));
    let mut view = client.reflect::<ServiceExport>();
    let web = ServiceExport {
        metadata: hawser_api::core::ObjectMeta {
            name: Some("web".to_owned()),
            namespace: Some("shop".to_owned()),
            ..Default::default()
        },
        ..Default::default()
    };
    assert_eq!(within(crate::synced(&mut view)).await.unwrap().len(), 0);
    client.apply(&web).await.unwrap();
    within(wait_for(&mut view, |view| view.len() == 1)).await.unwrap();
    let mut changes = crate::Changes::new(Duration::from_millis(1)).with(&view);
    client.delete::<ServiceExport>(key("web")).await.unwrap();
    assert!(within(changes.next()).await);
    within(wait_for(&mut view, BTreeMap::is_empty)).await.unwrap();
}

pub async fn older_versions_are_the_same_object(writers: Writers<'_>) {
    let api = writers("agent-a");
    let old = export("web", json!({}));
    api.apply(edited(old, "/apiVersion", json!("multicluster.x-k8s.io/v1alpha1"))).await.unwrap();
    api.apply(export("web", json!({"exportedLabels": {"v": "new"}}))).await.unwrap();
    let objects = api.list(EXPORT).await.unwrap();
    assert_eq!(objects.len(), 1);
    assert_eq!(objects[0].value()["apiVersion"], EXPORT.api_version);
}

/// An export of namespace `shop`.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "callers write json! in place")]
pub fn export(name: &str, spec: Value) -> Object {
    let value = json!({
        "apiVersion": EXPORT.api_version, "kind": EXPORT.kind,
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
    });
    Object::unchecked(EXPORT, key(name), &value)
}

/// The same with `to` at a place that may be new in its parent; not checked.
fn edited(object: Object, place: &str, to: Value) -> Object {
    let mut value = object.value();
    let (parent, name) = place.rsplit_once('/').expect("a place begins with /");
    value.pointer_mut(parent).expect("the parent is there")[name] = to;
    Object::unchecked(object.kind, object.key, &value)
}

fn key(name: &str) -> Key {
    Key::namespaced("shop", name)
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it takes far too long")
}

async fn next(watch: &mut BoxStream<'static, Event>) -> Event {
    within(watch.next()).await.expect("the watch ended")
}

/// Waits for an object in a watch, whether in its snapshot or later.
pub async fn until(watch: &mut BoxStream<'static, Event>, found: impl Fn(&Object) -> bool) -> Object {
    let mut last = None;
    let search = async {
        loop {
            let event = watch.next().await.expect("the watch ended");
            let objects = match event {
                Event::Snapshot(objects) => objects,
                Event::Applied(object) => vec![object],
                Event::Deleted(_) => vec![],
            };
            if let Some(object) = objects.into_iter().find(|object| {
                last = Some(object.clone());
                found(object)
            }) {
                return object;
            }
        }
    };
    let result = tokio::time::timeout(PATIENCE, search).await;
    result.unwrap_or_else(|_| panic!("not found; last seen: {last:?}"))
}

async fn gone(api: &Arc<dyn LocalApi>, key: &Key) {
    let mut watch = api.watch(EXPORT);
    let mut there = true;
    let search = async {
        while there {
            match watch.next().await.expect("the watch ended") {
                Event::Snapshot(objects) => there = objects.iter().any(|object| object.key == *key),
                Event::Applied(object) => there |= object.key == *key,
                Event::Deleted(deleted) => there &= deleted != *key,
            }
        }
    };
    within(search).await;
}
