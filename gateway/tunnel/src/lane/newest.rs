//! Which of a peer's data is the newest: only that tells where the peer is. What was under way on another way when the peer
//! moved must not call it back there.

use crate::session::{data_counter, data_receiver};

/// The newest message so far: the session that it was for, and its counter.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Newest(Option<(u32, Option<u64>)>);

impl Newest {
    /// Takes an authentic data message in; true where it is newer than all before.
    #[inline]
    pub(crate) fn note(&mut self, datagram: &[u8]) -> bool {
        let Some((receiver, counter)) = data_receiver(datagram).zip(data_counter(datagram)) else { return false };
        let newer = match self.0 {
            None => true,
            Some((last, seen)) if last == receiver => seen.is_none_or(|seen| counter > seen),
            Some((last, _)) => is_later(receiver, last),
        };
        if newer {
            self.0 = Some((receiver, Some(counter)));
        }
        newer
    }

    /// A handshake made the session `receiver`: what is for earlier ones is old.
    pub(crate) fn renewed(&mut self, receiver: u32) {
        self.0 = Some((receiver, None));
    }
}

/// Whether a session of a pair came after another: the last eight bits of their numbers count up.
fn is_later(one: u32, other: u32) -> bool {
    (1..128).contains(&(one.wrapping_sub(other) & 0xff))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(receiver: u32, counter: u64) -> [u8; 32] {
        let mut m = [0; 32];
        m[0] = 4;
        m[4..8].copy_from_slice(&receiver.to_le_bytes());
        m[8..16].copy_from_slice(&counter.to_le_bytes());
        m
    }

    #[test]
    fn late_messages_and_earlier_sessions_are_old() {
        let mut newest = Newest::default();
        assert!(
            newest.note(&message(0x7fe, 5)) && !newest.note(&message(0x7fe, 5)) && !newest.note(&message(0x7fe, 4))
        );
        assert!(newest.note(&message(0x7ff, 0)), "the next session");
        assert!(!newest.note(&message(0x7fe, 99)), "the one before");
        assert!(newest.note(&message(0x700, 0)), "numbers wrap");
        newest.renewed(0x701);
        assert!(!newest.note(&message(0x700, 7)) && newest.note(&message(0x701, 0)));
        assert!(!newest.note(&[1; 148]), "no data");
    }
}
