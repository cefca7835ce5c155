//! ICMP errors of the gateway's own: sent by the host's stack, which takes no packet with an address of its own from the TUN.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// Sends whole IP packets that carry this host's own source address.
pub(crate) struct RawSender {
    v4: Socket,
    /// None on a host without IPv6.
    v6: Option<Socket>,
}

impl RawSender {
    pub(crate) fn open() -> io::Result<Self> {
        let raw = Protocol::from(libc::IPPROTO_RAW);
        let open = |domain| Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(raw));
        let v4 = open(Domain::IPV4)?;
        v4.set_header_included_v4(true)?;
        let v6 = match open(Domain::IPV6) {
            Ok(socket) => {
                socket.set_header_included_v6(true)?;
                Some(socket)
            }
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            Err(e) => return Err(e),
        };
        Ok(Self { v4, v6 })
    }

    /// Sends `packet` to `to`; losing it does no harm, so errors are for the log only.
    pub(crate) fn send(&self, packet: &[u8], to: IpAddr) {
        let socket = if to.is_ipv4() { Some(&self.v4) } else { self.v6.as_ref() };
        let sent = socket.map(|s| s.send_to(packet, &SocketAddr::new(to, 0).into()));
        if let Some(Err(error)) = sent {
            tracing::debug!(%to, %error, "an ICMP error was not sent");
        }
    }
}
