//! Reads a site's objects and asks the gateways whose sockets are named.

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

use super::model::Inputs;
use crate::site::Site;

/// A gateway that runs answers at once.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);
/// Rows of thousands of paths fit.
const MAX_REPORT: u64 = 16 << 20;

/// Where a host's gateway is asked when no state directory was named.
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
        problems: site.problems(),
        now: Timestamp::now(),
    })
}

async fn list<K: Resource>(client: &Client) -> anyhow::Result<Vec<K>> {
    let mut objects = client.list::<K>().await.with_context(|| format!("Failed to list {}", K::KIND))?;
    objects.sort_by_key(Resource::key);
    Ok(objects)
}

/// Asks all at once. Nobody named the default, so its absence is no finding.
async fn reports(states: &[PathBuf]) -> Vec<(PathBuf, Result<GatewayReport, String>)> {
    if states.is_empty() {
        let state = PathBuf::from(DEFAULT_STATE);
        return report(&state).await.map(|r| vec![(state, Ok(r))]).unwrap_or_default();
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

/// Asks the gateway that keeps its state in `state`.
///
/// # Errors
/// When nobody listens, or the answer is no report.
pub async fn report(state: &Path) -> io::Result<GatewayReport> {
    let body = timeout(REPORT_TIMEOUT, get(&state.join("gateway/admin.sock"), "/report"))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not answer"))??;
    serde_json::from_slice(&body).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("not a report: {e}")))
}

/// HTTP/1.0, which is answered in one piece and then closed.
async fn get(socket: &Path, path: &str) -> io::Result<Vec<u8>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: hawser\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_REPORT).read_to_end(&mut answer).await?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(|| wrong("it does not speak HTTP"))?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        return Err(wrong(&format!("it answers with status {status}")));
    }
    Ok(answer.split_off(end + 4))
}
