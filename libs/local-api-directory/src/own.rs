//! What one writer does to the site: its own files, and who owns the others.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hawser_api::yaml;
use hawser_local_api::board::Board;
use hawser_local_api::{Error, Key, Kind, Object};
use serde_json::{Value, json};

use crate::folder::{Class, Folder};
use crate::lead::Lock;
use crate::tree::Tree;
use crate::write;

/// A site as one writer has it open.
pub(crate) struct Inner {
    pub(crate) site: PathBuf,
    pub(crate) own: Folder,
    pub(crate) board: Arc<Board>,
    pub(crate) tree: Mutex<Tree>,
    /// How many leads are held.
    pub(crate) leading: AtomicUsize,
    /// Keeps a second process of the same name out; the CLI has none.
    pub(crate) _own_lock: Option<Lock>,
}

impl Inner {
    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes our statuses of objects that are gone.
    pub(crate) fn sweep_orphans(&self, tree: &mut Tree) {
        for path in tree.orphans() {
            if Class::of(&path) == Class::Status(self.own.name.clone()) {
                tracing::debug!(file = %path.display(), "removing the status of an object that is gone");
                match write::remove(&self.site.join(&path)) {
                    Ok(()) => tree.refresh(&path, true),
                    Err(error) => tracing::warn!(file = %path.display(), %error, "can't be removed"),
                }
            }
        }
    }

    /// Whether what is in `folder` is ours to write: our own, and while we lead, what other nodes' processes of our name wrote.
    fn is_ours(&self, folder: &str) -> bool {
        folder == self.own.name || (self.leading.load(Ordering::Acquire) > 0 && self.own.is_kin(folder))
    }

    /// An error if the file that counts for an object is somebody else's.
    fn check_owner(&self, tree: &Tree, kind: Kind, key: &Key) -> Result<(), Error> {
        let Some(first) = tree.sources(kind, key).into_iter().next() else { return Ok(()) };
        let (owner, remedy) = match Class::of(&first.path) {
            Class::Object(folder) | Class::Status(folder) if self.is_ours(&folder) => return Ok(()),
            Class::Object(folder) | Class::Status(folder) => (folder.clone(), format!("let {folder} change it")),
            Class::Operator => {
                let file = self.site.join(&first.path);
                (file.display().to_string(), format!("change it, or remove it from {}", file.display()))
            }
        };
        Err(Error::Owned { kind: kind.kind, key: Box::new(key.clone()), owner, remedy })
    }

    pub(crate) fn apply(&self, object: &Object) -> Result<(), Error> {
        let object = Object::from_value(object.kind, object.value())?;
        let (kind, key) = (object.kind, object.key.clone());
        let path = self.own.object(kind, &key);
        let mut tree = self.tree();
        self.check_owner(&tree, kind, &key)?;
        let current = self.board.get(kind, &key);
        let next = object.over(current.as_deref(), &hawser_local_api::now()).with_status(None);
        let sources = tree.sources(kind, &key);
        let in_place = sources.first().is_some_and(|source| source.path == path);
        if !in_place || current.is_none_or(|current| (*current).clone().with_status(None) != next) {
            self.write(&mut tree, &path, kind, &key, &next.value())?;
        }
        let others = sources.into_iter().map(|source| source.path).filter(|other| *other != path);
        self.remove_ours(&mut tree, others)
    }

    pub(crate) fn apply_status(&self, kind: Kind, key: &Key, status: &Value) -> Result<(), Error> {
        let mut tree = self.tree();
        let Some(current) = self.board.get(kind, key) else {
            return Err(Error::NotFound { kind: kind.kind, key: Box::new(key.clone()) });
        };
        if current.status().as_ref() == Some(status) {
            return Ok(());
        }
        let path = self.own.status(kind, key);
        let mut metadata = json!({"name": key.name});
        if kind.namespaced {
            metadata["namespace"] = key.namespace.clone().into();
        }
        let value = json!({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "status": status});
        self.write(&mut tree, &path, kind, key, &value)?;
        let others = tree.statuses(kind, key).into_iter().filter(|other| *other != path);
        self.remove_ours(&mut tree, others)
    }

    pub(crate) fn delete(&self, kind: Kind, key: &Key) -> Result<(), Error> {
        let mut tree = self.tree();
        let owned = self.check_owner(&tree, kind, key);
        let objects: Vec<PathBuf> = tree.sources(kind, key).into_iter().map(|source| source.path).collect();
        // A copy of ours that an operator's file overrides goes too: it must not come back when that file goes.
        self.remove_ours(&mut tree, objects.into_iter())?;
        owned?;
        let statuses = tree.statuses(kind, key);
        self.remove_ours(&mut tree, statuses.into_iter())
    }

    fn write(&self, tree: &mut Tree, path: &Path, kind: Kind, key: &Key, value: &Value) -> Result<(), Error> {
        let text = yaml::to_string(value).map_err(|error| Error::Invalid {
            kind: kind.kind,
            key: Box::new(key.clone()),
            field: "object".to_owned(),
            rule: error.to_string(),
            remedy: "write what YAML can hold".to_owned(),
        })?;
        if text.len() > hawser_local_api::value::MAX_OBJECT_BYTES {
            return Err(Error::Invalid {
                kind: kind.kind,
                key: Box::new(key.clone()),
                field: "object".to_owned(),
                rule: format!("it has {} bytes of YAML, more than the 1 MiB that a file may have", text.len()),
                remedy: "split it".to_owned(),
            });
        }
        write::replace(&self.site, path, text.as_bytes())
            .map_err(|error| storage(format!("write {}", self.site.join(path).display()), error))?;
        tree.refresh(path, true);
        Ok(())
    }

    fn remove_ours(&self, tree: &mut Tree, paths: impl Iterator<Item = PathBuf>) -> Result<(), Error> {
        for path in paths {
            let (Class::Object(folder) | Class::Status(folder)) = Class::of(&path) else { continue };
            if self.is_ours(&folder) {
                let file = self.site.join(&path);
                write::remove(&file).map_err(|error| storage(format!("remove {}", file.display()), error))?;
                tree.refresh(&path, true);
            }
        }
        Ok(())
    }
}

/// The storage failed while doing `action`.
pub(crate) fn storage(action: String, source: std::io::Error) -> Error {
    Error::Storage { action, source }
}
