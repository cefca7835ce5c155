//! The fault, where it is a command of the operator's.

use std::os::fd::AsFd as _;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::process::Command;
use tokio::time::Instant;

use super::flows::millis;
use crate::exit::{Exit, Failure};
use crate::progress::note;

/// What was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultRow {
    /// The command.
    pub command: String,
    /// When it was started, milliseconds since the drill began.
    pub at_ms: u64,
    /// How long it ran, milliseconds; absent: it still does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// How it ended, where it did not end well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// Runs `command` after that time, and waits until it ends or `until` is over. What it prints goes to stderr.
///
/// # Errors
/// When it can't be started.
pub async fn cause(
    command: &[String],
    after: Duration,
    until: impl Future<Output = ()>,
) -> anyhow::Result<Option<FaultRow>> {
    let (begin, Some((program, args))) = (Instant::now(), command.split_first()) else { return Ok(None) };
    tokio::pin!(until);
    tokio::select! {
        () = &mut until => return Ok(None),
        () = tokio::time::sleep(after) => {}
    }
    let (words, at) = (command.join(" "), Instant::now());
    note(&format!("causing the fault: {words}"));
    let stderr = Stdio::from(std::io::stderr().as_fd().try_clone_to_owned()?);
    let mut child = Command::new(program).args(args).stdin(Stdio::null()).stdout(stderr).spawn().map_err(|error| {
        Failure::new(Exit::NotFound, format!("Failed to run {program}: {error}"))
            .remedy("name a program, or a shell's line as: -- sh -c 'LINE'")
    })?;
    let ended = tokio::select! {
        status = child.wait() => Some(status?),
        () = &mut until => None,
    };
    Ok(Some(FaultRow {
        command: words,
        at_ms: millis(at - begin),
        took_ms: ended.map(|_| millis(at.elapsed())),
        failed: ended.filter(|status| !status.success()).map(|status| status.to_string()),
    }))
}
