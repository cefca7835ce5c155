//! What other multi-cluster networks need until a dead path is not chosen any more, from their own sources and documents:
//! nobody publishes a measurement. Defaults; the arithmetic where several of them add up is ours and marked `about`.

use comfy_table::Table;

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its name.
    pub name: &'static str,
    /// A gateway or its host dies.
    pub gateway_dies: &'static str,
    /// A link or a cluster is gone without FIN, RST or ICMP.
    pub black_hole: &'static str,
    /// What becomes of flows that exist.
    pub flows: &'static str,
    /// Where that is said.
    pub source: &'static str,
}

/// All of them; as of August 2026.
pub const PEERS: &[Peer] = &[
    Peer {
        name: "Submariner",
        gateway_dies: "about 16-22 s; 60 s more where NAT discovery goes unanswered",
        black_hole: "about 6-11 s until DNS avoids the cluster; the gateway never moves",
        flows: "die",
        source: "pkg/gateway/gateway.go:59-61, pkg/pinger/pinger.go",
    },
    Peer {
        name: "Cilium Cluster Mesh",
        gateway_dies: "when Kubernetes marks the node's pods",
        black_hole: "never (cacheTTL=0s)",
        flows: "until conntrack forgets",
        source: "Documentation/network/clustermesh/global-services.rst; cilium#41643",
    },
    Peer {
        name: "Istio",
        gateway_dies: "one failed request per client proxy",
        black_hole: "a connect time-out per request, then ejected",
        flows: "die; idempotent requests are retried",
        source: "docs/setup/install/multicluster, failover guide; istio#52435",
    },
    Peer {
        name: "Linkerd, gateway",
        gateway_dies: "about 9 s on RST",
        black_hole: "up to about 90 s",
        flows: "die; requests avoid it one by one",
        source: "multicluster/service-mirror/probe_worker.go",
    },
    Peer {
        name: "Linkerd, federated",
        gateway_dies: "when Kubernetes removes the endpoints",
        black_hole: "endpoints stay; each client's failures count",
        flows: "per request",
        source: "linkerd.io, blog of 2026-06-24",
    },
    Peer {
        name: "Skupper",
        gateway_dies: "16 s, or at once on FIN",
        black_hole: "16 s",
        flows: "die",
        source: "skrouter.json: AMQP idle time-out",
    },
    Peer {
        name: "Liqo",
        gateway_dies: "15 s and more (needs replicas; the default is one)",
        black_hole: "40 s",
        flows: "die",
        source: "deployments/liqo/values.yaml:110-117, flags.go:121-127",
    },
    Peer {
        name: "Kilo",
        gateway_dies: "60-90 s; never between clusters",
        black_hole: "never",
        flows: "die",
        source: "pkg/mesh/backend.go",
    },
    Peer {
        name: "Antrea Multi-cluster",
        gateway_dies: "about 40 s",
        black_hole: "imports stay",
        flows: "die",
        source: "docs/multicluster/architecture.md",
    },
    Peer {
        name: "Tailscale operator",
        gateway_dies: "seconds; 10 min reported",
        black_hole: "never where it is \"online but not routing\"",
        flows: "die",
        source: "tailscale#16357, tailscale#20661",
    },
    Peer {
        name: "NetBird",
        gateway_dies: "seconds",
        black_hole: "seconds",
        flows: "orphaned for 15-16 min",
        source: "netbird discussion#8630",
    },
];

/// The table for people.
#[must_use]
pub fn table() -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["PEER", "GATEWAY DIES", "LINK BLACK-HOLED", "EXISTING FLOWS", "SOURCE"]);
    table.add_rows(PEERS.iter().map(|p| [p.name, p.gateway_dies, p.black_hole, p.flows, p.source]));
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_claim_has_a_source() {
        for peer in PEERS {
            assert!(
                [peer.gateway_dies, peer.black_hole, peer.flows, peer.source].iter().all(|s| !s.is_empty()),
                "{peer:?}"
            );
        }
        assert_eq!(table().lines().count(), PEERS.len() + 1);
    }
}
