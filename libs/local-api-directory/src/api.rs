//! The adapter itself: reads from the board, writes to files.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use hawser_local_api::board::Board;
use hawser_local_api::{Error, Event, Key, Kind, Leadership, LocalApi, Object};
use serde_json::Value;

use crate::args::SiteArgs;
use crate::folder::{Folder, GENERATED};
use crate::lead::Lock;
use crate::own::{Inner, storage};
use crate::problem::Problem;
use crate::tree::Tree;
use crate::{watch, write};

/// How often a waiting candidate tries for the lead.
const LEAD_PERIOD: Duration = Duration::from_millis(50);
/// How long a process waits for its predecessor of the same name to be gone.
const HANDOVER: Duration = Duration::from_secs(3);

/// The local API of a site, as one process or the CLI sees it.
pub struct DirectoryApi {
    inner: Arc<Inner>,
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
        let named = |source: std::io::Error| {
            let remedy = match source.kind() {
                ErrorKind::NotFound => "; name the directory of its manifests: --site DIR",
                ErrorKind::PermissionDenied => "; run as the owner of that directory (root, as a rule)",
                _ => "",
            };
            storage(format!("open the site {}{remedy}", site.display()), source)
        };
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
        self.blocking(move |inner| inner.apply(&object)).await
    }

    async fn apply_status(&self, kind: Kind, key: Key, status: Value) -> Result<(), Error> {
        self.blocking(move |inner| inner.apply_status(kind, &key, &status)).await
    }

    async fn delete(&self, kind: Kind, key: Key) -> Result<(), Error> {
        self.blocking(move |inner| inner.delete(kind, &key)).await
    }

    async fn lead(&self, name: &str) -> Result<Box<dyn Leadership>, Error> {
        if !hawser_model::id::is_dns_label(name) {
            let problem = std::io::Error::new(ErrorKind::InvalidInput, "the name of a lead is a DNS label");
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
                let problem = std::io::Error::new(ErrorKind::AddrInUse, problem);
                return Err(storage(format!("own {}", site.join(own.path()).display()), problem));
            }
            Err(error) => return Err(storage(format!("lock {}", path.display()), error)),
        }
    }
}

fn locks() -> PathBuf {
    Path::new(GENERATED).join(".locks")
}
