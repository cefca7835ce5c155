//! The admin endpoint of a process: HTTP/1 on a unix socket (mode 0600) or a TCP port.
//!
//! - `/metrics`: OpenMetrics text;
//! - `/ready`: 200 when ready, else 503 and what is awaited;
//! - `/live`: 200 while the process answers at all;
//! - whatever pages the process adds.
//!
//! It is bound early ([`Server::bind`]), so that a port in use is a start-up error, and answers later ([`Server::serve`]).

mod addr;
mod listener;
mod server;

pub use addr::{AdminAddr, AdminArgs, InvalidAdminAddr};
pub use listener::BindError;
pub use server::Server;
