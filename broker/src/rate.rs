//! How often one source may try to join: guessing tokens is hopeless anyway, this keeps it cheap.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ipnet::IpNet;

/// Tries that one source may make at once.
const BURST: u32 = 30;
/// Time for one more.
const REFILL: Duration = Duration::from_secs(1);
/// Sources remembered.
const SOURCES: usize = 4_096;

/// Attempts by source.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    sources: HashMap<IpNet, (u32, Instant)>,
}

impl Attempts {
    /// Counts an attempt; false where the source has made too many.
    pub(crate) fn allow(&mut self, source: IpNet, now: Instant) -> bool {
        let expired = |since: Instant| now.saturating_duration_since(since) >= REFILL * BURST;
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&source) {
            self.sources.retain(|_, (_, since)| !expired(*since));
            if self.sources.len() >= SOURCES {
                return false;
            }
        }
        let (used, since) = self.sources.entry(source).or_insert((0, now));
        let gained = now.saturating_duration_since(*since).as_secs() / REFILL.as_secs();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        *since += REFILL * gained.min(BURST);
        if gained >= BURST {
            *since = now;
        }
        *used = used.saturating_sub(gained);
        if *used >= BURST {
            return false;
        }
        *used += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_is_slowed_and_others_are_not() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        let (a, b): (IpNet, IpNet) = ("192.0.2.1/32".parse().unwrap(), "2001:db8::/64".parse().unwrap());
        let allowed = (0..100).filter(|_| attempts.allow(a, start)).count();
        assert_eq!(allowed, BURST as usize);
        assert!(attempts.allow(b, start));
        assert!(attempts.allow(a, start + REFILL));
        assert!(!attempts.allow(a, start + REFILL));
        let later = start + REFILL * (2 * BURST);
        assert_eq!((0..100).filter(|_| attempts.allow(a, later)).count(), BURST as usize);
    }

    #[test]
    fn many_sources_cost_bounded_memory() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        for i in 0..10_000u32 {
            attempts.allow(IpNet::from(std::net::IpAddr::from(i.to_be_bytes())), start);
        }
        assert!(attempts.sources.len() <= SOURCES);
        let later = start + REFILL * (BURST + 1);
        assert!(attempts.allow("2001:db8::/64".parse().unwrap(), later), "old sources make room");
    }
}
