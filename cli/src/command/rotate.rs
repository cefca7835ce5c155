//! `hawser rotate keys`: a KeyRotation per gateway in `generated/cli/`, which the gateway itself answers: next keys first,
//! then those in place of the others when no path needs these any more (`gateway/src/rotation.rs`).

use std::time::Duration;

use anyhow::Context as _;
use hawser_api::core::{ObjectMeta, Time};
use hawser_api::hawser::{GatewayKeys, GatewayNode, KeyRotation, KeyRotationSpec};
use hawser_local_api::{Error, Key};
use hawser_model::NodeName;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use crate::args::RotateKeysArgs;
use crate::exit::{Exit, Failure};
use crate::output::{self, Output, table};
use crate::progress::{Progress, note};
use crate::site::Site;

/// What was asked of one gateway.
struct Asked {
    node: String,
    /// The request that it is to answer, in Unix seconds; none where a replacement was under way without one.
    request: Option<i64>,
    state: &'static str,
}

/// `hawser rotate keys`.
///
/// # Errors
/// A node that runs no gateway (3), a request in an operator's file (5), one that is not answered in time (6).
pub async fn keys(output: Output, args: RotateKeysArgs) -> anyhow::Result<Exit> {
    let RotateKeysArgs { site, nodes, wait } = args;
    let site = Site::open(&site).await?;
    let gateways = pick(&site, &nodes).await?;
    let requests = site.client.list::<KeyRotation>().await.context("Failed to list KeyRotation")?;
    let mut asked = Vec::new();
    for gateway in &gateways {
        asked.push(ask(&site, gateway, &requests).await?);
    }
    if let Some(limit) = wait {
        wait_all(&site, &mut asked, limit).await?;
    }
    report(output, &asked);
    Ok(Exit::Ok)
}

/// The gateways named, or all.
async fn pick(site: &Site, nodes: &[NodeName]) -> anyhow::Result<Vec<GatewayNode>> {
    let mut all = site.client.list::<GatewayNode>().await.context("Failed to list GatewayNode")?;
    all.sort_by(|a, b| a.spec.node.cmp(&b.spec.node));
    let names: Vec<&str> = all.iter().map(|gateway| gateway.spec.node.as_str()).collect();
    let remedy = match names.as_slice() {
        [] => "start hawser-gateway on a node of this site".to_owned(),
        names => format!("name one of {}", names.join(", ")),
    };
    if let Some(node) = nodes.iter().find(|node| !names.contains(&node.as_str())) {
        return Err(Failure::new(Exit::NotFound, format!("{node} runs no gateway of this site")).remedy(remedy).into());
    }
    if all.is_empty() {
        return Err(Failure::new(Exit::NotFound, "no gateway runs at this site").remedy(remedy).into());
    }
    all.retain(|gateway| nodes.is_empty() || nodes.iter().any(|node| node.as_str() == gateway.spec.node));
    Ok(all)
}

/// Asks one gateway, unless it was asked or is at it already.
async fn ask(site: &Site, gateway: &GatewayNode, requests: &[KeyRotation]) -> anyhow::Result<Asked> {
    let node = gateway.spec.node.clone();
    let of_node = requests.iter().filter(|request| request.spec.node == node);
    let before = of_node.map(|request| request.spec.requested_at.0.as_second()).max();
    let status = gateway.status.as_ref().and_then(|status| status.keys.as_ref());
    let pending = before.filter(|before| status.and_then(answered) != Some(*before));
    if status.is_some_and(|keys| keys.rotation.is_some()) {
        note(&format!("{node} is replacing its keys already"));
        return Ok(Asked { node, request: pending, state: "Rotating" });
    }
    if pending.is_some() {
        note(&format!("{node} was asked already"));
        return Ok(Asked { node, request: pending, state: "Requested" });
    }
    // A second time within a second is another request all the same.
    let now = Timestamp::now().as_second().max(before.map_or(0, |before| before + 1));
    let requested_at = Time(Timestamp::from_second(now).context("the clock is far off")?);
    let metadata = ObjectMeta { name: Some(node.clone()), ..ObjectMeta::default() };
    let wanted = KeyRotation { metadata, spec: KeyRotationSpec { node: node.clone(), requested_at } };
    match site.client.apply(&wanted).await {
        Ok(()) => Ok(Asked { node, request: Some(now), state: "Requested" }),
        Err(Error::Owned { owner, .. }) => {
            let message = format!("KeyRotation {node} is in {owner}, which is not ours to change");
            let remedy = format!("set its spec.requestedAt to {}, or remove it", wanted.spec.requested_at.0);
            Err(Failure::new(Exit::Conflict, message).remedy(remedy).into())
        }
        Err(error) => Err(error).context("Failed to write the request"),
    }
}

fn answered(keys: &GatewayKeys) -> Option<i64> {
    keys.answered.as_ref().map(|at| at.0.as_second())
}

async fn wait_all(site: &Site, asked: &mut [Asked], limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    let mut progress = Progress::new();
    for Asked { node, request, state } in asked {
        progress.say(format!("{node}: waiting until its keys are replaced"));
        let left = deadline.saturating_duration_since(Instant::now());
        let key = Key::cluster(node);
        let done = site.wait::<GatewayNode>(&key, left, |found| {
            let keys = found.and_then(|gateway| gateway.status.as_ref()?.keys.as_ref());
            keys.is_some_and(|keys| keys.rotation.is_none() && (request.is_none() || answered(keys) == *request))
        });
        if !done.await? {
            return Err(late(site, node, limit).await.into());
        }
        *state = "Rotated";
    }
    Ok(())
}

/// Says what the gateway waits for, where it says so itself.
async fn late(site: &Site, node: &str, limit: Duration) -> Failure {
    let all = site.client.list::<GatewayNode>().await.unwrap_or_default();
    let gateway = all.into_iter().find(|gateway| gateway.spec.node == node);
    let rotation = gateway.and_then(|gateway| gateway.status?.keys?.rotation);
    let failure = match rotation {
        Some(rotation) if !rotation.waiting_for.is_empty() => {
            let (moved, total) = (rotation.moved_paths, rotation.total_paths);
            let waits = rotation.waiting_for.join("; ");
            format!("{node} has its next keys in use on {moved} of {total} paths after {limit:?}; it waits for {waits}")
        }
        Some(_) => format!("{node} is still replacing its keys after {limit:?}"),
        None => format!("{node} has not taken the request up after {limit:?}"),
    };
    Failure::new(Exit::TimedOut, failure).remedy(
        "nothing is lost while it goes on: ask again later with --wait; hawser status shows how far it is, and what runs",
    )
}

fn report(output: Output, asked: &[Asked]) {
    let rows = asked.iter().map(|one| vec![one.node.clone(), one.state.to_owned()]);
    let text = table(&["GATEWAY", "KEYS"], rows);
    let gateways: Vec<_> = asked.iter().map(|one| json!({ "node": one.node, "state": one.state })).collect();
    output::data(output, &json!({ "gateways": gateways }), &text);
}
