//! Handshake initiations that pass a responder's first, cheap check and are nonsense otherwise. Pure.
//!
//! Anybody who knows a lane's public key can make them: the first code of a message (`mac1`) is keyed by that alone. One who
//! also gets the lane's answers can learn a cookie from them, which keys the second code (`mac2`) that a lane under load asks
//! for. Layout and codes are those of the WireGuard paper, sections 5.4.2, 5.4.4 and 5.4.7.

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput as _, KeyInit as _, Update as _};
use blake2::{Blake2s256, Blake2sMac, Digest as _};
use chacha20poly1305::aead::AeadInPlace as _;
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};

/// Length of an initiation.
pub const LEN: usize = 148;
/// Where its two codes begin; the second one is zero without a cookie.
const MAC1: usize = 116;
const MAC2: usize = 132;
const LABEL: &[u8; 8] = b"mac1----";
/// The first bytes of a lane's answer under load, its length, and where nonce, sealed cookie and tag begin.
const REPLY: [u8; 4] = [3, 0, 0, 0];
const REPLY_LEN: usize = 64;
const NONCE: usize = 8;
const SEALED: usize = 32;
const TAG: usize = 48;
const REPLY_LABEL: &[u8; 8] = b"cookie--";
/// Messages that an answer may still come to: more than are under way at any time.
const UNDER_WAY: usize = 4096;

type Code = [u8; 16];

/// Makes messages to one lane, no two alike.
#[derive(Clone)]
pub struct Forger {
    key: [u8; 32],
    state: u64,
    number: u32,
    answers: Option<Answers>,
}

/// What it takes to answer cookies.
#[derive(Clone)]
struct Answers {
    seal: XChaCha20Poly1305,
    /// First codes of the last messages, by number: cookies are sealed with them.
    sent: Vec<Code>,
    cookie: Option<Code>,
}

impl Forger {
    /// For the lane with that public key; another seed gives other messages.
    #[must_use]
    pub fn new(lane: &[u8; 32], seed: u64) -> Self {
        Self { key: derived(LABEL, lane), state: seed, number: 0, answers: None }
    }

    /// One that learns cookies from the lane's answers ([`Self::learn`]), beginning with none or with this one.
    #[must_use]
    pub fn answering(lane: &[u8; 32], seed: u64, cookie: Option<Code>) -> Self {
        let seal = XChaCha20Poly1305::new(&derived(REPLY_LABEL, lane).into());
        let answers = Answers { seal, sent: vec![Code::default(); UNDER_WAY], cookie };
        Self { answers: Some(answers), ..Self::new(lane, seed) }
    }

    /// Whether it has a cookie, so that its messages have both codes.
    #[must_use]
    pub fn has_cookie(&self) -> bool {
        self.answers.as_ref().is_some_and(|answers| answers.cookie.is_some())
    }

    /// Takes the cookie out of the lane's answer to one of the last messages; whether there was one.
    pub fn learn(&mut self, reply: &[u8]) -> bool {
        let Some(answers) = &mut self.answers else { return false };
        if reply.len() != REPLY_LEN || reply[..4] != REPLY {
            return false;
        }
        let number = u32::from_le_bytes([reply[4], reply[5], reply[6], reply[7]]) as usize;
        let mut cookie = Code::default();
        cookie.copy_from_slice(&reply[SEALED..TAG]);
        let (nonce, tag) = (XNonce::from_slice(&reply[NONCE..SEALED]), Tag::from_slice(&reply[TAG..]));
        let mac1 = &answers.sent[number % UNDER_WAY];
        let opened = answers.seal.decrypt_in_place_detached(nonce, mac1, &mut cookie, tag).is_ok();
        if opened {
            answers.cookie = Some(cookie);
        }
        opened
    }

    /// The next message.
    pub fn message(&mut self) -> [u8; LEN] {
        let mut message = [0; LEN];
        message[0] = 1;
        // The sender's index names the message in an answer.
        message[4..8].copy_from_slice(&self.number.to_le_bytes());
        // Ephemeral key, sealed static key, sealed time stamp.
        for bytes in message[8..MAC1].chunks_mut(8) {
            bytes.copy_from_slice(&self.random().to_le_bytes()[..bytes.len()]);
        }
        let mac1 = code(&self.key, &message[..MAC1]);
        message[MAC1..MAC2].copy_from_slice(&mac1);
        if let Some(answers) = &mut self.answers {
            answers.sent[self.number as usize % UNDER_WAY] = mac1;
            if let Some(cookie) = answers.cookie {
                let mac2 = code(&cookie, &message[..MAC2]);
                message[MAC2..].copy_from_slice(&mac2);
            }
        }
        self.number = self.number.wrapping_add(1);
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

/// A key that anybody can derive who knows the lane's public one.
fn derived(label: &[u8; 8], lane: &[u8; 32]) -> [u8; 32] {
    Blake2s256::new().chain_update(label).chain_update(lane).finalize().into()
}

/// A message's code under a key of 16 or 32 bytes.
fn code(key: &[u8], message: &[u8]) -> Code {
    let mut mac = Blake2sMac::<U16>::new_from_slice(key).expect("at most 32 bytes");
    mac.update(message);
    mac.finalize_fixed().into()
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
    fn a_cookie_opens_the_guard_to_its_address_alone() {
        let public = PublicKey::from(&StaticSecret::from([7; 32]));
        let limiter = RateLimiter::new(&public, 0);
        let mut forger = Forger::answering(public.as_bytes(), 1, None);
        let mut out = [0; LEN];
        let messages: Vec<_> = (0..3).map(|_| forger.message()).collect();
        let Err(TunnResult::WriteToNetwork(reply)) = limiter.verify_packet(FROM, &messages[1], &mut out) else {
            panic!("under load a cookie is asked for")
        };
        let mut changed = reply.to_vec();
        changed[4] = 0;
        assert!(!forger.learn(&changed) && !forger.learn(&reply[1..]) && !forger.has_cookie(), "of another message");
        assert!(forger.learn(reply) && forger.has_cookie());
        let answered = forger.message();
        assert!(matches!(limiter.verify_packet(FROM, &answered, &mut out), Ok(Packet::HandshakeInit(_))));
        let elsewhere = Some(IpAddr::V4(Ipv4Addr::BROADCAST));
        assert!(matches!(limiter.verify_packet(elsewhere, &answered, &mut out), Err(TunnResult::WriteToNetwork(_))));
    }

    #[test]
    fn only_those_that_answer_learn() {
        let mut forger = Forger::new(&[1; 32], 1);
        assert!(!forger.learn(&[3; REPLY_LEN]) && !forger.has_cookie());
        assert_eq!(forger.message()[MAC2..], [0; 16]);
        let mut made_up = Forger::answering(&[1; 32], 1, Some([9; 16]));
        assert!(made_up.has_cookie() && made_up.message()[MAC2..] != [0; 16]);
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
