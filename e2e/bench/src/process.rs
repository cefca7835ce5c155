//! What processes cost: CPU time and memory, as the kernel counts them.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Ticks per second of the times in `/proc/<pid>/stat`; the same on every Linux that this builds for.
const USER_HZ: u32 = 100;

/// CPU time, user and system, that a running process and its threads have used.
///
/// # Errors
/// When it has ended.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("Process {pid} is gone"))?;
    parse_cpu_time(&text).with_context(|| format!("/proc/{pid}/stat is not as expected: {text}"))
}

fn parse_cpu_time(stat: &str) -> Option<Duration> {
    times(stat, 11)
}

/// CPU time of all children of this process that were waited for.
///
/// # Errors
/// When `/proc` is not as expected.
pub fn cpu_time_of_ended() -> Result<Duration> {
    let text = fs::read_to_string("/proc/self/stat")?;
    times(&text, 13).with_context(|| format!("/proc/self/stat is not as expected: {text}"))
}

/// The sum of two times, the first so many fields after the name.
fn times(stat: &str, after: usize) -> Option<Duration> {
    // The name may hold anything, parentheses too; what follows it is numbers.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(after);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(Duration::from_secs(1) * (user + system) / USER_HZ)
}

/// Most memory that a process ever had resident, in bytes.
///
/// # Errors
/// When it has ended.
pub fn peak_memory(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("Process {pid} is gone"))?;
    parse_peak(&text).with_context(|| format!("/proc/{pid}/status has no VmHWM"))
}

fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 900 0 0 0 250 50 3 4 20 0 9 0 100 1 1 1";
        assert_eq!(parse_cpu_time(stat), Some(Duration::from_secs(3)));
        assert_eq!(times(stat, 13), Some(Duration::from_millis(70)), "of its children");
        assert_eq!(parse_cpu_time("7 (a) S 1"), None);
    }

    #[test]
    fn reads_this_process() {
        let pid = std::process::id();
        let peak = peak_memory(pid).unwrap();
        assert!((1 << 20..1 << 36).contains(&peak), "{peak} bytes");
        cpu_time(pid).unwrap();
        cpu_time_of_ended().unwrap();
        assert!(peak_memory(u32::MAX).is_err() && cpu_time(u32::MAX).is_err());
    }
}
