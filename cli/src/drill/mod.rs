//! What `hawser drill` measures while an operator causes a fault.
//!
//! - [`tally`]: what became of one flow's numbered probes; pure.
//! - [`probes`]: sends them over many flows, and echoes them at the other end.
//! - [`paths`]: watches what gateways say about their own paths.
//!
//! The command line is in `command::drill`. `e2e/drills` measures the same of every fault there is, on a testbed.

pub mod paths;
pub mod probes;
pub mod tally;
