//! What the gateway keeps on disk: the highest roster it saw, the peers it last applied, and which request for new keys it
//! answered.
//!
//! The roster guards against a member that was dropped coming back with an older view of the world; the peers let a
//! restarted gateway carry packets before agent, broker or local API say anything. Both end with the membership.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IntoInnerError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use hawser_api::hawser::RosterMember;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::view::Inputs;

/// The members of the cluster set at a revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Roster {
    pub(crate) revision: i64,
    pub(crate) members: Vec<RosterMember>,
}

/// See the module.
pub(crate) struct Memory {
    dir: PathBuf,
    roster: Option<Roster>,
    inputs: Option<Inputs>,
    answered: Option<i64>,
    /// The lower revision that was last reported.
    reported: Option<i64>,
}

impl Memory {
    /// Reads what an earlier run left in `dir`. A file that can't be read is reported and counts as absent: the local API
    /// will say it all again.
    pub(crate) fn open(dir: &Path) -> Self {
        let (roster, inputs) = (read(&dir.join(ROSTER)), read(&dir.join(INPUTS)));
        Self { dir: dir.to_owned(), roster, inputs, answered: read(&dir.join(ANSWERED)), reported: None }
    }

    /// What was last applied.
    pub(crate) fn inputs(&self) -> Option<&Inputs> {
        self.inputs.as_ref()
    }

    /// The roster to go by, given what the local API says now: the higher of the two, which is then on disk.
    ///
    /// # Errors
    /// When it can't be written: it must not be applied then, since a restart would forget it.
    pub(crate) fn roster(&mut self, offered: Option<&Roster>) -> io::Result<Roster> {
        let Some(offered) = offered else { return Ok(self.roster.clone().unwrap_or_default()) };
        match &self.roster {
            Some(known) if known.revision > offered.revision => {
                if self.reported.replace(offered.revision) != Some(offered.revision) {
                    tracing::warn!(
                        offered = offered.revision,
                        known = known.revision,
                        "the local API offers an older roster than was seen before; it is ignored until the agent catches up"
                    );
                }
                Ok(known.clone())
            }
            Some(known) if known == offered => Ok(known.clone()),
            _ => {
                write(&self.dir.join(ROSTER), offered)?;
                self.roster = Some(offered.clone());
                Ok(offered.clone())
            }
        }
    }

    /// Notes what is applied now.
    pub(crate) fn remember(&mut self, inputs: &Inputs) {
        if self.inputs.as_ref() != Some(inputs)
            && let Err(error) = write(&self.dir.join(INPUTS), inputs)
        {
            tracing::warn!(%error, "the applied peers can't be kept on disk");
            return;
        }
        // Equal ones too: objects that nobody else has any more are let go of.
        self.inputs = Some(inputs.clone());
    }

    /// The request for new keys that was answered last.
    pub(crate) fn answered(&self) -> Option<i64> {
        self.answered
    }

    /// Notes which request for new keys is answered now.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn answer(&mut self, request: i64) -> io::Result<()> {
        write(&self.dir.join(ANSWERED), &request)?;
        self.answered = Some(request);
        Ok(())
    }

    /// Forgets everything: this cluster is no member any more.
    pub(crate) fn clear(&mut self) {
        (self.roster, self.inputs, self.answered) = (None, None, None);
        for file in [ROSTER, INPUTS, ANSWERED] {
            match fs::remove_file(self.dir.join(file)) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(file, %error, "an old file can't be removed"),
            }
        }
    }
}

const ROSTER: &str = "roster.json";
const INPUTS: &str = "peers.json";
const ANSWERED: &str = "rotation.json";

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a state file can't be read");
            return None;
        }
    };
    match serde_json::from_slice(&text) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a state file is damaged and ignored");
            None
        }
    }
}

/// Replaces a file so that a crash leaves the old or the new one.
fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let draft = path.with_extension("json.new");
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let mut writer = BufWriter::new(file);
    serde_json::to_writer(&mut writer, value)?;
    writer.into_inner().map_err(IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(revision: i64, members: &[(&str, i64)]) -> Roster {
        let members =
            members.iter().map(|&(id, generation)| RosterMember { cluster_id: id.to_owned(), generation }).collect();
        Roster { revision, members }
    }

    #[test]
    fn a_lower_roster_is_refused_even_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(dir.path());
        assert_eq!(memory.roster(None).unwrap(), Roster::default());
        let (old, new) = (roster(4, &[("east", 1), ("north", 1)]), roster(5, &[("east", 1)]));
        assert_eq!(memory.roster(Some(&old)).unwrap(), old);
        assert_eq!(memory.roster(Some(&new)).unwrap(), new);
        assert_eq!(memory.roster(Some(&old)).unwrap(), new);
        let mut memory = Memory::open(dir.path());
        assert_eq!(memory.roster(Some(&old)).unwrap(), new, "the revoked cluster stays away");
        assert_eq!(memory.roster(None).unwrap(), new);
        memory.clear();
        let mut memory = Memory::open(dir.path());
        assert_eq!(memory.roster(Some(&old)).unwrap(), old, "a new membership counts from anew");
    }

    #[test]
    fn an_answered_request_is_remembered_until_the_membership_ends() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(dir.path());
        assert_eq!(memory.answered(), None);
        memory.answer(1_700_000_000).unwrap();
        let mut memory = Memory::open(dir.path());
        assert_eq!(memory.answered(), Some(1_700_000_000));
        memory.clear();
        assert_eq!(Memory::open(dir.path()).answered(), None);
    }

    #[test]
    fn a_damaged_file_counts_as_absent() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(ROSTER), "{\"revision\": ").unwrap();
        let mut memory = Memory::open(dir.path());
        assert_eq!(memory.roster(None).unwrap(), Roster::default());
        assert!(memory.inputs().is_none());
    }
}
