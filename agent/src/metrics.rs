//! What the agent counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Which write, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct WriteLabels {
    pub(crate) kind: &'static str,
    pub(crate) result: &'static str,
}

/// Why a stream ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EndLabels {
    pub(crate) reason: &'static str,
}

/// The agent's metrics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    pub(crate) leading: Gauge,
    pub(crate) connected: Gauge,
    pub(crate) roster_revision: Gauge<u64, AtomicU64>,
    pub(crate) certificate_expires: Gauge,
    pub(crate) view_records: Gauge,
    pub(crate) shard_records: Gauge,
    pub(crate) refused: Gauge,
    pub(crate) skipped: Gauge,
    pub(crate) passes: Counter,
    pub(crate) writes: Family<WriteLabels, Counter>,
    pub(crate) streams_ended: Family<EndLabels, Counter>,
    pub(crate) mismatches: Counter,
    pub(crate) renewals: Counter,
}

impl Metrics {
    /// Makes the metrics known.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("hawser_agent");
        r.register("leading", "1 while this process leads", self.leading.clone());
        r.register("broker_connected", "1 while the stream to the broker is open", self.connected.clone());
        r.register("roster_revision", "Highest signed roster revision seen", self.roster_revision.clone());
        r.register(
            "certificate_expires_timestamp_seconds",
            "When the member certificate ends, Unix time",
            self.certificate_expires.clone(),
        );
        r.register("view_records", "Records of other clusters in the last synced view", self.view_records.clone());
        r.register("shard_records", "Records of this cluster that should be at the broker", self.shard_records.clone());
        r.register("refused_records", "Records of this cluster that the broker refuses", self.refused.clone());
        r.register("skipped_inputs", "Inputs left out in the last pass", self.skipped.clone());
        r.register("passes", "Full passes", self.passes.clone());
        r.register("writes", "Writes to the local API", self.writes.clone());
        r.register("streams_ended", "Streams to the broker that ended", self.streams_ended.clone());
        r.register("view_mismatches", "Views whose digest disagreed with the broker's", self.mismatches.clone());
        r.register("renewals", "Certificates renewed", self.renewals.clone());
    }
}
