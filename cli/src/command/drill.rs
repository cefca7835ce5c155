//! `hawser drill`: measures what a fault costs while the operator causes it.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use hawser_drill::stream::socket;
use hawser_drill::{Stream, echo};
use serde_json::json;
use tokio::time::{Instant, interval_at};

use crate::args::{DrillEchoArgs, DrillWatchArgs};
use crate::drill::bounds::exceeded;
use crate::drill::flows::{self, Flows};
use crate::drill::paths::{PathRow, Watch, watch};
use crate::exit::{Exit, Failure};
use crate::output::{self, Output, table};
use crate::progress::note;

/// Between two lines about how it goes.
const LINE: Duration = Duration::from_secs(1);

/// `hawser drill watch`.
///
/// # Errors
/// When nothing answers at all, or an address can't be used.
pub async fn watching(output: Output, args: DrillWatchArgs) -> anyhow::Result<Exit> {
    let DrillWatchArgs { to, state, length, flows, every, max_gap, max_loss } = args;
    note(&format!("watching for {length:?}: cause the fault now; Ctrl-C ends it earlier"));
    let (flows, paths) = tokio::join!(measure(to, flows, every, length), look(&state, length));
    let (flows, paths) = (flows?, paths?);
    for (state, why) in &paths.failed {
        note(&format!("{}: the gateway did not answer at least once: {why}", state.display()));
    }
    let too_much = flows.as_ref().map(|f| exceeded(&f.all, max_gap, max_loss)).unwrap_or_default();
    too_much.iter().for_each(|words| note(&format!("more than acceptable: {words}")));
    let rows = paths.rows();
    let document = json!({
        "to": to.map(|to| to.to_string()), "forMs": millis(length), "everyMs": millis(every),
        "total": flows.as_ref().map(|f| f.total),
        "flows": flows.as_ref().map(|f| f.rows.as_slice()).unwrap_or_default(),
        "paths": rows,
        "unanswered": paths.failed.iter().map(|(state, why)| json!({ "state": state, "why": why })).collect::<Vec<_>>(),
        "exceeded": too_much,
    });
    output::data(output, &document, &text(flows.as_ref(), &rows));
    Ok(if too_much.is_empty() { Exit::Ok } else { Exit::Degraded })
}

async fn measure(
    to: Option<SocketAddr>,
    flows: u16,
    every: Duration,
    length: Duration,
) -> anyhow::Result<Option<Flows>> {
    let Some(to) = to else { return Ok(None) };
    let sockets = (0..flows).map(|_| socket(0, to)).collect::<Result<Vec<UdpSocket>, _>>();
    let sockets = sockets.with_context(|| format!("Failed to send to {to}"))?;
    let ports = sockets.iter().map(|s| Ok(s.local_addr()?.port())).collect::<anyhow::Result<Vec<u16>>>()?;
    let stream = Stream::start(sockets, every)?;
    let mut lines = interval_at(Instant::now() + LINE, LINE);
    let end = over(Some(length));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            _ = lines.tick() => note(&flows::line(&stream.now(), every)),
        }
    }
    // Waits for stragglers.
    let flows = Flows::new(&tokio::task::spawn_blocking(|| stream.finish()).await?, &ports);
    if flows.all.received == 0 {
        let failure = Failure::new(Exit::Failed, format!("none of {} packets to {to} came back", flows.all.sent));
        return Err(failure.remedy(format!("run there: hawser drill echo --listen '[::]:{}'", to.port())).into());
    }
    Ok(Some(flows))
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
    note(&format!("echoing packets of drills that come to {}; Ctrl-C ends it", socket.local_addr()?));
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    let serving = tokio::task::spawn_blocking(move || echo::serve(&socket, &stopping));
    over(length).await;
    stop.store(true, Ordering::Relaxed);
    let echoed = serving.await?.with_context(|| format!("Failed to listen on {listen}"))?;
    output::data(output, &json!({ "echoed": echoed }), &format!("{echoed} packets echoed"));
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

fn text(flows: Option<&Flows>, paths: &[PathRow]) -> String {
    let mut parts = Vec::new();
    if let Some(flows) = flows {
        let rows = flows.rows.iter().map(|row| row.cells(row.port.to_string()));
        let all = flows.total.cells(format!("all; worst {}", flows.total.port));
        parts.push(table(&flows::HEAD, rows.chain([all])));
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
