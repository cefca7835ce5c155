//! The highest signed roster: checked against the CA, kept on disk, never lowered.
//!
//! It is kept in two places: this host's state, and the site's secrets, where another host's agent finds it when it takes
//! over.

use std::path::PathBuf;
use std::sync::Arc;

use hawser_agent_plan::Roster;
use hawser_broker_client::{MemberIdentity, member};
use hawser_proto::v1;
use prost::Message as _;

use crate::convert;
use crate::disk::{read_bounded, replace};

/// The highest roster seen, with its signature.
#[derive(Debug)]
pub(crate) struct Keeper {
    paths: Vec<PathBuf>,
    highest: Option<(v1::SignedRoster, Arc<Roster>)>,
}

/// What a roster from the broker came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is the highest now.
    Taken,
    /// It is the one that is known.
    Known,
    /// It is refused: why, and what to do.
    Refused(String),
}

impl Keeper {
    /// Reads what is on disk; what the CA of `identity` did not sign, or is another set's, is left out.
    pub(crate) fn load(paths: Vec<PathBuf>, identity: &MemberIdentity) -> Self {
        let mut keeper = Self { paths: Vec::new(), highest: None };
        for path in &paths {
            let Ok(bytes) = read_bounded(path) else { continue };
            let offered = v1::SignedRoster::decode(bytes.as_slice())
                .map_err(|e| e.to_string())
                .map(|signed| keeper.offer(signed, identity));
            if let Err(error) | Ok(Outcome::Refused(error)) = offered {
                tracing::debug!(path = %path.display(), error, "roster on disk left out");
            }
        }
        keeper.paths = paths;
        keeper
    }

    /// The highest roster.
    pub(crate) fn roster(&self) -> Option<&Arc<Roster>> {
        self.highest.as_ref().map(|(_, roster)| roster)
    }

    /// The same with its signature.
    pub(crate) fn signed(&self) -> Option<&v1::SignedRoster> {
        self.highest.as_ref().map(|(signed, _)| signed)
    }

    /// Takes a higher one. It is on disk before it is used, as far as the disk lets it be.
    pub(crate) fn offer(&mut self, signed: v1::SignedRoster, identity: &MemberIdentity) -> Outcome {
        let roster = match member::verify_roster(&identity.ca, &signed) {
            Ok(roster) => roster,
            Err(e) => return Outcome::Refused(e.to_string()),
        };
        if roster.cluster_set != identity.info.cluster_set {
            return Outcome::Refused(format!("it is the roster of the cluster set {:?}", roster.cluster_set));
        }
        let known = self.roster().map(|r| r.revision);
        if known == Some(roster.revision) {
            return Outcome::Known;
        }
        if let Some(known) = known.filter(|known| *known > roster.revision) {
            return Outcome::Refused(format!(
                "it is revision {}, and {known} has been seen: the broker was restored from an old backup; it continues above {known} \
                 once it has heard of it",
                roster.revision
            ));
        }
        for path in &self.paths {
            if let Err(error) = replace(path, &signed.encode_to_vec()) {
                tracing::warn!(path = %path.display(), %error, "the roster can't be kept on disk: a restart may fall back");
            }
        }
        self.highest = Some((signed, Arc::new(convert::roster(&roster))));
        Outcome::Taken
    }
}

#[cfg(test)]
mod tests;
