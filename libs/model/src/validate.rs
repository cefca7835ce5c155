//! What makes an export valid: checked by its own agent, by the broker, and by every reader.
//!
//! A member can't be trusted to send what an API server would accept, and one bad name would block the import of every
//! cluster; so the limits are Kubernetes' own where it has any. Types are in [`crate::export`].

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::export::{ExportHeader, Protocol};
use crate::id::is_dns_label;
use crate::{ClusterId, IpFamily, ServiceName};

mod endpoints;

pub use endpoints::OutsideEndpoint;

/// The most ports of a Service or of a group of endpoints.
pub const MAX_PORTS: usize = 1_000;
/// The most endpoints of a group: what one endpoint slice may hold.
pub const MAX_GROUP_ENDPOINTS: usize = 1_000;
/// The most groups of an export.
pub const MAX_GROUPS: usize = 1_000;
/// The most addresses of an endpoint.
pub const MAX_ENDPOINT_ADDRESSES: usize = 100;
/// The most bytes that an export's labels and annotations take together.
pub const MAX_METADATA_BYTES: usize = 64 * 1024;
/// The longest client-address affinity, seconds: a day.
pub const MAX_AFFINITY_SECONDS: u32 = 86_400;

const DNS_LABEL: &str =
    "it must be a DNS label: at most 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";
const KEY_RULE: &str = "it must be [DNS subdomain/]name, the name at most 63 of letters, digits, '-', '_' and '.', beginning and ending \
                        with a letter or digit";
const LABEL_VALUE: &str =
    "it must be empty or at most 63 of letters, digits, '-', '_' and '.', beginning and ending with a letter or digit";
const RESERVED: &str = "labels and annotations of hawser.dev are Hawser's own; export it under another key";

/// An export that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field} {value:?} is not valid: {rule}")]
pub struct InvalidExport {
    /// Which export, e.g. `export shop/web of cluster "west"`.
    pub object: String,
    /// Which field, e.g. `ports[1].name`.
    pub field: String,
    /// What it says.
    pub value: String,
    /// The rule it breaks.
    pub rule: String,
}

/// A fault before it is known whose it is.
struct Fault {
    field: String,
    value: String,
    rule: String,
}

fn fault(field: impl Into<String>, value: impl Display, rule: impl Into<String>) -> Fault {
    // An error is logged and sent on: a value of megabytes must not be.
    let value = value.to_string().chars().take(100).collect();
    Fault { field: field.into(), value, rule: rule.into() }
}

impl ExportHeader {
    /// Checks everything that merging and importing rely on.
    ///
    /// # Errors
    /// The first rule broken, with the export and the field.
    pub fn validate(&self) -> Result<(), InvalidExport> {
        self.faults().map_err(|f| f.of(&self.service, &self.cluster))
    }

    fn faults(&self) -> Result<(), Fault> {
        at_most("ports", self.ports.len(), MAX_PORTS)?;
        let ports = self.ports.iter().map(|p| (p.name.as_str(), p.protocol, p.port, p.app_protocol.as_deref()));
        check_ports(ports.clone())?;
        let mut numbers = BTreeSet::new();
        for (i, (_, protocol, port, _)) in ports.enumerate() {
            if !numbers.insert((protocol, port)) {
                return Err(fault(
                    format!("ports[{i}]"),
                    format!("{port}/{protocol}"),
                    "no two ports may share protocol and number",
                ));
            }
        }
        self.check_affinity()?;
        if let Some(hint) = &self.traffic_distribution
            && !is_name(hint)
        {
            return Err(fault(
                "trafficDistribution",
                hint,
                "it must be a word like PreferClose, at most 63 characters",
            ));
        }
        self.check_families()?;
        self.check_metadata()
    }

    fn check_affinity(&self) -> Result<(), Fault> {
        match self.session_affinity_timeout {
            Some(s) if !(1..=MAX_AFFINITY_SECONDS).contains(&s) => {
                let rule = format!("it must be 1 to {MAX_AFFINITY_SECONDS} seconds");
                Err(fault("sessionAffinityConfig.clientIP.timeoutSeconds", s, rule))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_families(&self) -> Result<(), Fault> {
        if self.ip_families.is_empty() {
            return Err(fault("ipFamilies", "", "it must name IPv4, IPv6 or both"));
        }
        let distinct: BTreeSet<IpFamily> = self.ip_families.iter().copied().collect();
        if distinct.len() != self.ip_families.len() {
            return Err(fault("ipFamilies", self.ip_families[0], "no family may be named twice"));
        }
        Ok(())
    }

    fn check_metadata(&self) -> Result<(), Fault> {
        let maps = [("exportedLabels", &self.labels), ("exportedAnnotations", &self.annotations)];
        let bytes: usize = maps.iter().flat_map(|(_, map)| map.iter()).map(|(k, v)| k.len() + v.len()).sum();
        if bytes > MAX_METADATA_BYTES {
            let rule = format!("labels and annotations may take {MAX_METADATA_BYTES} bytes together");
            return Err(fault("exportedLabels, exportedAnnotations", format!("{bytes} bytes"), rule));
        }
        for (field, map) in maps {
            for key in map.keys() {
                if !is_qualified_name(key) {
                    return Err(fault(field, key, KEY_RULE));
                }
                if key
                    .split_once('/')
                    .is_some_and(|(domain, _)| domain == "hawser.dev" || domain.ends_with(".hawser.dev"))
                {
                    return Err(fault(field, key, RESERVED));
                }
            }
        }
        match self.labels.iter().find(|(_, value)| !value.is_empty() && !is_name(value)) {
            Some((key, value)) => Err(fault(format!("exportedLabels[{key}]"), value, LABEL_VALUE)),
            None => Ok(()),
        }
    }
}

/// Names, numbers and protocol hints of ports; that no name is used twice, the empty one included.
fn check_ports<'a>(ports: impl IntoIterator<Item = (&'a str, Protocol, u16, Option<&'a str>)>) -> Result<(), Fault> {
    let mut names = BTreeSet::new();
    for (i, (name, _, port, app_protocol)) in ports.into_iter().enumerate() {
        if !name.is_empty() && !is_dns_label(name) {
            return Err(fault(format!("ports[{i}].name"), name, DNS_LABEL));
        }
        if !names.insert(name) {
            return Err(fault(
                format!("ports[{i}].name"),
                name,
                "no two ports may share a name, and one of several needs one",
            ));
        }
        if port == 0 {
            return Err(fault(format!("ports[{i}].port"), 0, "it must be 1 to 65535"));
        }
        if let Some(app) = app_protocol.filter(|a| !is_qualified_name(a)) {
            return Err(fault(format!("ports[{i}].appProtocol"), app, KEY_RULE));
        }
    }
    Ok(())
}

fn at_most(field: &str, count: usize, limit: usize) -> Result<(), Fault> {
    if count > limit {
        return Err(fault(field, format!("{count} entries"), format!("it may have {limit} at most")));
    }
    Ok(())
}

/// The form of label values and of the name part of keys.
fn is_name(s: &str) -> bool {
    let bytes = s.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The form of label and annotation keys and of protocol hints.
fn is_qualified_name(s: &str) -> bool {
    match s.split_once('/') {
        Some((domain, name)) => domain.len() <= 253 && domain.split('.').all(is_dns_label) && is_name(name),
        None => is_name(s),
    }
}

impl Fault {
    fn inside(self, at: &str) -> Self {
        Self { field: format!("{at}{}", self.field), ..self }
    }

    fn of(self, service: &ServiceName, cluster: &ClusterId) -> InvalidExport {
        let object = format!("export {service} of cluster {:?}", cluster.as_str());
        InvalidExport { object, field: self.field, value: self.value, rule: self.rule }
    }
}

#[cfg(test)]
mod tests;
