//! One connection whose handshake is done, as gRPC sees it.
//!
//! Who has shown no certificate may only join: it has [`ANONYMOUS`] and [`ANONYMOUS_BYTES`] for it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hawser_broker_pki::PeerIdentity;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// Life of a connection without a certificate.
const ANONYMOUS: Duration = Duration::from_secs(30);
/// Bytes taken from a connection without a certificate; a join with all the prefixes there can be is a third of it.
pub(crate) const ANONYMOUS_BYTES: usize = 64 << 10;

/// What the services know of a caller.
#[derive(Debug, Clone)]
pub(crate) struct PeerInfo {
    /// Its address.
    pub(crate) addr: SocketAddr,
    /// Who it is, by the certificate it showed.
    pub(crate) identity: Option<PeerIdentity>,
}

/// See the module.
pub(crate) struct Peer {
    stream: TlsStream<TcpStream>,
    info: PeerInfo,
    anonymous: Option<Anonymous>,
    /// Its places among the connections, given back with it.
    _places: Box<dyn Send + Sync>,
}

/// What is left to somebody who is not known.
struct Anonymous {
    deadline: Pin<Box<Sleep>>,
    bytes: usize,
}

impl Peer {
    pub(crate) fn new(
        stream: TlsStream<TcpStream>,
        addr: SocketAddr,
        identity: Option<PeerIdentity>,
        places: impl Send + Sync + 'static,
    ) -> Self {
        let anonymous = || Anonymous { deadline: Box::pin(tokio::time::sleep(ANONYMOUS)), bytes: ANONYMOUS_BYTES };
        let anonymous = identity.is_none().then(anonymous);
        Self { stream, info: PeerInfo { addr, identity }, anonymous, _places: Box::new(places) }
    }
}

impl Connected for Peer {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for Peer {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(anonymous) = &mut this.anonymous else {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        };
        if anonymous.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no certificate, and its time is over")));
        }
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        match anonymous.bytes.checked_sub(read) {
            Some(left) => anonymous.bytes = left,
            None => return Poll::Ready(Err(io::Error::other("no certificate, and more than a join takes"))),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
