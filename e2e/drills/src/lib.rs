//! Drills: each fault of the list is caused again and again while numbered packets run over every path, and what users get
//! is measured: time without traffic, losses, order, connections that lived.
//!
//! - [`fault`]: what a fault is; [`faults`]: all of them, as data.
//! - [`stage`]: two sites, the flows over all their paths, the way back to a state without history.
//! - [`watch`]: what gateways say meanwhile: shares of paths, changes, sessions.
//! - [`run`]: one fault once; [`outcome`]: all runs of a fault against its bound.
//! - [`plot`]: the histogram.
//!
//! Hosts, wires and traffic are in `hawser-testbed`, sites on real processes in `hawser-e2e`. The same for operators, on their
//! own sites: `hawser drill`.

pub mod fault;
pub mod faults;
pub mod outcome;
pub mod plot;
pub mod run;
pub mod stage;
pub mod watch;
