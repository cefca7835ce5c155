//! What the broker decides: who is a member, what each may claim and write, and what each reader sees.
//!
//! Pure: no clock, no I/O, no randomness; `now` and random bytes are arguments. The process `hawser-broker` drives one
//! [`Core`] from a single thread: it applies a batch of operations, makes the resulting [`Batch`] durable through
//! `hawser-broker-store`, and only then answers writers and lets readers see it.
//!
//! - [`roster`], [`membership`], [`token`], [`claims`]: who is a member; durable, signed by revision; one check of claims
//!   over the whole set.
//! - [`record`], [`rules`]: what a cluster may write; [`view`]: what one reader still has to be told.
//! - [`mod@core`]: all of it together; its operations are in [`members`], [`streams`], `write` and [`readers`].
//! - [`changes`]: what of it must be durable.
//!
//! It knows no protobuf: records carry their encoded bytes beside the model's types.

pub mod changes;
pub mod claims;
pub mod core;
mod hash;
pub mod members;
pub mod membership;
pub mod readers;
pub mod record;
pub mod refusal;
pub mod roster;
pub mod rules;
mod shard;
pub mod streams;
pub mod token;
pub mod view;
mod write;

pub use self::changes::{Batch, Loaded, RecordChange, StoredTerm};
pub use self::core::{Core, Event, Limits, Out};
pub use self::hash::Hash;
pub use self::members::Summary;
pub use self::membership::{JoinRequest, Joined};
pub use self::readers::{Ack, Progress};
pub use self::record::{Body, Encoded, Kind, Record, RecordId, RecordKey};
pub use self::refusal::{Code, Refusal};
pub use self::roster::{Departed, How, Member, PublicRoster, Roster};
pub use self::streams::{Hello, Opened, StreamId};
pub use self::token::{Grant, Token, TokenRequest, TokenSeed};
