//! What nodes and their cluster's gateways say to each other over `hawser-vx`, and how they know that it is true.
//!
//! A route agent asks every gateway each 100 ms; the gateway process answers with the remote clusters, how it
//! reaches each and by which MTU, and its drain flag, and says so unasked when any of it changes. A gateway node's route agent tells the others
//! when the gateway's TUN vanishes. Every datagram is at most [`MAX_DATAGRAM`] bytes and ends in an HMAC-SHA256 made with
//! a key that all nodes of the cluster share; repeated and stale ones are refused.
//!
//! Pure: sockets are in `hawser-gateway` (answers, notices) and `hawser-route-agent` (questions); the verdicts about a
//! gateway are made by `hawser-liveness`.
//!
//! - [`address`]: a node's addresses on `hawser-vx`, from its name.
//! - [`key`]: the shared key.
//! - [`message`]: what is said.
//! - [`speaker`]: sealing and opening datagrams, replay protection.
//! - [`live`]: the set of live clusters, in pages that fit a datagram.
//! - [`repeats`]: how often something is said that nobody answers.
//! - `wire`: the encoding.

pub mod address;
pub mod key;
pub mod live;
pub mod message;
pub mod repeats;
mod replay;
pub mod speaker;
mod wire;

pub use address::{link_local, mac};
pub use hawser_liveness::ClusterState;
pub use key::{InvalidKey, ProbeKey};
pub use live::{LivePage, LiveView, Reach, pages};
pub use message::{Envelope, Message, Refused};
pub use repeats::Repeats;
pub use speaker::{Listener, Speaker};
pub use wire::MAX_DATAGRAM;
