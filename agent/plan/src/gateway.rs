//! Gateways: this cluster's `GatewayNode`s up, other clusters' gateways down into `RemoteCluster`s.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hawser_api::hawser::{GatewayNode, LaneSpec, RemoteGateway};
use hawser_model::{Candidate, Gateway, Lane, NodeName, PrefixSet, PublicKey};
use ipnet::IpNet;

/// What a gateway record may hold; more is a mistake.
const MAX_LANES: usize = 64;

/// A `GatewayNode` that can't be published as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "GatewayNode {node}: {field}: {rule}; the gateway process on that node writes it, restart it or remove the object"
)]
pub struct InvalidGateway {
    /// The object's name.
    pub node: String,
    /// The field at fault.
    pub field: String,
    /// The rule it breaks.
    pub rule: String,
}

/// A gateway as other clusters should see it. Preferred prefixes outside the cluster's own are left out.
///
/// # Errors
/// Names the object, the field and the rule.
pub fn from_node(node: &GatewayNode, prefixes: &PrefixSet) -> Result<Gateway, InvalidGateway> {
    let error = |field: String, rule: String| InvalidGateway {
        node: node.metadata.name.clone().unwrap_or_default(),
        field,
        rule,
    };
    let spec = &node.spec;
    let name = NodeName::new(&spec.node).map_err(|e| error("spec.node".to_owned(), e.to_string()))?;
    if spec.lanes.is_empty() || spec.lanes.len() > MAX_LANES {
        return Err(error("spec.lanes".to_owned(), format!("there must be 1 to {MAX_LANES}")));
    }
    let lanes = spec
        .lanes
        .iter()
        .enumerate()
        .map(|(i, lane)| lane_from(lane).map_err(|(field, rule)| error(format!("spec.lanes[{i}].{field}"), rule)))
        .collect::<Result<_, _>>()?;
    let candidates = spec
        .candidates
        .iter()
        .map(|c| c.parse().map_or_else(|_| Candidate::Name(c.clone()), Candidate::Address))
        .collect();
    let preferred = spec
        .preferred_prefixes
        .iter()
        .enumerate()
        .map(|(i, p)| {
            p.parse::<IpNet>().map_err(|e| error(format!("spec.preferredPrefixes[{i}]"), format!("{p:?}: {e}")))
        })
        .filter(|p| p.as_ref().map_or(true, |p| prefixes.contains_net(p)))
        .collect::<Result<_, _>>()?;
    Ok(Gateway { node: name, lanes, candidates, preferred, probes: true })
}

/// Another cluster's gateway as the local API shows it.
pub(crate) fn to_remote(gateway: &Gateway) -> RemoteGateway {
    RemoteGateway {
        node: gateway.node.to_string(),
        lanes: gateway.lanes.iter().map(lane_to).collect(),
        candidates: gateway
            .candidates
            .iter()
            .map(|c| match c {
                Candidate::Address(a) => a.to_string(),
                Candidate::Name(n) => n.clone(),
            })
            .collect(),
        preferred_prefixes: gateway.preferred.iter().map(ToString::to_string).collect(),
        probes: gateway.probes,
    }
}

fn lane_from(lane: &LaneSpec) -> Result<Lane, (&'static str, String)> {
    if lane.port == 0 {
        return Err(("port", "it must be from 1 to 65535".to_owned()));
    }
    let next =
        lane.next_public_key.as_deref().map(|k| key_from(k).map_err(|rule| ("nextPublicKey", rule))).transpose()?;
    let public_key = key_from(&lane.public_key).map_err(|rule| ("publicKey", rule))?;
    Ok(Lane { public_key, port: lane.port, next_public_key: next })
}

fn lane_to(lane: &Lane) -> LaneSpec {
    LaneSpec {
        public_key: STANDARD.encode(lane.public_key.0),
        port: lane.port,
        next_public_key: lane.next_public_key.map(|k| STANDARD.encode(k.0)),
    }
}

fn key_from(text: &str) -> Result<PublicKey, String> {
    let bytes = STANDARD.decode(text).map_err(|e| format!("it must be base64: {e}"))?;
    let bytes = <[u8; 32]>::try_from(bytes).map_err(|b| format!("it must be 32 bytes, not {}", b.len()))?;
    Ok(PublicKey(bytes))
}
