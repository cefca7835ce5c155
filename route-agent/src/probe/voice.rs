//! The voice and the ear of this process, which need the key that all nodes share.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hawser_model::NodeName;
use hawser_node_probe::{Listener, ProbeKey, Speaker};
use zeroize::Zeroizing;

/// See the module.
pub(super) struct Voice {
    /// What the key's file held.
    text: Zeroizing<String>,
    pub(super) speaker: Speaker,
    pub(super) listener: Listener,
}

impl Voice {
    /// A new voice where the file holds another key than `now` has; none where it holds the same.
    pub(super) fn read(key: &Path, node: &NodeName, now: Option<&Self>) -> Result<Option<Self>, String> {
        let text = Zeroizing::new(std::fs::read_to_string(key).map_err(|e| e.to_string())?);
        if now.is_some_and(|v| v.text == text) {
            return Ok(None);
        }
        let key = ProbeKey::from_text(&text).map_err(|e| e.to_string())?;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let instance = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        let speaker = Speaker::new(key.clone(), node.clone(), instance);
        Ok(Some(Self { text, speaker, listener: Listener::new(key, instance) }))
    }
}
