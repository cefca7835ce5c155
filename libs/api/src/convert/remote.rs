//! Other clusters: `RemoteCluster`.

use hawser_model::{ClusterId, PrefixSet, RemoteCluster as Model};

use super::gateway::{from_remote, to_remote};
use super::{Invalid, Reader};
use crate::hawser::{RemoteCluster, RemoteClusterSpec};

/// Reads another cluster. A gateway of it that breaks a rule is left out and named; the others are used.
///
/// # Errors
/// Names the first field that breaks a rule and leaves nothing to use.
pub fn remote_cluster(remote: &RemoteCluster) -> Result<(Model, Vec<Invalid>), Invalid> {
    let reader =
        Reader::new("RemoteCluster", &remote.metadata, "the agent writes it: restart it, or delete the object");
    let spec = &remote.spec;
    let id = ClusterId::new(&spec.cluster_id).map_err(|error| reader.invalid("spec.clusterId", error))?;
    if remote.metadata.name.as_deref() != Some(id.as_str()) {
        return Err(reader.invalid("metadata.name", format!("it must be the cluster's id, {id}")));
    }
    let generation =
        u64::try_from(spec.generation).map_err(|_| reader.invalid("spec.generation", "it must not be negative"))?;
    let prefixes = PrefixSet::parse("spec.prefixes", &spec.prefixes).map_err(|error| reader.prefix(error))?;
    let mut skipped = Vec::new();
    let mut gateways = Vec::new();
    for (i, gateway) in spec.gateways.iter().enumerate() {
        match from_remote(&reader, &format!("spec.gateways[{i}]"), gateway) {
            Ok(gateway) if gateways.iter().any(|other: &hawser_model::Gateway| other.node == gateway.node) => {
                skipped.push(reader.invalid(format!("spec.gateways[{i}].node"), "each gateway has a node of its own"));
            }
            Ok(gateway) => gateways.push(gateway),
            Err(error) => skipped.push(error),
        }
    }
    gateways.sort_by(|a, b| a.node.cmp(&b.node));
    Ok((Model { id, generation, prefixes, gateways }, skipped))
}

/// Writes another cluster as this one sees it since `roster_revision`.
#[must_use]
pub fn remote_cluster_spec(remote: &Model, roster_revision: u64) -> RemoteClusterSpec {
    RemoteClusterSpec {
        cluster_id: remote.id.to_string(),
        generation: i64::try_from(remote.generation).unwrap_or(i64::MAX),
        roster_revision: i64::try_from(roster_revision).unwrap_or(i64::MAX),
        prefixes: remote.prefixes.iter().map(ToString::to_string).collect(),
        gateways: remote.gateways.iter().map(to_remote).collect(),
    }
}
