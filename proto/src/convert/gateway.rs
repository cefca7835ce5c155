//! Gateways.

use std::net::IpAddr;

use hawser_model::id::is_dns_label;
use hawser_model::{Candidate, Gateway, Lane, NodeName, PublicKey};

use super::{Context, ConvertError, nets};
use crate::v1;

/// A gateway has at most this many lanes, the design's 8 with room to grow.
const MAX_LANES: usize = 64;
/// More candidates than this are of no use: all are tried at once.
const MAX_CANDIDATES: usize = 32;

/// Reads a gateway record's body.
///
/// # Errors
/// Names the gateway, the field and the rule.
pub fn from_proto(name: &str, body: &v1::Gateway) -> Result<Gateway, ConvertError> {
    let ctx = Context::new(format!("gateway {name}"));
    let node = NodeName::new(name).map_err(|e| ctx.error("name", e.to_string()))?;
    if body.lanes.is_empty() {
        return Err(ctx.error("lanes", "a gateway has at least one lane"));
    }
    ctx.at_most("lanes", body.lanes.len(), MAX_LANES)?;
    ctx.at_most("candidates", body.candidates.len(), MAX_CANDIDATES)?;
    let lanes =
        body.lanes.iter().enumerate().map(|(i, lane)| lane_from_proto(&ctx, i, lane)).collect::<Result<_, _>>()?;
    let candidates = body
        .candidates
        .iter()
        .enumerate()
        .map(|(i, candidate)| {
            self::candidate(&candidate.host).ok_or_else(|| {
                let rule = format!("{:?} is neither an address nor a DNS name", candidate.host);
                ctx.error(format!("candidates[{i}].host"), rule)
            })
        })
        .collect::<Result<_, _>>()?;
    let preferred = nets(&ctx, "preferred_prefixes", &body.preferred_prefixes)?;
    Ok(Gateway { node, lanes, candidates, preferred, probes: !body.plain })
}

/// Writes a gateway record's body.
#[must_use]
pub fn to_proto(gateway: &Gateway) -> v1::Gateway {
    v1::Gateway {
        lanes: gateway
            .lanes
            .iter()
            .map(|lane| v1::Lane {
                public_key: lane.public_key.0.to_vec(),
                port: lane.port.into(),
                next_public_key: lane.next_public_key.map(|k| k.0.to_vec()).unwrap_or_default(),
            })
            .collect(),
        candidates: gateway
            .candidates
            .iter()
            .map(|candidate| v1::Candidate {
                host: match candidate {
                    Candidate::Address(address) => address.to_string(),
                    Candidate::Name(name) => name.clone(),
                },
            })
            .collect(),
        preferred_prefixes: gateway.preferred.iter().map(ToString::to_string).collect(),
        plain: !gateway.probes,
    }
}

fn lane_from_proto(ctx: &Context, index: usize, lane: &v1::Lane) -> Result<Lane, ConvertError> {
    let key = |field: &str, bytes: &[u8]| {
        <[u8; 32]>::try_from(bytes).map(PublicKey).map_err(|_| {
            ctx.error(format!("lanes[{index}].{field}"), format!("{} bytes are not a key (32)", bytes.len()))
        })
    };
    let next = match lane.next_public_key.as_slice() {
        [] => None,
        bytes => Some(key("next_public_key", bytes)?),
    };
    Ok(Lane {
        public_key: key("public_key", &lane.public_key)?,
        port: ctx.port(format!("lanes[{index}].port"), lane.port)?,
        next_public_key: next,
    })
}

/// An address, or a name of DNS labels; a name is never all digits and dots, so that a mistyped address isn't resolved.
fn candidate(host: &str) -> Option<Candidate> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(Candidate::Address(address));
    }
    let name = host.to_ascii_lowercase();
    let labels = name.strip_suffix('.').unwrap_or(&name);
    let numeric = labels.rsplit('.').next().is_some_and(|top| top.bytes().all(|b| b.is_ascii_digit()));
    (labels.len() <= 253 && !numeric && labels.split('.').all(is_dns_label)).then_some(Candidate::Name(name))
}
