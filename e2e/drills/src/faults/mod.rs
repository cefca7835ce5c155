//! All faults, as data. The order is that of the table that people read.

mod control;
mod gateways;
mod paths;

use std::time::Duration;

use anyhow::Result;

use crate::fault::Fault;
use crate::stage::Stage;

/// Every fault there is.
pub fn all() -> impl Iterator<Item = &'static Fault> {
    gateways::FAULTS.iter().chain(paths::FAULTS).chain(control::FAULTS)
}

/// A step that does nothing.
fn nothing(_: &mut Stage, _: u32) -> Result<()> {
    Ok(())
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hawser_testbed::Outer;

    use super::*;
    use crate::fault::Kind;

    #[test]
    fn ids_are_unique_and_rows_with_a_duration_run_once() {
        let ids: BTreeSet<&str> = all().map(|f| f.id).collect();
        assert_eq!(ids.len(), all().count());
        for fault in all() {
            let long = fault.kind.length() >= minutes(1);
            assert_eq!(long, !matches!(fault.kind, Kind::Repeated(_)), "{}", fault.id);
            assert!(long || fault.outer == Outer::Dual, "{} shares its rope", fault.id);
            assert!(fault.even || fault.rest.is_none(), "{}: nobody would wait for it", fault.id);
        }
    }
}
