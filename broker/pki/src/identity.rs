//! Who a certificate names: `spiffe://<set>/cluster/<id>`, `/admin/<name>`, `/broker`.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use hawser_model::ClusterId;
use hawser_model::id::is_dns_label;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::Error;

/// What the bearer of a certificate is in its cluster set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Role {
    /// A member, by id. Whether it still is one is the roster's to say.
    Cluster(ClusterId),
    /// An administrator, by name.
    Admin(String),
    /// The broker.
    Broker,
}

/// A SPIFFE id of a cluster set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster set.
    pub set: String,
    /// What the bearer is in it.
    pub role: Role,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}", self.set)?;
        match &self.role {
            Role::Cluster(id) => write!(f, "/cluster/{id}"),
            Role::Admin(name) => write!(f, "/admin/{name}"),
            Role::Broker => f.write_str("/broker"),
        }
    }
}

impl FromStr for Identity {
    type Err = Error;

    fn from_str(uri: &str) -> Result<Self, Error> {
        let unknown = || Error::Certificate { rule: format!("{uri:?} names no cluster, administrator or broker") };
        let (set, path) = uri.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).ok_or_else(unknown)?;
        check_set(set)?;
        let role = match path.split('/').collect::<Vec<_>>().as_slice() {
            ["cluster", id] => Role::Cluster(ClusterId::new(id).map_err(|_| unknown())?),
            ["admin", name] => {
                check_admin(name)?;
                Role::Admin((*name).to_owned())
            }
            ["broker"] => Role::Broker,
            _ => return Err(unknown()),
        };
        Ok(Self { set: set.to_owned(), role })
    }
}

impl Identity {
    /// The identity in a certificate: the only URI among its names.
    ///
    /// # Errors
    /// Where there is none, more than one, or one that isn't ours.
    pub fn from_cert(der: &[u8]) -> Result<Self, Error> {
        only_uri(&parse(der)?)?.parse()
    }
}

/// A cluster set's name is a DNS label: it is the trust domain of its ids.
pub(crate) fn check_set(set: &str) -> Result<(), Error> {
    check_label("cluster set", set)
}

pub(crate) fn check_admin(name: &str) -> Result<(), Error> {
    check_label("administrator", name)
}

fn check_label(field: &'static str, value: &str) -> Result<(), Error> {
    let rule = "it must be a DNS label: at most 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";
    if is_dns_label(value) { Ok(()) } else { Err(Error::Name { field, value: value.to_owned(), rule }) }
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Error::Certificate { rule: "there are bytes behind it".into() }),
        Err(_) => Err(Error::Certificate { rule: "it is not X.509 (DER)".into() }),
    }
}

pub(crate) fn only_uri<'a>(certificate: &X509Certificate<'a>) -> Result<&'a str, Error> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri),
        (None, _) => Err(Error::Certificate { rule: "it has no SPIFFE id".into() }),
        (Some(_), Some(_)) => Err(Error::Certificate { rule: "it has more than one URI".into() }),
    }
}

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo, DER).
///
/// # Errors
/// Where `der` is no certificate.
pub fn key_hash(der: &[u8]) -> Result<[u8; 32], Error> {
    Ok(Sha256::digest(parse(der)?.public_key().raw).into())
}

/// Who is at the other end of a connection whose certificate the TLS handshake verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Who it is.
    pub identity: Identity,
    /// Whether its certificate has ended: it may only ask for a new one.
    pub expired: bool,
    /// SHA-256 of its public key (SubjectPublicKeyInfo, DER).
    pub key_hash: [u8; 32],
    /// When its certificate ends or ended.
    pub not_after: SystemTime,
}

impl PeerIdentity {
    /// Reads a certificate that [`crate::server`]'s verifier let in.
    ///
    /// # Errors
    /// Where it is not ours.
    pub fn from_der(der: &[u8], now: SystemTime) -> Result<Self, Error> {
        let not_after = not_after(der)?;
        Ok(Self { identity: Identity::from_cert(der)?, expired: now > not_after, key_hash: key_hash(der)?, not_after })
    }
}

/// When a certificate ends.
///
/// # Errors
/// Where `der` is no certificate.
pub fn not_after(der: &[u8]) -> Result<SystemTime, Error> {
    let seconds = parse(der)?.validity().not_after.timestamp();
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// When a certificate begins.
///
/// # Errors
/// Where `der` is no certificate.
pub fn not_before(der: &[u8]) -> Result<SystemTime, Error> {
    let seconds = parse(der)?.validity().not_before.timestamp();
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// What a token says of the CA: SHA-256 of its public key (SubjectPublicKeyInfo, DER).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

impl Pin {
    /// The pin of a CA certificate.
    ///
    /// # Errors
    /// Where `der` is no certificate.
    pub fn of_cert(der: &[u8]) -> Result<Self, Error> {
        key_hash(der).map(Self)
    }
}

impl fmt::Display for Pin {
    /// 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Pin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let rule = "it must be 64 hexadecimal digits";
        let wrong = || Error::Name { field: "CA pin", value: text.to_owned(), rule };
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut pin = [0; 32];
        for (byte, digits) in pin.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(pin))
    }
}
