//! Drills: each fault of the list is caused again and again while numbered packets run over every path, and what users get
//! is measured: time without traffic, losses, order, connections that lived.
//!
//! - [`fault`]: what a fault is; [`faults`]: all of them, as data.
//! - [`stage`]: two sites, the flows over all their paths, the way back to a state without history.
//! - [`watch`]: what gateways say meanwhile: shares of paths, changes, sessions.
//! - [`runner`]: all rows, and how long they take; [`run`]: one fault once; [`outcome`]: all runs of a fault against its bound.
//! - [`plot`]: the histogram; [`peers`]: what others need.
//!
//! Hosts, wires and traffic are in `hawser-testbed`, sites on real processes in `hawser-e2e`. The same for operators, on their
//! own sites: `hawser drill`.

pub mod fault;
pub mod faults;
pub mod outcome;
pub mod peers;
pub mod plot;
pub mod run;
pub mod runner;
pub mod stage;
pub mod watch;
