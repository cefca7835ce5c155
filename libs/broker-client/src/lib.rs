//! How a member or an administrator reaches the broker.
//!
//! - [`token`]: what `hawser token create` prints and `hawser join` takes.
//! - [`identity`]: a member's key, certificate and set-up on disk (`<site>/secrets`), and an administrator's; `follow` watches
//!   it.
//! - [`address`]: `host:port` of a broker.
//! - [`dial`]: TCP and TLS 1.3 to whichever broker answers first.
//! - [`tls`]: mutual TLS with an identity; TLS pinned to the CA's key with only a token.
//! - [`member`], [`admin`]: joining, renewing, leaving, channels for the rest.
//!
//! The other end is `broker/`; certificates and their rules are `broker/pki`.

pub mod address;
pub mod admin;
pub mod dial;
mod follow;
pub mod identity;
pub mod member;
pub mod tls;
pub mod token;

pub use address::BrokerAddress;
pub use admin::{AdminDir, AdminIdentity};
pub use identity::{IdentityDir, MemberIdentity, MemberInfo};
pub use member::{Join, Joined};
pub use token::JoinToken;

/// What went wrong between here and the broker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Text that is no join token.
    #[error("the join token is not valid: {rule}; make a new one: hawser token create")]
    Token {
        /// The rule it breaks.
        rule: String,
    },
    /// Text that is no broker address.
    #[error("broker address {value:?} is not valid: {rule}")]
    Address {
        /// The text.
        value: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A file of an identity that is missing, unreadable or wrong.
    #[error("{}: {rule}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What it should hold.
        rule: String,
    },
    /// Certificates, keys and their files.
    #[error(transparent)]
    Pki(#[from] hawser_broker_pki::Error),
    /// TLS could not be set up.
    #[error("TLS set-up")]
    Tls(#[from] rustls::Error),
    /// No broker answers as one.
    #[error("no broker answers: {}", attempts.join("; "))]
    Unreachable {
        /// What happened at each address.
        attempts: Vec<String>,
    },
    /// The broker's answer is not what it should be.
    #[error("the broker's answer is not valid: {rule}")]
    Answer {
        /// What it should have been.
        rule: String,
    },
    /// The broker refused.
    #[error("the broker refused: {}", .0.message())]
    Refused(Box<tonic::Status>),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}
