//! What a path set reports as it happens.

use std::time::Duration;

use hawser_liveness::{ClusterState, Reason, State, Time};
use hawser_model::{ClusterId, NodeName};

use crate::forwarding::PathIndex;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathEvent {
    /// A path's state changed.
    State {
        /// The path.
        path: PathIndex,
        /// Its cluster.
        cluster: ClusterId,
        /// Its gateway.
        gateway: NodeName,
        /// The state before.
        from: State,
        /// The state now.
        to: State,
        /// Why.
        reason: Reason,
        /// When.
        at: Time,
    },
    /// To be handed to the other lanes: [`hawser_liveness::Path::handle_hint`] for their paths to this gateway.
    Hint {
        /// Its cluster.
        cluster: ClusterId,
        /// The gateway.
        gateway: NodeName,
    },
    /// Flows left a path that is down for others.
    Failover {
        /// The cluster.
        cluster: ClusterId,
        /// The gateway that they left.
        gateway: NodeName,
        /// When.
        at: Time,
        /// From the last proof of the old path to the verdict.
        took: Duration,
    },
    /// A cluster's state changed.
    Cluster {
        /// The cluster.
        cluster: ClusterId,
        /// The state before.
        from: ClusterState,
        /// The state now.
        to: ClusterState,
        /// When.
        at: Time,
    },
    /// The largest packet that a path takes changed.
    Mtu {
        /// The path.
        path: PathIndex,
        /// Its cluster.
        cluster: ClusterId,
        /// Its gateway.
        gateway: NodeName,
        /// Before, bytes.
        from: u16,
        /// Now, bytes.
        to: u16,
    },
    /// A remote gateway began or ended its drain.
    Draining {
        /// Its cluster.
        cluster: ClusterId,
        /// The gateway.
        gateway: NodeName,
        /// Whether it drains.
        draining: bool,
    },
}

impl PathEvent {
    /// The path that it names by its number.
    #[must_use]
    pub fn path(&self) -> Option<PathIndex> {
        match self {
            Self::State { path, .. } | Self::Mtu { path, .. } => Some(*path),
            Self::Hint { .. } | Self::Failover { .. } | Self::Cluster { .. } | Self::Draining { .. } => None,
        }
    }
}
