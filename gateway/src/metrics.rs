//! Metrics: read off the tunnel at each scrape, so that nothing is counted twice or goes stale.

use std::fmt::Error;

use hawser_api::report::{GatewayReport, LaneLoadReport, PathReport};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::responder::Counts;
use crate::state::Shared;

/// Registers everything this process measures.
pub(crate) fn register(registry: &mut Registry, shared: &Shared, counts: &Counts) {
    registry.register_collector(Box::new(Tunnel(shared.clone())));
    let probes = registry.sub_registry_with_prefix("node_probe");
    probes.register("answered", "Questions of route agents that were answered", counts.answered.clone());
    probes.register("refused", "Datagrams on the node-probe port that were refused", counts.refused.clone());
    probes.register("notices", "Unasked notices sent to nodes", counts.notices.clone());
}

#[derive(Debug)]
struct Tunnel(Shared);

impl Collector for Tunnel {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let report = self.0.report();
        clusters(&mut encoder, &report)?;
        paths(&mut encoder, &report)?;
        let mut family = encoder.encode_descriptor("dropped_packets", "Packets dropped", None, MetricType::Counter)?;
        for (reason, &count) in &report.drops {
            one_counter(&mut family, &[("reason", reason.as_str())], count)?;
        }

        let mut family =
            encoder.encode_descriptor("roster_revision", "Roster revision applied", None, MetricType::Gauge)?;
        family.encode_gauge(&report.roster_revision)?;

        let mut family = encoder.encode_descriptor("draining", "Whether it is drained", None, MetricType::Gauge)?;
        family.encode_gauge(&i64::from(report.draining))?;

        let mut family = encoder.encode_descriptor(
            "lane_key_age",
            "Age of a lane's key",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for lane in &report.lanes {
            let port = lane.port.to_string();
            family.encode_family(&[("port", port.as_str())])?.encode_gauge(&lane.key_age_s)?;
        }

        let help = "Age of the next keys while they are introduced, 0 while there are none";
        let mut family =
            encoder.encode_descriptor("key_rotation_age", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        family.encode_gauge(&report.rotation.as_ref().map_or(0, |rotation| rotation.since_s))?;

        let help = "Paths whose peers are not known to have the next keys";
        let mut family = encoder.encode_descriptor("key_rotation_waiting_paths", help, None, MetricType::Gauge)?;
        let waiting = report.rotation.as_ref().map_or(0, |r| r.total_paths.saturating_sub(r.moved_paths));
        family.encode_gauge(&i64::from(waiting))?;
        lane_loads(&mut encoder, &report)
    }
}

/// How long packets of a lane waited for its control work.
fn lane_loads(encoder: &mut DescriptorEncoder<'_>, report: &GatewayReport) -> Result<(), Error> {
    type Load = fn(&LaneLoadReport) -> u64;
    let loads: [(&str, &str, Load); 3] = [
        ("lane_last_change", "CPU time that a lane's last change of peers took", |l| l.last_change_us),
        ("lane_longest_change", "CPU time that a lane's longest change of peers took", |l| l.longest_change_us),
        ("lane_longest_control", "CPU time of a lane's longest turn of control work", |l| l.longest_control_us),
    ];
    for (name, help, load) in loads {
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for lane in &report.lanes {
            let port = lane.port.to_string();
            family.encode_family(&[("port", port.as_str())])?.encode_gauge(&(load(&lane.load) as f64 / 1e6))?;
        }
    }
    let mut family = encoder.encode_descriptor("lane_changes", "Changes of peers", None, MetricType::Counter)?;
    for lane in &report.lanes {
        one_counter(&mut family, &[("port", lane.port.to_string().as_str())], lane.load.changes)?;
    }
    Ok(())
}

fn one_counter<const N: usize>(
    family: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    value: u64,
) -> Result<(), Error> {
    family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn clusters(encoder: &mut DescriptorEncoder<'_>, report: &GatewayReport) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(
        "cluster_state",
        "1 for the state that a remote cluster is in, as seen from this gateway",
        None,
        MetricType::Gauge,
    )?;
    for cluster in &report.clusters {
        for state in ["Live", "Held", "Unknown", "Dark"] {
            let labels = [("cluster", cluster.cluster.as_str()), ("state", state)];
            family.encode_family(&labels)?.encode_gauge(&i64::from(cluster.state == state))?;
        }
    }

    let mut family =
        encoder.encode_descriptor("cluster_live_paths", "Paths that carry traffic", None, MetricType::Gauge)?;
    for cluster in &report.clusters {
        family.encode_family(&[("cluster", cluster.cluster.as_str())])?.encode_gauge(&i64::from(cluster.live_paths))?;
    }
    Ok(())
}

type Figure = fn(&PathReport) -> Option<f64>;
type Count = fn(&PathReport) -> u64;

const FIGURES: [(&str, &str, Option<Unit>, Figure); 6] = [
    ("path_rtt", "Smoothed round trip of probes", Some(Unit::Seconds), |p| p.rtt_us.map(|us| us as f64 / 1e6)),
    ("path_jitter", "Mean deviation of the round trip", Some(Unit::Seconds), |p| p.jitter_us.map(|us| us as f64 / 1e6)),
    ("path_loss", "Share of the last 100 probes lost", Some(Unit::Ratios), |p| p.loss_percent.map(|l| l / 100.0)),
    ("path_proof_age", "Age of the last authenticated packet", Some(Unit::Seconds), |p| {
        p.proof_age_ms.map(|ms| ms as f64 / 1e3)
    }),
    ("path_handshake_age", "Age of the WireGuard session", Some(Unit::Seconds), |p| {
        p.handshake_age_s.map(|s| s as f64)
    }),
    ("path_mtu", "Largest inner packet", Some(Unit::Bytes), |p| Some(f64::from(p.mtu))),
];

const COUNTS: [(&str, &str, Count); 4] = [
    ("path_received_bytes", "Bytes of inner packets received", |p| p.rx_bytes),
    ("path_sent_bytes", "Bytes of inner packets sent", |p| p.tx_bytes),
    ("path_received_packets", "Inner packets received", |p| p.rx_packets),
    ("path_sent_packets", "Inner packets sent", |p| p.tx_packets),
];

fn paths(encoder: &mut DescriptorEncoder<'_>, report: &GatewayReport) -> Result<(), Error> {
    let labels = |p: &'_ PathReport| [("cluster", p.cluster.clone()), ("gateway", p.gateway.clone())];
    let mut family =
        encoder.encode_descriptor("path_state", "1 for the state that a path is in", None, MetricType::Gauge)?;
    for path in &report.paths {
        for state in ["Up", "Suspect", "Held", "Down", "Unknown"] {
            let labels = [("cluster", path.cluster.as_str()), ("gateway", path.gateway.as_str()), ("state", state)];
            family.encode_family(&labels)?.encode_gauge(&i64::from(path.state == state))?;
        }
    }

    let mut family = encoder.encode_descriptor(
        "path_mtu_state",
        "1 for where the search for a path's MTU stands",
        None,
        MetricType::Gauge,
    )?;
    for path in &report.paths {
        for state in ["Idle", "Searching", "Found", "Failed"] {
            let labels = [("cluster", path.cluster.as_str()), ("gateway", path.gateway.as_str()), ("state", state)];
            family.encode_family(&labels)?.encode_gauge(&i64::from(path.mtu_state == state))?;
        }
    }

    for (name, help, unit, figure) in &FIGURES {
        let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for path in &report.paths {
            if let Some(value) = figure(path) {
                family.encode_family(&labels(path))?.encode_gauge(&value)?;
            }
        }
    }
    for (name, help, count) in &COUNTS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for path in &report.paths {
            family.encode_family(&labels(path))?.encode_counter::<NoLabelSet, _, u64>(&count(path), None)?;
        }
    }
    Ok(())
}
