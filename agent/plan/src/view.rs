//! What the agent knows of the cluster set: the roster, and the other members' records.
//!
//! The agent process builds these from the broker's stream (`agent/src/reader.rs`, `agent/src/roster.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hawser_model::export::{ExportEndpoints, ExportHeader};
use hawser_model::{ClusterId, Gateway, NodeName, PrefixSet, ServiceName};
use jiff::{SignedDuration, Timestamp};

/// One membership of a cluster: ids can be taken over, the generation tells which holder is meant.
pub type MemberKey = (ClusterId, u64);

/// This cluster as the broker admitted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name of the cluster set.
    pub cluster_set: String,
    /// This cluster's id.
    pub cluster: ClusterId,
    /// Which membership of that id this is.
    pub generation: u64,
    /// Namespaces that it may export from; empty: all but `default` and `kube-*`.
    pub namespaces: Vec<String>,
    /// When its certificate ends.
    pub certificate_expires: Timestamp,
}

impl Identity {
    /// Whether this cluster may export from `namespace`.
    #[must_use]
    pub fn may_export_from(&self, namespace: &str) -> bool {
        if self.namespaces.is_empty() {
            namespace != "default" && !namespace.starts_with("kube-")
        } else {
            self.namespaces.iter().any(|n| n == namespace)
        }
    }
}

/// One verified revision of the roster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// Grows with every change.
    pub revision: u64,
    /// All members and what they route.
    pub members: BTreeMap<MemberKey, PrefixSet>,
    /// Memberships that were ended by an administrator.
    pub revoked: BTreeSet<MemberKey>,
}

impl Roster {
    /// The members other than `own`, in order.
    pub fn peers<'a>(&'a self, own: &'a ClusterId) -> impl Iterator<Item = (&'a MemberKey, &'a PrefixSet)> {
        self.members.iter().filter(move |((id, _), _)| id != own)
    }
}

/// Records of one member, as last synced.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RemoteShard {
    /// Its gateways.
    pub gateways: BTreeMap<NodeName, Arc<Gateway>>,
    /// Its exports in namespaces that exist here.
    pub headers: BTreeMap<ServiceName, Arc<ExportHeader>>,
    /// Where their traffic goes.
    pub endpoints: BTreeMap<ServiceName, Arc<ExportEndpoints>>,
}

/// The other members' records, as of the last moment at which the broker said that they were complete.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// By membership.
    pub shards: BTreeMap<MemberKey, RemoteShard>,
    /// The namespaces that the view covers: exports elsewhere are unknown rather than absent.
    pub namespaces: BTreeSet<String>,
}

/// How long the broker may be away before what it told counts as stale: shorter gaps are restarts.
pub const SILENT_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// How the connection to the broker stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Link {
    /// Not tried yet.
    #[default]
    Connecting,
    /// A stream is open.
    Connected,
    /// There is none.
    Unreachable {
        /// A condition reason, e.g. `ConnectionFailed`.
        reason: &'static str,
        /// What happened and what to do, in words.
        message: String,
        /// Since when there has been none.
        since: Timestamp,
    },
}

impl Link {
    /// Since when the broker has been away for long, if it has.
    pub(crate) fn silent_since(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Unreachable { since, .. } if *since + SILENT_AFTER <= now => Some(*since),
            Self::Unreachable { .. } | Self::Connecting | Self::Connected => None,
        }
    }
}
