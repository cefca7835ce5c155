//! How often one caller may do something: what it costs the broker stays small, whoever asks.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Callers remembered.
const CALLERS: usize = 4_096;

/// Counts by caller. Each may do `burst` at once, and one more every `refill`.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    burst: u32,
    refill: Duration,
    callers: Mutex<HashMap<K, (u32, Instant)>>,
}

impl<K: Eq + Hash + Clone> Limiter<K> {
    pub(crate) fn new(burst: u32, refill: Duration) -> Self {
        Self { burst, refill, callers: Mutex::default() }
    }

    /// Counts one more; false where the caller has done too many. What is refused is not counted.
    pub(crate) fn allow(&self, caller: K, now: Instant) -> bool {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= CALLERS && !callers.contains_key(&caller) {
            self.make_room(&mut callers, now);
        }
        let (used, since) = callers.entry(caller).or_insert((0, now));
        let gained = now.saturating_duration_since(*since).as_nanos() / self.refill.as_nanos();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX).min(self.burst);
        *since = if gained >= self.burst { now } else { *since + self.refill * gained };
        *used = used.saturating_sub(gained);
        if *used >= self.burst {
            return false;
        }
        *used += 1;
        true
    }

    /// Forgets who has all of the burst again; failing that, who was counted longest ago: callers that are many must not
    /// lock out others.
    fn make_room(&self, callers: &mut HashMap<K, (u32, Instant)>, now: Instant) {
        let full = self.refill * self.burst;
        callers.retain(|_, (_, since)| now.saturating_duration_since(*since) < full);
        if callers.len() >= CALLERS
            && let Some(oldest) = callers.iter().min_by_key(|(_, (_, since))| *since).map(|(caller, _)| caller.clone())
        {
            callers.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::IpNet;

    use super::*;

    const BURST: u32 = 30;
    const REFILL: Duration = Duration::from_secs(1);

    #[test]
    fn one_source_is_slowed_and_others_are_not() {
        let (attempts, start) = (Limiter::new(BURST, REFILL), Instant::now());
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
    fn many_sources_cost_bounded_memory_and_lock_nobody_out() {
        let (attempts, start) = (Limiter::new(BURST, REFILL), Instant::now());
        for i in 0..10_000u32 {
            let source = IpNet::from(IpAddr::from(i.to_be_bytes()));
            assert!(attempts.allow(source, start + Duration::from_micros(i.into())), "source {i}");
        }
        assert!(attempts.callers.lock().unwrap().len() <= CALLERS);
    }
}
