//! Whether a path lives: probes, suspicion, verdicts and hold-down, as a state machine without clock or I/O.
//!
//! The same machine watches a tunnel between two gateways (driven by `hawser-tunnel`, through `hawser-datapath`) and the
//! way from a node to its cluster's gateways (driven by `hawser-route-agent`). Time is [`Time`], handed in with every call;
//! what it wants done is polled: [`Path::poll_probe`], [`Path::poll_event`], [`Path::poll_timeout`].
//!
//! - [`path`]: the state machine.
//! - [`config`]: its numbers.
//! - [`state`]: states, reasons, events.
//! - [`time`]: virtual time.
//! - `window`, `rtt`, `hold`: sent probes and loss, round trips, hold-down.

pub mod config;
mod hold;
pub mod path;
mod rtt;
pub mod state;
pub mod time;
mod window;

pub use config::{Config, Mode, Pace};
pub use path::{Path, Stats};
pub use state::{ClusterState, Event, Reason, State};
pub use time::Time;
