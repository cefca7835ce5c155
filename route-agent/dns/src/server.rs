//! The sockets: every query is answered where it is read, since an answer is a look into a table.
//!
//! One task per UDP socket and per TCP listener; TCP connections are bounded in number and in idle time.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clients::Clients;
use crate::counters::Counters;
use crate::respond::{Transport, respond};
use crate::zone::Zone;

/// How long a TCP client may take for a query, or leave an answer unread.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long connections may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(1);
/// Pause after a socket error that is likely to persist, such as too many open files.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// Largest datagram with everything the kernel may have merged into it.
const UDP_BUFFER: usize = 64 * 1024;

/// Binds UDP and TCP on each address. IPv6 sockets take IPv6 only, so `0.0.0.0` and `[::]` go together.
///
/// # Errors
/// The first address that can't be bound, with its protocol.
pub fn bind(addresses: &[SocketAddr]) -> io::Result<(Vec<UdpSocket>, Vec<TcpListener>)> {
    let (mut udp, mut tcp) = (Vec::new(), Vec::new());
    for address in addresses {
        let named =
            |protocol| move |e: io::Error| io::Error::new(e.kind(), format!("DNS on {protocol} {address}: {e}"));
        let stream = socket(*address, Type::STREAM).and_then(|s| s.listen(128).map(|()| s)).map_err(named("TCP"))?;
        // Port 0 is for tests: UDP gets the number that TCP got.
        let bound = stream.local_addr()?.as_socket().unwrap_or(*address);
        udp.push(UdpSocket::from_std(socket(bound, Type::DGRAM).map_err(named("UDP"))?.into())?);
        tcp.push(TcpListener::from_std(stream.into())?);
    }
    Ok((udp, tcp))
}

fn socket(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking().cloexec(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Serves until `stop` is cancelled, then ends connections after the query they are at, within a second.
///
/// # Errors
/// A socket can't be set up; errors of single queries, clients and connections are not errors of the server.
pub async fn serve(
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    zone: watch::Receiver<Arc<Zone>>,
    counters: Arc<Counters>,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut tasks = JoinSet::new();
    let shared = Shared { zone, counters, stop, clients: Arc::default() };
    for socket in udp {
        tasks.spawn(shared.clone().serve_udp(socket));
    }
    for listener in tcp {
        tasks.spawn(shared.clone().serve_tcp(listener));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    Ok(())
}

/// What every task of the server has.
#[derive(Clone)]
struct Shared {
    zone: watch::Receiver<Arc<Zone>>,
    counters: Arc<Counters>,
    stop: CancellationToken,
    clients: Arc<Clients>,
}

impl Shared {
    fn zone(&self) -> Arc<Zone> {
        self.zone.borrow().clone()
    }

    async fn serve_udp(self, socket: UdpSocket) -> io::Result<()> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let mut buffers = vec![[0; UDP_BUFFER]; BATCH_SIZE];
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                ready = socket.readable() => ready?,
            }
            let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
            let received =
                socket.try_io(Interest::READABLE, || state.recv(UdpSockRef::from(&socket), &mut slices, &mut metas));
            match received {
                Ok(count) => {
                    let zone = self.zone();
                    for (meta, buffer) in metas.iter().zip(&buffers).take(count) {
                        self.answer_datagrams(&zone, &socket, &state, meta, &buffer[..meta.len]);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::debug!(%error, "can't read DNS queries");
                    sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    /// Answers what came in one read: several datagrams of one client if the kernel merged them.
    fn answer_datagrams(&self, zone: &Zone, socket: &UdpSocket, state: &UdpSocketState, meta: &RecvMeta, bytes: &[u8]) {
        for query in bytes.chunks(meta.stride.max(1)) {
            let Some(contents) = respond(zone, query, Transport::Udp, &self.counters) else { continue };
            let answer = Transmit {
                destination: meta.addr,
                ecn: None,
                contents: &contents,
                segment_size: None,
                // From the address that was asked: a client, and any NAT between, takes no other.
                src_ip: meta.dst_ip,
            };
            let sent = socket.try_io(Interest::WRITABLE, || state.try_send(UdpSockRef::from(socket), &answer));
            if let Err(error) = sent {
                self.counters.count_unsent();
                tracing::debug!(%error, client = %meta.addr, "can't send a DNS answer");
            }
        }
    }

    async fn serve_tcp(self, listener: TcpListener) -> io::Result<()> {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => match self.clients.admit(client.ip()) {
                    Some(admitted) => {
                        let shared = self.clone();
                        connections.spawn(async move {
                            let _admitted = admitted;
                            if let Err(error) = shared.serve_client(stream).await {
                                tracing::debug!(%error, %client, "DNS connection ended");
                            }
                        });
                    }
                    None => self.counters.count_refused_connection(),
                },
                Err(error) => {
                    tracing::debug!(%error, "can't accept DNS connections");
                    sleep(ERROR_PAUSE).await;
                }
            }
        }
        let ended = async { while connections.join_next().await.is_some() {} };
        if timeout(GRACE, ended).await.is_err() {
            tracing::debug!("DNS connections cut in the middle of a query");
        }
        Ok(())
    }

    async fn serve_client(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut query = Vec::new();
        loop {
            let length = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                length = timeout(PATIENCE, stream.read_u16()) => length?,
            };
            let length = match length {
                Ok(length) => usize::from(length),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(e) => return Err(e),
            };
            query.resize(length, 0);
            timeout(PATIENCE, stream.read_exact(&mut query)).await??;
            let zone = self.zone();
            let Some(answer) = respond(&zone, &query, Transport::Tcp, &self.counters) else { return Ok(()) };
            let prefix = u16::try_from(answer.len()).map_err(io::Error::other)?.to_be_bytes();
            timeout(PATIENCE, stream.write_all(&[&prefix, answer.as_slice()].concat())).await??;
        }
    }
}
