//! `hawser revoke`: the cluster is out at once; then every gateway of the others says that it dropped it.

use anyhow::Context;
use hawser_proto::v1::{ClusterAck, RevocationProgress, RevokeClusterRequest};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use crate::args::RevokeArgs;
use crate::exit::{Exit, Failure};
use crate::output::{self, Output, table};
use crate::progress::Progress;

/// `hawser revoke`.
///
/// # Errors
/// What the broker refuses, and being unable to reach it.
pub async fn run(output: Output, args: RevokeArgs) -> anyhow::Result<Exit> {
    let RevokeArgs { cluster, admin, timeout } = args;
    let (_, mut client) = super::token::connect(&admin).await?;
    let request = RevokeClusterRequest { cluster_id: cluster.to_string() };
    let mut stream = client.revoke_cluster(request).await.context("Failed to revoke the cluster")?.into_inner();
    let deadline = Instant::now() + timeout;
    let mut progress = Progress::new();
    progress.say(format!("revoking {cluster}"));
    let mut latest = RevocationProgress::default();
    let mut broken = None;
    while !latest.complete {
        match timeout_at(deadline, stream.message()).await {
            Ok(Ok(Some(message))) => {
                latest = message;
                let (dropped, all) = count(&latest);
                progress.say(format!("{dropped} of {all} gateways dropped {cluster}"));
            }
            Ok(Ok(None)) | Err(_) => break,
            Ok(Err(status)) if latest.roster_revision == 0 => {
                return Err(status).context("Failed to revoke the cluster");
            }
            Ok(Err(status)) => {
                broken = Some(status);
                break;
            }
        }
    }
    drop(progress);
    let document = json!({
        "cluster": cluster, "rosterRevision": latest.roster_revision, "complete": latest.complete,
        "clusters": latest.clusters.iter().map(|c| cluster_document(c, latest.roster_revision)).collect::<Vec<_>>(),
    });
    output::data(output, &document, &screen(&latest));
    if latest.complete {
        return Ok(Exit::Ok);
    }
    let why = broken.map_or_else(|| format!("within {timeout:?}"), |status| format!("before {}", status.message()));
    let message = format!("{cluster} is revoked, but not every gateway said {why} that it dropped it");
    Err(Failure::new(Exit::Degraded, message)
        .remedy(
            "a cluster that is cut off drops it when it reaches the broker again; ask once more with the same command",
        )
        .into())
}

fn count(progress: &RevocationProgress) -> (usize, usize) {
    let gateways = || progress.clusters.iter().flat_map(|c| &c.gateways);
    (gateways().filter(|g| g.revision >= progress.roster_revision).count(), gateways().count())
}

fn cluster_document(cluster: &ClusterAck, revision: u64) -> serde_json::Value {
    let gateways = cluster.gateways.iter();
    json!({
        "cluster": cluster.cluster_id, "connected": cluster.connected,
        "gateways": gateways
            .map(|g| json!({ "node": g.node, "revision": g.revision, "dropped": g.revision >= revision }))
            .collect::<Vec<_>>(),
    })
}

/// A row per gateway; a cluster that is not connected has one too.
fn screen(progress: &RevocationProgress) -> String {
    let mut rows = Vec::new();
    for cluster in &progress.clusters {
        let connected = if cluster.connected { "" } else { "not connected" };
        if cluster.gateways.is_empty() {
            let state = if cluster.connected { "no gateway" } else { connected };
            rows.push(vec![cluster.cluster_id.clone(), "–".into(), "–".into(), state.into()]);
        }
        for gateway in &cluster.gateways {
            let dropped = gateway.revision >= progress.roster_revision;
            let state = match (dropped, cluster.connected) {
                (true, _) => "dropped",
                (false, true) => "waiting",
                (false, false) => connected,
            };
            let revision = gateway.revision.to_string();
            rows.push(vec![cluster.cluster_id.clone(), gateway.node.clone(), revision, state.into()]);
        }
    }
    table(&["CLUSTER", "GATEWAY", "ROSTER", "STATE"], rows)
}

#[cfg(test)]
mod tests {
    use hawser_proto::v1::GatewayAck;

    use super::*;

    #[test]
    fn every_gateway_has_its_row() {
        let ack = |node: &str, revision| GatewayAck { node: node.into(), revision };
        let clusters = vec![
            ClusterAck { cluster_id: "east".into(), connected: true, gateways: vec![ack("gw-1", 9), ack("gw-2", 8)] },
            ClusterAck { cluster_id: "north".into(), connected: false, gateways: vec![ack("gw-1", 8)] },
            ClusterAck { cluster_id: "south".into(), connected: false, gateways: vec![] },
        ];
        let progress = RevocationProgress { roster_revision: 9, clusters, complete: false };
        assert_eq!(count(&progress), (1, 3));
        insta::assert_snapshot!(screen(&progress), @r"
        CLUSTER  GATEWAY  ROSTER  STATE
        east     gw-1     9       dropped
        east     gw-2     8       waiting
        north    gw-1     8       not connected
        south    –        –       not connected
        ");
    }
}
