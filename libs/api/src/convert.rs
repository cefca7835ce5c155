//! From the kinds to the domain model (`hawser-model`) and back. What can't be converted is named by object, field, rule and
//! remedy, and takes nothing else with it.

pub mod condition;
mod export;
mod gateway;
mod membership;
mod node;
mod remote;
mod slice;

pub use export::{InvalidServiceExport, export_header, import_ports};
pub use gateway::{gateway, gateway_spec};
pub use membership::{MembershipPlan, membership, roster_members};
pub use node::{NodePlan, node};
pub use remote::{remote_cluster, remote_cluster_spec};
pub use slice::{endpoint_group, slice_endpoints, slice_ports};

use hawser_model::prefix::InvalidPrefix;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// A field of an object that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {rule}; {remedy}")]
pub struct Invalid {
    /// The object, e.g. `Membership default`.
    pub object: String,
    /// The field, e.g. `spec.prefixes[0]`.
    pub field: String,
    /// The rule it breaks.
    pub rule: String,
    /// What to do.
    pub remedy: String,
}

/// An object whose fields are being read.
struct Reader {
    object: String,
    remedy: &'static str,
}

impl Reader {
    fn new(kind: &str, meta: &ObjectMeta, remedy: &'static str) -> Self {
        let name = meta.name.as_deref().unwrap_or_default();
        let object = match meta.namespace.as_deref() {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name}"),
        };
        Self { object, remedy }
    }

    #[expect(clippy::needless_pass_by_value, reason = "errors and texts alike are made at the call")]
    fn invalid(&self, field: impl Into<String>, rule: impl ToString) -> Invalid {
        Invalid {
            object: self.object.clone(),
            field: field.into(),
            rule: rule.to_string(),
            remedy: self.remedy.to_owned(),
        }
    }

    fn prefix(&self, error: InvalidPrefix) -> Invalid {
        self.invalid(error.field, format!("{:?}: {}", error.value, error.rule))
    }
}
