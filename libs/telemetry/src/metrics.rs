//! A process's metrics registry and the figures every process has.

use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// A registry whose names begin with `hawser_`, with `hawser_build_info` and `hawser_start_time_seconds` in it.
#[must_use]
pub fn registry(process: &'static str) -> Registry {
    let mut registry = Registry::with_prefix("hawser");
    let version = option_env!("HAWSER_VERSION").unwrap_or(env!("CARGO_PKG_VERSION"));
    let commit = option_env!("HAWSER_COMMIT").unwrap_or("unknown");
    let build = Info::new([("process", process), ("version", version), ("commit", commit)]);
    registry.register("build", "What is running", build);
    let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    registry.register("start_time_seconds", "When it started, Unix time", ConstGauge::new(start.as_secs_f64()));
    registry
}
