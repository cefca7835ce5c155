//! Ports, connections and TLS. Whatever comes in costs bounded memory and time; only finished handshakes reach gRPC.
//!
//! Who has no certificate may only join, and has [`ANONYMOUS`] for it.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hawser_broker_pki::{PeerIdentity, server};
use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::metrics::{Metrics, Reason};
use crate::{convert, state};

/// Connections at one time.
const MAX_CONNECTIONS: usize = 4_096;
/// Connections of one source at one time.
const MAX_PER_SOURCE: usize = 512;
/// Time for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Life of a connection without a certificate.
const ANONYMOUS: Duration = Duration::from_secs(30);

/// Binds one address; `[::]` takes IPv4 too, and stands for `0.0.0.0` where the machine has no IPv6.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    match bind_one(addr) {
        Err(error) if addr.ip().is_unspecified() && addr.is_ipv6() && no_ipv6(&error) => {
            bind_one(SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port())))
        }
        other => other,
    }
}

fn bind_one(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1_024)?;
    TcpListener::from_std(socket.into())
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::AddrNotAvailable)
        || error.to_string().contains("Address family not supported")
}

/// What the services know of a caller.
#[derive(Debug, Clone)]
pub(crate) struct PeerInfo {
    /// Its address.
    pub(crate) addr: SocketAddr,
    /// Who it is, by the certificate it showed.
    pub(crate) identity: Option<PeerIdentity>,
}

/// A connection whose handshake is done.
pub(crate) struct Peer {
    stream: TlsStream<TcpStream>,
    info: PeerInfo,
    deadline: Option<Pin<Box<Sleep>>>,
    _slot: Slot,
}

impl Connected for Peer {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no certificate, and its time is over")));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
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

/// A place among the connections, given back on drop.
struct Slot {
    source: IpNet,
    sources: Arc<Mutex<HashMap<IpNet, usize>>>,
    metrics: Metrics,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.metrics.connections.dec();
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// Hands connections of all ports to gRPC.
#[derive(Clone)]
pub(crate) struct Acceptor {
    tls: TlsAcceptor,
    slots: Arc<Semaphore>,
    sources: Arc<Mutex<HashMap<IpNet, usize>>>,
    metrics: Metrics,
    accepted: mpsc::Sender<io::Result<Peer>>,
}

impl Acceptor {
    /// The receiver gets connections whose handshake is done.
    pub(crate) fn new(tls: TlsAcceptor, metrics: Metrics) -> (Self, mpsc::Receiver<io::Result<Peer>>) {
        let (accepted, receiver) = mpsc::channel(64);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        (Self { tls, slots, sources: Arc::default(), metrics, accepted }, receiver)
    }

    /// Accepts on one port until the token is cancelled.
    pub(crate) async fn run(self, listener: TcpListener, token: CancellationToken) -> anyhow::Result<()> {
        loop {
            let (stream, addr) = tokio::select! {
                () = token.cancelled() => return Ok(()),
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "can't accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let Some(slot) = self.slot(addr) else {
                self.refused("limit");
                continue;
            };
            let (acceptor, token) = (self.clone(), token.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = token.cancelled() => {}
                    () = acceptor.handshake(stream, addr, slot) => {}
                }
            });
        }
    }

    fn slot(&self, addr: SocketAddr) -> Option<Slot> {
        let source = convert::source(addr);
        let permit = self.slots.clone().try_acquire_owned().ok()?;
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(source).or_default();
        if *count >= MAX_PER_SOURCE {
            return None;
        }
        *count += 1;
        self.metrics.connections.inc();
        Some(Slot { source, sources: self.sources.clone(), metrics: self.metrics.clone(), _permit: permit })
    }

    async fn handshake(&self, stream: TcpStream, addr: SocketAddr, slot: Slot) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%addr, %error, "no TCP_NODELAY");
        }
        let stream = match tokio::time::timeout(HANDSHAKE, self.tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%addr, %error, "TLS handshake failed");
                return self.refused("handshake");
            }
            Err(_) => return self.refused("handshake_timeout"),
        };
        let identity = match server::peer(stream.get_ref().1, state::now()) {
            Ok(identity) => identity,
            Err(error) => {
                tracing::debug!(%addr, %error, "certificate refused");
                return self.refused("certificate");
            }
        };
        let deadline = identity.is_none().then(|| Box::pin(tokio::time::sleep(ANONYMOUS)));
        let peer = Peer { stream, info: PeerInfo { addr, identity }, deadline, _slot: slot };
        // No receiver: the server is ending.
        let _ = self.accepted.send(Ok(peer)).await;
    }

    fn refused(&self, reason: &'static str) {
        self.metrics.connections_refused.get_or_create(&Reason { reason }).inc();
    }
}
