//! The snapshot that a lane looks packets up in: destination → cluster → bucket of the flow → path.

use std::net::IpAddr;
use std::sync::Arc;

use crate::buckets::Buckets;
use crate::prefixes::{ClusterIndex, Prefixes};

/// A path's place among a lane's paths ([`crate::PathSet`]).
pub type PathIndex = u16;

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// By this path.
    Path {
        /// To this cluster.
        cluster: ClusterIndex,
        /// Through this path.
        path: PathIndex,
    },
    /// The destination's cluster has no usable path.
    NoPath {
        /// The cluster.
        cluster: ClusterIndex,
    },
    /// The destination is no remote cluster's.
    NotRemote,
}

/// A bucket table and the paths that it counts.
#[derive(Debug, Clone)]
pub(crate) struct Spread {
    pub(crate) buckets: Arc<Buckets>,
    pub(crate) paths: Arc<[PathIndex]>,
}

impl Spread {
    #[inline]
    fn get(&self, flow: u64) -> Option<PathIndex> {
        self.paths.get(usize::from(self.buckets.get(flow)?)).copied()
    }
}

/// An immutable snapshot. Cheap to clone; lookups neither allocate nor lock.
#[derive(Debug, Clone, Default)]
pub struct Forwarding {
    prefixes: Arc<Prefixes>,
    tables: Arc<[Spread]>,
}

impl Forwarding {
    /// A snapshot of these tables; `prefixes` names them by number.
    pub(crate) fn new(prefixes: Arc<Prefixes>, tables: Arc<[Spread]>) -> Self {
        Self { prefixes, tables }
    }

    /// The buckets of a table.
    pub(crate) fn buckets(&self, table: usize) -> Option<&Arc<Buckets>> {
        self.tables.get(table).map(|spread| &spread.buckets)
    }

    /// Goes by these buckets of a table. Copies all tables where they are shared.
    pub(crate) fn set(&mut self, table: usize, buckets: Arc<Buckets>) {
        if let Some(spread) = Arc::make_mut(&mut self.tables).get_mut(table) {
            spread.buckets = buckets;
        }
    }

    /// Shares its tables with nobody any more.
    pub(crate) fn detach(&mut self) {
        let _ = Arc::make_mut(&mut self.tables);
    }

    /// Where a packet to `dst` goes whose flow hashes to `flow` ([`crate::Packet::flow_hash`]).
    #[inline]
    #[must_use]
    pub fn route(&self, dst: IpAddr, flow: u64) -> Route {
        let Some(target) = self.prefixes.target(dst) else { return Route::NotRemote };
        match self.tables.get(usize::from(target.table)).and_then(|table| table.get(flow)) {
            Some(path) => Route::Path { cluster: target.cluster, path },
            None => Route::NoPath { cluster: target.cluster },
        }
    }

    /// The prefixes behind it.
    #[must_use]
    pub fn prefixes(&self) -> &Arc<Prefixes> {
        &self.prefixes
    }
}
