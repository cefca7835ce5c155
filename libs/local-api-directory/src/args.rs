//! Flags of every process that runs on a site's host.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hawser_model::NodeName;

/// Which site, which host of it, and where this host keeps its own state; to be flattened into a process's own flags.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Site")]
pub struct SiteArgs {
    /// The directory of the site's manifests.
    #[arg(long, env = "HAWSER_SITE", value_name = "DIR")]
    pub site: PathBuf,
    /// This host's name: the name of its Node.
    #[arg(long, env = "HAWSER_NODE", value_name = "NAME")]
    pub node: NodeName,
    /// Where this host's processes keep keys and last states.
    #[arg(long, env = "HAWSER_STATE", value_name = "DIR", default_value = "/var/lib/hawser")]
    pub state: PathBuf,
}

impl SiteArgs {
    /// The folder of a process's own state, `<state>/<process>`, made where it is missing, for its owner only (0700).
    ///
    /// # Errors
    /// When it can't be made or isn't a folder; names it, and what to do.
    pub fn state_dir(&self, process: &str) -> io::Result<PathBuf> {
        let dir = self.state.join(process);
        let named = |error: io::Error| {
            let remedy = "run as its owner (root, as a rule), or name a folder that can be written: --state DIR";
            io::Error::new(error.kind(), format!("{}: {error}; {remedy}", dir.display()))
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(named)?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).map_err(named)?;
        Ok(dir)
    }

    /// The folder of the site's identity files.
    #[must_use]
    pub fn secrets_dir(&self) -> PathBuf {
        secrets_dir(&self.site)
    }
}

pub(crate) fn secrets_dir(site: &Path) -> PathBuf {
    site.join("secrets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_that_cannot_be_made_is_named_with_the_remedy() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let node = "gw1".parse().unwrap();
        let args = SiteArgs { site: "site".into(), node, state: file.path().to_owned() };
        let error = args.state_dir("gateway").unwrap_err().to_string();
        assert!(error.contains(&format!("{}/gateway", file.path().display())), "{error}");
        assert!(error.contains("--state"), "{error}");
    }

    #[test]
    fn a_state_folder_is_its_owners_alone() {
        let state = tempfile::tempdir().unwrap();
        let args =
            SiteArgs { site: "site".into(), node: "gw1".parse().unwrap(), state: state.path().join("not/yet/there") };
        let dir = args.state_dir("agent").unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(args.state_dir("agent").unwrap(), dir, "a second time is no error");
    }
}
