//! Why a stream to the broker ended, in words for the membership's condition.

use hawser_proto::refusal;
use tonic::{Code, Status};

use crate::convert;

/// Why a stream ended.
#[derive(Debug)]
pub(crate) enum End {
    /// No broker answered.
    Unreachable(String),
    /// The broker would not have it.
    Refused(String),
    /// The connection broke.
    Lost(String),
    /// Another agent of this cluster took over.
    Fenced { holder: String, term: u64 },
    /// The view's digest disagreed.
    Mismatch,
    /// This process leads no more.
    LostLead,
}

impl End {
    /// A condition reason and a sentence.
    pub(crate) fn words(&self) -> (&'static str, String) {
        match self {
            Self::Unreachable(why) => ("ConnectionFailed", why.clone()),
            Self::Refused(why) => ("Refused", why.clone()),
            Self::Lost(why) => ("ConnectionLost", why.clone()),
            Self::Fenced { holder, term } => (
                "Fenced",
                format!(
                    "the agent {holder:?} of this cluster opened a newer stream (term {term}); if it is not one of this cluster's \
                     own, its identity has been copied: revoke the cluster and join again"
                ),
            ),
            Self::Mismatch => ("Mismatch", "the view disagreed with the broker's".to_owned()),
            Self::LostLead => ("NotLeading", "another agent of this cluster leads".to_owned()),
        }
    }

    /// What a failed call means.
    pub(crate) fn of_status(status: &Status) -> Self {
        let refused = matches!(
            status.code(),
            Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition | Code::InvalidArgument
        );
        match refusal::of_status(status) {
            Some(refusal) => Self::Refused(convert::refusal(refusal).to_string()),
            None if refused => Self::Refused(status.message().to_owned()),
            None => Self::Lost(format!("the connection broke: {}", status.message())),
        }
    }
}
