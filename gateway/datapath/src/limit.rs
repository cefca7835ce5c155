//! Tokens that refill with time, and rate limits of them that one sender cannot use up for all.

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
    fn is_there(self, now: Time, rate: Rate) -> bool {
        self.next_at(now, rate.each, rate.burst) == now
    }

    /// Takes one if there is one.
    fn take(&mut self, now: Time, rate: Rate) -> bool {
        let there = self.is_there(now, rate);
        if there {
            self.reserve(now, rate.each, rate.burst);
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

/// How many a second, and at once after a while of less.
#[derive(Debug, Clone, Copy)]
struct Rate {
    each: Duration,
    burst: u32,
}

impl Rate {
    const fn per_second(count: u32, burst: u32) -> Self {
        Self { each: Duration::from_nanos(1_000_000_000 / count as u64), burst }
    }
}

/// Tokens for one purpose.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    tokens: Tokens,
    rate: Rate,
}

impl Bucket {
    /// A full one: so many a second (from 1), and at once after a while of less (from 1).
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self { tokens: Tokens { full_at: Time::START }, rate: Rate::per_second(per_second, burst) }
    }

    /// Takes one if there is one.
    pub fn take(&mut self, now: Time) -> bool {
        self.tokens.take(now, self.rate)
    }

    fn is_there(&self, now: Time) -> bool {
        self.tokens.is_there(now, self.rate)
    }
}

/// Limits something, in total and per sender.
#[derive(Debug, Clone)]
pub struct Limiter {
    total: Bucket,
    senders: (Box<[Tokens; SENDERS]>, Rate),
    /// What of an IPv6 address tells senders apart.
    network: u128,
    seed: u64,
}

impl Limiter {
    /// For ICMP errors to senders inside a cluster, with full buckets. `seed` is random, so that nobody finds out who shares
    /// a bucket with whom.
    #[must_use]
    pub fn replies(seed: u64) -> Self {
        Self::new(Bucket::new(1000, 200), Rate::per_second(100, 20), u128::MAX, seed)
    }

    /// For key agreements with senders outside that showed where they are: a network has all of its addresses.
    fn handshakes(seed: u64) -> Self {
        Self::new(Bucket::new(300, 100), Rate::per_second(20, 20), !0 << 64, seed)
    }

    fn new(total: Bucket, sender: Rate, network: u128, seed: u64) -> Self {
        Self { total, senders: (Box::new([Tokens::default(); SENDERS]), sender), network, seed }
    }

    /// Whether something may be done for `sender` now; counts it if so.
    pub fn allow(&mut self, sender: IpAddr, now: Time) -> bool {
        // What all are refused costs nobody a share.
        self.total.is_there(now) && self.allow_past_total(sender, now) && self.total.take(now)
    }

    /// The same by the sender's own share alone.
    fn allow_past_total(&mut self, sender: IpAddr, now: Time) -> bool {
        let slot = self.slot(sender);
        let (senders, rate) = &mut self.senders;
        senders[slot].take(now, *rate)
    }

    fn slot(&self, sender: IpAddr) -> usize {
        let (high, low) = match sender {
            IpAddr::V4(v4) => (0, u64::from(v4.to_bits())),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits() & self.network;
                // Both halves on purpose.
                ((bits >> 64) as u64, bits as u64)
            }
        };
        (hash::finish(hash::mix(hash::mix(self.seed, high), low)) >> 56) as usize
    }
}

/// A lane's guard against floods of handshake messages, each of which costs it a key agreement (WireGuard's section 5.3). A
/// number of them is taken from anybody; beyond, who asks must prove its address by a cookie and keep to a rate.
#[derive(Debug, Clone)]
pub struct HandshakeGuard {
    /// Without proof of an address.
    anybody: Bucket,
    proven: Limiter,
}

impl HandshakeGuard {
    /// A guard that let nobody in yet; `seed` is random.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { anybody: Bucket::new(200, 200), proven: Limiter::handshakes(seed) }
    }

    /// Whether the next message must carry a cookie.
    #[must_use]
    pub fn wants_cookie(&self, now: Time) -> bool {
        !self.anybody.is_there(now)
    }

    /// Whether a message may be looked at that carries a cookie where [`Self::wants_cookie`]. A `known` address is one that
    /// some peer is configured with: strangers can't use up its share, however many addresses they have.
    pub fn allow(&mut self, sender: IpAddr, known: bool, now: Time) -> bool {
        self.anybody.take(now) || self.proven.allow(sender, now) || (known && self.proven.allow_past_total(sender, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn nth(i: u32) -> IpAddr {
        IpAddr::V4(i.to_be_bytes().into())
    }

    #[test]
    fn one_sender_gets_its_burst_and_rate_and_others_theirs() {
        let (mut limiter, start) = (Limiter::replies(7), Time::from_millis(5_000));
        let (a, b) = (ip("10.0.0.1"), ip("fd00::1"));
        assert_eq!((0..100).filter(|_| limiter.allow(a, start)).count(), 20);
        assert!(limiter.allow(b, start));
        let second = (0..1000).filter(|ms| limiter.allow(a, start + Duration::from_millis(*ms))).count();
        assert!((98..=101).contains(&second), "{second}");
    }

    #[test]
    fn all_senders_together_are_limited_too() {
        let (mut limiter, now) = (Limiter::replies(7), Time::from_millis(5_000));
        assert_eq!((0..10_000).filter(|&i| limiter.allow(nth(i), now)).count(), 200);
    }

    #[test]
    fn what_the_total_refuses_costs_no_sender_its_share() {
        let (mut limiter, start) = (Limiter::replies(7), Time::from_millis(5_000));
        for i in 0..100_000 {
            limiter.allow(nth(i), start);
        }
        let later = start + Duration::from_millis(20);
        let allowed = (0..20).filter(|_| limiter.allow(ip("fd00::1"), later)).count();
        assert!(allowed >= 18, "{allowed} of what came back to all");
    }

    #[test]
    fn who_shares_a_bucket_depends_on_the_seed() {
        let partner = |seed| {
            let limiter = Limiter::replies(seed);
            (1..).find(|&i| limiter.slot(nth(i)) == limiter.slot(nth(0))).unwrap()
        };
        let partners = [1, 2, 3, 4].map(partner);
        assert!(partners.iter().any(|&p| p != partners[0]), "{partners:?}");
    }

    #[test]
    fn a_network_is_one_sender_of_handshakes_and_many_of_packets() {
        let (a, b, c) = (ip("2001:db8:0:1::1"), ip("2001:db8:0:1:ffff::1"), ip("2001:db8:0:2::1"));
        for (limiter, same) in [(Limiter::handshakes(5), true), (Limiter::replies(5), false)] {
            assert_eq!(limiter.slot(a) == limiter.slot(b), same);
            assert_ne!(limiter.slot(a), limiter.slot(c));
        }
    }

    /// Handshakes that are let in within a second, of each of `sources` in turn, one each 100 µs.
    fn let_in(guard: &mut HandshakeGuard, sources: u32, start: Time) -> usize {
        let at = |i: u32| start + Duration::from_micros(100) * i;
        (0..10_000).filter(|&i| guard.allow(nth(i % sources), false, at(i))).count()
    }

    #[test]
    fn handshakes_are_free_at_first_and_then_limited_per_source_and_in_total() {
        let start = Time::from_millis(5_000);
        let mut guard = HandshakeGuard::new(9);
        assert!(!guard.wants_cookie(start));
        // 200 and what comes back of them, 20 and what comes back of them; in total 100 and 300.
        let one = let_in(&mut guard, 1, start);
        assert!((435..=445).contains(&one), "{one}");
        assert!(guard.wants_cookie(start + Duration::from_micros(999_950)));
        let all = let_in(&mut HandshakeGuard::new(9), 5000, start);
        assert!((790..=805).contains(&all), "{all}");
    }

    #[test]
    fn a_known_peer_is_let_in_beside_any_flood() {
        let start = Time::from_millis(5_000);
        for sources in [1, 5000] {
            let mut guard = HandshakeGuard::new(9);
            let_in(&mut guard, sources, start);
            let now = start + Duration::from_millis(1000);
            // What has come back is the flood's again.
            while guard.allow(nth(3), false, now) {}
            let peer = ip("2001:db8::1");
            assert!((0..10).all(|_| guard.allow(peer, true, now)), "beside {sources}");
            assert!((0..100).any(|_| !guard.allow(peer, true, now)), "but not without end");
        }
    }
}
