//! Reads a site's objects and asks the processes whose sockets are named.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use hawser_api::hawser::GatewayNode;
use hawser_api::labels;
use hawser_api::mcs::ClusterProperty;
use hawser_api::report::GatewayReport;
use hawser_local_api::{Client, Resource};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::model::{Inputs, Unready};
use crate::site::Site;

/// A gateway that runs answers at once.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);
/// Rows of thousands of paths fit.
const MAX_REPORT: u64 = 16 << 20;

/// The processes of a host whose readiness is asked; a gateway's report says more.
const OTHERS: [&str; 2] = ["agent", "route-agent"];

/// Where a host's processes are asked when no state directory was named.
const DEFAULT_STATE: &str = "/var/lib/hawser";

/// All that status is made from.
///
/// # Errors
/// When the site's directory can't be read.
pub async fn collect(site: &Site, states: &[PathBuf]) -> anyhow::Result<Inputs> {
    let client = &site.client;
    let properties: Vec<ClusterProperty> = list(client).await?;
    let gateways: Vec<GatewayNode> = list(client).await?;
    Ok(Inputs {
        site: site.path.clone(),
        info: site.identity.info()?,
        announced: properties.iter().any(|p| p.metadata.name.as_deref() == Some(labels::PROPERTY_CLUSTER_SET)),
        membership: site.membership().await?,
        nodes: list(client).await?,
        gateways,
        remotes: list(client).await?,
        exports: list(client).await?,
        imports: list(client).await?,
        reports: reports(states).await,
        unready: unready(states).await,
        problems: site.problems(),
        now: Timestamp::now(),
    })
}

async fn list<K: Resource>(client: &Client) -> anyhow::Result<Vec<K>> {
    let mut objects = client.list::<K>().await.with_context(|| format!("Failed to list {}", K::KIND))?;
    objects.sort_by_key(Resource::key);
    Ok(objects)
}

/// Asks all at once. Nobody named the default: that no gateway ever ran there is no finding.
async fn reports(states: &[PathBuf]) -> Vec<(PathBuf, Result<GatewayReport, String>)> {
    if states.is_empty() {
        let state = PathBuf::from(DEFAULT_STATE);
        let ran_here = state.join("gateway").is_dir();
        let report = report(&state).await.map_err(|e| e.to_string());
        return if ran_here || report.is_ok() { vec![(state, report)] } else { Vec::new() };
    }
    let mut asked = JoinSet::new();
    for state in states.iter().cloned() {
        asked.spawn(async move {
            let report = report(&state).await.map_err(|e| e.to_string());
            (state, report)
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by(|a, b| a.0.cmp(&b.0));
    answers
}

/// The processes beside the gateways that have run on these hosts, and are not at work now.
async fn unready(states: &[PathBuf]) -> Vec<Unready> {
    let default = [PathBuf::from(DEFAULT_STATE)];
    let states = if states.is_empty() { &default } else { states };
    let mut found = Vec::new();
    for (state, process) in states.iter().flat_map(|state| OTHERS.map(|process| (state, process))) {
        let folder = state.join(process);
        if folder.is_dir() {
            found.extend(ask(process, folder.join("admin.sock")).await);
        }
    }
    found
}

async fn ask(process: &'static str, socket: PathBuf) -> Option<Unready> {
    let answer = match timeout(REPORT_TIMEOUT, get(&socket, "/ready")).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")),
    };
    let (answers, why) = match answer {
        Ok((200, _)) => return None,
        Ok((_, body)) => (true, String::from_utf8_lossy(&body).trim().to_owned()),
        Err(error) => (false, error.to_string()),
    };
    Some(Unready { process, socket, answers, why })
}

/// Asks the gateway that keeps its state in `state`.
///
/// # Errors
/// When nobody listens, or the answer is no report.
pub async fn report(state: &Path) -> io::Result<GatewayReport> {
    let (status, body) = timeout(REPORT_TIMEOUT, get(&state.join("gateway/admin.sock"), "/report"))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not answer"))??;
    if status != 200 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it answers with status {status}")));
    }
    serde_json::from_slice(&body).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("not a report: {e}")))
}

/// Status and body; by HTTP/1.0, which is answered in one piece and then closed.
async fn get(socket: &Path, path: &str) -> io::Result<(u16, Vec<u8>)> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: hawser\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_REPORT).read_to_end(&mut answer).await?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(|| wrong("it does not speak HTTP"))?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| wrong("it does not speak HTTP"))?;
    Ok((status, answer.split_off(end + 4)))
}
