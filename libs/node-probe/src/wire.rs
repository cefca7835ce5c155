//! The encoding: big-endian, version first, lengths before contents, the seal last.
//!
//! `"HWNP" version:u8 kind:u8 instance:u64 counter:u64 node:name body tag:[u8; 32]`, with `name` = `len:u8 bytes`;
//! body of a question `seq:u64 echo:u64`, of an answer `asker:u64 seq:u64 page`, of a notice `page`, else empty;
//! `page` = `version:u64 flags:u8 part:u8 parts:u8 count:u16 (state:u8 mtu:u16 name)*`.

use hawser_liveness::ClusterState;
use hawser_model::{ClusterId, NodeName};

use crate::{Envelope, LivePage, Message, Reach};

/// The longest datagram, bytes: fits any MTU of `hawser-vx`.
pub const MAX_DATAGRAM: usize = 1200;
/// Bytes of the seal.
pub(crate) const TAG: usize = 32;

const MAGIC: &[u8; 4] = b"HWNP";
const VERSION: u8 = 2;
const DRAINING: u8 = 1;

const ASK: u8 = 1;
const ANSWER: u8 = 2;
const NOTICE: u8 = 3;
const GATEWAY_GONE: u8 = 4;

pub(crate) fn encode(envelope: &Envelope) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAX_DATAGRAM);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, kind(&envelope.message)]);
    put(&mut out, envelope.instance);
    put(&mut out, envelope.counter);
    put_name(&mut out, envelope.node.as_str());
    match &envelope.message {
        Message::Ask { seq, echo } => {
            put(&mut out, *seq);
            put(&mut out, *echo);
        }
        Message::Answer { asker, seq, page } => {
            put(&mut out, *asker);
            put(&mut out, *seq);
            put_page(&mut out, page);
        }
        Message::Notice { page } => put_page(&mut out, page),
        Message::GatewayGone => {}
    }
    out
}

/// Reads what [`encode`] writes, all of it; nothing where it is anything else.
pub(crate) fn decode(data: &[u8]) -> Option<Envelope> {
    let mut rest = Reader(data);
    if rest.take(MAGIC.len())? != MAGIC || rest.u8()? != VERSION {
        return None;
    }
    let kind = rest.u8()?;
    let (instance, counter) = (rest.u64()?, rest.u64()?);
    let node = NodeName::new(rest.name()?).ok()?;
    let message = match kind {
        ASK => Message::Ask { seq: rest.u64()?, echo: rest.u64()? },
        ANSWER => Message::Answer { asker: rest.u64()?, seq: rest.u64()?, page: rest.page()? },
        NOTICE => Message::Notice { page: rest.page()? },
        GATEWAY_GONE => Message::GatewayGone,
        _ => return None,
    };
    rest.0.is_empty().then_some(Envelope { node, instance, counter, message })
}

fn kind(message: &Message) -> u8 {
    match message {
        Message::Ask { .. } => ASK,
        Message::Answer { .. } => ANSWER,
        Message::Notice { .. } => NOTICE,
        Message::GatewayGone => GATEWAY_GONE,
    }
}

fn put(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.push(u8::try_from(name.len()).expect("names are at most 253 bytes"));
    out.extend_from_slice(name.as_bytes());
}

fn put_page(out: &mut Vec<u8>, page: &LivePage) {
    put(out, page.version);
    out.extend_from_slice(&[if page.draining { DRAINING } else { 0 }, page.part, page.parts]);
    let count = u16::try_from(page.clusters.len()).expect("a page holds some hundred clusters at most");
    out.extend_from_slice(&count.to_be_bytes());
    for (cluster, reach) in &page.clusters {
        out.push(state_number(reach.state));
        out.extend_from_slice(&reach.mtu.to_be_bytes());
        put_name(out, cluster.as_str());
    }
}

fn state_number(state: ClusterState) -> u8 {
    match state {
        ClusterState::Dark => 0,
        ClusterState::Unknown => 1,
        ClusterState::Held => 2,
        ClusterState::Live => 3,
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_be_bytes)
    }

    fn name(&mut self) -> Option<&'a str> {
        let len = self.u8()?;
        std::str::from_utf8(self.take(usize::from(len))?).ok()
    }

    fn page(&mut self) -> Option<LivePage> {
        let version = self.u64()?;
        let flags = self.u8()?;
        let (part, parts, count) = (self.u8()?, self.u8()?, self.u16()?);
        if part >= parts || flags & !DRAINING != 0 {
            return None;
        }
        let mut clusters = Vec::new();
        for _ in 0..count {
            let state = match self.u8()? {
                0 => ClusterState::Dark,
                1 => ClusterState::Unknown,
                2 => ClusterState::Held,
                3 => ClusterState::Live,
                _ => return None,
            };
            let mtu = self.u16()?;
            clusters.push((ClusterId::new(self.name()?).ok()?, Reach { state, mtu }));
        }
        Some(LivePage { version, draining: flags == DRAINING, part, parts, clusters })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn garbage_is_not_a_message_and_does_no_harm(mut data: Vec<u8>, kind in proptest::option::of(0_u8..6)) {
            if let Some(kind) = kind {
                let head = [b"HWNP\x02".as_slice(), &[kind], &[0; 16], b"\x04node"].concat();
                data.splice(0..0, head);
            }
            if let Some(envelope) = decode(&data) {
                prop_assert_eq!(encode(&envelope), data, "what is read is exactly what is written");
            }
        }
    }
}
