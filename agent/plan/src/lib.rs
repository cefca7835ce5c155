//! What the agent decides: this cluster's records up; remote clusters, imports, slices and conditions down. Pure: the time is
//! an argument, the I/O is in `hawser-agent`.
//!
//! - [`mod@plan`]: one pass, all inputs to all writes.
//! - [`view`], [`local`]: its inputs, the cluster set as the broker told it and the local API's objects.
//! - [`export`], [`shard`]: what goes up; [`uplink`]: in which order, and what came of it.
//! - `import`, `slice`, `remote`, `status`, `condition`: what comes down.
//! - [`diff`]: the writes that are missing.
//!
//! Objects become the model's types and back in `hawser_api::convert`; what an import is and where exports conflict is
//! decided by `hawser_model::merge`, alike in every cluster.

mod condition;
pub mod diff;
pub mod export;
mod import;
pub mod local;
pub mod plan;
mod remote;
pub mod shard;
mod slice;
mod status;
pub mod uplink;
pub mod view;

pub use diff::Write;
pub use local::Local;
pub use plan::{Inputs, Plan, plan};
pub use remote::DARK_FOR;
pub use shard::{Record, RecordId, Refusal, Shard, Upload, Uploads};
pub use status::Standing;
pub use uplink::{Op, Uplink};
pub use view::{Identity, Link, MemberKey, RemoteShard, Roster, View};
