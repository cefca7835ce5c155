//! A revision of the roster as its readers see it. Verify its signature first (`hawser_broker_pki::roster`).

use hawser_model::{ClusterId, PrefixSet};
use prost::Message;

use super::{Context, ConvertError, prefix_texts, prefixes};
use crate::v1;

/// One revision of the roster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// The cluster set's name.
    pub cluster_set: String,
    /// Its revision; a higher one replaces a lower one, never the other way.
    pub revision: u64,
    /// Its members.
    pub members: Vec<Member>,
    /// Memberships that ended by revocation.
    pub revoked: Vec<Revoked>,
}

/// A member of the cluster set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: ClusterId,
    /// Which membership of that id.
    pub generation: u64,
    /// What it may be sent, and sends from.
    pub prefixes: PrefixSet,
}

/// A membership that was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The cluster's id.
    pub id: ClusterId,
    /// Which membership of that id.
    pub generation: u64,
}

impl Roster {
    /// Reads the bytes that were signed.
    ///
    /// # Errors
    /// Where they are no roster, or hold an id or prefix that is not valid.
    pub fn decode(bytes: &[u8]) -> Result<Self, ConvertError> {
        let ctx = Context::new("roster");
        let message = v1::Roster::decode(bytes).map_err(|e| ctx.error("encoding", e.to_string()))?;
        Self::from_proto(&message)
    }

    /// Reads a roster.
    ///
    /// # Errors
    /// Names the entry that is not valid.
    pub fn from_proto(message: &v1::Roster) -> Result<Self, ConvertError> {
        let ctx = Context::new(format!("roster revision {}", message.revision));
        let id = |field: String, text: &str| ClusterId::new(text).map_err(|e| ctx.error(field, e.to_string()));
        let members = message
            .members
            .iter()
            .enumerate()
            .map(|(i, member)| {
                Ok(Member {
                    id: id(format!("members[{i}].cluster_id"), &member.cluster_id)?,
                    generation: member.generation,
                    prefixes: prefixes(&format!("cluster {}", member.cluster_id), "prefixes", &member.prefixes)?,
                })
            })
            .collect::<Result<_, ConvertError>>()?;
        let revoked = message
            .revoked
            .iter()
            .enumerate()
            .map(|(i, revoked)| {
                Ok(Revoked {
                    id: id(format!("revoked[{i}].cluster_id"), &revoked.cluster_id)?,
                    generation: revoked.generation,
                })
            })
            .collect::<Result<_, ConvertError>>()?;
        Ok(Self { cluster_set: message.cluster_set.clone(), revision: message.revision, members, revoked })
    }

    /// The roster as a message.
    #[must_use]
    pub fn to_proto(&self) -> v1::Roster {
        v1::Roster {
            cluster_set: self.cluster_set.clone(),
            revision: self.revision,
            members: self
                .members
                .iter()
                .map(|member| v1::Member {
                    cluster_id: member.id.to_string(),
                    generation: member.generation,
                    prefixes: prefix_texts(&member.prefixes),
                })
                .collect(),
            revoked: self
                .revoked
                .iter()
                .map(|revoked| v1::Revoked { cluster_id: revoked.id.to_string(), generation: revoked.generation })
                .collect(),
        }
    }

    /// The bytes to sign.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.to_proto().encode_to_vec()
    }
}
