//! Servers, clients and streams. Sockets are opened inside a namespace and used from threads of the test.
//!
//! - [`http`]: a server that says who asked; a client; a paced download that measures stalls.
//! - [`udp`]: an echo server; numbered streams over many flows that measure gaps, losses, order.
//! - [`tcp`]: connections that stay, to see which ones live.
//! - [`raw`]: any IP protocol by address: SCTP's number where the kernel has no SCTP, 253, ICMP.
//! - [`dns`]: one question, one answer.
//! - [`frames`]: what an attacker on the wire sends.
//! - [`fragments`]: a datagram in pieces, each to be sent by a way of its own.
//! - [`admin`]: a process's admin socket.

pub mod admin;
pub mod dns;
pub mod fragments;
pub mod frames;
pub mod http;
pub mod raw;
pub mod tcp;
pub mod udp;

use std::net::IpAddr;

/// The address without the IPv4-in-IPv6 form that dual-stack sockets give.
pub(crate) fn plain(addr: IpAddr) -> IpAddr {
    addr.to_canonical()
}
