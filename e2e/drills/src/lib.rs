//! Drills: each fault of the list is caused again and again while numbered packets run over every path, and what users get
//! is measured: time without traffic, losses, order, connections that lived.
//!
//! - [`fault`]: what a fault is; [`faults`]: all of them, as data.
//! - [`stage`]: two sites, the flows over all their paths, the way back to a state without history.
//! - [`watch`]: what gateways say meanwhile: changes, sessions; [`ways`]: which path each flow takes.
//! - [`runner`]: all rows, and how long they take; [`run`]: one fault once; [`outcome`]: all runs of a fault against its bound.
//! - [`plot`]: the histogram; [`peers`]: what others need.
//!
//! A whole run takes 45 minutes at most, on two cores: 17 rows of 20 runs on one rope, some 4 s each with settling and reset,
//! are 21 minutes, and 5 more for waiting out hold-downs; rows with a duration take 10 minutes side by side; the one that needs
//! both cores takes 5; five ropes are begun in a minute. [`runner::Plan::total`] computes it, and a test holds it to 43.
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
pub mod ways;
