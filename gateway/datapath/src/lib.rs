//! What a gateway decides about packets and paths, without clock, I/O or allocation per packet.
//!
//! The shell around it is `hawser-tunnel`: one thread per lane, each with a [`PathSet`] of its own, so that the lane that
//! sees a path go down sends its next batch elsewhere. The verdicts about a single path are `hawser-liveness`'s.
//!
//! A packet from the TUN: [`Packet::parse`], [`Policy::egress`], [`Forwarding::route`] by [`Packet::flow_hash`],
//! [`mss::clamp`], then the path's session; where there is no path, [`icmp::reply`]. A packet from a session:
//! [`Packet::parse`], [`probe::is_probe`], [`Policy::ingress`], [`mss::clamp`], then the TUN. What is dropped is counted in
//! [`Counters`].
//!
//! - [`packet`], [`hash`], [`checksum`]: views of packets and sums over them.
//! - [`prefixes`], [`buckets`], [`forwarding`]: destination → cluster → path; [`selector`] keeps it current.
//! - [`check`], [`counters`]: what may pass, and what did not.
//! - [`fair`]: whose packets go when they wait too long.
//! - [`mss`], [`icmp`], [`limit`]: what is rewritten and answered.
//! - [`offload`]: superpackets of TUN devices, cut and joined.
//! - [`probe`]: the probe inside a tunnel. [`pmtu`]: the largest packet that a path takes.
//! - [`paths`]: all paths of one lane, their life, the snapshot and the report that follow from it.

pub mod buckets;
pub mod check;
pub mod checksum;
pub mod counters;
pub mod fair;
pub mod forwarding;
pub mod hash;
pub mod icmp;
pub mod limit;
pub mod mss;
pub mod offload;
pub mod packet;
pub mod paths;
pub mod pmtu;
pub mod prefixes;
pub mod probe;
pub mod selector;

pub use check::Policy;
pub use counters::{Counters, DropReason};
pub use fair::{Fair, Verdict};
pub use forwarding::{Forwarding, PathIndex, Route};
pub use limit::{Bucket, HandshakeGuard, Limiter};
pub use packet::{Malformed, Packet};
pub use paths::{PathConfig, PathEvent, PathSet};
pub use prefixes::{ClusterIndex, ClusterPrefixes, Prefixes, Skipped};
pub use probe::Probe;
pub use selector::{PathSpec, PathState, Selector};
