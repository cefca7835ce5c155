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
    }

    /// Makes room for more before what is recent is overwritten.
    #[cold]
    fn grow(&mut self) {
        let len = (self.ring.len() * 2).clamp(FEW, ENTRIES);
        let old = std::mem::replace(&mut self.ring, vec![Entry::default(); len]);
        for entry in old.into_iter().filter(|entry| entry.at > Time::START) {
            self.ring[entry.counter as usize % len] = entry;
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
}
