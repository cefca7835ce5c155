//! What `hawser drill` measures while an operator causes a fault.
//!
//! - [`flows`]: numbered packets over many flows, as operators read them.
//! - [`paths`]: watches what gateways say about their own paths.
//! - [`bounds`]: what is acceptable.
//!
//! The command line is in `command::drill`, the engine in `hawser-drill`. `e2e/drills` measures the same of every fault there
//! is, on a testbed.

pub mod bounds;
pub mod flows;
pub mod paths;
