//! `hawser drill`: measures what a fault costs while it is caused.

use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use hawser_drill::{connections as served, echo};
use serde_json::json;
use tokio::task::spawn_blocking;

use crate::args::{DrillEchoArgs, DrillWatchArgs};
use crate::drill::bounds::{Bounds, exceeded};
use crate::drill::connections::{self, broken};
use crate::drill::fault::cause;
use crate::drill::flows::{self, millis};
use crate::drill::measure::{Measured, Plan, connect, measure};
use crate::drill::paths::{PathRow, Watch, watch};
use crate::exit::{Exit, Failure};
use crate::output::{self, Output, table};
use crate::progress::note;

/// From the first packet to the fault, where it is a command; a quarter of a shorter drill.
const BEFORE: Duration = Duration::from_secs(2);

/// `hawser drill watch`.
///
/// # Errors
/// When nothing answers at all, an address can't be used, or the fault's command can't be run.
pub async fn watching(output: Output, args: DrillWatchArgs) -> anyhow::Result<Exit> {
    let DrillWatchArgs { to, state, length, flows, connections, every, max_gap, max_loss, max_broken, fault } = args;
    let who = if fault.is_empty() { "cause the fault now; " } else { "" };
    note(&format!("watching for {length:?}: {who}Ctrl-C ends it earlier"));
    let plan = to.map(|to| Plan { to, flows, every, connections, insist: max_broken.is_some() });
    let open = match plan {
        Some(plan) => connect(plan).await?,
        None => None,
    };
    let measured = async {
        match plan {
            Some(plan) => measure(plan, open, over(Some(length))).await.map(Some),
            None => Ok(None),
        }
    };
    let cause = cause(&fault, BEFORE.min(length / 4), over(Some(length)));
    let (measured, paths, fault) = tokio::try_join!(measured, look(&state, length), cause)?;
    for (state, why) in &paths.failed {
        note(&format!("{}: the gateway did not answer at least once: {why}", state.display()));
    }
    let bounds = Bounds { max_gap, max_loss, max_broken };
    let of = |m: &Measured| exceeded(&m.flows.all, broken(&m.connections), bounds);
    let too_much = measured.as_ref().map(of).unwrap_or_default();
    too_much.iter().for_each(|words| note(&format!("more than acceptable: {words}")));
    let failed = fault.as_ref().and_then(|f| f.failed.as_ref());
    failed.iter().for_each(|how| note(&format!("the fault's command failed: {how}")));
    let rows = paths.rows();
    let document = json!({
        "to": to.map(|to| to.to_string()), "forMs": millis(length), "everyMs": millis(every),
        "fault": fault,
        "total": measured.as_ref().map(|m| m.flows.total),
        "flows": measured.as_ref().map(|m| m.flows.rows.as_slice()).unwrap_or_default(),
        "connections": measured.as_ref().map(|m| m.connections.as_slice()).unwrap_or_default(),
        "paths": rows,
        "unanswered": paths.failed.iter().map(|(state, why)| json!({ "state": state, "why": why })).collect::<Vec<_>>(),
        "exceeded": too_much,
    });
    output::data(output, &document, &text(measured.as_ref(), &rows));
    Ok(match (failed, too_much.is_empty()) {
        (Some(_), _) => Exit::Failed,
        (None, true) => Exit::Ok,
        (None, false) => Exit::Degraded,
    })
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

/// `hawser drill echo`.
///
/// # Errors
/// When the address can't be used.
pub async fn echoing(output: Output, args: DrillEchoArgs) -> anyhow::Result<Exit> {
    let DrillEchoArgs { listen, length } = args;
    let socket = UdpSocket::bind(listen).with_context(|| format!("Failed to listen on {listen}"))?;
    let listen = socket.local_addr()?;
    let listener =
        TcpListener::bind(listen).with_context(|| format!("Failed to listen on {listen} for connections"))?;
    note(&format!("echoing packets and connections of drills that come to {listen}; Ctrl-C ends it"));
    let stop = Arc::new(AtomicBool::new(false));
    let (for_packets, for_connections) = (Arc::clone(&stop), Arc::clone(&stop));
    let packets = spawn_blocking(move || echo::serve(&socket, &for_packets));
    let connections = spawn_blocking(move || served::serve(&listener, &for_connections));
    over(length).await;
    stop.store(true, Ordering::Relaxed);
    let (echoed, served) = tokio::join!(packets, connections);
    let failed = || format!("Failed to listen on {listen}");
    let (echoed, served) = (echoed?.with_context(failed)?, served?.with_context(failed)?);
    let text = format!("{echoed} packets echoed, {served} connections served");
    output::data(output, &json!({ "echoed": echoed, "connections": served }), &text);
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

fn text(measured: Option<&Measured>, paths: &[PathRow]) -> String {
    let mut parts = Vec::new();
    if let Some(Measured { flows: of, connections }) = measured {
        let rows = of.rows.iter().map(|row| row.cells(row.port.to_string()));
        let all = of.total.cells(format!("all; worst {}", of.total.port));
        parts.push(table(&flows::HEAD, rows.chain([all])));
        if !connections.is_empty() {
            parts.push(table(&connections::HEAD, connections.iter().map(|row| row.cells())));
        }
    }
    if !paths.is_empty() {
        let cells = |r: &PathRow| {
            let loss = format!("{:.1} %", r.worst_loss_percent);
            let silence = format!("{} ms", r.longest_silence_ms);
            let counts = (r.changes.to_string(), r.sent_packets.to_string());
            vec![r.gateway.clone(), r.peer.clone(), r.state.clone(), counts.0, silence, loss, counts.1]
        };
        let head = ["GATEWAY", "PEER", "STATE", "CHANGES", "LONGEST SILENCE", "WORST LOSS", "PACKETS SENT"];
        parts.push(table(&head, paths.iter().map(cells)));
    }
    parts.join("\n\n")
}
