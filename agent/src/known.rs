//! What the two halves of the agent tell each other: the control loop wishes, the link knows. Both are latest values, never
//! queues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hawser_agent_plan::{Identity, Link, Roster, Shard, Uploads, View};
use hawser_model::ClusterId;
use jiff::Timestamp;

/// What the control loop wants of the broker.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wish {
    /// What to publish; none: leave it as it is.
    pub(crate) shard: Option<Arc<Shard>>,
    /// Namespaces to hear about.
    pub(crate) interest: BTreeSet<String>,
    /// The roster revision that each gateway applies.
    pub(crate) applied: BTreeMap<String, u64>,
}

/// What the link knows from the broker and from disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// Who this cluster is.
    pub(crate) identity: Option<Arc<Identity>>,
    /// The highest roster.
    pub(crate) roster: Option<Arc<Roster>>,
    /// The last synced view.
    pub(crate) view: Option<Arc<View>>,
    /// Members without a stream.
    pub(crate) silent: BTreeMap<ClusterId, Timestamp>,
    /// How the stream stands.
    pub(crate) link: Link,
    /// What became of the own records.
    pub(crate) uploads: Arc<Uploads>,
}

impl Known {
    /// Whether nothing has changed. Large parts are compared by identity.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
            a.map(Arc::as_ptr) == b.map(Arc::as_ptr)
        }
        same(self.identity.as_ref(), other.identity.as_ref())
            && same(self.roster.as_ref(), other.roster.as_ref())
            && same(self.view.as_ref(), other.view.as_ref())
            && Arc::ptr_eq(&self.uploads, &other.uploads)
            && self.silent == other.silent
            && self.link == other.link
    }
}
