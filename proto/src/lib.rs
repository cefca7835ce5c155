//! The broker's gRPC interface: .proto files, the code generated from them, conversions to the model.
//!
//! - [`v1`]: generated messages, clients and servers (`src/gen/`, kept current by `tests/current.rs`).
//! - [`convert`]: records, rosters and prefixes to and from `hawser-model`.
//! - [`digest`]: what both ends of a stream compare to know that a view is the same.
//! - [`refusal`]: why a call or a write failed, as its caller sees it.
//!
//! The server is in `broker/`; clients are `agent/` and `cli/`, by way of `libs/broker-client`.

pub mod convert;
pub mod digest;
pub mod refusal;

/// Generated from `hawser/broker/v1/broker.proto`.
#[allow(missing_docs, unused_qualifications, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
pub mod v1 {
    include!("gen/hawser.broker.v1.rs");
}

pub use convert::{ConvertError, Record, Roster};

/// The protocol's version, sent in `Hello` and `Welcome`; the broker serves this one and the one before.
pub const VERSION: u32 = 1;

/// Largest gRPC message that either end takes, bytes.
pub const MAX_MESSAGE: usize = 4 << 20;
