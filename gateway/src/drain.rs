//! How far a drain is: judged by users' packets on this gateway's own paths, not by what others say they do. Pure.

use std::time::{Duration, Instant};

use hawser_api::hawser::DrainState;

/// How long no user's packet may have come by. Longer than the idle pace of probes, which carry the flag.
const QUIET: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    /// Users' packets so far, and when that last changed.
    seen: Option<(u64, Instant)>,
}

impl Drain {
    /// Takes the count of users' packets on all paths at `now`.
    pub(crate) fn judge(&mut self, draining: bool, packets: u64, now: Instant) -> Option<DrainState> {
        if !draining {
            self.seen = None;
            return None;
        }
        let since = match self.seen {
            Some((seen, since)) if seen == packets => since,
            _ => now,
        };
        self.seen = Some((packets, since));
        Some(if now - since >= QUIET { DrainState::Drained } else { DrainState::Draining })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_quiet_paths_are_drained() {
        let (mut drain, start) = (Drain::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(drain.judge(false, 7, at(0)), None);
        assert_eq!(drain.judge(true, 7, at(10_000)), Some(DrainState::Draining), "asked just now");
        assert_eq!(drain.judge(true, 9, at(11_900)), Some(DrainState::Draining), "a packet came");
        assert_eq!(drain.judge(true, 9, at(13_800)), Some(DrainState::Draining));
        assert_eq!(drain.judge(true, 9, at(13_900)), Some(DrainState::Drained));
        assert_eq!(drain.judge(true, 10, at(14_000)), Some(DrainState::Draining), "traffic is back");
        assert_eq!(drain.judge(false, 10, at(20_000)), None);
        assert_eq!(drain.judge(true, 10, at(21_000)), Some(DrainState::Draining), "a second drain counts anew");
    }
}
