//! What this lane sent lately, to tell ICMP errors that quote it from forged ones.

use std::time::Duration;

use hawser_liveness::Time;

use crate::session::{DATA_HEADER, data_counter};

/// Entries at first: enough for probes, so that a thousand idle peers cost little.
const FEW: usize = 8;
/// Entries at most: at 400,000 packets a second some 10 ms, more than a round trip inside a data centre.
const ENTRIES: usize = 4096;
/// An error about anything older says nothing about now.
const MEMORY: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Default)]
struct Entry {
    counter: u64,
    ciphertext: [u8; 8],
    at: Time,
}

impl Entry {
    fn is_recent(&self, now: Time) -> bool {
        self.at > Time::START && now.since(self.at) <= MEMORY
    }
}

/// A ring of the last data messages of one session's sending side.
#[derive(Default)]
pub(crate) struct Sent {
    ring: Vec<Entry>,
    /// Messages noted since the last [`Self::tidy`].
    noted: usize,
}

impl Sent {
    /// Notes a sealed data message.
    #[inline]
    pub(crate) fn note(&mut self, sealed: &[u8], now: Time) {
        let Some((counter, ciphertext)) = parts(sealed) else { return };
        let mut slot = counter as usize % self.ring.len().max(1);
        if self.ring.get(slot).is_none_or(|old| self.ring.len() < ENTRIES && old.is_recent(now)) {
            self.grow();
            slot = counter as usize % self.ring.len();
        }
        self.ring[slot] = Entry { counter, ciphertext, at: now };
        self.noted += 1;
    }

    /// Makes room for more before what is recent is overwritten.
    #[cold]
    fn grow(&mut self) {
        self.resize((self.ring.len() * 2).clamp(FEW, ENTRIES));
    }

    /// Gives memory back, step by step, that what was sent since the last call would not have needed. To be called no more
    /// often than messages are remembered for.
    pub(crate) fn tidy(&mut self) {
        let noted = std::mem::take(&mut self.noted);
        if self.ring.len() > FEW && noted <= self.ring.len() / 4 {
            self.resize(self.ring.len() / 2);
        }
    }

    fn resize(&mut self, len: usize) {
        let old = std::mem::replace(&mut self.ring, vec![Entry::default(); len]);
        for entry in old.into_iter().filter(|entry| entry.at > Time::START) {
            let place = &mut self.ring[entry.counter as usize % len];
            if place.at <= entry.at {
                *place = entry;
            }
        }
    }

    /// The counter of the message that `quoted` begins like, if it is one of ours and recent: 64 bits of ciphertext that
    /// nobody off the path has seen.
    pub(crate) fn recognise(&self, quoted: &[u8], now: Time) -> Option<u64> {
        let (counter, ciphertext) = parts(quoted)?;
        let entry = self.ring.get(counter as usize % self.ring.len().max(1))?;
        let same = entry.counter == counter && entry.ciphertext == ciphertext;
        (same && entry.is_recent(now)).then_some(counter)
    }
}

fn parts(message: &[u8]) -> Option<(u64, [u8; 8])> {
    let counter = data_counter(message)?;
    let ciphertext = message.get(DATA_HEADER..DATA_HEADER + 8)?.try_into().ok()?;
    Some((counter, ciphertext))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(counter: u64, fill: u8) -> Vec<u8> {
        let mut m = vec![fill; 60];
        m[..8].copy_from_slice(&[4, 0, 0, 0, 1, 2, 3, 4]);
        m[8..16].copy_from_slice(&counter.to_le_bytes());
        m
    }

    #[test]
    fn only_recent_messages_of_ours_are_recognised() {
        let at = Time::from_millis(1000);
        let mut sent = Sent::default();
        assert_eq!(sent.recognise(&message(1, 7), at), None);
        sent.note(&message(1, 7), at);
        assert_eq!(sent.recognise(&message(1, 7), at + Duration::from_millis(200)), Some(1));
        assert_eq!(sent.recognise(&message(1, 7)[..32], at), Some(1), "a short quote is enough");
        assert_eq!(sent.recognise(&message(1, 8), at), None, "a guess");
        assert_eq!(sent.recognise(&message(2, 7), at), None, "never sent");
        assert_eq!(sent.recognise(&message(1, 7), at + Duration::from_millis(201)), None, "too old");
        sent.note(&message(1 + FEW as u64, 9), at);
        assert_eq!(sent.recognise(&message(1, 7), at), Some(1), "there was room for more");
    }

    #[test]
    fn it_grows_with_what_is_sent_at_once_only() {
        let mut sent = Sent::default();
        for probe in 0..1000 {
            sent.note(&message(probe, 7), Time::from_millis(1000 + 250 * probe));
        }
        assert_eq!(sent.ring.len(), FEW);
        let at = Time::from_millis(1_000_000);
        for counter in 1000..1000 + 2 * ENTRIES as u64 {
            sent.note(&message(counter, 7), at);
        }
        assert_eq!(sent.ring.len(), ENTRIES);
        let known = (1000..1000 + 2 * ENTRIES as u64).filter(|&c| sent.recognise(&message(c, 7), at).is_some()).count();
        assert_eq!(known, ENTRIES, "the latest");
    }

    /// What a path sends in a quarter of a second, evenly, and then the lane's own timers.
    fn quarter(sent: &mut Sent, start: Time, messages: u64, first: u64) -> Time {
        let apart = Duration::from_millis(250) / messages as u32;
        for i in 0..messages {
            sent.note(&message(first + i, 7), start + apart * i as u32);
        }
        sent.tidy();
        start + Duration::from_millis(250)
    }

    #[test]
    fn what_fell_quiet_gives_its_memory_back() {
        let (mut sent, mut now, mut counter) = (Sent::default(), Time::from_millis(1000), 0);
        for (messages, quarters, expected) in [(20_000, 4, ENTRIES), (1, 12, FEW), (3, 40, FEW), (20_000, 1, ENTRIES)] {
            for _ in 0..quarters {
                now = quarter(&mut sent, now, messages, counter);
                counter += messages;
            }
            assert_eq!(sent.ring.len(), expected, "{messages} each quarter");
        }
    }

    #[test]
    fn what_is_sent_evenly_keeps_the_room_it_needs_and_what_is_recent() {
        for messages in [10, 100, 500, 1000, 3000] {
            let (mut sent, mut now, mut counter, mut lens) = (Sent::default(), Time::from_millis(1000), 0, Vec::new());
            for _ in 0..20 {
                now = quarter(&mut sent, now, messages, counter);
                counter += messages;
                lens.push(sent.ring.len());
            }
            assert!(lens[5..].iter().all(|len| *len == lens[5]), "{messages} each quarter: {lens:?}");
            // Of the last 200 ms, but for the one at the very end of it.
            let recent = messages * 4 / 5 - 1;
            let known = (counter - recent..counter).filter(|&c| sent.recognise(&message(c, 7), now).is_some()).count();
            assert_eq!(known as u64, recent, "{messages} each quarter: {lens:?}");
        }
    }

    #[test]
    fn the_memory_of_a_hundred_that_were_busy_once_is_small() {
        let mut now = Time::from_millis(1000);
        let mut all: Vec<Sent> = (0..100).map(|_| Sent::default()).collect();
        let held = |all: &[Sent]| all.iter().map(|s| s.ring.capacity() * size_of::<Entry>()).sum::<usize>();
        for sent in &mut all {
            (0..ENTRIES as u64).for_each(|counter| sent.note(&message(counter, 7), now));
        }
        let busy = held(&all);
        for probe in 0..20 {
            now = now + Duration::from_millis(250);
            for sent in &mut all {
                sent.note(&message(ENTRIES as u64 + probe, 7), now);
                sent.tidy();
            }
        }
        let quiet = held(&all);
        println!("{busy} bytes, then {quiet}");
        assert!(busy > 9_000_000 && quiet < 50_000, "{busy} bytes, then {quiet}");
    }
}
