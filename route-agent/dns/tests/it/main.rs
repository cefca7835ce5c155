//! The DNS server on real sockets: loopback, ports of its own.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;
mod server;
mod table;
