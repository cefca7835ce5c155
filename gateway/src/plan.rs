//! From inputs to what the tunnel and the local API get. Pure. Bad input is left out and named, the rest goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hawser_api::convert::{Invalid, remote_cluster};
use hawser_api::hawser::{GatewayNodeSpec, LaneSpec, RemoteClusterSpec, RosterMember};
use hawser_model::{Candidate, ClusterId, IpFamily, NodeName, PrefixSet, RemoteCluster};
use hawser_tunnel::{LaneInfo, PeerCluster, PeerGateway, Peers};
use ipnet::IpNet;

use crate::memory::Roster;
use crate::view::Inputs;

/// Something in the inputs that was left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// e.g. `RemoteCluster east`.
    pub(crate) object: String,
    pub(crate) field: String,
    pub(crate) rule: String,
    pub(crate) remedy: String,
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let Invalid { object, field, rule, remedy } = invalid;
        Self { object, field, rule, remedy }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}; {}", self.object, self.field, self.rule, self.remedy)
    }
}

/// What follows from the inputs.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) peers: Arc<Peers>,
    /// Without lanes: the tunnel has them.
    pub(crate) spec: GatewayNodeSpec,
    pub(crate) draining: bool,
    pub(crate) nodes: Vec<NodeName>,
    /// Names among the candidates.
    pub(crate) names: BTreeSet<String>,
    pub(crate) problems: BTreeSet<Problem>,
}

struct Problems(BTreeSet<Problem>);

impl Problems {
    fn add(&mut self, object: &str, field: impl Into<String>, rule: &str, remedy: &str) {
        let (object, field) = (object.to_owned(), field.into());
        self.0.insert(Problem { object, field, rule: rule.to_owned(), remedy: remedy.to_owned() });
    }

    /// Keeps what parses.
    fn cidrs(&mut self, object: &str, field: &str, items: &[String]) -> Vec<IpNet> {
        let mut kept = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item.parse::<IpNet>() {
                Ok(net) => kept.push(net.trunc()),
                Err(_) => {
                    let field = format!("{field}[{index}] {item:?}");
                    self.add(object, field, "it must be a CIDR such as 10.1.0.0/16 or fd01::/48", "correct it");
                }
            }
        }
        kept
    }
}

/// Works out what `node` does in its cluster; `None` when the membership itself makes no sense.
pub(crate) fn plan(
    inputs: &Inputs,
    roster: &Roster,
    node: &NodeName,
    answers: &BTreeMap<String, Vec<IpAddr>>,
) -> Result<Plan, Problem> {
    let mut problems = Problems(BTreeSet::new());
    let cluster = ClusterId::new(&inputs.cluster_id).map_err(|e| Problem {
        object: "Membership default".to_owned(),
        field: "spec.clusterId".to_owned(),
        rule: e.to_string(),
        remedy: "correct the membership".to_owned(),
    })?;
    let prefixes = PrefixSet::new(problems.cidrs("Membership default", "spec.prefixes", &inputs.prefixes));
    let me = inputs.nodes.iter().find(|n| n.name == node.as_str());
    let object = format!("Node {node}");
    if me.is_none() {
        problems.add(
            &object,
            "metadata.name",
            "this host has no Node object",
            "write one with its addresses and podCIDRs",
        );
    }
    let pod_cidrs = me.map_or_else(Vec::new, |n| problems.cidrs(&object, "spec.podCIDRs", &n.pod_cidrs));
    let mut names = BTreeSet::new();
    let mut clusters: Vec<PeerCluster> = Vec::new();
    for remote in &inputs.remotes {
        if !is_member(remote.spec(), roster) || remote.spec().cluster_id == inputs.cluster_id {
            continue;
        }
        match remote_cluster(&remote.0) {
            Ok((remote, skipped)) => {
                problems.0.extend(skipped.into_iter().map(Problem::from));
                clusters.push(peer_cluster(remote, answers, &mut names));
            }
            Err(invalid) => {
                problems.0.insert(invalid.into());
            }
        }
    }
    let addresses = [IpFamily::V4, IpFamily::V6].into_iter().filter_map(|f| first_address(&pod_cidrs, f)).collect();
    let preferred = pod_cidrs.iter().filter(|c| prefixes.contains_net(c)).map(IpNet::to_string).collect();
    let spec = GatewayNodeSpec {
        node: node.to_string(),
        lanes: Vec::new(),
        candidates: me.map_or_else(Vec::new, |n| n.candidates.clone()),
        preferred_prefixes: preferred,
    };
    Ok(Plan {
        peers: Arc::new(Peers { cluster, prefixes, addresses, clusters }),
        spec,
        draining: inputs.drained_nodes.iter().any(|n| n == node.as_str()),
        nodes: inputs.nodes.iter().filter_map(|n| NodeName::new(&n.name).ok()).collect(),
        names,
        problems: problems.0,
    })
}

fn is_member(remote: &RemoteClusterSpec, roster: &Roster) -> bool {
    let found = RosterMember { cluster_id: remote.cluster_id.clone(), generation: remote.generation };
    roster.members.contains(&found)
}

/// The first address of the first CIDR of a family is the node's own.
fn first_address(cidrs: &[IpNet], family: IpFamily) -> Option<IpAddr> {
    cidrs.iter().find(|c| IpFamily::of_net(c) == family).and_then(hawser_model::prefix::host_address)
}

pub(crate) fn lane_spec(lane: &LaneInfo) -> LaneSpec {
    let next_public_key = lane.next.map(|(key, _)| STANDARD.encode(key.0));
    LaneSpec { public_key: STANDARD.encode(lane.key.0), port: lane.port, next_public_key }
}

/// A cluster's gateways with the addresses that their candidates stand for; names are added to `names`.
fn peer_cluster(
    remote: RemoteCluster,
    answers: &BTreeMap<String, Vec<IpAddr>>,
    names: &mut BTreeSet<String>,
) -> PeerCluster {
    let mut gateways = Vec::with_capacity(remote.gateways.len());
    for gateway in remote.gateways {
        let mut addresses = BTreeSet::new();
        for candidate in &gateway.candidates {
            match candidate {
                Candidate::Address(address) => {
                    addresses.insert(*address);
                }
                Candidate::Name(name) => {
                    addresses.extend(answers.get(name).into_iter().flatten());
                    names.insert(name.clone());
                }
            }
        }
        gateways.push(PeerGateway { gateway, addresses: addresses.into_iter().collect() });
    }
    PeerCluster { id: remote.id, generation: remote.generation, prefixes: remote.prefixes, gateways }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{NodeFacts, Remote};
    use hawser_api::hawser::RemoteGateway;

    fn gateway(node: &str, candidates: &[&str]) -> RemoteGateway {
        RemoteGateway {
            node: node.to_owned(),
            lanes: vec![LaneSpec { public_key: STANDARD.encode([9; 32]), port: 51820, next_public_key: None }],
            candidates: candidates.iter().map(|&c| c.to_owned()).collect(),
            preferred_prefixes: Vec::new(),
            probes: true,
        }
    }

    fn remote(id: &str, generation: i64, gateways: Vec<RemoteGateway>) -> RemoteClusterSpec {
        RemoteClusterSpec {
            cluster_id: id.to_owned(),
            generation,
            roster_revision: 1,
            prefixes: vec!["10.2.0.0/16".to_owned()],
            gateways,
        }
    }

    fn inputs(remotes: Vec<RemoteClusterSpec>) -> Inputs {
        Inputs {
            cluster_id: "west".to_owned(),
            prefixes: vec!["10.1.0.0/16".to_owned(), "fd01::/48".to_owned()],
            drained_nodes: vec!["w1".to_owned()],
            nodes: vec![NodeFacts {
                name: "w1".to_owned(),
                pod_cidrs: vec!["10.1.1.0/24".to_owned(), "fd01:0:0:1::/64".to_owned()],
                candidates: vec!["192.0.2.1".to_owned()],
            }],
            remotes: remotes.into_iter().map(Remote::from).collect(),
        }
    }

    fn run(inputs: &Inputs, roster: &Roster) -> Plan {
        let answers = BTreeMap::from([("gw.example.org".to_owned(), vec!["192.0.2.7".parse().unwrap()])]);
        plan(inputs, roster, &NodeName::new("w1").unwrap(), &answers).unwrap()
    }

    fn roster(members: &[(&str, i64)]) -> Roster {
        let member = |&(id, generation): &(&str, i64)| RosterMember { cluster_id: id.to_owned(), generation };
        Roster { revision: 1, members: members.iter().map(member).collect() }
    }

    #[test]
    fn only_members_of_the_roster_become_peers() {
        let remotes = vec![remote("east", 1, vec![]), remote("north", 2, vec![]), remote("west", 1, vec![])];
        let members = roster(&[("east", 1), ("north", 3), ("west", 1)]);
        let plan = run(&inputs(remotes), &members);
        let ids: Vec<_> = plan.peers.clusters.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids, ["east"], "north's is an earlier membership, west is this cluster");
    }

    #[test]
    fn a_bad_gateway_costs_only_itself() {
        let mut bad = gateway("e2", &[]);
        bad.lanes[0].public_key = "short".to_owned();
        let twice = gateway("e1", &[]);
        let good = gateway("e1", &["192.0.2.2", "gw.example.org", "192.0.2.7"]);
        let plan = run(&inputs(vec![remote("east", 1, vec![good, bad, twice])]), &roster(&[("east", 1)]));
        let east = &plan.peers.clusters[0];
        assert_eq!(east.gateways.len(), 1);
        let expected: Vec<IpAddr> = vec!["192.0.2.2".parse().unwrap(), "192.0.2.7".parse().unwrap()];
        assert_eq!(east.gateways[0].addresses, expected);
        assert_eq!(plan.names, BTreeSet::from(["gw.example.org".to_owned()]));
        let fields: Vec<&str> = plan.problems.iter().map(|p| p.field.as_str()).collect();
        assert_eq!(fields, ["spec.gateways[1].lanes[0].publicKey", "spec.gateways[2].node"], "{:#?}", plan.problems);
    }

    #[test]
    fn the_nodes_own_part() {
        let plan = run(&inputs(vec![]), &roster(&[]));
        let expected: Vec<IpAddr> = vec!["10.1.1.1".parse().unwrap(), "fd01:0:0:1::1".parse().unwrap()];
        assert_eq!(plan.peers.addresses, expected);
        assert!(plan.draining);
        assert_eq!(plan.spec.preferred_prefixes, ["10.1.1.0/24", "fd01:0:0:1::/64"]);
        assert_eq!(plan.spec.candidates, ["192.0.2.1"]);
        let mut elsewhere = inputs(vec![]);
        elsewhere.nodes.clear();
        let plan = run(&elsewhere, &roster(&[]));
        assert_eq!(plan.problems.len(), 1);
        assert!(plan.peers.addresses.is_empty());
    }

    #[test]
    fn a_membership_without_a_valid_id_is_no_membership() {
        let mut inputs = inputs(vec![]);
        inputs.cluster_id = "West!".to_owned();
        let problem = plan(&inputs, &roster(&[]), &NodeName::new("w1").unwrap(), &BTreeMap::new()).unwrap_err();
        assert_eq!(problem.field, "spec.clusterId");
    }
}
