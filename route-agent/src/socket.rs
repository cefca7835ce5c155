//! The node probes' socket: UDP on `hawser-vx` and nothing else.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use hawser_model::NodeName;
use hawser_model::defaults::{NODE_NOTICE_PORT, NODE_PROBE_PORT, VXLAN_DEVICE};
use hawser_node_probe::{MAX_DATAGRAM, link_local};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// A socket on one life of the device: a new device needs a new socket.
pub(crate) struct ProbeSocket {
    socket: UdpSocket,
    index: u32,
}

impl ProbeSocket {
    /// Binds [`NODE_NOTICE_PORT`] on the device, whose index is `index` now.
    pub(crate) fn bind(index: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.bind_device(Some(VXLAN_DEVICE.as_bytes()))?;
        let address = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, NODE_NOTICE_PORT, 0, 0);
        socket.bind(&address.into())?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, index })
    }

    /// The device's index when it was bound.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Asks a gateway. A full queue or a way that is not there yet is a lost packet.
    pub(crate) fn ask(&self, gateway: &NodeName, datagram: &[u8]) {
        self.send(gateway, NODE_PROBE_PORT, datagram);
    }

    /// Tells a node's route agent.
    pub(crate) fn tell(&self, node: &NodeName, datagram: &[u8]) {
        self.send(node, NODE_NOTICE_PORT, datagram);
    }

    fn send(&self, node: &NodeName, port: u16, datagram: &[u8]) {
        let to = SocketAddrV6::new(link_local(node), port, 0, self.index);
        if let Err(error) = self.socket.try_send_to(datagram, to.into()) {
            tracing::trace!(%node, %error, "datagram not sent");
        }
    }

    /// The next datagram, with the link-local address that it came from.
    pub(crate) async fn receive(&self, buffer: &mut [u8; MAX_DATAGRAM + 1]) -> io::Result<(usize, Ipv6Addr)> {
        let (length, from) = self.socket.recv_from(buffer).await?;
        Ok(match from {
            SocketAddr::V6(from) => (length, *from.ip()),
            SocketAddr::V4(from) => (length, from.ip().to_ipv6_mapped()),
        })
    }
}
