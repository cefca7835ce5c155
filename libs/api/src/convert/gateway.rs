//! Gateways: `GatewayNode`, and the gateways inside `RemoteCluster`.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hawser_model::{Candidate, Gateway, Lane, NodeName, PublicKey};

use super::{Invalid, Reader};
use crate::hawser::{GatewayNode, GatewayNodeSpec, LaneSpec, RemoteGateway};

/// More lanes than any gateway runs.
const MAX_LANES: usize = 64;
/// More candidates than are worth trying at once.
const MAX_CANDIDATES: usize = 32;
const MAX_PREFERRED: usize = 1024;

/// Reads a gateway of this cluster.
///
/// # Errors
/// Names the first field that breaks a rule.
pub fn gateway(node: &GatewayNode) -> Result<Gateway, Invalid> {
    let remedy = "the gateway process of that node writes it: restart it, or delete the object";
    let reader = Reader::new("GatewayNode", &node.metadata, remedy);
    let GatewayNodeSpec { node, lanes, candidates, preferred_prefixes } = &node.spec;
    read(&reader, "spec", node, lanes, candidates, preferred_prefixes, true)
}

/// Writes a gateway of this cluster.
#[must_use]
pub fn gateway_spec(gateway: &Gateway) -> GatewayNodeSpec {
    let RemoteGateway { node, lanes, candidates, preferred_prefixes, probes: _ } = to_remote(gateway);
    GatewayNodeSpec { node, lanes, candidates, preferred_prefixes }
}

pub(super) fn from_remote(reader: &Reader, at: &str, gateway: &RemoteGateway) -> Result<Gateway, Invalid> {
    let RemoteGateway { node, lanes, candidates, preferred_prefixes, probes } = gateway;
    read(reader, at, node, lanes, candidates, preferred_prefixes, *probes)
}

pub(super) fn to_remote(gateway: &Gateway) -> RemoteGateway {
    let lane = |lane: &Lane| LaneSpec {
        public_key: STANDARD.encode(lane.public_key.0),
        port: lane.port,
        next_public_key: lane.next_public_key.map(|key| STANDARD.encode(key.0)),
    };
    let candidate = |candidate: &Candidate| match candidate {
        Candidate::Address(address) => address.to_string(),
        Candidate::Name(name) => name.clone(),
    };
    RemoteGateway {
        node: gateway.node.to_string(),
        lanes: gateway.lanes.iter().map(lane).collect(),
        candidates: gateway.candidates.iter().map(candidate).collect(),
        preferred_prefixes: gateway.preferred.iter().map(ToString::to_string).collect(),
        probes: gateway.probes,
    }
}

fn read(
    reader: &Reader,
    at: &str,
    node: &str,
    lanes: &[LaneSpec],
    candidates: &[String],
    preferred: &[String],
    probes: bool,
) -> Result<Gateway, Invalid> {
    let node = NodeName::new(node).map_err(|error| reader.invalid(format!("{at}.node"), error))?;
    if lanes.is_empty() {
        return Err(reader.invalid(format!("{at}.lanes"), "a gateway has at least one lane"));
    }
    let bounds = [
        ("lanes", lanes.len(), MAX_LANES),
        ("candidates", candidates.len(), MAX_CANDIDATES),
        ("preferredPrefixes", preferred.len(), MAX_PREFERRED),
    ];
    for (field, len, max) in bounds {
        if len > max {
            return Err(reader.invalid(format!("{at}.{field}"), format!("there may be {max} of them, not {len}")));
        }
    }
    let lanes = lanes.iter().enumerate().map(|(i, lane)| read_lane(reader, &format!("{at}.lanes[{i}]"), lane));
    let candidates = candidates.iter().enumerate().map(|(i, host)| {
        let rule = || format!("{host:?} is neither an IP address nor a DNS name");
        candidate(host).ok_or_else(|| reader.invalid(format!("{at}.candidates[{i}]"), rule()))
    });
    let preferred = preferred.iter().enumerate().map(|(i, cidr)| {
        let field = format!("{at}.preferredPrefixes[{i}]");
        hawser_model::prefix::parse_prefix(&field, cidr).map_err(|error| reader.prefix(error))
    });
    Ok(Gateway {
        node,
        lanes: lanes.collect::<Result<_, _>>()?,
        candidates: candidates.collect::<Result<_, _>>()?,
        preferred: preferred.collect::<Result<_, _>>()?,
        probes,
    })
}

fn read_lane(reader: &Reader, at: &str, lane: &LaneSpec) -> Result<Lane, Invalid> {
    let key = |field: &str, text: &str| {
        public_key(text).ok_or_else(|| reader.invalid(format!("{at}.{field}"), "it must be 32 bytes in base64"))
    };
    if lane.port == 0 {
        return Err(reader.invalid(format!("{at}.port"), "it must be from 1 to 65535"));
    }
    Ok(Lane {
        public_key: key("publicKey", &lane.public_key)?,
        port: lane.port,
        next_public_key: lane.next_public_key.as_deref().map(|text| key("nextPublicKey", text)).transpose()?,
    })
}

fn public_key(text: &str) -> Option<PublicKey> {
    STANDARD.decode(text).ok()?.try_into().ok().map(PublicKey)
}

/// Reads an address or a DNS name.
pub(super) fn candidate(host: &str) -> Option<Candidate> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(Candidate::Address(address));
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    // A name of digits and dots only is an address with a mistake.
    let address_like = name.split('.').all(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    let valid = name.len() <= 253 && name.split('.').all(hawser_model::id::is_dns_label);
    (valid && !address_like).then_some(Candidate::Name(name))
}
