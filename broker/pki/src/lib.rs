//! The cluster set's certificate authority and what follows from it: who a certificate names, whom the broker talks to,
//! which roster is genuine.
//!
//! - [`ca`]: the authority; issues certificates for clusters, administrators and the broker itself.
//! - [`csr`]: certificate requests, of which only the key counts.
//! - [`identity`]: SPIFFE ids and what a peer's certificate says.
//! - [`server`]: the broker's side of TLS: optional client certificates, hot-reloaded server certificate.
//! - [`roster`]: signatures over roster revisions.
//! - [`pem`], [`files`]: certificates and keys on disk.
//!
//! Every key is ECDSA P-256, made and used by ring. The members' side of TLS is `libs/broker-client`.

pub mod ca;
pub mod csr;
pub mod files;
pub mod identity;
pub mod pem;
pub mod roster;
pub mod server;

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

pub use ca::{Ca, Issued, IssuedWithKey};
pub use csr::Csr;
pub use identity::{Identity, PeerIdentity, Pin, Role};
pub use server::{ServerCertificate, server_config};

/// The DNS name in the broker's certificate: clients verify this one, whatever address they dialled.
pub const BROKER_NAME: &str = "hawser-broker";
/// Life of a cluster's certificate, days.
pub const CLUSTER_DAYS: u32 = 30;
/// Life of an administrator's certificate, days.
pub const ADMIN_DAYS: u32 = 365;
/// Life of the broker's own certificate, days; the broker replaces it long before.
pub const BROKER_DAYS: u32 = 90;
/// How far before now certificates begin, so that a clock that is behind accepts them.
pub const BACKDATE: Duration = Duration::from_secs(3600);

/// What went wrong with a certificate, a request or a key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that can't be put into a certificate.
    #[error("{field} {value:?} is not valid: {rule}")]
    Name {
        /// What was being named.
        field: &'static str,
        /// The offending value.
        value: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A certificate request that is refused.
    #[error("certificate request: {rule}")]
    Csr {
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A certificate that can't be read, or says nothing we know.
    #[error("certificate: {rule}")]
    Certificate {
        /// The rule it breaks.
        rule: String,
    },
    /// A file that holds something else than it should.
    #[error("{}: {rule}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What it should hold.
        rule: String,
    },
    /// A file that can't be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done, e.g. `read`.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The signature is not the CA's.
    #[error("the signature over the roster is not by this cluster set's CA")]
    Signature,
    /// The crypto library refused.
    #[error("{action}")]
    Crypto {
        /// What was being done.
        action: &'static str,
        /// Its reason.
        #[source]
        source: rcgen::Error,
    },
    /// TLS could not be set up.
    #[error("TLS set-up")]
    Tls(#[from] rustls::Error),
}

pub(crate) fn crypto(action: &'static str) -> impl FnOnce(rcgen::Error) -> Error {
    move |source| Error::Crypto { action, source }
}

/// From an hour ago for `days`.
pub(crate) fn validity(now: SystemTime, days: u32) -> (OffsetDateTime, OffsetDateTime) {
    let days = Duration::from_secs(u64::from(days) * 86_400);
    (OffsetDateTime::from(now - BACKDATE), OffsetDateTime::from(now + days))
}
