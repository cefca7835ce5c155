//! What this process counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_dns::Counters;
use hawser_model::NodeName;
use hawser_route_plan::{GatewayView, Path};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Label = [(&'static str, String); 1];

/// Cheap to clone: clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    /// Full passes.
    pub(crate) passes: Counter,
    /// Changes that passes made.
    pub(crate) changes: Counter,
    /// Changes that were refused.
    pub(crate) errors: Counter,
    /// Changes that periodic passes had to make although nothing was different: somebody else's doing.
    pub(crate) drift: Counter,
    /// Routes moved because gateways changed.
    pub(crate) failovers: Counter,
    gateways: Family<Label, Gauge>,
    refused: Family<Label, Counter>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry, dns: Arc<Counters>) -> Self {
        let metrics = Self::default();
        let ours = registry.sub_registry_with_prefix("route_agent");
        ours.register("passes", "Full passes over the kernel's state", metrics.passes.clone());
        ours.register("changes", "Changes made to the kernel's state", metrics.changes.clone());
        ours.register("errors", "Changes that the kernel refused", metrics.errors.clone());
        ours.register("drift", "Changes made by others that were set right", metrics.drift.clone());
        ours.register("failovers", "Moves of routes to other gateways", metrics.failovers.clone());
        ours.register("gateway_usable", "1 while the gateway answers this node", metrics.gateways.clone());
        ours.register("probe_refused", "Datagrams refused, by reason", metrics.refused.clone());
        ours.register_collector(Box::new(Dns(dns)));
        metrics
    }

    /// A datagram was refused.
    pub(crate) fn refused(&self, reason: &str) {
        self.refused.get_or_create(&[("reason", reason.to_owned())]).inc();
    }

    /// How gateways are now.
    pub(crate) fn gateways(&self, now: &BTreeMap<NodeName, GatewayView>) {
        self.gateways.clear();
        for (name, view) in now {
            let usable = matches!(view.path, Path::Usable | Path::Held);
            self.gateways.get_or_create(&[("gateway", name.to_string())]).set(i64::from(usable));
        }
    }
}

#[derive(Debug)]
struct Dns(Arc<Counters>);

impl Collector for Dns {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut family = |name: &str, help: &str, label: &str, rows: Vec<(&'static str, u64)>| {
            let kind = prometheus_client::metrics::MetricType::Counter;
            let mut rows_of = encoder.encode_descriptor(name, help, None, kind)?;
            rows.into_iter().try_for_each(|(value, count)| {
                ConstCounter::new(count).encode(rows_of.encode_family(&[(label, value)])?)
            })
        };
        family("dns_queries", "DNS queries by type", "type", self.0.queries().collect())?;
        family("dns_responses", "DNS responses by code", "code", self.0.responses().collect())?;
        let rest = vec![
            ("truncated", self.0.truncated()),
            ("ignored", self.0.ignored()),
            ("unsent", self.0.unsent()),
            ("refused_connection", self.0.refused_connections()),
        ];
        family("dns_exceptions", "DNS messages that went another way, by which", "what", rest)
    }
}
