//! Why a call or a write failed: object, field, rule, remedy. A `WriteResult` carries it as it is, a failed call as the
//! details of its status.

use std::fmt;

use prost::Message;
use tonic::{Code, Status};

use crate::ConvertError;
use crate::v1::{CreateTokenResponse, JoinRequest, Refusal};

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.object)?;
        for part in [&self.field, &self.rule] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

impl From<&ConvertError> for Refusal {
    fn from(error: &ConvertError) -> Self {
        Self {
            object: error.object.clone(),
            field: error.field.clone(),
            rule: error.rule.clone(),
            remedy: error.remedy.to_owned(),
        }
    }
}

/// A status whose message reads as the refusal and whose details carry it.
#[must_use]
pub fn to_status(code: Code, refusal: &Refusal) -> Status {
    Status::with_details(code, refusal.to_string(), refusal.encode_to_vec().into())
}

/// The refusal that a status carries, if it carries one.
#[must_use]
pub fn of_status(status: &Status) -> Option<Refusal> {
    if status.details().is_empty() {
        return None;
    }
    Refusal::decode(status.details()).ok()
}

impl fmt::Debug for JoinRequest {
    /// Without the token's secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest")
            .field("cluster_id", &self.cluster_id)
            .field("replace", &self.replace)
            .field("prefixes", &self.prefixes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for CreateTokenResponse {
    /// Without the token's secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateTokenResponse")
            .field("id", &self.id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> Refusal {
        Refusal {
            object: "cluster west".into(),
            field: "prefixes".into(),
            rule: "0.0.0.0/0 is wider than /8".into(),
            remedy: "claim what the cluster uses".into(),
        }
    }

    #[test]
    fn a_status_carries_its_refusal() {
        let status = to_status(Code::InvalidArgument, &refusal());
        assert_eq!(status.message(), "cluster west: prefixes: 0.0.0.0/0 is wider than /8; claim what the cluster uses");
        assert_eq!(of_status(&status), Some(refusal()));
        assert_eq!(of_status(&Status::internal("no details")), None);
    }

    #[test]
    fn secrets_are_not_printed() {
        let join = JoinRequest { token_secret: b"hunter2".to_vec(), cluster_id: "west".into(), ..Default::default() };
        let token = CreateTokenResponse { secret: b"hunter2".to_vec(), ..Default::default() };
        let printed = format!("{join:?} {token:?}");
        assert!(printed.contains("west") && !printed.contains("secret") && !printed.contains("104, 117"), "{printed}");
    }
}
