//! What other multi-cluster networks need until a dead path is not chosen any more, by their own documents, sources and issues:
//! nobody publishes a measurement. Defaults, as of August 2026. *computed* is arithmetic from their constants, *inferred* follows
//! from their sources without being said there, *unchecked* was not looked up again. `docs/performance.md` has the same table.

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

const HEAD: [&str; 5] =
    ["system", "a gateway or its node dies", "it falls silent: no FIN, no ICMP", "established flows", "source"];

/// All of them.
pub const PEERS: &[Peer] = &[
    Peer {
        name: "Submariner",
        gateway_dies: "16–22 s (computed), 60 s more where NAT discovery gets no answer",
        black_hole: "6 s and up to 5 s more until the connection counts as broken and DNS avoids the cluster; the gateway \
                     does not move",
        flows: "die",
        source: "pkg/gateway/gateway.go:59-61, pkg/pinger/pinger.go",
    },
    Peer {
        name: "Cilium Cluster Mesh",
        gateway_dies: "when Kubernetes marks the node's pods",
        black_hole: "never, unless cacheTTL is set",
        flows: "stay until connection tracking forgets them",
        source: "global-services.rst, cilium#41643",
    },
    Peer {
        name: "Istio",
        gateway_dies: "one failed request of each client's proxy, where outlier detection is configured",
        black_hole: "a connect time-out for each request until the endpoint is ejected",
        flows: "die; idempotent requests are tried again",
        source: "its failover guide, istio#52435",
    },
    Peer {
        name: "Linkerd, gateway",
        gateway_dies: "about 9 s on RST (computed)",
        black_hole: "up to about 90 s (computed)",
        flows: "die; requests are tried again one by one",
        source: "probe_worker.go",
    },
    Peer {
        name: "Linkerd, federated",
        gateway_dies: "when Kubernetes removes the endpoints",
        black_hole: "endpoints stay, each client's own failures count (inferred)",
        flows: "request by request",
        source: "its blog, 2026-06-24",
    },
    Peer {
        name: "Skupper",
        gateway_dies: "16 s, or at once on FIN",
        black_hole: "16 s",
        flows: "die: an open TCP stream is not routed anew",
        source: "skrouter.json",
    },
    Peer {
        name: "Liqo",
        gateway_dies: "up to 15 s, with more than one replica (the default is one)",
        black_hole: "40 s until endpoints leave",
        flows: "die",
        source: "values.yaml:110-117, flags.go:121-127",
    },
    Peer {
        name: "Kilo",
        gateway_dies: "60–90 s inside a cluster, never between clusters",
        black_hole: "never",
        flows: "die",
        source: "pkg/mesh/backend.go",
    },
    Peer {
        name: "Antrea Multi-cluster",
        gateway_dies: "40 s or more (computed)",
        black_hole: "imports stay (inferred)",
        flows: "die",
        source: "architecture.md",
    },
    Peer {
        name: "Consul",
        gateway_dies: "by passive health checks of gateways (unchecked)",
        black_hole: "a stream's time-out, after which the last data are kept (unchecked)",
        flows: "die",
        source: "its documentation",
    },
    Peer {
        name: "Tailscale operator",
        gateway_dies: "seconds; about 10 minutes in tailscale#20661; headscale about 70 s",
        black_hole: "never where it is \"online but not routing\"",
        flows: "die",
        source: "tailscale#16357, tailscale#20661",
    },
    Peer {
        name: "NetBird",
        gateway_dies: "seconds",
        black_hole: "seconds",
        flows: "orphaned for 15–16 minutes",
        source: "netbird discussion#8630",
    },
];

impl Peer {
    fn cells(&self) -> [&'static str; 5] {
        [self.name, self.gateway_dies, self.black_hole, self.flows, self.source]
    }
}

/// The table for people.
#[must_use]
pub fn table() -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(HEAD.map(str::to_uppercase));
    table.add_rows(PEERS.iter().map(Peer::cells));
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// The same for documents.
#[must_use]
pub fn markdown() -> String {
    let line = |cells: [&str; 5]| format!("| {} |\n", cells.join(" | "));
    let head = line(HEAD) + &"|---".repeat(HEAD.len()) + "|\n";
    PEERS.iter().fold(head, |text, peer| text + &line(peer.cells()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_claim_has_a_source() {
        for peer in PEERS {
            assert!(peer.cells().iter().all(|cell| !cell.is_empty() && !cell.contains('|')), "{peer:?}");
        }
        assert_eq!(PEERS.len(), 12);
        assert_eq!(table().lines().count(), PEERS.len() + 1);
    }

    #[test]
    fn the_documents_say_the_same() {
        let document = include_str!("../../../docs/performance.md");
        assert!(document.contains(&markdown()), "docs/performance.md needs this table:\n{}", markdown());
    }
}
