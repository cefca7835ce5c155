//! How the machine spends its CPU time, as the kernel counts it: whether figures measured on it mean anything.

use std::fs;

use anyhow::{Context as _, Result};

/// CPU time of all CPUs since the machine started, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTime {
    busy: u64,
    stolen: u64,
    all: u64,
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
        self.share(self.busy - earlier.busy, earlier)
    }

    /// The share of the time since `earlier` in which a virtual machine's host did not run a CPU that had something to do
    /// (`steal`), between 0 and 1.
    #[must_use]
    pub fn stolen_since(&self, earlier: &Self) -> f64 {
        self.share(self.stolen - earlier.stolen, earlier)
    }

    fn share(&self, of: u64, earlier: &Self) -> f64 {
        of as f64 / (self.all - earlier.all).max(1) as f64
    }
}

/// The first line: user, nice, system, idle, iowait, irq, softirq, steal, and guests' time, which user's holds as well.
fn parse(stat: &str) -> Option<CpuTime> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|t| t.parse().ok()).collect();
    let [_, _, _, idle, waiting, _, _, stolen] = ticks[..] else { return None };
    let all = ticks.iter().sum::<u64>();
    Some(CpuTime { busy: all - idle - waiting, stolen, all })
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
    fn refuses_what_it_does_not_know() {
        for text in ["", "cpu0 1 2 3 4 5 6 7 8", "cpu  1 2 3 4 5 6 7", "cpu  1 2 3 4 5 6 x 8"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn reads_this_machine() {
        let now = CpuTime::now().unwrap();
        assert!(now.busy > 0 && now.busy <= now.all && now.stolen <= now.busy, "{now:?}");
    }
}
