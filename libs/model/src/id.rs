//! Names: clusters, nodes, services. Each type can only hold a valid one.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A name that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value:?} is not valid: {rule}")]
pub struct InvalidId {
    /// What was being named, e.g. `cluster id`.
    pub field: &'static str,
    /// The offending value.
    pub value: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

const LABEL_RULE: &str =
    "it must be a DNS label (RFC 1123): at most 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";
const SUBDOMAIN_RULE: &str =
    "it must be a DNS subdomain (RFC 1123): labels of a-z, 0-9 and '-' joined by '.', at most 253";

/// Whether `s` is a DNS label as RFC 1123 has it, lower case.
#[must_use]
pub fn is_dns_label(s: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = s.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => {
            bytes.len() <= 63 && edge(first) && edge(last) && bytes.iter().all(|&b| edge(b) || b == b'-')
        }
        (None, _) | (_, None) => false,
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $field:literal, $check:expr, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `s` and takes it.
            ///
            /// # Errors
            /// Names the field and the rule that `s` breaks.
            pub fn new(s: impl AsRef<str>) -> Result<Self, InvalidId> {
                let s = s.as_ref();
                let check: fn(&str) -> bool = $check;
                if check(s) {
                    Ok(Self(s.into()))
                } else {
                    Err(InvalidId { field: $field, value: s.to_owned(), rule: $rule })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(s: &str) -> Result<Self, InvalidId> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(s: String) -> Result<Self, InvalidId> {
                Self::new(s)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.to_string()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// A cluster's name in its cluster set: one DNS label, because it is a label of DNS names and a label value.
    ClusterId, "cluster id", is_dns_label, LABEL_RULE
);
name_type!(
    /// A node's name: a DNS subdomain.
    NodeName, "node name", |s| s.len() <= 253 && s.split('.').all(is_dns_label), SUBDOMAIN_RULE
);

/// A namespaced name of a service: the same name is the same service in every cluster (namespace sameness).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// The namespace, a DNS label.
    pub namespace: Arc<str>,
    /// The service, a DNS label.
    pub name: Arc<str>,
}

impl ServiceName {
    /// Checks both parts.
    ///
    /// # Errors
    /// Names the part and the rule that it breaks.
    pub fn new(namespace: &str, name: &str) -> Result<Self, InvalidId> {
        for (field, value) in [("namespace", namespace), ("service name", name)] {
            if !is_dns_label(value) {
                return Err(InvalidId { field, value: value.to_owned(), rule: LABEL_RULE });
            }
        }
        Ok(Self { namespace: namespace.into(), name: name.into() })
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for ServiceName {
    type Err = InvalidId;
    /// Reads `namespace/name`.
    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let (namespace, name) = s.split_once('/').ok_or(InvalidId {
            field: "service",
            value: s.to_owned(),
            rule: "it must be written namespace/name",
        })?;
        Self::new(namespace, name)
    }
}
