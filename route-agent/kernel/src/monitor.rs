//! Devices and addresses that come and go.

use futures::{StreamExt as _, channel::mpsc::UnboundedReceiver};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::SocketAddr;
use rtnetlink::{MulticastGroup, new_multicast_connection};

use crate::error::Error;
use crate::link;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A device appeared or changed.
    Device(String),
    /// A device is gone.
    DeviceGone(String),
    /// An address came, changed or went.
    Address,
}

/// Tells of devices and addresses as the kernel does.
pub struct Monitor {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    connection: tokio::task::JoinHandle<()>,
}

impl Monitor {
    /// Listens from now on, in the network namespace of this thread.
    ///
    /// # Errors
    /// When the socket can't be opened.
    pub fn open() -> Result<Self, Error> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, _, messages) =
            new_multicast_connection(&groups).map_err(Error::io("listen for changes of devices"))?;
        Ok(Self { messages, connection: tokio::spawn(connection) })
    }

    /// The next event; none when the socket ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let (message, _) = self.messages.next().await?;
            let NetlinkPayload::InnerMessage(inner) = message.payload else { continue };
            match inner {
                RouteNetlinkMessage::NewLink(l) => {
                    if let Some(name) = link::name(&l) {
                        return Some(Event::Device(name.to_owned()));
                    }
                }
                RouteNetlinkMessage::DelLink(l) => {
                    if let Some(name) = link::name(&l) {
                        return Some(Event::DeviceGone(name.to_owned()));
                    }
                }
                RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => return Some(Event::Address),
                _ => {}
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
