//! The domain model of a cluster set: ids, prefixes, gateways, exports, and what follows from them.
//!
//! Pure: no clock, no I/O, no Kubernetes, no protobuf. `hawser-api` and `hawser-proto` convert their types to these and
//! back; everything that decides (merge, ownership, routes, DNS) works on these alone.
//!
//! - [`id`]: names of clusters, nodes, services.
//! - [`prefix`]: sets of CIDRs; [`claim`]: the rules for claiming them.
//! - [`gateway`]: gateways as other clusters see them.
//! - [`export`]: exported services, as headers and endpoints; [`validate`]: what makes them valid; [`age`]: how old they count.
//! - [`merge`]: one import out of all exports of a name (KEP-1645), with conflicts.
//! - [`localise`]: that import as one cluster can serve it.
//! - [`defaults`]: port, mark and table numbers that several processes share.

pub mod age;
pub mod claim;
pub mod defaults;
pub mod export;
pub mod gateway;
pub mod id;
pub mod localise;
pub mod merge;
pub mod prefix;
pub mod validate;

pub use claim::{PrefixError, PrefixPolicy};
pub use gateway::{Candidate, Gateway, Lane, PublicKey, RemoteCluster};
pub use id::{ClusterId, InvalidId, NodeName, ServiceName};
pub use prefix::{InvalidPrefix, IpFamily, PrefixSet};
