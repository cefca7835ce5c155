//! A UDP datagram in pieces, as a sender on a narrow link makes them, so that each can be sent by a way of its own.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail};

use super::frames::{OWN_ADDRESS, checksum};

const UDP: u8 = 17;
const HOPS: u8 = 64;
/// IPv6's next header of a fragment.
const FRAGMENT: u8 = 44;
/// Bytes of a datagram in each piece but the last: a multiple of 8 that fits any device of the testbed.
const PIECE: usize = 1000;

/// The fragments of a datagram (RFC 791; RFC 8200, section 4.5), in order. `id` tells datagrams of these hosts apart.
///
/// # Errors
/// When the addresses are of two families, or the datagram is too long for one.
pub fn of(from: SocketAddr, to: SocketAddr, id: u16, payload: &[u8]) -> Result<Vec<Vec<u8>>> {
    let addresses = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
        (from, to) => bail!("{from} and {to} are of two families"),
    };
    let whole = datagram(&addresses, [from.port(), to.port()], payload)?;
    let count = whole.len().div_ceil(PIECE);
    let header = if from.is_ipv4() { header4 } else { header6 };
    let pieces = whole.chunks(PIECE).enumerate();
    pieces.map(|(n, piece)| Ok([&header(&addresses, id, n, n + 1 < count, piece.len())?, piece].concat())).collect()
}

/// The frame that carries a packet to the host of that hardware address, e.g. `02:00:00:00:00:01`.
///
/// # Errors
/// When that is no hardware address.
pub fn frame(to: &str, packet: &[u8]) -> Result<Vec<u8>> {
    let octets = to.split(':').map(|part| u8::from_str_radix(part, 16)).collect::<Result<Vec<_>, _>>();
    let octets = octets.ok().filter(|octets| octets.len() == 6).with_context(|| format!("{to} is no address"))?;
    let kind: [u8; 2] = if packet.first().is_some_and(|first| first >> 4 == 4) { [8, 0] } else { [0x86, 0xdd] };
    Ok([&octets[..], &OWN_ADDRESS, &kind, packet].concat())
}

fn datagram(addresses: &[u8], ports: [u16; 2], payload: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(payload.len() + 8).context("Too long for a datagram")?;
    let mut datagram = [ports[0].to_be_bytes(), ports[1].to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
    datagram.extend_from_slice(payload);
    let sum = checksum(&[addresses, &[0, UDP], &length.to_be_bytes(), &datagram]);
    // A sum of zero would mean that there is none.
    datagram[6..8].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    Ok(datagram)
}

fn header4(addresses: &[u8], id: u16, n: usize, more: bool, piece: usize) -> Result<Vec<u8>> {
    let offset = u16::try_from(n * PIECE / 8)? | if more { 0x2000 } else { 0 };
    let mut header = vec![0x45, 0];
    header.extend([u16::try_from(20 + piece)?, id, offset].map(u16::to_be_bytes).concat());
    header.extend([HOPS, UDP, 0, 0]);
    header.extend_from_slice(addresses);
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Ok(header)
}

fn header6(addresses: &[u8], id: u16, n: usize, more: bool, piece: usize) -> Result<Vec<u8>> {
    let offset = u16::try_from(n * PIECE)? | u16::from(more);
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(u16::try_from(8 + piece)?.to_be_bytes());
    header.extend([FRAGMENT, HOPS]);
    header.extend_from_slice(addresses);
    header.extend([UDP, 0]);
    header.extend(offset.to_be_bytes());
    header.extend(u32::from(id).to_be_bytes());
    Ok(header)
}
