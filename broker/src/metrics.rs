//! The broker's figures, as `hawser_broker_*`.

use hawser_broker_core::{Code, Core};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Why something was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RefusalLabels {
    /// The call, or `write`.
    pub(crate) call: &'static str,
    /// The sort of refusal.
    pub(crate) rule: &'static str,
}

/// Which way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Direction {
    pub(crate) direction: &'static str,
}

/// Why a connection was not served.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    pub(crate) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EpochLabel {
    epoch: String,
}

/// All of them; clones share the values.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) connections_refused: Family<Reason, Counter>,
    pub(crate) writes: Counter,
    pub(crate) refusals: Family<RefusalLabels, Counter>,
    pub(crate) bytes: Family<Direction, Counter>,
    pub(crate) duplicate_identities: Counter,
    pub(crate) commits: Histogram,
    streams: Gauge,
    members: Gauge,
    roster_revision: Gauge,
    revision: Gauge,
    epoch: Family<EpochLabel, Gauge>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connections: Gauge::default(),
            connections_refused: Family::default(),
            writes: Counter::default(),
            refusals: Family::default(),
            bytes: Family::default(),
            duplicate_identities: Counter::default(),
            commits: Histogram::new([0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5]),
            streams: Gauge::default(),
            members: Gauge::default(),
            roster_revision: Gauge::default(),
            revision: Gauge::default(),
            epoch: Family::default(),
        };
        let r = registry.sub_registry_with_prefix("broker");
        r.register("connections", "Open connections", metrics.connections.clone());
        r.register("connections_refused", "Connections not served", metrics.connections_refused.clone());
        r.register("writes", "Writes of members that were taken", metrics.writes.clone());
        r.register("refusals", "Calls and writes refused", metrics.refusals.clone());
        r.register("record_bytes", "Bytes of records received and sent", metrics.bytes.clone());
        r.register("duplicate_identities", "Two owners of one identity seen", metrics.duplicate_identities.clone());
        r.register("commit_seconds", "Time to make a batch durable", metrics.commits.clone());
        r.register("streams", "Open streams of agents", metrics.streams.clone());
        r.register("members", "Members of the cluster set", metrics.members.clone());
        r.register("roster_revision", "The roster's revision", metrics.roster_revision.clone());
        r.register("records_revision", "The records' revision", metrics.revision.clone());
        r.register("epoch", "The records' epoch", metrics.epoch.clone());
        metrics
    }

    pub(crate) fn refused(&self, call: &'static str, code: Code) {
        self.refusals.get_or_create(&RefusalLabels { call, rule: code.as_str() }).inc();
    }

    pub(crate) fn observe(&self, core: &Core) {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.streams.set(number(core.streams() as u64));
        self.members.set(number(core.roster().members().count() as u64));
        self.roster_revision.set(number(core.roster().revision()));
        self.revision.set(number(core.revision()));
        let epoch = core.epoch().iter().map(|b| format!("{b:02x}")).collect();
        self.epoch.get_or_create(&EpochLabel { epoch }).set(1);
    }
}
