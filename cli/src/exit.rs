//! Exit codes, and the one place where errors of all kinds become one.

use std::process::ExitCode;

use hawser_proto::v1::Refusal;
use serde::Serialize;
use tonic::{Code, Status};

/// How a command ended. The numbers are fixed: scripts depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Not done, for a reason that has no code of its own.
    Failed = 1,
    /// The command line or a file it names is not valid.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// The broker does not let this identity do it.
    Unauthorised = 4,
    /// It clashes with something that exists.
    Conflict = 5,
    /// It was not done in time.
    TimedOut = 6,
    /// Done or shown, but not all is well.
    Degraded = 7,
}

impl Exit {
    /// The code in words, as in JSON errors.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::Unauthorised => "unauthorised",
            Self::Conflict => "conflict",
            Self::TimedOut => "timed-out",
            Self::Degraded => "degraded",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that was not done: what to print, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The exit code.
    #[serde(skip)]
    pub exit: Exit,
    /// What happened, with its causes.
    pub message: String,
    /// The object at fault, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Its field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The rule that it breaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Failure {
    /// A failure in words.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), object: None, field: None, rule: None, remedy: None }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// What an error means to whoever called the command.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        let mut failure = error.chain().find_map(known).unwrap_or_else(|| Self::new(Exit::Failed, ""));
        let whole = error.chain().map(text).collect::<Vec<_>>().join(": ");
        if failure.message.is_empty() || whole != failure.message {
            failure.message = whole;
        }
        failure
    }
}

/// What an error says; of a broker's answer the broker's words alone.
fn text(error: &(dyn std::error::Error + 'static)) -> String {
    error.downcast_ref::<Status>().map_or_else(|| error.to_string(), |status| status.message().to_owned())
}

fn known(error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some(failure.clone());
    }
    if let Some(error) = error.downcast_ref::<hawser_local_api::Error>() {
        return Some(local(error));
    }
    if let Some(error) = error.downcast_ref::<hawser_broker_client::Error>() {
        return Some(client(error));
    }
    if let Some(failure) = broker(error) {
        return Some(failure);
    }
    if let Some(status) = error.downcast_ref::<Status>() {
        return Some(refused(status));
    }
    error.downcast_ref::<hawser_model::InvalidId>().map(|e| Failure::new(Exit::Usage, e.to_string()))
}

fn local(error: &hawser_local_api::Error) -> Failure {
    use hawser_local_api::Error;
    let mut failure = Failure::new(Exit::Failed, error.to_string());
    match error {
        Error::Owned { kind, key, remedy, .. } => {
            failure.exit = Exit::Conflict;
            failure.object = Some(format!("{kind} {key}"));
            failure.remedy = Some(remedy.clone());
        }
        Error::NotFound { kind, key } => {
            failure.exit = Exit::NotFound;
            failure.object = Some(format!("{kind} {key}"));
        }
        Error::Invalid { .. } => failure.exit = Exit::Usage,
        Error::Storage { .. } | Error::Closed => {}
    }
    failure
}

/// What `hawser broker` finds on disk.
fn broker(error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    use hawser_broker::{BackupError, InTheWay, StoreError};
    let exit = if let Some(error) = error.downcast_ref::<StoreError>() {
        match error {
            StoreError::NotInitialised { .. } => Exit::NotFound,
            StoreError::InUse { .. } | StoreError::Exists { .. } => Exit::Conflict,
            StoreError::RosterMissing { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Newer { .. }
            | StoreError::Io { .. } => Exit::Failed,
        }
    } else if let Some(error) = error.downcast_ref::<BackupError>() {
        if error.missing { Exit::NotFound } else { Exit::Usage }
    } else if error.is::<InTheWay>() {
        Exit::Conflict
    } else {
        return None;
    };
    Some(Failure::new(exit, error.to_string()))
}

fn client(error: &hawser_broker_client::Error) -> Failure {
    use hawser_broker_client::Error;
    match error {
        Error::Refused(status) => refused(status),
        Error::Token { .. } | Error::Address { .. } => Failure::new(Exit::Usage, error.to_string()),
        Error::File { .. } => Failure::new(Exit::NotFound, error.to_string()),
        Error::Unreachable { .. } => Failure::new(Exit::Failed, error.to_string())
            .remedy("check that the broker runs, and that its port can be reached from here"),
        Error::Pki(_) | Error::Tls(_) | Error::Answer { .. } => Failure::new(Exit::Failed, error.to_string()),
    }
}

fn refused(status: &Status) -> Failure {
    let exit = match status.code() {
        Code::NotFound => Exit::NotFound,
        Code::Unauthenticated | Code::PermissionDenied => Exit::Unauthorised,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Exit::Conflict,
        Code::DeadlineExceeded => Exit::TimedOut,
        Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
        _ => Exit::Failed,
    };
    let mut failure = Failure::new(exit, status.message());
    if let Some(Refusal { object, field, rule, remedy }) = hawser_proto::refusal::of_status(status) {
        let some = |text: String| (!text.is_empty()).then_some(text);
        (failure.object, failure.field) = (some(object), some(field));
        (failure.rule, failure.remedy) = (some(rule), some(remedy));
    }
    failure
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn every_kind_of_error_has_its_code() {
        let refused =
            |code: Code| -> anyhow::Error { hawser_broker_client::Error::from(Status::new(code, "why")).into() };
        let owned = hawser_local_api::Error::Owned {
            kind: "ServiceExport",
            key: Box::new(hawser_local_api::Key::namespaced("shop", "web")),
            owner: "a.yaml".into(),
            remedy: "remove it from a.yaml".into(),
        };
        let cases = [
            (refused(Code::NotFound), Exit::NotFound),
            (refused(Code::PermissionDenied), Exit::Unauthorised),
            (refused(Code::Unauthenticated), Exit::Unauthorised),
            (refused(Code::AlreadyExists), Exit::Conflict),
            (refused(Code::FailedPrecondition), Exit::Conflict),
            (refused(Code::DeadlineExceeded), Exit::TimedOut),
            (refused(Code::InvalidArgument), Exit::Usage),
            (refused(Code::Unavailable), Exit::Failed),
            (anyhow::Error::from(Status::not_found("x")).context("list"), Exit::NotFound),
            (owned.into(), Exit::Conflict),
            (Failure::new(Exit::TimedOut, "late").into(), Exit::TimedOut),
            (anyhow::anyhow!("other"), Exit::Failed),
        ];
        for (error, exit) in cases {
            assert_eq!(Failure::of(&error).exit, exit, "{error:#}");
        }
    }

    #[test]
    fn a_brokers_answer_is_told_in_its_own_words() {
        let error = anyhow::Error::from(Status::not_found("cluster nope: it is no member")).context("Failed to revoke");
        assert_eq!(Failure::of(&error).message, "Failed to revoke: cluster nope: it is no member");
    }

    #[test]
    fn a_refusal_keeps_its_parts_under_any_context() {
        let refusal = Refusal { object: "cluster west".into(), remedy: "use --replace".into(), ..Default::default() };
        let status = hawser_proto::refusal::to_status(Code::AlreadyExists, &refusal);
        let error = Err::<(), _>(hawser_broker_client::Error::from(status)).context("Failed to join").unwrap_err();
        let failure = Failure::of(&error);
        assert_eq!((failure.exit, failure.object.as_deref()), (Exit::Conflict, Some("cluster west")));
        assert_eq!(failure.remedy.as_deref(), Some("use --replace"));
        assert!(failure.message.starts_with("Failed to join: the broker refused: cluster west"), "{}", failure.message);
    }
}
