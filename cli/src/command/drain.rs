//! `hawser drain gateway`: a GatewayDrain in `generated/cli/`, which the gateway itself honours: it tells peers and nodes, and
//! says in its own status how far they have left it (`gateway/src/drain.rs`).

use std::time::Duration;

use anyhow::Context as _;
use hawser_api::core::{Node, ObjectMeta};
use hawser_api::hawser::{DrainState, GatewayDrain, GatewayDrainSpec, GatewayNode, Membership};
use hawser_api::labels;
use hawser_local_api::{Error, Key, Resource as _};
use hawser_model::NodeName;
use serde_json::json;

use crate::args::DrainArgs;
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};
use crate::progress::{Progress, note};
use crate::site::Site;

/// `hawser drain gateway`.
///
/// # Errors
/// A node that is no gateway (3), a drain that an operator's file asks for (5), one that is not done in time (6).
pub async fn gateway(output: Output, args: DrainArgs) -> anyhow::Result<Exit> {
    let DrainArgs { node, site, undo, wait } = args;
    let site = Site::open(&site).await?;
    let gateways = gateways(&site).await?;
    if undo {
        undo_drain(&site, &node).await?;
    } else {
        if !gateways.contains(&node) {
            return Err(not_a_gateway(&node, &gateways).into());
        }
        drain(&site, &node, &gateways).await?;
    }
    let Some(limit) = wait else {
        report(output, &node, if undo { "Requested" } else { "Draining" }, undo);
        return Ok(Exit::Ok);
    };
    let wanted = if undo { None } else { Some(DrainState::Drained) };
    let mut progress = Progress::new();
    progress.say(format!("{node}: waiting until {}", if undo { "it is in use again" } else { "nothing uses it" }));
    let key = Key::cluster(node.as_str());
    let reached = site.wait::<GatewayNode>(&key, limit, |found| {
        found.and_then(|g| g.status.as_ref()).is_some_and(|status| status.drain == wanted)
    });
    if !reached.await? {
        return Err(late(&node, undo, limit).into());
    }
    report(output, &node, if undo { "InUse" } else { "Drained" }, undo);
    Ok(Exit::Ok)
}

async fn drain(site: &Site, node: &NodeName, gateways: &[NodeName]) -> anyhow::Result<()> {
    let drained = drained(site).await?;
    if gateways.iter().all(|g| g == node || drained.contains(g)) {
        note(&format!("{node} is the last gateway in use: traffic stays on it until another one is"));
    }
    let metadata = ObjectMeta { name: Some(node.to_string()), ..ObjectMeta::default() };
    let wanted = GatewayDrain { metadata, spec: GatewayDrainSpec { node: node.to_string() } };
    match site.client.apply(&wanted).await {
        Ok(()) => Ok(()),
        Err(Error::Owned { owner, .. }) => {
            note(&format!("{node} is drained by {owner} already"));
            Ok(())
        }
        Err(error) => Err(error).context("Failed to write the drain"),
    }
}

async fn undo_drain(site: &Site, node: &NodeName) -> anyhow::Result<()> {
    let drains = site.client.list::<GatewayDrain>().await.context("Failed to list GatewayDrain")?;
    let found = drains.iter().filter(|d| d.spec.node == node.as_str());
    for drain in found.clone() {
        site.client.delete::<GatewayDrain>(drain.key()).await.context("Failed to take the drain back")?;
    }
    let listed = site.membership().await?.is_some_and(|m| m.spec.drained_nodes.iter().any(|n| n == node.as_str()));
    if listed {
        let message = format!("Membership {}: spec.drainedNodes: {node} is drained there", labels::MEMBERSHIP);
        return Err(Failure::new(Exit::Conflict, message)
            .remedy(format!("remove {node} from spec.drainedNodes"))
            .into());
    }
    if found.count() == 0 {
        return Err(Failure::new(Exit::NotFound, format!("{node} is not drained")).into());
    }
    Ok(())
}

/// Nodes that are to be gateways, and those that say they are.
async fn gateways(site: &Site) -> anyhow::Result<Vec<NodeName>> {
    let nodes = site.client.list::<Node>().await.context("Failed to list Node")?;
    let labelled =
        nodes.iter().filter(|n| n.metadata.labels.iter().flatten().any(|(k, v)| k == labels::GATEWAY && v == "true"));
    let published = site.client.list::<GatewayNode>().await.context("Failed to list GatewayNode")?;
    let names = labelled.filter_map(|n| n.metadata.name.clone()).chain(published.iter().map(|g| g.spec.node.clone()));
    let mut names: Vec<NodeName> = names.filter_map(|name| NodeName::new(&name).ok()).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

async fn drained(site: &Site) -> anyhow::Result<Vec<NodeName>> {
    let drains = site.client.list::<GatewayDrain>().await.context("Failed to list GatewayDrain")?;
    let membership: Option<Membership> = site.membership().await?;
    let listed = membership.into_iter().flat_map(|m| m.spec.drained_nodes);
    let names = drains.into_iter().map(|d| d.spec.node).chain(listed);
    Ok(names.filter_map(|name| NodeName::new(&name).ok()).collect())
}

fn not_a_gateway(node: &NodeName, gateways: &[NodeName]) -> Failure {
    let names: Vec<&str> = gateways.iter().map(NodeName::as_str).collect();
    let remedy = if names.is_empty() {
        format!("this site has none; label a Node {}=true", labels::GATEWAY)
    } else {
        format!("name one of {}", names.join(", "))
    };
    Failure::new(Exit::NotFound, format!("{node} is no gateway of this site")).remedy(remedy)
}

fn late(node: &NodeName, undo: bool, limit: Duration) -> Failure {
    let (message, remedy) = if undo {
        (format!("{node} still says that it is drained after {limit:?}"), "see that hawser-gateway runs on it")
    } else {
        (
            format!("users' packets still come by {node}, or it does not say so, after {limit:?}"),
            "see that hawser-gateway runs on it, and that another gateway has live paths: hawser status",
        )
    };
    Failure::new(Exit::TimedOut, message).remedy(remedy)
}

fn report(output: Output, node: &NodeName, state: &str, undo: bool) {
    let text = match state {
        "Drained" => format!("{node} is drained: nothing uses it, hawser-gateway may be stopped there"),
        "InUse" => format!("{node} is in use again"),
        _ if undo => format!("{node} will be used again"),
        _ => format!("{node} is being drained"),
    };
    output::data(output, &json!({ "node": node.to_string(), "state": state }), &text);
}
