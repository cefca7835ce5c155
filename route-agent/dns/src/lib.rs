//! `clusterset.local`: the zone and its server, run by every route agent.
//!
//! The zone is made anew from local objects whenever these change, or a cluster goes dark, and handed to the server through
//! a `watch` channel. Names that are not below `clusterset.local` are refused: this is no resolver.
//!
//! - [`zone`]: what there is, as plain data in, and the answer to one question out. Pure.
//! - [`respond`]: one message in, one message out. Pure.
//! - The sockets are in [`server`]; [`clients`] bounds their connections.
//! - [`counters`]: what was asked and answered, for the process's metrics.
//!
//! The route agent (`hawser-route-agent`) fills the zone, binds the sockets, registers the counters.

pub mod clients;
pub mod counters;
pub mod respond;
pub mod server;
pub mod zone;

pub use counters::Counters;
pub use server::{bind, serve};
pub use zone::{EndpointsInput, ImportInput, Zone, ZoneInput};
