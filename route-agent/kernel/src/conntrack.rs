//! UDP flows to virtual ports that are still translated to an endpoint which is not one any more. UDP has no end, so a client
//! that keeps its port would be sent there for as long as it tries; forgotten, its next packet finds another endpoint.
//!
//! Spoken over ctnetlink with messages made here: the netlink crates know routes only. Connections of other protocols end by
//! themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NlaBuffer, NlasIterator};
use rtnetlink::sys::{Socket, SocketAddr as Kernel, protocols::NETLINK_NETFILTER};

use crate::error::Error;

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const HEADER: usize = 16;
/// A netlink header and netfilter's own.
const PREFIX: usize = HEADER + 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const UDP: u8 = 17;

/// Which flows may go where.
pub(crate) type Flows = BTreeMap<SocketAddr, BTreeSet<SocketAddr>>;

/// One direction of a flow.
#[derive(Debug, PartialEq, Eq)]
struct Tuple {
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
}

/// Forgets UDP flows to virtual ports that go elsewhere than `flows` says; gives how many there were.
pub(crate) fn forget(flows: &Flows) -> Result<usize, Error> {
    let failed = |e| Error::io("forget UDP flows of endpoints that are gone")(e);
    if flows.is_empty() {
        return Ok(0);
    }
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed)?;
    socket.bind_auto().map_err(failed)?;
    let mut stale = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        send(&socket, &message(GET, NLM_F_REQUEST | NLM_F_DUMP, family, &[])).map_err(failed)?;
        receive(&socket, |entry| stale.extend(lost(entry, flows).map(|tuple| (family, tuple)))).map_err(failed)?;
    }
    for (family, tuple) in &stale {
        send(&socket, &message(DELETE, NLM_F_REQUEST | NLM_F_ACK, *family, tuple)).map_err(failed)?;
        match receive(&socket, |_| {}) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(stale.len())
}

fn message(kind: u16, flags: u16, family: i32, attributes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(PREFIX + attributes.len());
    let length = u32::try_from(PREFIX + attributes.len()).unwrap_or(u32::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([u8::try_from(family).unwrap_or_default(), 0, 0, 0]);
    message.extend(attributes);
    message
}

fn send(socket: &Socket, message: &[u8]) -> io::Result<()> {
    socket.send_to(message, &Kernel::new(0, 0), 0).map(drop)
}

/// Takes the answer to one request: each entry's attributes, until the end.
fn receive(socket: &Socket, mut entry: impl FnMut(&[u8])) -> io::Result<()> {
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let Some((header, _)) = rest.split_at_checked(HEADER) {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let Some(message) = rest.get(..length).filter(|m| m.len() >= HEADER) else { break };
            match u16::from_ne_bytes([header[4], header[5]]) {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = message.get(HEADER..PREFIX).and_then(|c| <[u8; 4]>::try_from(c).ok());
                    return match code.map_or(-libc::EIO, i32::from_ne_bytes) {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(-code)),
                    };
                }
                _ => entry(message.get(PREFIX..).unwrap_or_default()),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// The attribute that names the entry, if it is a flow to forget.
fn lost(entry: &[u8], flows: &Flows) -> Option<Vec<u8>> {
    let original = attribute(entry, TUPLE_ORIG)?;
    let (there, back) = (tuple(original.value())?, tuple(attribute(entry, TUPLE_REPLY)?.value())?);
    let allowed = flows.get(&there.destination).filter(|_| there.protocol == UDP)?;
    if allowed.contains(&back.source) {
        return None;
    }
    Some(original.into_inner().to_vec())
}

fn attribute(attributes: &[u8], kind: u16) -> Option<NlaBuffer<&[u8]>> {
    NlasIterator::new(attributes).filter_map(Result::ok).find(|a| a.kind() == kind)
}

fn tuple(attributes: &[u8]) -> Option<Tuple> {
    let (ip, proto) = (attribute(attributes, TUPLE_IP)?, attribute(attributes, TUPLE_PROTO)?);
    let address = |v4, v6| {
        let bytes = attribute(ip.value(), v4).or_else(|| attribute(ip.value(), v6))?;
        let bytes = bytes.value();
        let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
        v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
    };
    let port = |kind| {
        let port = attribute(proto.value(), kind)?;
        <[u8; 2]>::try_from(port.value()).ok().map(u16::from_be_bytes)
    };
    Some(Tuple {
        protocol: *attribute(proto.value(), 1)?.value().first()?,
        source: SocketAddr::new(address(1, 3)?, port(2)?),
        destination: SocketAddr::new(address(2, 4)?, port(3)?),
    })
}
