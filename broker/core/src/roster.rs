//! The roster: who is a member, with which key, claims and grant; tokens; who left or was revoked; administrators.
//!
//! What changes it is in [`crate::membership`]. The process keeps the roster durable and signs what [`Roster::public`]
//! returns.

use std::collections::BTreeMap;

use hawser_model::{ClusterId, PrefixSet};
use serde::{Deserialize, Serialize};

use crate::hash::{Hash, prefix_list};
use crate::refusal::{Code, Refusal};
use crate::token::{Grant, Token};

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which membership of the id this is.
    pub generation: u64,
    /// SHA-256 of its public key (SPKI); its certificates are for this key only.
    pub key: Hash,
    /// What it routes.
    #[serde(with = "prefix_list")]
    pub claims: PrefixSet,
    /// What it may claim and export.
    pub grant: Grant,
    /// Seconds since the epoch.
    pub joined: i64,
}

/// How a membership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// By its own wish.
    Left,
    /// By an administrator.
    Revoked,
    /// By a newer membership of the same id.
    Replaced,
}

/// A membership that ended; kept so that its identity stays refused and generations only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departed {
    /// The last generation that ended.
    pub generation: u64,
    /// Its key.
    pub key: Hash,
    /// How.
    pub how: How,
}

/// An administrator whose certificate was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admin {
    /// SHA-256 of its public key (SPKI).
    pub key: Hash,
    /// Seconds since the epoch.
    pub created: i64,
}

/// What members see of the roster; the CA signs its encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicRoster {
    /// The cluster set.
    pub set: String,
    /// Grows with every change that members can see.
    pub revision: u64,
    /// Members: id, generation, claims.
    pub members: Vec<(ClusterId, u64, PrefixSet)>,
    /// Memberships that ended: every generation up to this one.
    pub revoked: Vec<(ClusterId, u64)>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    pub(crate) set: String,
    pub(crate) revision: u64,
    pub(crate) members: BTreeMap<ClusterId, Member>,
    pub(crate) departed: BTreeMap<ClusterId, Departed>,
    pub(crate) tokens: BTreeMap<String, Token>,
    pub(crate) admins: BTreeMap<String, Admin>,
}

impl Roster {
    /// The roster of a new cluster set, without members.
    #[must_use]
    pub fn new(set: impl Into<String>) -> Self {
        Self {
            set: set.into(),
            revision: 1,
            members: BTreeMap::new(),
            departed: BTreeMap::new(),
            tokens: BTreeMap::new(),
            admins: BTreeMap::new(),
        }
    }

    /// The cluster set's name.
    #[must_use]
    pub fn set(&self) -> &str {
        &self.set
    }

    /// The revision members see.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Members, by id.
    pub fn members(&self) -> impl Iterator<Item = (&ClusterId, &Member)> {
        self.members.iter()
    }

    /// The member of that id.
    #[must_use]
    pub fn member(&self, cluster: &ClusterId) -> Option<&Member> {
        self.members.get(cluster)
    }

    /// Memberships that ended, by id.
    pub fn departed(&self) -> impl Iterator<Item = (&ClusterId, &Departed)> {
        self.departed.iter()
    }

    /// Tokens, by id.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.values()
    }

    /// Records an administrator whose certificate is being issued.
    pub fn add_admin(&mut self, name: &str, key: Hash, now: i64) {
        self.admins.insert(name.to_owned(), Admin { key, created: now });
    }

    /// Whether `key` is on record for administrator `name`.
    #[must_use]
    pub fn is_admin(&self, name: &str, key: &Hash) -> bool {
        self.admins.get(name).is_some_and(|admin| admin.key.same(key))
    }

    /// The current membership of the identity (`cluster`, `key`).
    ///
    /// # Errors
    /// [`Code::Unauthenticated`], naming how the membership ended, or that there never was one.
    pub fn authenticate(&self, cluster: &ClusterId, key: &Hash) -> Result<&Member, Refusal> {
        if let Some(member) = self.members.get(cluster).filter(|m| m.key.same(key)) {
            return Ok(member);
        }
        Err(self.ended(cluster, 0))
    }

    /// Why a membership of `cluster` is over, in words for whoever still uses it. `generation` 0: not known which.
    #[must_use]
    pub fn ended(&self, cluster: &ClusterId, generation: u64) -> Refusal {
        let (rule, remedy) = match (self.members.get(cluster), self.departed.get(cluster)) {
            (Some(member), _) => (
                format!("another identity holds this id since generation {}", member.generation),
                "leave this site, or take the id back with a new token and --replace",
            ),
            (None, Some(Departed { how: How::Revoked, generation, .. })) => (
                format!("generation {generation} was revoked by an administrator"),
                "ask an administrator for a new token and join again",
            ),
            (None, Some(gone)) => (
                format!("generation {} has left the cluster set", gone.generation.max(generation)),
                "join again with a new token",
            ),
            (None, None) => ("it is no member of this cluster set".to_owned(), "join with a token first"),
        };
        Refusal::new(Code::Unauthenticated, format!("cluster {cluster}"), "identity", rule, remedy)
    }

    /// What members see.
    #[must_use]
    pub fn public(&self) -> PublicRoster {
        PublicRoster {
            set: self.set.clone(),
            revision: self.revision,
            members: self.members.iter().map(|(id, m)| (id.clone(), m.generation, m.claims.clone())).collect(),
            revoked: self.departed.iter().map(|(id, d)| (id.clone(), d.generation)).collect(),
        }
    }

    pub(crate) fn claims(&self) -> impl Iterator<Item = (&ClusterId, &PrefixSet)> + Clone {
        self.members.iter().map(|(id, m)| (id, &m.claims))
    }
}
