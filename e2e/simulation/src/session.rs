//! A model of one end of a WireGuard session: handshakes, key changes, replay window, expiry. No cryptography: whoever
//! knows the number of a pair of keys holds them.
//!
//! `hawser-tunnel` drives the real one; what a lane is told about it is the same. As there, pairs of keys live in a ring
//! that initiations of both ends move on, answered or not: while our answers get lost, the keys in use are overwritten.

use std::time::Duration;

use hawser_liveness::Time;

/// The initiator renews keys that it uses at this age.
const REKEY_AFTER: Duration = Duration::from_secs(120);
/// Keys are worth nothing at this age.
const REJECT_AFTER: Duration = Duration::from_secs(180);
/// An initiation without answer is repeated after this.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Places for pairs of keys.
const RING: usize = 8;

/// One pair of keys, as one end has it.
#[derive(Debug, Clone)]
struct Keys {
    id: u64,
    born: Time,
    initiator: bool,
    sent: u64,
    highest: u64,
    /// Bit `i`: `highest - i` was opened.
    opened: u128,
}

impl Keys {
    fn new(id: u64, born: Time, initiator: bool) -> Self {
        Self { id, born, initiator, sent: 0, highest: 0, opened: 0 }
    }

    fn is_new(&mut self, counter: u64) -> bool {
        if counter > self.highest {
            let shift = u32::try_from(counter - self.highest).unwrap_or(u32::MAX);
            self.opened = self.opened.checked_shl(shift).unwrap_or(0) | 1;
            self.highest = counter;
            return true;
        }
        let bit = u32::try_from(self.highest - counter).ok().and_then(|age| 1_u128.checked_shl(age));
        match bit {
            Some(bit) if self.opened & bit == 0 => {
                self.opened |= bit;
                true
            }
            Some(_) | None => false,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Session {
    ring: [Option<Keys>; RING],
    /// The place given out last.
    place: usize,
    /// The place of the pair in use for sending.
    current: usize,
    /// Our last initiation, still unanswered, and its place.
    attempt: Option<(u64, Time, usize)>,
    /// The latest initiation of the peer: older ones are replays.
    latest: u64,
    /// Whether there are keys to send with. An answered initiation alone makes none.
    ready: bool,
}

impl Session {
    pub(crate) fn ready(&self) -> bool {
        self.ready
    }

    fn take_place(&mut self) -> usize {
        self.place = (self.place + 1) % RING;
        self.place
    }

    pub(crate) fn age(&self, now: Time) -> Option<Duration> {
        self.ring[self.current].as_ref().map(|k| now.since(k.born))
    }

    /// The number of an initiation to send; `stamp` grows from one to the next, over restarts too.
    pub(crate) fn initiate(&mut self, stamp: u64, now: Time) -> u64 {
        self.attempt = Some((stamp, now, self.take_place()));
        stamp
    }

    /// The peer's initiation: false for a replay. Its answer carries `id`.
    pub(crate) fn answer(&mut self, stamp: u64, id: u64, now: Time) -> bool {
        if stamp <= self.latest {
            return false;
        }
        self.latest = stamp;
        let place = self.take_place();
        self.ring[place] = Some(Keys::new(id, now, false));
        true
    }

    /// The answer to our initiation `stamp`: false where that is not the one waited for.
    pub(crate) fn answered(&mut self, stamp: u64, id: u64, now: Time) -> bool {
        let Some((_, _, place)) = self.attempt.filter(|(ours, ..)| *ours == stamp) else { return false };
        self.attempt = None;
        self.ring[place] = Some(Keys::new(id, now, true));
        self.current = place;
        self.ready = true;
        true
    }

    /// The keys' number and the counter to send a packet with.
    pub(crate) fn seal(&mut self) -> Option<(u64, u64)> {
        let keys = self.ring[self.current].as_mut()?;
        keys.sent += 1;
        Some((keys.id, keys.sent))
    }

    /// Whether a packet sealed so is authentic and new.
    pub(crate) fn open(&mut self, id: u64, counter: u64, now: Time) -> bool {
        let Some(place) = self.ring.iter().position(|k| k.as_ref().is_some_and(|k| k.id == id)) else { return false };
        let Some(keys) = &mut self.ring[place] else { return false };
        if now.since(keys.born) >= REJECT_AFTER || !keys.is_new(counter) {
            return false;
        }
        let born = keys.born;
        // The first packet under keys that we answered for puts them in use.
        if self.ring[self.current].as_ref().is_none_or(|k| k.born <= born) {
            self.current = place;
        }
        self.ready = true;
        true
    }

    /// Drops what is too old; true where the keys in use want renewing.
    pub(crate) fn tick(&mut self, now: Time) -> bool {
        for keys in &mut self.ring {
            *keys = keys.take().filter(|k| now.since(k.born) < REJECT_AFTER);
        }
        self.ready &= self.ring[self.current].is_some();
        let waiting = self.attempt.is_some_and(|(_, at, _)| now.since(at) < RETRY_AFTER);
        let old = |k: &Keys| k.initiator && now.since(k.born) >= REKEY_AFTER;
        !waiting && self.ring[self.current].as_ref().is_some_and(old)
    }
}

/// When to start the next handshake: at once, then ever more slowly.
#[derive(Debug, Clone)]
pub(crate) struct Attempts {
    next: Time,
    delay: Duration,
}

impl Attempts {
    const FIRST: Duration = Duration::from_millis(250);
    /// Between attempts at most, with the spread that is added.
    pub(crate) const LONGEST: Duration = Duration::from_millis(6_250);

    pub(crate) fn new(now: Time) -> Self {
        Self { next: now, delay: Self::FIRST }
    }

    pub(crate) fn due(&self, now: Time) -> bool {
        now >= self.next
    }

    pub(crate) fn made(&mut self, now: Time) {
        self.next = now + self.delay;
        self.delay = (self.delay * 2).min(Self::LONGEST);
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Self::new(Time::START);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_then_packets_once_each_until_the_keys_expire() {
        let (mut a, mut b, mut now) = (Session::default(), Session::default(), Time::from_millis(1));
        let stamp = a.initiate(1, now);
        assert!(b.answer(stamp, 77, now) && !b.answer(stamp, 78, now), "a replay");
        assert!(!b.ready(), "an answered initiation alone carries nothing");
        assert!(a.answered(stamp, 77, now) && !a.answered(stamp, 77, now));
        let (id, counter) = a.seal().expect("a session");
        assert!(b.open(id, counter, now) && b.ready() && !b.open(id, counter, now), "a replay");
        assert!(!b.open(78, 1, now), "unknown keys");
        now = now + REKEY_AFTER;
        assert!(a.tick(now) && !b.tick(now), "the initiator renews");
        now = now + (REJECT_AFTER - REKEY_AFTER);
        let (id, counter) = a.seal().expect("a session");
        assert!(!b.open(id, counter, now));
        a.tick(now);
        assert!(!a.ready());
    }
}
