//! A site as commands see it: its objects, its secrets, waiting for what its agent writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hawser_api::hawser::Membership;
use hawser_api::labels;
use hawser_broker_client::IdentityDir;
use hawser_local_api::{Client, Key, Resource};
use hawser_local_api_directory::DirectoryApi;
use tokio::time::{Instant, timeout_at};

use crate::args::SiteDirArgs;
use crate::exit::{Exit, Failure};

/// An open site.
pub struct Site {
    /// Its directory.
    pub path: PathBuf,
    /// Its objects; what the command line writes goes to `generated/cli/`.
    pub client: Client,
    /// Its secrets.
    pub identity: IdentityDir,
    directory: Arc<DirectoryApi>,
}

impl Site {
    /// Opens a site's directory.
    ///
    /// # Errors
    /// Where there is none, or it can't be read.
    pub async fn open(args: &SiteDirArgs) -> anyhow::Result<Self> {
        let path = &args.site;
        if !path.is_dir() {
            return Err(Failure::new(Exit::NotFound, format!("{}: there is no such directory", path.display()))
                .remedy("name the directory of the site's manifests: --site DIR")
                .into());
        }
        let directory =
            DirectoryApi::open_cli(path).await.with_context(|| format!("Failed to open {}", path.display()))?;
        let client = Client::new(Arc::clone(&directory) as _);
        Ok(Self { path: path.clone(), client, identity: IdentityDir::of_site(path), directory })
    }

    /// The membership, if there is one.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub async fn membership(&self) -> anyhow::Result<Option<Membership>> {
        let all = self.client.list::<Membership>().await.context("Failed to list Membership")?;
        Ok(all.into_iter().find(|m| m.metadata.name.as_deref() == Some(labels::MEMBERSHIP)))
    }

    /// Manifests that are not in force as they stand, in words.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.directory.problems().iter().map(ToString::to_string).collect()
    }

    /// Waits until `done` says so of an object (`None` while it does not exist). False when `limit` has passed.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub async fn wait<K: Resource>(
        &self,
        key: &Key,
        limit: Duration,
        mut done: impl FnMut(Option<&K>) -> bool,
    ) -> anyhow::Result<bool> {
        let deadline = Instant::now() + limit;
        let mut view = self.client.reflect::<K>();
        let reached = view.wait_for(|view| view.as_ref().is_some_and(|all| done(all.get(key).map(AsRef::as_ref))));
        match timeout_at(deadline, reached).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(_)) => Err(hawser_local_api::Error::Closed.into()),
            Err(_) => Ok(false),
        }
    }
}
