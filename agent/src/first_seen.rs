//! When exports count as made: a creation time is believed up to the moment at which it is first seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_agent_plan::export::FirstSeen as Map;
use hawser_api::mcs::ServiceExport;
use hawser_model::ServiceName;
use hawser_model::age;
use hawser_model::export::Timestamp as Millis;
use jiff::Timestamp;

use crate::disk::Disk;

/// The ages of this cluster's exports, kept on disk.
pub(crate) struct FirstSeen {
    seen: BTreeMap<ServiceName, age::FirstSeen>,
    map: Map,
}

impl FirstSeen {
    pub(crate) fn load(disk: &Disk) -> Self {
        let seen = disk.load_first_seen();
        let map = effective(&seen);
        Self { seen, map }
    }

    /// When each export counts as made.
    pub(crate) fn map(&self) -> &Map {
        &self.map
    }

    /// Takes note of new exports, and forgets those that are gone.
    pub(crate) fn update(&mut self, exports: &[Arc<ServiceExport>], now: Timestamp, disk: &Disk) {
        let now = Millis(now.as_millisecond());
        let mut seen = BTreeMap::new();
        for export in exports {
            let meta = &export.metadata;
            let names = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
            let Ok(service) = ServiceName::new(names.0, names.1) else { continue };
            let known = self.seen.get(&service).copied();
            seen.insert(service.clone(), judge(export, &service, known, now));
        }
        if seen != self.seen {
            self.map = effective(&seen);
            self.seen = seen;
            if let Err(error) = disk.save_first_seen(&self.seen) {
                tracing::warn!(%error, "when exports were first seen can't be kept on disk");
            }
        }
    }
}

fn effective(seen: &BTreeMap<ServiceName, age::FirstSeen>) -> Map {
    seen.iter().map(|(service, seen)| (service.clone(), seen.effective)).collect()
}

fn judge(export: &ServiceExport, service: &ServiceName, known: Option<age::FirstSeen>, now: Millis) -> age::FirstSeen {
    let Some(claimed) = claimed(export) else {
        return known.unwrap_or(age::FirstSeen { claimed: now, effective: now });
    };
    match age::first_seen(claimed, known, now) {
        Ok(seen) => seen,
        Err(error) => {
            tracing::warn!(export = %service, %error, "the export counts as made now");
            age::FirstSeen { claimed, effective: known.map_or(now, |k| k.effective.max(now)) }
        }
    }
}

/// Its creation time; where the local API gives none, the first time that its status tells of.
fn claimed(export: &ServiceExport) -> Option<Millis> {
    let created = export.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let told = || export.status.iter().flat_map(|s| &s.conditions).map(|c| c.last_transition_time.0).min();
    created.or_else(told).map(|t| Millis(t.as_millisecond()))
}
