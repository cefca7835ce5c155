//! The probe inside a tunnel: a small IPv6 packet between addresses made from the two lanes' keys.
//!
//! The session authenticates it. Its addresses are link-local, which neither the TUN nor a peer's user traffic may carry
//! ([`crate::Policy`]), so its protocol number cannot collide with a user's.

use std::net::Ipv6Addr;

use hawser_liveness::Time;
use hawser_model::PublicKey;
use ring::digest;

/// The IPv6 next header of probes.
pub const PROTOCOL: u8 = 254;
/// Bytes of a probe with its IPv6 header, without padding.
pub const LEN: usize = HEADER + BODY;

const HEADER: usize = 40;
const BODY: usize = 48;
const MAGIC: [u8; 4] = *b"HWTP";
const VERSION: u8 = 1;
const ASK: u8 = 1;
const ANSWER: u8 = 2;
const SIZE_ASK: u8 = 3;
const SIZE_ANSWER: u8 = 4;
const DRAINING: u8 = 1;
const UNHEALTHY: u8 = 2;

/// Whether a probe asks or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To be answered.
    Ask,
    /// The answer to the probe of the same number.
    Answer,
    /// Padded, to be answered: tells that packets of its size pass. Counted apart from the others.
    SizeAsk,
    /// The answer to the padded probe of the same number, itself small.
    SizeAnswer,
}

impl Kind {
    /// The kind that answers this one, if it asks.
    #[must_use]
    pub fn answer(self) -> Option<Self> {
        match self {
            Self::Ask => Some(Self::Answer),
            Self::SizeAsk => Some(Self::SizeAnswer),
            Self::Answer | Self::SizeAnswer => None,
        }
    }
}

/// What a probe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Asks or answers.
    pub kind: Kind,
    /// Its number; in an answer, the number of the probe answered.
    pub seq: u64,
    /// When the probe was sent, by the asker's clock; an answer carries it back.
    pub sent: Time,
    /// The last probe of the receiver that arrived at the sender, 0 for none.
    pub echo: u64,
    /// Whether the sender asks to be left alone.
    pub draining: bool,
    /// Whether the sender can deliver what it receives.
    pub healthy: bool,
    /// Inner packets that the sender received on this path since its start.
    pub rx_packets: u64,
}

/// The address that a lane's probes come from and go to.
#[must_use]
pub fn address(key: &PublicKey) -> Ipv6Addr {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"hawser-probe\0");
    context.update(&key.0);
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..].copy_from_slice(&context.finish().as_ref()[..8]);
    Ipv6Addr::from(octets)
}

/// Whether an inner packet is meant as a probe: not user traffic whatever else it is.
#[inline]
#[must_use]
pub fn is_probe(packet: &[u8]) -> bool {
    packet.len() >= HEADER
        && packet[0] >> 4 == 6
        && packet[6] == PROTOCOL
        && packet[8] == 0xfe
        && packet[9] & 0xc0 == 0x80
}

impl Probe {
    /// The inner packet that says this, [`LEN`] bytes.
    #[must_use]
    pub fn encode(&self, from: Ipv6Addr, to: Ipv6Addr) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[0] = 0x60;
        out[4..6].copy_from_slice(&(BODY as u16).to_be_bytes());
        out[6] = PROTOCOL;
        // Hop limit 1: it goes nowhere if it ever got out.
        out[7] = 1;
        out[8..24].copy_from_slice(&from.octets());
        out[24..40].copy_from_slice(&to.octets());
        let flags = if self.draining { DRAINING } else { 0 } | if self.healthy { 0 } else { UNHEALTHY };
        let kind = match self.kind {
            Kind::Ask => ASK,
            Kind::Answer => ANSWER,
            Kind::SizeAsk => SIZE_ASK,
            Kind::SizeAnswer => SIZE_ANSWER,
        };
        let body = &mut out[HEADER..];
        body[..4].copy_from_slice(&MAGIC);
        body[4..7].copy_from_slice(&[VERSION, kind, flags]);
        for (at, value) in [(8, self.seq), (16, self.sent.as_nanos()), (24, self.echo), (32, self.rx_packets)] {
            body[at..at + 8].copy_from_slice(&value.to_be_bytes());
        }
        out
    }

    /// The same as a packet of `size` bytes, [`LEN`] at least.
    #[must_use]
    pub fn encode_padded(&self, from: Ipv6Addr, to: Ipv6Addr, size: u16) -> Vec<u8> {
        let mut out = self.encode(from, to).to_vec();
        out.resize(usize::from(size).max(LEN), 0);
        // At most 65,535 less the header.
        let body = (out.len() - HEADER) as u16;
        out[4..6].copy_from_slice(&body.to_be_bytes());
        out
    }

    /// Reads a probe from `from` to `to`; padding after it is ignored. Nothing where it is anything else.
    #[must_use]
    pub fn decode(packet: &[u8], from: Ipv6Addr, to: Ipv6Addr) -> Option<Self> {
        let packet: &[u8; LEN] = packet.first_chunk()?;
        let addressed = packet[8..24] == from.octets() && packet[24..40] == to.octets();
        let body = &packet[HEADER..];
        if !is_probe(packet) || !addressed || body[..4] != MAGIC || body[4] != VERSION {
            return None;
        }
        let kind = match body[5] {
            ASK => Kind::Ask,
            ANSWER => Kind::Answer,
            SIZE_ASK => Kind::SizeAsk,
            SIZE_ANSWER => Kind::SizeAnswer,
            _ => return None,
        };
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&body[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        Some(Self {
            kind,
            seq: number(8),
            sent: Time::from_nanos(number(16)),
            echo: number(24),
            draining: body[6] & DRAINING != 0,
            healthy: body[6] & UNHEALTHY == 0,
            rx_packets: number(32),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Packet;

    const A: PublicKey = PublicKey([1; 32]);
    const B: PublicKey = PublicKey([2; 32]);

    fn probe() -> impl Strategy<Value = Probe> {
        (any::<[u64; 4]>(), any::<[bool; 3]>()).prop_map(
            |([seq, sent, echo, rx_packets], [answer, draining, healthy])| {
                let kind = match (answer, seq % 2 == 0) {
                    (true, true) => Kind::Answer,
                    (false, true) => Kind::Ask,
                    (true, false) => Kind::SizeAnswer,
                    (false, false) => Kind::SizeAsk,
                };
                Probe { kind, seq, sent: Time::from_nanos(sent), echo, draining, healthy, rx_packets }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read_by_its_receiver_only(probe in probe(), padding in 0_usize..2000) {
            let packet = probe.encode_padded(address(&A), address(&B), (LEN + padding) as u16);
            prop_assert!(is_probe(&packet) && Packet::parse(&packet).is_ok());
            prop_assert_eq!(packet.len(), LEN + padding);
            prop_assert_eq!(Probe::decode(&packet, address(&A), address(&B)), Some(probe));
            prop_assert_eq!(Probe::decode(&packet, address(&B), address(&A)), None);
            prop_assert_eq!(Probe::decode(&packet[..LEN - 1], address(&A), address(&B)), None);
        }

        #[test]
        fn garbage_is_no_probe_or_a_whole_one(mut data in proptest::collection::vec(any::<u8>(), 0..200), dress: bool) {
            let model = Probe { kind: Kind::Ask, seq: 0, sent: Time::START, echo: 0, draining: false, healthy: true, rx_packets: 0 };
            if dress {
                data.splice(0..data.len().min(HEADER + 5), model.encode(address(&A), address(&B)).into_iter().take(HEADER + 5));
            }
            if let Some(read) = Probe::decode(&data, address(&A), address(&B)) {
                prop_assert_eq!(Probe::decode(&read.encode(address(&A), address(&B)), address(&A), address(&B)), Some(read));
            }
        }
    }
}
