//! Sealing what is said and opening what is heard.

use hawser_liveness::Time;
use hawser_model::NodeName;

use crate::replay::Replay;
use crate::wire::{self, MAX_DATAGRAM, TAG};
use crate::{Envelope, Message, ProbeKey, Refused};

/// One process's voice: numbers and seals its datagrams.
#[derive(Debug)]
pub struct Speaker {
    key: ProbeKey,
    node: NodeName,
    instance: u64,
    counter: u64,
}

impl Speaker {
    /// The voice of a process on `node`. `instance` must grow from start to start: nanoseconds since the Unix epoch do.
    #[must_use]
    pub fn new(key: ProbeKey, node: NodeName, instance: u64) -> Self {
        Self { key, node, instance, counter: 0 }
    }

    /// This run's number.
    #[must_use]
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// The datagram that says `message`, at most [`MAX_DATAGRAM`] bytes.
    #[must_use]
    pub fn seal(&mut self, message: Message) -> Vec<u8> {
        self.counter += 1;
        let envelope = Envelope { node: self.node.clone(), instance: self.instance, counter: self.counter, message };
        let mut datagram = wire::encode(&envelope);
        let tag = self.key.sign(&datagram);
        datagram.extend_from_slice(tag.as_ref());
        debug_assert!(datagram.len() <= MAX_DATAGRAM, "{} bytes", datagram.len());
        datagram
    }
}

/// One process's ear: opens datagrams and refuses what is forged or repeated.
#[derive(Debug)]
pub struct Listener {
    key: ProbeKey,
    instance: u64,
    replay: Replay,
}

impl Listener {
    /// The ear of the process whose [`Speaker`] has this `instance`.
    #[must_use]
    pub fn new(key: ProbeKey, instance: u64) -> Self {
        Self { key, instance, replay: Replay::default() }
    }

    /// What a datagram that arrived at `now` says, and who says it.
    ///
    /// # Errors
    /// Where it is forged, malformed, repeated, or the answer to another asker.
    pub fn open(&mut self, datagram: &[u8], now: Time) -> Result<Envelope, Refused> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(Refused::TooLong);
        }
        let (signed, tag) = datagram.split_at_checked(datagram.len().wrapping_sub(TAG)).ok_or(Refused::Forged)?;
        if !self.key.verify(signed, tag) {
            return Err(Refused::Forged);
        }
        let envelope = wire::decode(signed).ok_or(Refused::Malformed)?;
        let role = envelope.message.role();
        if !self.replay.admit(&envelope.node, role, envelope.instance, envelope.counter, now) {
            return Err(Refused::Replayed);
        }
        match envelope.message {
            Message::Answer { asker, .. } if asker != self.instance => Err(Refused::NotOurs),
            _ => Ok(envelope),
        }
    }
}
