//! How the machine spends its CPU time, as the kernel counts it: whether figures measured on it mean anything.

use std::fs;

use anyhow::{Context as _, Result};

/// CPU time of all CPUs since the machine started, in ticks. Linux corrects some of its counters backwards (proc(5), `iowait`): what
/// shrank counts as nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTime {
    busy: u64,
    stolen: u64,
    idle: u64,
}

impl CpuTime {
    /// Up to now.
    ///
    /// # Errors
    /// When `/proc/stat` can't be read.
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        parse(&text).with_context(|| format!("/proc/stat is not as expected: {:?}", text.lines().next()))
    }

    /// The share of the time since `earlier` in which CPUs were not idle, between 0 and 1.
    #[must_use]
    pub fn busy_since(&self, earlier: &Self) -> f64 {
        self.share(earlier, |time| time.busy)
    }

    /// The share of the time since `earlier` in which a virtual machine's host did not run a CPU that had something to do
    /// (`steal`), between 0 and 1.
    #[must_use]
    pub fn stolen_since(&self, earlier: &Self) -> f64 {
        self.share(earlier, |time| time.stolen)
    }

    fn share(&self, earlier: &Self, of: fn(&Self) -> u64) -> f64 {
        let since = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        let all = since(|time| time.busy) + since(|time| time.idle);
        since(of) as f64 / all.max(1) as f64
    }
}

/// The first line: user, nice, system, idle, iowait, irq, softirq, steal, and guests' time, which user's holds as well.
fn parse(stat: &str) -> Option<CpuTime> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|t| t.parse().ok()).collect();
    let [_, _, _, idle, waiting, _, _, stolen] = ticks[..] else { return None };
    let idle = idle + waiting;
    Some(CpuTime { busy: ticks.iter().sum::<u64>() - idle, stolen, idle })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_time_between() {
        let earlier = parse("cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 1").unwrap();
        let later = parse("cpu  20 5 20 105 5 2 3 40 7 0\n").unwrap();
        assert_eq!(later.busy_since(&earlier), 0.7, "all but idle and waiting");
        assert_eq!(later.stolen_since(&earlier), 0.4);
        assert_eq!(earlier.busy_since(&earlier), 0.0, "no time between");
    }

    #[test]
    fn counters_that_went_back_are_no_time_at_all() {
        let earlier = parse("cpu  20 0 10 80 500 0 0 9").unwrap();
        let later = parse("cpu  19 0 10 90 100 0 0 8").unwrap();
        assert_eq!((later.busy_since(&earlier), later.stolen_since(&earlier)), (0.0, 0.0));
        assert_eq!(parse("cpu  25 0 10 90 100 0 0 9").unwrap().busy_since(&earlier), 1.0, "never more than all");
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in ["", "cpu0 1 2 3 4 5 6 7 8", "cpu  1 2 3 4 5 6 7", "cpu  1 2 3 4 5 6 x 8"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn reads_this_machine() {
        let now = CpuTime::now().unwrap();
        assert!(now.busy > 0 && now.idle > 0 && now.stolen <= now.busy, "{now:?}");
    }
}
