//! Handshake initiations that pass a responder's first, cheap check and are nonsense otherwise. Pure.
//!
//! Anybody who knows a lane's public key can make them: the first code of a message (`mac1`) is keyed by that alone. Layout and
//! code are those of the WireGuard paper, sections 5.4.2 and 5.4.4.

use blake2::digest::{FixedOutput as _, KeyInit as _, Update as _};
use blake2::{Blake2s256, Blake2sMac, Digest as _};

/// Length of an initiation.
pub const LEN: usize = 148;
/// Where its two codes begin; the second one, from a cookie, stays zero.
const MAC1: usize = 116;
const MAC2: usize = 132;
const LABEL: &[u8; 8] = b"mac1----";

/// Makes messages to one lane, no two alike.
#[derive(Debug, Clone)]
pub struct Forger {
    key: [u8; 32],
    state: u64,
}

impl Forger {
    /// For the lane with that public key; another seed gives other messages.
    #[must_use]
    pub fn new(lane: &[u8; 32], seed: u64) -> Self {
        let key = Blake2s256::new().chain_update(LABEL).chain_update(lane).finalize().into();
        Self { key, state: seed }
    }

    /// The next message.
    pub fn message(&mut self) -> [u8; LEN] {
        let mut message = [0; LEN];
        message[0] = 1;
        // Sender's index, ephemeral key, sealed static key, sealed time stamp.
        for bytes in message[4..MAC1].chunks_mut(8) {
            bytes.copy_from_slice(&self.random().to_le_bytes()[..bytes.len()]);
        }
        let mut mac = Blake2sMac::<blake2::digest::consts::U16>::new_from_slice(&self.key).expect("a key of 32 bytes");
        mac.update(&message[..MAC1]);
        message[MAC1..MAC2].copy_from_slice(&mac.finalize_fixed());
        message
    }

    /// splitmix64: the content only has to differ.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use boringtun::noise::handshake::parse_handshake_anon;
    use boringtun::noise::rate_limiter::RateLimiter;
    use boringtun::noise::{Packet, Tunn, TunnResult};
    use boringtun::x25519::{PublicKey, StaticSecret};
    use std::net::{IpAddr, Ipv4Addr};

    const FROM: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

    #[test]
    fn passes_the_cheap_check_and_no_other() {
        let secret = StaticSecret::from([7; 32]);
        let public = PublicKey::from(&secret);
        let limiter = RateLimiter::new(&public, 1);
        let mut forger = Forger::new(public.as_bytes(), 1);
        let (message, mut out) = (forger.message(), [0; LEN]);
        let Ok(Packet::HandshakeInit(init)) = limiter.verify_packet(FROM, &message, &mut out) else {
            panic!("the first is let through")
        };
        assert!(parse_handshake_anon(&secret, &public, &init).is_err(), "nobody has made this handshake");
        let second = forger.message();
        let Err(TunnResult::WriteToNetwork(cookie)) = limiter.verify_packet(FROM, &second, &mut out) else {
            panic!("under load a cookie is asked for")
        };
        assert!(matches!(Tunn::parse_incoming_packet(cookie), Ok(Packet::PacketCookieReply(_))), "{cookie:?}");
    }

    #[test]
    fn is_of_no_use_to_another_lane() {
        let key = |seed| PublicKey::from(&StaticSecret::from([seed; 32]));
        let limiter = RateLimiter::new(&key(7), 1);
        let message = Forger::new(key(8).as_bytes(), 1).message();
        assert!(matches!(limiter.verify_packet(FROM, &message, &mut [0; LEN]), Err(TunnResult::Err(_))));
    }

    #[test]
    fn no_two_are_alike() {
        let mut forger = Forger::new(&[1; 32], 1);
        let messages: std::collections::BTreeSet<_> = (0..1000).map(|_| forger.message()).collect();
        assert_eq!(messages.len(), 1000);
        assert_ne!(Forger::new(&[1; 32], 2).message(), Forger::new(&[1; 32], 1).message());
    }
}
