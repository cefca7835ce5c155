//! Status as one screen: verdict, a row per cluster, why, next; and a row per path for who asks. Pure.

use std::fmt::Write;
use std::time::Duration;

use super::model::{ClusterRow, PathRow, Severity, Status, Verdict};
use crate::duration::short;
use crate::output::table;

/// Findings beyond these are counted, not shown: it is one screen.
const MAX_FINDINGS: usize = 12;

/// The screen.
#[must_use]
pub fn screen(status: &Status) -> String {
    let mut text = verdict(status);
    if !status.clusters.is_empty() {
        text.push('\n');
        text.push_str(&clusters(status));
    }
    let shown = status.why.iter().take(MAX_FINDINGS);
    for (i, finding) in shown.enumerate() {
        let heading = if i == 0 { "WHY " } else { "    " };
        let note = if finding.severity == Severity::Note { " (note)" } else { "" };
        // Writing to a String can't fail.
        let _ = write!(text, "\n{heading}  {}{note}: {}", finding.about, finding.text);
    }
    if status.why.len() > MAX_FINDINGS {
        let _ = write!(text, "\n      and {} more (-o json shows all)", status.why.len() - MAX_FINDINGS);
    }
    for (i, next) in status.next.iter().enumerate() {
        let heading = if i == 0 { "NEXT" } else { "    " };
        let _ = write!(text, "\n{heading}  {next}");
    }
    text
}

/// A row per path.
#[must_use]
pub fn paths(status: &Status) -> String {
    let row = |p: &PathRow| {
        vec![
            p.gateway.clone(),
            format!("{}/{}", p.cluster, p.peer),
            p.endpoint.clone().unwrap_or("–".to_owned()),
            p.rtt_us.map_or("–".to_owned(), |rtt| format!("{}ms", millis(rtt))),
            p.loss_percent.map_or("–".to_owned(), |loss| format!("{loss:.1}%")),
            // A search that is over or not wanted needs no word.
            match p.mtu_state.as_str() {
                state @ ("Searching" | "Failed") => format!("{} ({})", p.mtu, state.to_lowercase()),
                _ => p.mtu.to_string(),
            },
            p.state.clone(),
        ]
    };
    table(&["GATEWAY", "PEER", "ADDRESS", "RTT", "LOSS", "MTU", "STATE"], status.paths.iter().map(row))
}

fn verdict(status: &Status) -> String {
    let set = status.cluster_set.as_deref().unwrap_or("no cluster set");
    let cluster = status.cluster.as_deref().unwrap_or("this site");
    let reached = status.clusters.iter().filter(|c| c.state == super::model::ClusterState::Healthy).count();
    let word = match status.verdict {
        Verdict::Healthy => "HEALTHY",
        Verdict::Degraded => "DEGRADED",
        Verdict::NotJoined => return format!("{cluster}: NOT JOINED"),
        Verdict::Removed => return format!("{set}: REMOVED  {cluster} is no member of the cluster set any more"),
    };
    let reached = match status.clusters.len() {
        0 => "no other cluster is a member".to_owned(),
        all => format!("{reached} of {all} clusters fully reachable"),
    };
    let figures = status.gateways.iter().filter(|g| g.figures).count();
    let proof = match status.proof_age_ms {
        Some(age) => format!("proof age {}", short(Duration::from_millis(age))),
        None => "no proof from here".to_owned(),
    };
    let gateways = format!("figures of {figures} of {} gateways", status.gateways.len());
    format!("{set}: {word}  {cluster}: {reached}   {proof}   {gateways}   roster {}", status.roster_revision)
}

fn clusters(status: &Status) -> String {
    let header = [
        "CLUSTER",
        "GATEWAYS",
        "PATHS",
        "RTT",
        "LOSS",
        "MTU",
        "RX/TX",
        "KEY AGE",
        "LAST FAILOVER",
        "IMPORTS/EXPORTS",
        "STATE",
    ];
    table(&header, status.clusters.iter().map(row))
}

fn row(c: &ClusterRow) -> Vec<String> {
    let ago = |ms: u64| short(Duration::from_millis(ms));
    let failover = match (c.last_failover_ago_ms, c.last_failover_ms) {
        (Some(ago_ms), Some(took)) => format!("{} ago, {took}ms", ago(ago_ms)),
        (Some(ago_ms), None) => format!("{} ago", ago(ago_ms)),
        (None, _) => "–".to_owned(),
    };
    vec![
        c.cluster.clone(),
        c.gateways.to_string(),
        c.paths.to_string(),
        match (c.rtt_min_us, c.rtt_max_us) {
            (Some(min), Some(max)) if millis(min) == millis(max) => format!("{}ms", millis(min)),
            (Some(min), Some(max)) => format!("{}–{}ms", millis(min), millis(max)),
            _ => "–".to_owned(),
        },
        c.loss_percent.map_or("–".to_owned(), |loss| format!("{loss:.1}%")),
        match (c.mtu, c.mtu_max) {
            (Some(min), Some(max)) if min != max => format!("{min}–{max}"),
            (Some(mtu), _) => mtu.to_string(),
            _ => "–".to_owned(),
        },
        match (c.rx_bytes, c.tx_bytes) {
            (Some(rx), Some(tx)) => format!("{}/{}", bytes(rx), bytes(tx)),
            _ => "–".to_owned(),
        },
        c.key_age_s.map_or("–".to_owned(), |age| short(Duration::from_secs(age))),
        failover,
        format!("{}/{}", c.imports, c.exports),
        format!("{:?}", c.state),
    ]
}

/// Microseconds as milliseconds with two digits.
#[expect(clippy::cast_precision_loss, reason = "two digits are printed")]
fn millis(micros: u64) -> String {
    let ms = micros as f64 / 1000.0;
    if ms < 10.0 { format!("{ms:.2}") } else { format!("{ms:.0}") }
}

#[expect(clippy::cast_precision_loss, reason = "two digits are printed")]
fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["B", "K", "M", "G", "T", "P"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 10.0 { format!("{value:.0}{}", UNITS[unit]) } else { format!("{value:.1}{}", UNITS[unit]) }
}
