//! A record of any kind.

use hawser_model::export::{ExportEndpoints, ExportHeader};
use hawser_model::{ClusterId, Gateway};

use super::{Context, ConvertError, export, gateway};
use crate::v1::{self, RecordKey, RecordKind, record::Body};

/// A record, in the model's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A gateway of the cluster.
    Gateway(Gateway),
    /// What merging one of its exports needs.
    ExportHeader(ExportHeader),
    /// Where one of its exports' traffic goes.
    ExportEndpoints(ExportEndpoints),
}

impl Record {
    /// Reads a record that `cluster` wrote.
    ///
    /// # Errors
    /// Names the object, the field and the rule.
    pub fn from_proto(cluster: &ClusterId, record: v1::Record) -> Result<Self, ConvertError> {
        let v1::Record { name, body } = record;
        match body {
            Some(Body::Gateway(body)) => gateway::from_proto(&name, &body).map(Self::Gateway),
            Some(Body::ExportHeader(body)) => export::header_from_proto(cluster, &name, body).map(Self::ExportHeader),
            Some(Body::ExportEndpoints(body)) => {
                export::endpoints_from_proto(cluster, &name, body).map(Self::ExportEndpoints)
            }
            None => {
                Err(Context::new(format!("record {name} of {cluster}")).error("body", "no kind that is known here"))
            }
        }
    }

    /// The record as its cluster sends it.
    #[must_use]
    pub fn to_proto(&self) -> v1::Record {
        let body = match self {
            Self::Gateway(gateway) => Body::Gateway(gateway::to_proto(gateway)),
            Self::ExportHeader(header) => Body::ExportHeader(export::header_to_proto(header)),
            Self::ExportEndpoints(endpoints) => Body::ExportEndpoints(export::endpoints_to_proto(endpoints)),
        };
        v1::Record { name: self.name(), body: Some(body) }
    }

    /// What names the record inside its cluster.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        let kind = match self {
            Self::Gateway(_) => RecordKind::Gateway,
            Self::ExportHeader(_) => RecordKind::ExportHeader,
            Self::ExportEndpoints(_) => RecordKind::ExportEndpoints,
        };
        RecordKey { kind: kind.into(), name: self.name() }
    }

    fn name(&self) -> String {
        match self {
            Self::Gateway(gateway) => gateway.node.to_string(),
            Self::ExportHeader(header) => header.service.to_string(),
            Self::ExportEndpoints(endpoints) => endpoints.service.to_string(),
        }
    }
}
