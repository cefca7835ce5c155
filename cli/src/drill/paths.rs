//! What gateways say about their own paths while a drill runs: silence, loss, changes of state.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hawser_api::report::{GatewayReport, PathReport};
use serde::Serialize;

use crate::status::collect::report;

/// Between two looks at a gateway. Its figures are up to a quarter of a second old.
const PERIOD: Duration = Duration::from_millis(100);

/// A path's row.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathRow {
    /// The gateway that was asked.
    pub gateway: String,
    /// The remote cluster and its gateway.
    pub peer: String,
    /// The state at the end.
    pub state: String,
    /// How often the state was another than the time before.
    pub changes: u32,
    /// The longest time without a proof, milliseconds.
    pub longest_silence_ms: u64,
    /// The most probes lost of a hundred, percent.
    pub worst_loss_percent: f64,
    /// Users' packets that the gateway sent by it meanwhile, the drill's and all others: none, and no flow was on it.
    pub sent_packets: u64,
}

/// What was seen of all gateways.
#[derive(Debug, Default)]
pub struct Watch {
    rows: BTreeMap<(String, String), PathRow>,
    /// What each path's counter said last.
    sent: BTreeMap<(String, String), u64>,
    /// Looks that brought no report, by state directory: the last reason.
    pub failed: BTreeMap<PathBuf, String>,
}

impl Watch {
    /// Takes a gateway's report in.
    pub fn take(&mut self, report: &GatewayReport) {
        for path in &report.paths {
            self.path(&report.node, path);
        }
    }

    fn path(&mut self, gateway: &str, path: &PathReport) {
        let peer = format!("{}/{}", path.cluster, path.gateway);
        let key = (gateway.to_owned(), peer.clone());
        let before = self.sent.insert(key.clone(), path.tx_packets);
        let row = self.rows.entry(key).or_insert_with(|| PathRow {
            gateway: gateway.to_owned(),
            peer,
            state: path.state.clone(),
            ..PathRow::default()
        });
        row.changes += u32::from(row.state != path.state);
        row.state.clone_from(&path.state);
        row.longest_silence_ms = row.longest_silence_ms.max(path.proof_age_ms.unwrap_or(0));
        row.worst_loss_percent = row.worst_loss_percent.max(path.loss_percent.unwrap_or(0.0));
        // A counter that is smaller began anew, with its gateway.
        let grown = before.map(|before| path.tx_packets.checked_sub(before).unwrap_or(path.tx_packets));
        row.sent_packets += grown.unwrap_or(0);
    }

    /// One row per path.
    #[must_use]
    pub fn rows(&self) -> Vec<PathRow> {
        self.rows.values().cloned().collect()
    }
}

/// Asks the gateways with these state directories until `until` is over.
pub async fn watch(states: &[PathBuf], until: impl Future<Output = ()>) -> Watch {
    let mut watch = Watch::default();
    tokio::pin!(until);
    loop {
        for state in states {
            match report(state).await {
                Ok(report) => watch.take(&report),
                Err(error) => {
                    watch.failed.insert(state.clone(), error.to_string());
                }
            }
        }
        tokio::select! {
            () = &mut until => return watch,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_each_path_is_kept() {
        let mut watch = Watch::default();
        let path = |state: &str, proof: u64, loss: f64, sent: u64| PathReport {
            cluster: "east".into(),
            gateway: "e1".into(),
            state: state.into(),
            proof_age_ms: Some(proof),
            loss_percent: Some(loss),
            tx_packets: sent,
            ..PathReport::default()
        };
        let looks =
            [("Up", 40, 0.0, 1000), ("Suspect", 120, 1.0, 1200), ("Down", 480, 9.0, 1200), ("Held", 20, 4.0, 30)];
        for (state, proof, loss, sent) in looks {
            let paths = vec![path(state, proof, loss, sent)];
            watch.take(&GatewayReport { node: "w1".into(), paths, ..GatewayReport::default() });
        }
        let [row] = &watch.rows()[..] else { panic!("{watch:?}") };
        assert_eq!((row.changes, row.longest_silence_ms, row.state.as_str()), (3, 480, "Held"));
        assert!((row.worst_loss_percent - 9.0).abs() < f64::EPSILON);
        assert_eq!(row.sent_packets, 230, "since the first look, also by a gateway that began anew");
    }
}
