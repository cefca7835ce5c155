//! A gateway's keys: their age, and how far a replacement is. Pure.

use std::time::Duration;

use hawser_api::core::Time;
use hawser_api::hawser::GatewayNode;
use hawser_api::report::GatewayReport;
use jiff::Timestamp;

use super::model::{Count, Finding, GatewayRow, RotationRow, Severity};
use crate::duration::short;

/// Age of a gateway's oldest key, seconds: by its report, or by its status.
pub(super) fn age(gateway: &GatewayNode, report: Option<&GatewayReport>, now: Timestamp) -> Option<u64> {
    let reported = report.and_then(|r| r.lanes.iter().map(|lane| lane.key_age_s).max());
    reported.or_else(|| Some(since(&gateway.status.as_ref()?.keys.as_ref()?.created, now)))
}

/// How far a replacement is, likewise.
pub(super) fn rotation(gateway: &GatewayNode, report: Option<&GatewayReport>, now: Timestamp) -> Option<RotationRow> {
    if let Some(report) = report {
        let found = report.rotation.as_ref()?;
        return Some(RotationRow {
            since_s: found.since_s,
            paths: Count { up: found.moved_paths, total: found.total_paths },
            waiting_for: found.waiting_for.clone(),
        });
    }
    let found = gateway.status.as_ref()?.keys.as_ref()?.rotation.as_ref()?;
    Some(RotationRow {
        since_s: since(&found.since, now),
        paths: Count { up: found.moved_paths, total: found.total_paths },
        waiting_for: found.waiting_for.clone(),
    })
}

/// What should be known of it.
pub(super) fn finding(row: &GatewayRow) -> Option<Finding> {
    let rotation = row.rotation.as_ref()?;
    let Count { up, total } = rotation.paths;
    let age = short(Duration::from_secs(rotation.since_s));
    let mut text = format!("its keys are being replaced for {age}: the next ones are in use on {up} of {total} paths");
    if let Some(first) = rotation.waiting_for.first() {
        text += &format!("; it waits for {first}");
        let more = rotation.waiting_for.len() - 1;
        if more > 0 {
            text += &format!(" (and {more} more)");
        }
    }
    Some(Finding { severity: Severity::Note, about: row.node.clone(), text })
}

fn since(at: &Time, now: Timestamp) -> u64 {
    u64::try_from(now.duration_since(at.0).as_secs()).unwrap_or_default()
}
