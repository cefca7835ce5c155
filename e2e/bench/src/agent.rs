//! What an agent would write into a site: membership, roster, other clusters. Here nobody joins: no broker runs.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hawser_api::hawser::{GatewayNode, LaneSpec, RemoteCluster, RemoteClusterSpec, RemoteGateway};
use hawser_api::yaml;
use serde_json::json;

/// The agent's folder, as that of an agent on some other host of the site.
const FOLDER: &str = "generated/agent-elsewhere";

/// Makes the site a member, with these as the roster's members, itself among them.
///
/// # Errors
/// When a file can't be written.
pub fn join(site: &Path, members: &[String]) -> Result<()> {
    let property = json!({
        "apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty",
        "metadata": {"name": "clusterset.k8s.io"}, "spec": {"value": "bench"},
    });
    write(site, "ClusterProperty/clusterset.k8s.io.yaml", &property.to_string())?;
    roster(site, 1, members)?;
    probe_key(site)
}

/// Tells the site the roster of this revision: clusters that are not in it are no peers.
///
/// # Errors
/// When a file can't be written.
pub fn roster(site: &Path, revision: i64, members: &[String]) -> Result<()> {
    let rows: Vec<_> = members.iter().map(|id| json!({"clusterId": id, "generation": 1})).collect();
    let membership = json!({
        "apiVersion": "hawser.dev/v1alpha1", "kind": "Membership", "metadata": {"name": "default"},
        "status": {"rosterRevision": revision, "members": rows},
    });
    write(site, "status/Membership/default.yaml", &membership.to_string())
}

/// Tells the site of other clusters.
///
/// # Errors
/// When a file can't be written.
pub fn learn(site: &Path, others: Vec<RemoteClusterSpec>) -> Result<()> {
    for spec in others {
        let file = format!("RemoteCluster/{}.yaml", spec.cluster_id);
        let object = RemoteCluster::new(&spec.cluster_id.clone(), spec);
        write(site, &file, &serde_json::to_string(&object)?)?;
    }
    Ok(())
}

/// A cluster with one gateway.
#[must_use]
pub fn cluster(id: &str, prefix: &str, lanes: Vec<LaneSpec>, candidate: &str) -> RemoteClusterSpec {
    RemoteClusterSpec {
        cluster_id: id.to_owned(),
        generation: 1,
        roster_revision: 1,
        prefixes: vec![prefix.to_owned()],
        gateways: vec![RemoteGateway {
            node: format!("{id}-gw1"),
            lanes,
            candidates: vec![candidate.to_owned()],
            preferred_prefixes: Vec::new(),
            probes: true,
        }],
    }
}

/// The lanes that a node's gateway published, as other clusters would hear of them.
///
/// # Errors
/// While it has published none.
pub fn lanes(site: &Path, node: &str) -> Result<Vec<LaneSpec>> {
    let path = site.join(format!("generated/gateway-{node}/GatewayNode/{node}.yaml"));
    let text = fs::read_to_string(&path).with_context(|| format!("{} is not there", path.display()))?;
    let document = yaml::documents(&text).next().context("it is empty")?;
    let object: GatewayNode =
        yaml::parse(document).map_err(|e| anyhow::anyhow!("{} can't be read: {e:?}", path.display()))?;
    ensure!(!object.spec.lanes.is_empty(), "{} lists no lanes", path.display());
    Ok(object.spec.lanes)
}

/// JSON is YAML; whole files appear at once.
fn write(site: &Path, file: &str, text: &str) -> Result<()> {
    let path = site.join(FOLDER).join(file);
    let folder = path.parent().context("every file has a folder")?;
    fs::create_dir_all(folder)?;
    let draft = folder.join(".draft");
    fs::write(&draft, text)?;
    fs::rename(draft, &path).with_context(|| format!("Failed to write {}", path.display()))
}

/// The key of probes between nodes, which joining makes.
fn probe_key(site: &Path) -> Result<()> {
    let secrets = site.join("secrets");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&secrets)?;
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(secrets.join("probe.key"))?;
    std::io::Write::write_all(&mut file, format!("{}\n", STANDARD.encode([7; 32])).as_bytes())?;
    Ok(())
}
