//! What the process keeps beside the store, and the world's inputs: the clock, randomness, files.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Context;
use hawser_model::export::Timestamp;
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};

pub(crate) use hawser_broker_pki::files::{private_dir, write_private};

/// `broker.json`: what the operator said at `init`. Administrators' identity directories hold the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Settings {
    /// The cluster set.
    pub(crate) cluster_set: String,
    /// Where clusters reach the broker.
    pub(crate) brokers: Vec<String>,
}

impl Settings {
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(write_private(path, &json)?)
    }

    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let json = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&json).with_context(|| format!("{} must hold clusterSet and brokers", path.display()))
    }
}

/// The clock.
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Seconds since the epoch.
pub(crate) fn unix(time: SystemTime) -> i64 {
    timestamp(time).0 / 1000
}

/// Milliseconds since the epoch.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no randomness"))?;
    Ok(bytes)
}
