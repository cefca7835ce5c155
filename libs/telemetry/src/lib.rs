//! Logs, metrics, admin server, readiness and shutdown: what every Hawser process has in common.
//!
//! A process, in this order: [`LogArgs::init`], [`Shutdown::on_signals`], [`Readiness::new`], [`admin::Server::bind`]
//! (with every other listener: a port in use is a start-up error), its own work as named [`Tasks`], and
//! [`admin::Server::serve`] as one of them.
//!
//! Nothing here knows what the process does; its metrics and pages are handed in.

pub mod admin;
pub mod log;
pub mod metrics;
pub mod readiness;
pub mod shutdown;
pub mod tasks;

pub use admin::{AdminAddr, AdminArgs};
pub use log::{LogArgs, LogFormat};
pub use readiness::{Readiness, ReadyHandle};
pub use shutdown::Shutdown;
pub use tasks::{Task, Tasks};
