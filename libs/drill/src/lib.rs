//! The engine of drills: numbered datagrams over many UDP flows and established TCP connections to something that echoes, and
//! what became of them.
//!
//! - [`tally`]: one flow's counts: losses, duplicates, order, the longest time without an answer. Pure.
//! - [`stream`]: sends at a steady pace and counts what comes back, on two threads.
//! - [`echo`]: the other end of the datagrams.
//! - [`connections`]: connections that stay, and their other end.
//!
//! `hawser drill` gives it to operators; the testbed's streams, and with them the drills of `e2e/drills`, run on it, too.

pub mod connections;
pub mod echo;
pub mod stream;
pub mod tally;

pub use connections::Connections;
pub use stream::Stream;
pub use tally::{Flow, Tally, Total};
