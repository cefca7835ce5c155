//! What the broker decides: who is a member, what each may claim and write, and what each reader sees.
//!
//! Pure: no clock, no I/O, no randomness; `now` and random bytes are arguments. The process `hawser-broker` drives one
//! [`Core`] from a single thread: it applies a batch of operations, makes the resulting [`Batch`] durable through
//! `hawser-broker-store`, and only then answers writers and lets readers see it.
//!
//! - [`roster`], [`token`], [`claims`]: membership, durable, signed by revision; one check of claims over the whole set.
//! - [`record`], [`rules`]: what a cluster may write; [`streams`]: who holds its shard (terms) and what readers are told.
//! - [`mod@core`]: all of it together, as operations; [`changes`]: what of it must be durable.
//!
//! It knows no protobuf: records carry their encoded bytes beside the model's types.

pub mod changes;
pub mod claims;
pub mod core;
mod hash;
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
pub use self::core::{Core, Event, Limits, Out, Summary};
pub use self::hash::Hash;
pub use self::record::{Body, Encoded, Kind, Record, RecordId, RecordKey};
pub use self::refusal::{Code, Refusal};
pub use self::roster::{Departed, How, JoinRequest, Joined, Member, PublicRoster, Roster};
pub use self::streams::{Ack, Hello, Opened, Progress, StreamId};
pub use self::token::{Grant, Token, TokenRequest, TokenSeed};
