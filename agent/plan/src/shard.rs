//! This cluster's own records, as the broker should hold them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hawser_model::export::{ExportEndpoints, ExportHeader};
use hawser_model::{Gateway, NodeName, PrefixSet, ServiceName};

/// Names a record inside a shard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordId {
    /// A gateway.
    Gateway(NodeName),
    /// An export's header.
    Header(ServiceName),
    /// An export's endpoints.
    Endpoints(ServiceName),
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(node) => write!(f, "gateway {node}"),
            Self::Header(service) => write!(f, "export {service}"),
            Self::Endpoints(service) => write!(f, "endpoints of {service}"),
        }
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A gateway.
    Gateway(Gateway),
    /// An export's header.
    Header(ExportHeader),
    /// An export's endpoints.
    Endpoints(ExportEndpoints),
}

/// Everything this cluster publishes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shard {
    /// What it routes.
    pub claims: PrefixSet,
    /// Its records.
    pub records: BTreeMap<RecordId, Arc<Record>>,
}

/// Why the broker refused a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The object that was refused.
    pub object: String,
    /// The field at fault.
    pub field: String,
    /// The rule it breaks.
    pub rule: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}; {}", self.object, self.field, self.rule, self.remedy)
    }
}

/// How a record stands at the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upload {
    /// No version of it has been acknowledged yet.
    Pending,
    /// The broker holds it durably (a newer version may be under way).
    Durable,
    /// The newest version was refused.
    Refused(Refusal),
}

/// How this cluster's records stand at the broker. What is not listed has not been sent by this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uploads {
    /// By record.
    pub records: BTreeMap<RecordId, Upload>,
    /// The prefix claim, where it had to be changed.
    pub claim: Option<Upload>,
}
