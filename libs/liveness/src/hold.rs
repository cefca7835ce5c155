//! Hold-down: how long a path that came back has to answer before it carries traffic again.

use std::time::Duration;

use crate::{Config, Time};

/// The hold-down's memory of earlier failures.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hold {
    /// Doublings that the next hold-down gets.
    level: u32,
}

impl Hold {
    /// The path went down, having carried traffic since `up_since`. Returns its next hold-down.
    pub(crate) fn fail(&mut self, cfg: &Config, up_since: Time, now: Time) -> Duration {
        let stable = now.since(up_since).as_nanos() / cfg.hold_decay.as_nanos().max(1);
        self.level = self.level.saturating_sub(u32::try_from(stable).unwrap_or(u32::MAX));
        let hold = cfg.hold_min.saturating_mul(1_u32.checked_shl(self.level).unwrap_or(u32::MAX)).min(cfg.hold_max);
        if hold < cfg.hold_max {
            self.level += 1;
        }
        hold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flapping_doubles_up_to_the_maximum_and_stability_takes_it_back() {
        let cfg = Config::default();
        let mut hold = Hold::default();
        let seconds: Vec<u64> = (0..6).map(|_| hold.fail(&cfg, Time::START, Time::START).as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 60, 60]);
        let two_minutes = Time::START + Duration::from_secs(120);
        assert_eq!(hold.fail(&cfg, Time::START, two_minutes).as_secs(), 20);
        let an_hour = two_minutes + Duration::from_secs(3600);
        assert_eq!(hold.fail(&cfg, two_minutes, an_hour).as_secs(), 5);
    }
}
