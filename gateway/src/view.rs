//! The local API as this process sees it: all its inputs in one value, which is also what is kept on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hawser_api::core::Node;
use hawser_api::hawser::{GatewayDrain, GatewayNode, KeyRotation, Membership, RemoteCluster, RemoteClusterSpec};
use hawser_api::labels;
use hawser_api::mcs::ClusterProperty;
use hawser_local_api::Key;
use serde::{Deserialize, Serialize, Serializer};

use crate::memory::Roster;
use crate::rotation::Wishes;

/// A node of this cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    pub(crate) pod_cidrs: Vec<String>,
    /// Names or addresses it may be reached at, the preferred ones first.
    pub(crate) candidates: Vec<String>,
}

/// Everything that decides what the tunnel does, but for the roster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Inputs {
    pub(crate) cluster_id: String,
    pub(crate) prefixes: Vec<String>,
    pub(crate) drained_nodes: Vec<String>,
    pub(crate) nodes: Vec<NodeFacts>,
    pub(crate) remotes: Vec<Remote>,
}

/// Another cluster: the local API's own object, which is not copied. On disk it is its spec.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "RemoteClusterSpec")]
pub(crate) struct Remote(pub(crate) Arc<RemoteCluster>);

impl Remote {
    pub(crate) fn spec(&self) -> &RemoteClusterSpec {
        &self.0.spec
    }
}

impl From<RemoteClusterSpec> for Remote {
    fn from(spec: RemoteClusterSpec) -> Self {
        Self(Arc::new(RemoteCluster::new(&spec.cluster_id.clone(), spec)))
    }
}

impl Serialize for Remote {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.spec().serialize(serializer)
    }
}

impl PartialEq for Remote {
    fn eq(&self, other: &Self) -> bool {
        let (one, two) = (&self.0, &other.0);
        Arc::ptr_eq(one, two) || one.spec == two.spec && one.metadata.name == two.metadata.name
    }
}

/// What a full look at the local API found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    /// Some kind's first list is not in yet.
    Incomplete,
    /// This cluster is no member of a cluster set.
    NotMember,
    /// It is one.
    Member {
        /// What is to be applied.
        inputs: Box<Inputs>,
        /// The roster that the agent noted, if it did.
        roster: Option<Roster>,
    },
}

type Objects<K> = Option<Arc<BTreeMap<Key, Arc<K>>>>;

/// Puts the views of all kinds together.
pub(crate) fn look(
    properties: &Objects<ClusterProperty>,
    memberships: &Objects<Membership>,
    nodes: &Objects<Node>,
    remotes: &Objects<RemoteCluster>,
    drains: &Objects<GatewayDrain>,
) -> Seen {
    let (Some(properties), Some(memberships), Some(nodes), Some(remotes), Some(drains)) =
        (properties, memberships, nodes, remotes, drains)
    else {
        return Seen::Incomplete;
    };
    let membership = memberships.get(&Key::cluster(labels::MEMBERSHIP));
    let (true, Some(membership)) = (properties.contains_key(&Key::cluster(labels::PROPERTY_CLUSTER_SET)), membership)
    else {
        return Seen::NotMember;
    };
    let roster = membership
        .status
        .as_ref()
        .filter(|s| s.roster_revision > 0)
        .map(|s| Roster { revision: s.roster_revision, members: s.members.clone() });
    let inputs = Inputs {
        cluster_id: membership.spec.cluster_id.clone(),
        prefixes: membership.spec.prefixes.clone(),
        drained_nodes: drained(membership, drains),
        nodes: nodes.values().map(|node| facts(node)).collect(),
        remotes: remotes.values().map(|r| Remote(Arc::clone(r))).collect(),
    };
    Seen::Member { inputs: Box::new(inputs), roster }
}

/// What is wished for the keys of the gateway on `node`: nothing, until all kinds are known.
pub(crate) fn wishes(
    node: &str,
    memberships: &Objects<Membership>,
    rotations: &Objects<KeyRotation>,
    gateways: &Objects<GatewayNode>,
) -> Option<Wishes> {
    let (memberships, rotations, gateways) = (memberships.as_ref()?, rotations.as_ref()?, gateways.as_ref()?);
    let membership = memberships.get(&Key::cluster(labels::MEMBERSHIP))?;
    let asked = rotations.values().filter(|r| r.spec.node == node).map(|r| r.spec.requested_at.0.as_second());
    let after = membership.spec.rotate_keys_after.as_deref().and_then(|text| text.parse::<jiff::SignedDuration>().ok());
    let at_it = gateways.values().filter(|g| g.spec.node != node).filter_map(|g| g.status.as_ref()?.keys.as_ref());
    let mut conditions = membership.status.iter().flat_map(|s| &s.conditions);
    Some(Wishes {
        requested: asked.max(),
        after: after.and_then(|after| Duration::try_from(after).ok()).filter(|after| !after.is_zero()),
        others: at_it.filter_map(|keys| Some(SystemTime::from(keys.rotation.as_ref()?.since.0))).collect(),
        place: u32::try_from(gateways.values().filter(|g| g.spec.node.as_str() < node).count()).unwrap_or(u32::MAX),
        broker: conditions.any(|c| c.type_ == "BrokerReachable" && c.status == "True"),
    })
}

/// What the membership says and what is asked for one by one.
fn drained(membership: &Membership, drains: &BTreeMap<Key, Arc<GatewayDrain>>) -> Vec<String> {
    let asked = drains.values().map(|d| d.spec.node.clone());
    let all: BTreeSet<String> = membership.spec.drained_nodes.iter().cloned().chain(asked).collect();
    all.into_iter().collect()
}

fn facts(node: &Node) -> NodeFacts {
    let spec = node.spec.as_ref();
    let pod_cidrs =
        spec.map(|s| s.pod_cidrs.clone().or_else(|| s.pod_cidr.clone().map(|c| vec![c]))).unwrap_or_default();
    let annotation = node.metadata.annotations.as_ref().and_then(|a| a.get(labels::GATEWAY_CANDIDATES));
    let listed = annotation.into_iter().flat_map(|list| list.split(',')).map(str::trim).filter(|c| !c.is_empty());
    let mut candidates: Vec<String> = listed.map(str::to_owned).collect();
    let addresses = node.status.as_ref().and_then(|s| s.addresses.as_deref()).unwrap_or_default();
    for kind in ["ExternalIP", "InternalIP"] {
        for address in addresses.iter().filter(|a| a.type_ == kind) {
            if !candidates.contains(&address.address) {
                candidates.push(address.address.clone());
            }
        }
    }
    NodeFacts {
        name: node.metadata.name.clone().unwrap_or_default(),
        pod_cidrs: pod_cidrs.unwrap_or_default(),
        candidates,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn objects<K: hawser_local_api::Resource>(values: &[Value]) -> Objects<K> {
        let parsed = values.iter().map(|v| serde_json::from_value::<K>(v.clone()).unwrap());
        Some(Arc::new(parsed.map(|o| (o.key(), Arc::new(o))).collect()))
    }

    fn property() -> Objects<ClusterProperty> {
        objects(&[json!({"apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty",
            "metadata": {"name": "clusterset.k8s.io"}, "spec": {"value": "set"}})])
    }

    fn membership(status: &Value) -> Objects<Membership> {
        objects(&[json!({"apiVersion": "hawser.dev/v1alpha1", "kind": "Membership", "metadata": {"name": "default"},
            "spec": {"clusterId": "west", "prefixes": ["10.1.0.0/16"], "drainedNodes": ["w2"]}, "status": status})])
    }

    fn drains(nodes: &[&str]) -> Objects<GatewayDrain> {
        let drain = |node: &&str| {
            json!({"apiVersion": "hawser.dev/v1alpha1", "kind": "GatewayDrain", "metadata": {"name": node},
                "spec": {"node": node}})
        };
        objects(&nodes.iter().map(drain).collect::<Vec<_>>())
    }

    #[test]
    fn a_member_is_one_with_the_property() {
        let (nodes, remotes) = (objects::<Node>(&[]), objects::<RemoteCluster>(&[]));
        let drains = drains(&["w3", "w2"]);
        let joined = membership(&json!({"rosterRevision": 3, "members": [{"clusterId": "east", "generation": 1}]}));
        let Seen::Member { inputs, roster } = look(&property(), &joined, &nodes, &remotes, &drains) else { panic!() };
        assert_eq!((inputs.cluster_id.as_str(), roster.unwrap().revision), ("west", 3));
        assert_eq!(inputs.drained_nodes, ["w2", "w3"], "the membership's and those asked for one by one");
        assert_eq!(look(&objects(&[]), &joined, &nodes, &remotes, &drains), Seen::NotMember);
        assert_eq!(look(&None, &joined, &nodes, &remotes, &drains), Seen::Incomplete);
        let Seen::Member { roster, .. } = look(&property(), &membership(&json!({})), &nodes, &remotes, &drains) else {
            panic!()
        };
        assert_eq!(roster, None, "no revision is no roster, not an empty one");
    }

    #[test]
    fn wishes_for_keys_are_ones_own() {
        let rotation = |node: &str, at: &str| {
            json!({"apiVersion": "hawser.dev/v1alpha1", "kind": "KeyRotation", "metadata": {"name": format!("{node}-{at}")},
                "spec": {"node": node, "requestedAt": at}})
        };
        let gateway = |node: &str| {
            json!({"apiVersion": "hawser.dev/v1alpha1", "kind": "GatewayNode", "metadata": {"name": node},
                "spec": {"node": node, "lanes": [], "candidates": []},
                "status": {"keys": {"created": "1970-01-01T00:00:00Z",
                    "rotation": {"since": "1970-01-01T01:00:00Z", "movedPaths": 0, "totalPaths": 1}}}})
        };
        let condition = json!({"type": "BrokerReachable", "status": "True", "reason": "Connected", "message": "",
            "lastTransitionTime": "1970-01-01T00:00:00Z"});
        let joined = objects::<Membership>(&[json!({"apiVersion": "hawser.dev/v1alpha1", "kind": "Membership",
            "metadata": {"name": "default"}, "spec": {"clusterId": "west", "rotateKeysAfter": "720h"},
            "status": {"conditions": [condition]}})]);
        let asked = [("w1", "1970-01-01T00:00:05Z"), ("w1", "1970-01-01T00:00:09.5Z"), ("w2", "1970-01-01T00:01:00Z")];
        let rotations = objects(&asked.map(|(node, at)| rotation(node, at)));
        let gateways = objects(&[gateway("w1"), gateway("w2")]);
        assert_eq!(wishes("w1", &joined, &None, &gateways), None);
        let wishes = wishes("w1", &joined, &rotations, &gateways).unwrap();
        let hour = Duration::from_secs(3600);
        assert_eq!((wishes.requested, wishes.after, wishes.broker), (Some(9), Some(720 * hour), true));
        assert_eq!(wishes.others, [SystemTime::UNIX_EPOCH + hour], "its own turn keeps nobody waiting but others");
        let place = |node| super::wishes(node, &joined, &rotations, &gateways).unwrap().place;
        assert_eq!((place("w1"), place("w2"), place("w3")), (0, 1, 2));
    }

    #[test]
    fn candidates_are_the_annotation_then_external_then_internal_addresses() {
        let node: Node = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "w1", "annotations": {"hawser.dev/gateway-candidates": "gw.example.org, 192.0.2.9"}},
            "spec": {"podCIDR": "10.1.1.0/24", "podCIDRs": ["10.1.1.0/24", "fd01::/64"]},
            "status": {"addresses": [
                {"type": "InternalIP", "address": "172.16.0.1"}, {"type": "Hostname", "address": "w1"},
                {"type": "ExternalIP", "address": "192.0.2.9"}, {"type": "ExternalIP", "address": "2001:db8::1"}]}
        }))
        .unwrap();
        let facts = facts(&node);
        assert_eq!(facts.candidates, ["gw.example.org", "192.0.2.9", "2001:db8::1", "172.16.0.1"]);
        assert_eq!(facts.pod_cidrs, ["10.1.1.0/24", "fd01::/64"]);
    }
}
