//! Which gateways carry traffic to which cluster, and which clusters are dark.

use std::collections::BTreeSet;

use hawser_model::{ClusterId, NodeName};

use crate::input::{ClusterReach, GatewayView, Input, Path};

/// How good a gateway is for a cluster; lower is better, and only the best that occurs is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Live,
    Held,
    DrainingLive,
    DrainingHeld,
    Unknown,
    DrainingUnknown,
}

fn rank(view: Option<&GatewayView>, cluster: &ClusterId) -> Option<Rank> {
    let Some(view) = view else {
        return Some(Rank::Unknown);
    };
    let reach = view.clusters.get(cluster).map_or(ClusterReach::Unknown, |cluster| cluster.reach);
    let rank = match (view.path, reach) {
        (Path::Down, _) | (Path::Usable | Path::Held, ClusterReach::Dark) => return None,
        (Path::Usable, ClusterReach::Live) => Rank::Live,
        (Path::Held, ClusterReach::Live) | (Path::Usable | Path::Held, ClusterReach::Held) => Rank::Held,
        (Path::Unknown, _) | (Path::Usable | Path::Held, ClusterReach::Unknown) => Rank::Unknown,
    };
    Some(match (view.draining, rank) {
        (false, rank) => rank,
        (true, Rank::Live) => Rank::DrainingLive,
        (true, Rank::Held) => Rank::DrainingHeld,
        (true, _) => Rank::DrainingUnknown,
    })
}

/// The other nodes that packets to `cluster` are sent to; none: it cannot be reached through another node.
///
/// Gateways that say the cluster is live come first, then those in hold-down, then draining ones (better than nothing), then
/// those nothing is known of.
#[must_use]
pub fn gateways<'a>(input: &'a Input, cluster: &ClusterId) -> Vec<&'a NodeName> {
    let ranked: Vec<(Rank, &NodeName)> = input
        .others()
        .filter(|n| n.gateway)
        .filter_map(|n| Some((rank(input.gateways.get(&n.name), cluster)?, &n.name)))
        .collect();
    let Some(best) = ranked.iter().map(|(rank, _)| *rank).min() else {
        return Vec::new();
    };
    let mut chosen: Vec<&NodeName> =
        ranked.into_iter().filter(|(rank, _)| *rank == best).map(|(_, name)| name).collect();
    chosen.sort();
    chosen
}

/// The clusters that no gateway, this node's own included, can reach or may be about to.
#[must_use]
pub fn dark(input: &Input) -> BTreeSet<ClusterId> {
    let reachable = |cluster: &ClusterId| {
        input.nodes.iter().filter(|n| n.gateway).any(|n| rank(input.gateways.get(&n.name), cluster).is_some())
    };
    input.remotes.iter().map(|r| &r.id).filter(|id| !reachable(id)).cloned().collect()
}
