//! The adapter itself: reads from the board, writes to files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use hawser_api::yaml;
use hawser_local_api::board::Board;
use hawser_local_api::{Error, Event, Key, Kind, Leadership, LocalApi, Object};
use serde_json::{Value, json};

use crate::args::SiteArgs;
use crate::folder::{Class, Folder, GENERATED};
use crate::lead::Lock;
use crate::problem::Problem;
use crate::tree::Tree;
use crate::{watch, write};

/// How often a waiting candidate tries for the lead.
const LEAD_PERIOD: Duration = Duration::from_millis(50);
/// How long a process waits for its predecessor of the same name to be gone.
const HANDOVER: Duration = Duration::from_secs(5);

/// The local API of a site, as one process or the CLI sees it.
pub struct DirectoryApi {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    site: PathBuf,
    own: Folder,
    board: Arc<Board>,
    tree: Mutex<Tree>,
    leading: AtomicUsize,
    /// Keeps a second process of the same name out; the CLI has none.
    _own_lock: Option<Lock>,
}

impl DirectoryApi {
    /// Opens a site for a process (`agent`, `gateway`, `route-agent`), which then owns `generated/<process>-<node>/`. All files
    /// are read when it returns.
    ///
    /// # Errors
    /// [`Error::Storage`] when the directory is missing or can't be written, or when a process of the same name and node has it
    /// open.
    pub async fn open(args: &SiteArgs, process: &str) -> Result<Arc<Self>, Error> {
        Self::open_folder(&args.site, Folder::process(process, args.node.as_str()), true).await
    }

    /// Opens a site for the CLI, which owns `generated/cli/`. Any number may do so at a time.
    ///
    /// # Errors
    /// [`Error::Storage`] when the directory is missing or can't be written.
    pub async fn open_cli(site: &Path) -> Result<Arc<Self>, Error> {
        Self::open_folder(site, Folder::cli(), false).await
    }

    async fn open_folder(site: &Path, own: Folder, exclusive: bool) -> Result<Arc<Self>, Error> {
        let named = |source| storage(format!("open the site {}", site.display()), source);
        let site = std::fs::canonicalize(site).map_err(named)?;
        write::folders(&site, &own.path()).map_err(named)?;
        write::folders(&site, &locks()).map_err(named)?;
        let lock = if exclusive { Some(own_lock(&site, &own).await?) } else { None };
        if exclusive {
            write::sweep(&site.join(own.path()));
        }
        let inner = tokio::task::spawn_blocking(move || {
            let board = Board::new();
            let mut tree = Tree::new(site.clone(), Arc::clone(&board));
            tree.refresh_all();
            let (tree, leading) = (Mutex::new(tree), AtomicUsize::new(0));
            Arc::new(Inner { site, own, board, tree, leading, _own_lock: lock })
        })
        .await
        .map_err(|_| Error::Closed)?;
        let weak = Arc::downgrade(&inner);
        std::thread::Builder::new()
            .name("site-watch".to_owned())
            .spawn(move || watch::run(&weak))
            .map_err(|error| storage("watch the site".to_owned(), error))?;
        Ok(Arc::new(Self { inner }))
    }

    /// What is wrong with the site's files now.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.inner.tree().problems()
    }

    /// The site, with links resolved.
    #[must_use]
    pub fn site(&self) -> &Path {
        &self.inner.site
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|_| Error::Closed)?
    }
}

impl Inner {
    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn site(&self) -> &Path {
        &self.site
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

    fn apply(&self, object: Object) -> Result<(), Error> {
        let object = Object::from_value(object.kind, object.value)?;
        let (kind, key) = (object.kind, object.key.clone());
        let path = self.own.object(kind, &key);
        let mut tree = self.tree();
        self.check_owner(&tree, kind, &key)?;
        let current = self.board.get(kind, &key);
        let next = object.over(current.as_deref(), &hawser_local_api::now()).with_status(None);
        let sources = tree.sources(kind, &key);
        let in_place = sources.first().is_some_and(|source| source.path == path);
        if !in_place || current.is_none_or(|current| (*current).clone().with_status(None) != next) {
            self.write(&mut tree, &path, kind, &key, &next.value)?;
        }
        let others = sources.into_iter().map(|source| source.path).filter(|other| *other != path);
        self.remove_ours(&mut tree, others)
    }

    fn apply_status(&self, kind: Kind, key: &Key, status: &Value) -> Result<(), Error> {
        let mut tree = self.tree();
        let Some(current) = self.board.get(kind, key) else {
            return Err(Error::NotFound { kind: kind.kind, key: Box::new(key.clone()) });
        };
        if current.status() == Some(status) {
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

    fn delete(&self, kind: Kind, key: &Key) -> Result<(), Error> {
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

#[async_trait]
impl LocalApi for DirectoryApi {
    fn watch(&self, kind: Kind) -> BoxStream<'static, Event> {
        // A watch keeps the files being followed, also when every handle is gone.
        let inner = Arc::clone(&self.inner);
        self.inner
            .board
            .watch(kind)
            .map(move |event| {
                let _followed = &inner;
                event
            })
            .boxed()
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Object>, Error> {
        Ok(self.inner.board.list(kind).iter().map(|object| (**object).clone()).collect())
    }

    async fn apply(&self, object: Object) -> Result<(), Error> {
        self.blocking(move |inner| inner.apply(object)).await
    }

    async fn apply_status(&self, kind: Kind, key: Key, status: Value) -> Result<(), Error> {
        self.blocking(move |inner| inner.apply_status(kind, &key, &status)).await
    }

    async fn delete(&self, kind: Kind, key: Key) -> Result<(), Error> {
        self.blocking(move |inner| inner.delete(kind, &key)).await
    }

    async fn lead(&self, name: &str) -> Result<Box<dyn Leadership>, Error> {
        if !hawser_model::id::is_dns_label(name) {
            let problem = std::io::Error::new(std::io::ErrorKind::InvalidInput, "the name of a lead is a DNS label");
            return Err(storage(format!("lead {name:?}"), problem));
        }
        let path = self.inner.site.join(locks()).join(name);
        loop {
            match Lock::try_take(&path) {
                Ok(Some(lock)) => {
                    self.inner.leading.fetch_add(1, Ordering::AcqRel);
                    let lead = Lead { lock, inner: Arc::clone(&self.inner) };
                    // What the earlier leader wrote last.
                    self.blocking(|inner| {
                        inner.tree().refresh_all();
                        Ok(())
                    })
                    .await?;
                    return Ok(Box::new(lead));
                }
                Ok(None) => tokio::time::sleep(LEAD_PERIOD).await,
                Err(error) => return Err(storage(format!("lock {}", path.display()), error)),
            }
        }
    }
}

struct Lead {
    lock: Lock,
    inner: Arc<Inner>,
}

impl Leadership for Lead {
    fn is_current(&self) -> bool {
        self.lock.is_current()
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.inner.leading.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn own_lock(site: &Path, own: &Folder) -> Result<Lock, Error> {
    let path = site.join(locks()).join(format!("folder-{}", own.name));
    let deadline = tokio::time::Instant::now() + HANDOVER;
    loop {
        match Lock::try_take(&path) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) if tokio::time::Instant::now() < deadline => tokio::time::sleep(LEAD_PERIOD).await,
            Ok(None) => {
                let problem = "a process of the same name runs for this node; stop it, or give this one another --node";
                let problem = std::io::Error::new(std::io::ErrorKind::AddrInUse, problem);
                return Err(storage(format!("own {}", site.join(own.path()).display()), problem));
            }
            Err(error) => return Err(storage(format!("lock {}", path.display()), error)),
        }
    }
}

fn locks() -> PathBuf {
    Path::new(GENERATED).join(".locks")
}

fn storage(action: String, source: std::io::Error) -> Error {
    Error::Storage { action, source }
}
