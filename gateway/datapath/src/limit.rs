//! Tokens that refill with time, and a rate limit of them that one sender cannot use up for all.

use std::net::IpAddr;
use std::time::Duration;

use hawser_liveness::Time;

use crate::hash;

/// Buckets that senders share by hash.
const SENDERS: usize = 256;

/// Tokens that refill with time, one each `each`, `burst` (from 1) at most.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tokens {
    /// When the bucket is full again.
    full_at: Time,
}

impl Tokens {
    /// Takes one if there is one.
    fn take(&mut self, now: Time, each: Duration, burst: u32) -> bool {
        let there = self.next_at(now, each, burst) == now;
        if there {
            self.reserve(now, each, burst);
        }
        there
    }

    /// Takes one, be it one that is yet to come: from when on it is there.
    pub(crate) fn reserve(&mut self, now: Time, each: Duration, burst: u32) -> Time {
        let at = self.next_at(now, each, burst);
        self.full_at = self.full_at.max(now) + each;
        at
    }

    /// When the next one is there, `now` at the earliest.
    fn next_at(self, now: Time, each: Duration, burst: u32) -> Time {
        self.full_at.before(each * (burst - 1)).max(now)
    }
}

/// Limits replies, in total and per sender.
#[derive(Debug, Clone)]
pub struct Limiter {
    total: Tokens,
    senders: Box<[Tokens; SENDERS]>,
}

impl Limiter {
    /// Replies per second in total, and in a burst.
    const TOTAL: (u32, u32) = (1000, 200);
    /// Replies per second to one sender, and in a burst.
    const SENDER: (u32, u32) = (100, 20);

    /// A limiter with full buckets.
    #[must_use]
    pub fn new() -> Self {
        Self { total: Tokens::default(), senders: Box::new([Tokens::default(); SENDERS]) }
    }

    /// Whether a reply may be sent to `sender` now; counts it if so.
    pub fn allow(&mut self, sender: IpAddr, now: Time) -> bool {
        let bits = match sender {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            // The sender's network is enough to tell senders apart; both halves on purpose.
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 ^ v6.to_bits() as u64,
        };
        let slot = (hash::finish(hash::mix(0, bits)) >> 56) as usize;
        let each = |(rate, _): (u32, u32)| Duration::from_secs(1) / rate;
        self.senders[slot].take(now, each(Self::SENDER), Self::SENDER.1)
            && self.total.take(now, each(Self::TOTAL), Self::TOTAL.1)
    }
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sender_gets_its_burst_and_rate_and_others_theirs() {
        let (mut limiter, start) = (Limiter::new(), Time::from_millis(5_000));
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        assert_eq!((0..100).filter(|_| limiter.allow(a, start)).count(), 20);
        assert!(limiter.allow(b, start));
        let second = (0..1000).filter(|ms| limiter.allow(a, start + Duration::from_millis(*ms))).count();
        assert!((98..=101).contains(&second), "{second}");
    }

    #[test]
    fn all_senders_together_are_limited_too() {
        let (mut limiter, now) = (Limiter::new(), Time::from_millis(5_000));
        let allowed = (0..10_000_u32).filter(|i| limiter.allow(IpAddr::V4(i.to_be_bytes().into()), now)).count();
        assert_eq!(allowed, 200);
    }
}
