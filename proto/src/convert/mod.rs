//! Between messages and the model. What a peer sent may be anything: every field is checked, nothing is cut or guessed.
//!
//! - [`record`]: a record of any kind with its key.
//! - [`gateway`], [`export`]: the kinds.
//! - [`roster`]: a roster revision, without its signature (that is `hawser-broker-pki`'s).

pub mod export;
pub mod gateway;
pub mod record;
pub mod roster;

use std::net::IpAddr;

use hawser_model::{IpFamily, PrefixSet};
use ipnet::IpNet;

pub use record::Record;
pub use roster::{Member, Revoked, Roster};

/// A message that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {rule}; {remedy}")]
pub struct ConvertError {
    /// The object, e.g. `gateway gw-1`.
    pub object: String,
    /// The field of it, e.g. `lanes[0].public_key`.
    pub field: String,
    /// The rule that it breaks.
    pub rule: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Both ends of a connection are ours: a message that is not valid comes from a version that is not understood, or from
/// someone who makes messages up.
const REMEDY: &str = "check the sender's version";

/// Names the object once for all errors of its fields.
pub(crate) struct Context {
    object: String,
}

impl Context {
    pub(crate) fn new(object: impl Into<String>) -> Self {
        Self { object: object.into() }
    }

    pub(crate) fn error(&self, field: impl Into<String>, rule: impl Into<String>) -> ConvertError {
        ConvertError { object: self.object.clone(), field: field.into(), rule: rule.into(), remedy: REMEDY }
    }

    /// Fails where a list is longer than `limit`.
    pub(crate) fn at_most(&self, field: &str, len: usize, limit: usize) -> Result<(), ConvertError> {
        if len <= limit { Ok(()) } else { Err(self.error(field, format!("{len} entries, more than {limit}"))) }
    }

    pub(crate) fn port(&self, field: impl Into<String>, port: u32) -> Result<u16, ConvertError> {
        match u16::try_from(port) {
            Ok(port) if port != 0 => Ok(port),
            Ok(_) | Err(_) => Err(self.error(field, format!("{port} is not a port number (1 to 65535)"))),
        }
    }
}

/// Text of CIDRs as a set.
///
/// # Errors
/// Names the object, the entry of `field`, and what is wrong with it.
pub fn prefixes(object: &str, field: &str, texts: &[String]) -> Result<PrefixSet, ConvertError> {
    nets(&Context::new(object), field, texts).map(PrefixSet::new)
}

/// A set of CIDRs as text.
#[must_use]
pub fn prefix_texts(set: &PrefixSet) -> Vec<String> {
    set.iter().map(ToString::to_string).collect()
}

/// More than any cluster needs; keeps a hostile message from costing a table's worth of work.
const MAX_PREFIXES: usize = 4096;

pub(crate) fn nets(ctx: &Context, field: &str, texts: &[String]) -> Result<Vec<IpNet>, ConvertError> {
    ctx.at_most(field, texts.len(), MAX_PREFIXES)?;
    texts
        .iter()
        .enumerate()
        .map(|(i, text)| {
            text.parse::<IpNet>()
                .map(|net| net.trunc())
                .map_err(|_| ctx.error(format!("{field}[{i}]"), format!("{text:?} is not a CIDR")))
        })
        .collect()
}

pub(crate) fn address(ctx: &Context, field: &str, bytes: &[u8]) -> Result<IpAddr, ConvertError> {
    let address = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok(),
        16 => <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok(),
        _ => None,
    };
    match address {
        Some(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err(ctx.error(field, format!("{v6} is an IPv4 address written as IPv6")))
        }
        Some(address) => Ok(address),
        None => Err(ctx.error(field, format!("{} bytes are not an address (4 or 16)", bytes.len()))),
    }
}

pub(crate) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(crate) fn family(ctx: &Context, field: &str, value: i32) -> Result<IpFamily, ConvertError> {
    match crate::v1::IpFamily::try_from(value) {
        Ok(crate::v1::IpFamily::V4) => Ok(IpFamily::V4),
        Ok(crate::v1::IpFamily::V6) => Ok(IpFamily::V6),
        Ok(crate::v1::IpFamily::Unspecified) | Err(_) => Err(ctx.error(field, format!("{value} is no known family"))),
    }
}

pub(crate) fn family_number(family: IpFamily) -> i32 {
    match family {
        IpFamily::V4 => crate::v1::IpFamily::V4.into(),
        IpFamily::V6 => crate::v1::IpFamily::V6.into(),
    }
}

/// Empty text is no text.
pub(crate) fn some_text(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}
