//! The DNS server on real sockets: loopback, ports of its own.

mod common;
mod server;
mod table;
