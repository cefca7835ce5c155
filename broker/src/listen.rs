//! Ports, connections and TLS. Whatever comes in costs bounded memory and time; only finished handshakes reach gRPC.
//!
//! Those who are unknown have places of their own: however many they are, members find theirs. What a connection may do is
//! in [`crate::peer`].

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_broker_pki::{PeerIdentity, Role, server};
use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, Reason};
use crate::peer::Peer;
use crate::rate::Limiter;
use crate::share::{Share, Shares};
use crate::{convert, state};

/// Handshakes under way at one time.
const MAX_HANDSHAKES: usize = 1_024;
/// Connections with a certificate at one time.
const MAX_CONNECTIONS: usize = 4_096;
/// Connections without one.
const MAX_ANONYMOUS: usize = 512;
/// Connections of one source at one time, and of those without a certificate.
const MAX_PER_SOURCE: usize = 512;
/// See [`MAX_PER_SOURCE`].
const MAX_ANONYMOUS_PER_SOURCE: usize = 64;
/// Connections of one cluster's identity: two agents, a renewal, an operator, and those that are just ending.
const MAX_PER_CLUSTER: usize = 16;
/// Connections of one administrator's: scripts run many commands at once.
const MAX_PER_ADMIN: usize = 128;
/// Connections that one source may open at once, and the time for one more.
const BURST: u32 = 1_000;
/// See [`BURST`].
const REFILL: Duration = Duration::from_millis(20);
/// Time for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

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

/// A connection's place among all, given back on drop.
struct Place {
    metrics: Metrics,
    _source: Share<IpNet>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

/// A place among those who are known, or among those who are not.
struct Seat {
    _of_all: OwnedSemaphorePermit,
    _of_key: Option<Share<[u8; 32]>>,
    _of_source: Option<Share<IpNet>>,
}

/// Hands connections of all ports to gRPC.
#[derive(Clone)]
pub(crate) struct Acceptor {
    tls: TlsAcceptor,
    handshakes: Arc<Semaphore>,
    known: Arc<Semaphore>,
    unknown: Arc<Semaphore>,
    sources: Shares<IpNet>,
    unknown_sources: Shares<IpNet>,
    keys: Shares<[u8; 32]>,
    rate: Arc<Limiter<IpNet>>,
    metrics: Metrics,
    accepted: mpsc::Sender<io::Result<Peer>>,
}

impl Acceptor {
    /// The receiver gets connections whose handshake is done.
    pub(crate) fn new(tls: TlsAcceptor, metrics: Metrics) -> (Self, mpsc::Receiver<io::Result<Peer>>) {
        let (accepted, receiver) = mpsc::channel(64);
        let acceptor = Self {
            tls,
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            known: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            unknown: Arc::new(Semaphore::new(MAX_ANONYMOUS)),
            sources: Shares::default(),
            unknown_sources: Shares::default(),
            keys: Shares::default(),
            rate: Arc::new(Limiter::new(BURST, REFILL)),
            metrics,
            accepted,
        };
        (acceptor, receiver)
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
            let source = convert::source(addr);
            if !self.rate.allow(source, Instant::now()) {
                self.refused("rate");
                continue;
            }
            let handshake = self.handshakes.clone().try_acquire_owned();
            let (Ok(handshake), Some(of_source)) = (handshake, self.sources.take(source, MAX_PER_SOURCE)) else {
                self.refused("limit");
                continue;
            };
            self.metrics.connections.inc();
            let place = Place { metrics: self.metrics.clone(), _source: of_source };
            let (acceptor, token) = (self.clone(), token.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = token.cancelled() => {}
                    () = acceptor.handshake(stream, addr, place, handshake) => {}
                }
            });
        }
    }

    async fn handshake(&self, stream: TcpStream, addr: SocketAddr, place: Place, handshake: OwnedSemaphorePermit) {
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
        drop(handshake);
        let Some(seat) = self.seat(addr, identity.as_ref()) else {
            return self.refused(if identity.is_some() { "limit_identity" } else { "limit_anonymous" });
        };
        let peer = Peer::new(stream, addr, identity, (seat, place));
        // No receiver: the server is ending.
        let _ = self.accepted.send(Ok(peer)).await;
    }

    fn seat(&self, addr: SocketAddr, identity: Option<&PeerIdentity>) -> Option<Seat> {
        let (all, of_key, of_source) = match identity {
            Some(PeerIdentity { identity, key_hash, .. }) => {
                let most = if matches!(identity.role, Role::Admin(_)) { MAX_PER_ADMIN } else { MAX_PER_CLUSTER };
                (&self.known, Some(self.keys.take(*key_hash, most)?), None)
            }
            None => {
                let share = self.unknown_sources.take(convert::source(addr), MAX_ANONYMOUS_PER_SOURCE)?;
                (&self.unknown, None, Some(share))
            }
        };
        let of_all = all.clone().try_acquire_owned().ok()?;
        Some(Seat { _of_all: of_all, _of_key: of_key, _of_source: of_source })
    }

    fn refused(&self, reason: &'static str) {
        self.metrics.connections_refused.get_or_create(&Reason { reason }).inc();
    }
}
