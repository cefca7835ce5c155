//! Whose file is where.

use std::path::{Component, Path, PathBuf};

use hawser_local_api::{Key, Kind};
use sha2::{Digest as _, Sha256};

pub(crate) const GENERATED: &str = "generated";
pub(crate) const SECRETS: &str = "secrets";
const STATUS: &str = "status";
/// File names may be this long on any file system, with some room for a temporary name.
const MAX_STEM: usize = 200;

/// Whose a file is, by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Class {
    /// The operator's.
    Operator,
    /// A process's object, with the name of its folder.
    Object(String),
    /// A process's status of some object, with the name of its folder.
    Status(String),
}

impl Class {
    /// By a path relative to the site.
    pub(crate) fn of(path: &Path) -> Self {
        let mut parts = path.components().filter_map(|part| match part {
            Component::Normal(name) => name.to_str(),
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
        });
        match (parts.next(), parts.next(), parts.next()) {
            (Some(GENERATED), Some(folder), Some(STATUS)) => Self::Status(folder.to_owned()),
            (Some(GENERATED), Some(folder), _) => Self::Object(folder.to_owned()),
            _ => Self::Operator,
        }
    }
}

/// A writer's own folder in `generated/`.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    /// Its name.
    pub(crate) name: String,
    /// What the folders of the same process on other nodes begin with; none for the CLI.
    process: Option<String>,
}

impl Folder {
    pub(crate) fn process(process: &str, node: &str) -> Self {
        Self { name: format!("{process}-{node}"), process: Some(format!("{process}-")) }
    }

    pub(crate) fn cli() -> Self {
        Self { name: "cli".to_owned(), process: None }
    }

    /// Whether `folder` belongs to the same process, here or on another node.
    pub(crate) fn is_kin(&self, folder: &str) -> bool {
        folder == self.name || self.process.as_ref().is_some_and(|process| folder.starts_with(process))
    }

    /// Its path relative to the site.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new(GENERATED).join(&self.name)
    }

    /// Where it keeps an object, relative to the site.
    pub(crate) fn object(&self, kind: Kind, key: &Key) -> PathBuf {
        self.path().join(kind.kind).join(file_name(key))
    }

    /// Where it keeps a status, relative to the site.
    pub(crate) fn status(&self, kind: Kind, key: &Key) -> PathBuf {
        self.path().join(STATUS).join(kind.kind).join(file_name(key))
    }
}

/// Keys hold valid names only, so no separator can be among them; long ones are cut and told apart by a hash.
fn file_name(key: &Key) -> String {
    let stem = if key.namespace.is_empty() { key.name.clone() } else { format!("{}_{}", key.namespace, key.name) };
    if stem.len() <= MAX_STEM {
        return format!("{stem}.yaml");
    }
    let hash = Sha256::digest(stem.as_bytes());
    let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}~{hash}.yaml", stem.get(..MAX_STEM - 40).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_by_path() {
        for (path, class) in [
            ("web.yaml", Class::Operator),
            ("shop/status/web.yaml", Class::Operator),
            ("shop/generated/agent-n1/web.yaml", Class::Operator),
            ("generated/agent-n1/Service/shop_web.yaml", Class::Object("agent-n1".to_owned())),
            ("generated/agent-n1/status/Service/shop_web.yaml", Class::Status("agent-n1".to_owned())),
        ] {
            assert_eq!(Class::of(Path::new(path)), class, "{path}");
        }
    }

    #[test]
    fn kin_are_the_same_process() {
        let agent = Folder::process("agent", "n1");
        assert!(agent.is_kin("agent-n1") && agent.is_kin("agent-n2"));
        assert!(!agent.is_kin("route-agent-n1") && !agent.is_kin("cli"));
        assert!(Folder::cli().is_kin("cli") && !Folder::cli().is_kin("cli-x"));
    }

    #[test]
    fn long_names_fit_and_stay_apart() {
        let long = |last: char| Key::namespaced(&"n".repeat(63), &format!("{}{last}", "a.".repeat(126)));
        let (a, b) = (file_name(&long('a')), file_name(&long('b')));
        assert!(a.len() <= 210, "{a}");
        assert_ne!(a, b);
    }
}
