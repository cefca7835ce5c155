//! `hawser drill`: measures what a fault costs while the operator causes it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::args::DrillArgs;
use crate::drill::paths::{PathRow, Watch, watch};
use crate::drill::probes;
use crate::drill::tally::{FlowRow, sum};
use crate::exit::{Exit, Failure};
use crate::output::{self, Output, table};
use crate::progress::{Progress, note};

/// Without `--for`.
const LENGTH: Duration = Duration::from_secs(30);

/// `hawser drill`.
///
/// # Errors
/// When nothing answers at all, or an address can't be used.
pub async fn run(output: Output, args: DrillArgs) -> anyhow::Result<Exit> {
    let DrillArgs { to, state, answer, length, flows } = args;
    if let Some(at) = answer {
        return answering(output, at, length).await;
    }
    let length = length.unwrap_or(LENGTH);
    let mut progress = Progress::new();
    progress.say(format!("probing for {length:?}: cause the fault now; Ctrl-C ends it earlier"));
    let (flows, paths) = tokio::join!(measure(to, flows, length), look(&state, length));
    drop(progress);
    let (flows, paths) = (flows?, paths?);
    let all = sum(&flows);
    if let Some(to) = to
        && all.lost == all.sent
    {
        let failure = Failure::new(Exit::Failed, format!("none of {} probes to {to} came back", all.sent));
        return Err(failure.remedy(format!("run there: hawser drill --answer '[::]:{}'", to.port())).into());
    }
    for (state, why) in &paths.failed {
        note(&format!("{}: the gateway did not answer at least once: {why}", state.display()));
    }
    let rows = paths.rows();
    let document = json!({
        "to": to.map(|to| to.to_string()), "forMs": u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
        "total": all, "flows": flows, "paths": rows,
        "unanswered": paths.failed.iter().map(|(state, why)| json!({ "state": state, "why": why })).collect::<Vec<_>>(),
    });
    output::data(output, &document, &text(to.map(|_| all), &flows, &rows));
    let calm = all.lost == 0 && paths.failed.is_empty() && rows.iter().all(|r| r.changes == 0);
    Ok(if calm { Exit::Ok } else { Exit::Degraded })
}

async fn measure(to: Option<SocketAddr>, flows: u16, length: Duration) -> anyhow::Result<Vec<FlowRow>> {
    let Some(to) = to else { return Ok(Vec::new()) };
    probes::send(to, flows, over(Some(length))).await.with_context(|| format!("Failed to probe {to}"))
}

async fn look(states: &[PathBuf], length: Duration) -> anyhow::Result<Watch> {
    if states.is_empty() {
        return Ok(Watch::default());
    }
    let seen = watch(states, over(Some(length))).await;
    match seen.failed.first_key_value() {
        Some((state, why)) if seen.rows().is_empty() => {
            Err(Failure::new(Exit::NotFound, format!("{}: no gateway answers: {why}", state.display()))
                .remedy("name the state directory of a host where hawser-gateway runs: --state DIR")
                .into())
        }
        _ => Ok(seen),
    }
}

async fn answering(output: Output, at: SocketAddr, length: Option<Duration>) -> anyhow::Result<Exit> {
    note(&format!("echoing probes that come to {at}; Ctrl-C ends it"));
    let answered = probes::answer(at, over(length)).await.with_context(|| format!("Failed to listen on {at}"))?;
    output::data(output, &json!({ "answered": answered }), &format!("{answered} probes echoed"));
    Ok(Exit::Ok)
}

/// Ctrl-C, or the end of that time.
async fn over(length: Option<Duration>) {
    let time = async {
        match length {
            Some(length) => tokio::time::sleep(length).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = time => {}
    }
}

fn text(total: Option<FlowRow>, flows: &[FlowRow], paths: &[PathRow]) -> String {
    let mut parts = Vec::new();
    if let Some(total) = total {
        let cells = |name: String, r: &FlowRow| {
            let gap = format!("{} ms (at {:.1} s)", r.longest_gap_ms, r.gap_at_ms as f64 / 1e3);
            vec![name, r.sent.to_string(), r.lost.to_string(), r.duplicates.to_string(), r.reordered.to_string(), gap]
        };
        let rows = flows.iter().map(|r| cells(r.port.to_string(), r)).chain([cells("all".to_owned(), &total)]);
        parts.push(table(&["FLOW FROM", "SENT", "LOST", "DUPLICATES", "REORDERED", "LONGEST GAP"], rows));
    }
    if !paths.is_empty() {
        let cells = |r: &PathRow| {
            let loss = format!("{:.1} %", r.worst_loss_percent);
            let silence = format!("{} ms", r.longest_silence_ms);
            vec![r.gateway.clone(), r.peer.clone(), r.state.clone(), r.changes.to_string(), silence, loss]
        };
        let rows = paths.iter().map(cells);
        parts.push(table(&["GATEWAY", "PEER", "STATE", "CHANGES", "LONGEST SILENCE", "WORST LOSS"], rows));
    }
    parts.join("\n\n")
}
