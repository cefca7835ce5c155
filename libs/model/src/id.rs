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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        let long = "a".repeat(63);
        for good in ["a", "0", "west", "west-1", "1west", long.as_str()] {
            assert_eq!(ClusterId::new(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(64);
        for bad in ["", "-", "-a", "a-", "A", "a.b", "a_b", "a b", "ü", "a\n", too_long.as_str()] {
            let error = ClusterId::new(bad).unwrap_err();
            assert_eq!((error.field, error.value.as_str(), error.rule), ("cluster id", bad, LABEL_RULE));
        }
        for good in ["node", "node-1.example.com", "10-0-0-1.eu"] {
            assert!(NodeName::new(good).is_ok(), "{good}");
        }
        let too_long = [long.as_str(); 4].join(".");
        for bad in ["", ".", "a.", ".a", "a..b", "Node", "../x", too_long.as_str()] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn services() {
        let web: ServiceName = "shop/web".parse().unwrap();
        assert_eq!((&*web.namespace, &*web.name, web.to_string().as_str()), ("shop", "web", "shop/web"));
        let error = |s: &str| s.parse::<ServiceName>().unwrap_err().to_string();
        assert_eq!(error("web"), "service \"web\" is not valid: it must be written namespace/name");
        assert!(error("Shop/web").starts_with("namespace \"Shop\" is not valid: it must be a DNS label"));
        assert!(error("shop/web/x").starts_with("service name \"web/x\" is not valid"));
    }

    proptest! {
        #[test]
        fn a_cluster_id_survives_text_or_is_refused(s in "[a-zA-Z0-9.-]{0,70}|\\PC{0,10}") {
            if let Ok(id) = ClusterId::new(&s) {
                prop_assert!((1..=63).contains(&s.len()) && !s.starts_with('-') && !s.ends_with('-'));
                let again: ClusterId = id.to_string().parse().unwrap();
                prop_assert_eq!(&again, &id);
                prop_assert_eq!(String::from(id), s);
            }
        }
    }
}
