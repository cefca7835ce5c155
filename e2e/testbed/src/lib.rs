//! The testbed: network namespaces as hosts, with the real programs running in them.
//!
//! A [`Lab`] has a WAN and a broker host; a [`Site`] adds a LAN with nodes and their workloads. Everything is anonymous (held
//! by file descriptors of this process), so that tests run in parallel and nothing is left behind, not even after `kill -9`.
//! No namespace has a route to the machine's own network.
//!
//! - [`netns`]: one namespace, one thread that lives in it.
//! - [`switch`]: a bridge in a namespace of its own, where faults are made.
//! - [`process`]: a program on a host, with its log.
//! - [`lab`], [`site`]: the topology and the manifests.
//! - [`traffic`]: servers, clients, streams that measure.
//! - [`wait`]: conditions instead of sleeps.
//!
//! Scenarios and the demo are in `hawser-e2e`.

pub mod lab;
pub mod netns;
pub mod process;
pub mod site;
pub mod switch;
pub mod traffic;
pub mod wait;

pub use lab::Lab;
pub use netns::Netns;
pub use process::Process;
pub use site::{Outer, Site, SiteOptions, Workload};
pub use switch::Switch;
pub use wait::wait_for;
