//! Records: what a cluster tells the others. Each has a key in its cluster's shard, a body, and its encoded bytes.

use std::fmt;
use std::sync::Arc;

use hawser_model::export::{ExportEndpoints, ExportHeader, Timestamp};
use hawser_model::{ClusterId, Gateway};

use crate::hash::Hash;

/// What a record is about. Readers are told about gateways first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A gateway; named by its node.
    Gateway,
    /// What merging an export needs; named namespace/name.
    Header,
    /// Where an export's traffic goes; named namespace/name.
    Endpoints,
}

impl Kind {
    /// As messages call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Header => "export",
            Self::Endpoints => "endpoints of export",
        }
    }

    /// The wire's number for it.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Gateway => 1,
            Self::Header => 2,
            Self::Endpoints => 3,
        }
    }

    /// The kind of that number.
    #[must_use]
    pub fn of_number(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Gateway),
            2 => Some(Self::Header),
            3 => Some(Self::Endpoints),
            _ => None,
        }
    }
}

/// A record's name in its shard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Arc<str>,
}

impl RecordKey {
    /// The namespace of an export's key.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        namespace(self.kind, &self.name)
    }
}

fn namespace(kind: Kind, name: &str) -> Option<&str> {
    match kind {
        Kind::Gateway => None,
        Kind::Header | Kind::Endpoints => name.split_once('/').map(|(namespace, _)| namespace),
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// What a record says, in the model's types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A gateway.
    Gateway(Gateway),
    /// An export's header.
    Header(ExportHeader),
    /// An export's endpoints.
    Endpoints(ExportEndpoints),
}

impl Body {
    /// The key that goes with it.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        let (kind, name) = match self {
            Self::Gateway(gateway) => (Kind::Gateway, gateway.node.to_string()),
            Self::Header(header) => (Kind::Header, header.service.to_string()),
            Self::Endpoints(endpoints) => (Kind::Endpoints, endpoints.service.to_string()),
        };
        RecordKey { kind, name: name.into() }
    }
}

/// A record's canonical encoding and its hash, as both ends of a stream compute it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The encoding.
    pub bytes: Arc<[u8]>,
    /// SHA-256 of it.
    pub hash: Hash,
}

impl Encoded {
    /// Takes the encoding and hashes it.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { hash: Hash::of(&bytes), bytes: bytes.into() }
    }
}

/// A record in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub cluster: ClusterId,
    /// Which membership wrote it.
    pub generation: u64,
    /// Its key.
    pub key: RecordKey,
    /// What it says.
    pub body: Body,
    /// The same, encoded.
    pub encoded: Encoded,
    /// The `created` that an export's owner claims, before it is bounded by what was first seen.
    pub claimed: Option<Timestamp>,
    /// The broker's revision that put it in force.
    pub revision: u64,
}

impl Record {
    /// Where it is in the whole.
    #[must_use]
    pub fn id(&self) -> RecordId {
        RecordId { kind: self.key.kind, cluster: self.cluster.clone(), name: self.key.name.clone() }
    }

    /// What it counts towards the quota of bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.encoded.bytes.len() + self.key.name.len()
    }
}

/// A record's place among all clusters' records; gateways come first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Its kind.
    pub kind: Kind,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its name.
    pub name: Arc<str>,
}

impl RecordId {
    /// The namespace of an export.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        namespace(self.kind, &self.name)
    }

    /// Its key in its cluster's shard.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        RecordKey { kind: self.kind, name: self.name.clone() }
    }
}
