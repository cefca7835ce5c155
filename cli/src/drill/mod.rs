//! What `hawser drill` measures while a fault is caused, by an operator or by a command.
//!
//! - [`measure`]: numbered packets and connections, for a while.
//! - [`flows`], [`connections`]: what became of them, as operators read it.
//! - [`paths`]: watches what gateways say about their own paths.
//! - [`fault`]: runs the command.
//! - [`bounds`]: what is acceptable.
//!
//! The command line is in `command::drill`, the engine in `hawser-drill`. `e2e/drills` measures the same of every fault there
//! is, on a testbed.

pub mod bounds;
pub mod connections;
pub mod fault;
pub mod flows;
pub mod measure;
pub mod paths;
