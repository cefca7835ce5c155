//! TCP and TLS to whichever broker answers first. Attempts start a quarter of a second apart, in the order of the list,
//! so that a silent address costs no more than that.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hawser_model::defaults::OUTER_MARK;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::address::BrokerAddress;
use crate::{Error, tls};

/// How long one address may take for TCP and TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection is probed when nothing came for so long, and given up when a probe got no answer for as long again.
pub const KEEPALIVE: Duration = Duration::from_secs(5);
const STAGGER: Duration = Duration::from_millis(250);
/// Names may resolve to many addresses; this many attempts are enough.
const MAX_ATTEMPTS: usize = 16;

type Stream = TlsStream<TcpStream>;

/// A channel to one of the brokers, connected. When the connection is lost the next call dials all of them again.
///
/// # Errors
/// [`Error::Unreachable`] with what happened at each address.
pub async fn channel(brokers: Vec<BrokerAddress>, config: Arc<ClientConfig>) -> Result<Channel, Error> {
    let first = dial(&brokers, &config).await?;
    let first = Mutex::new(Some(first));
    let brokers: Arc<[BrokerAddress]> = brokers.into();
    let connector = tower::service_fn(move |_| {
        let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (brokers, config) = (Arc::clone(&brokers), Arc::clone(&config));
        async move {
            let stream = match ready {
                Some(stream) => stream,
                None => dial(&brokers, &config).await?,
            };
            Ok::<_, Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from_static("http://hawser-broker") // TLS is the connector's
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|e| Error::Unreachable { attempts: vec![format!("HTTP/2: {}", causes(&e))] })
}

/// A TLS connection to the first broker that completes the handshake.
async fn dial(brokers: &[BrokerAddress], config: &Arc<ClientConfig>) -> Result<Stream, Error> {
    let mut failures = Vec::new();
    let mut attempts = JoinSet::new();
    let mut count = 0;
    for broker in brokers {
        let addresses = match timeout(CONNECT_TIMEOUT, resolve(broker)).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                failures.push(format!("{broker}: {error}"));
                continue;
            }
            Err(_) => {
                failures.push(format!("{broker}: its name took too long to resolve"));
                continue;
            }
        };
        for address in addresses {
            if count == MAX_ATTEMPTS {
                break;
            }
            let (wait, config) = (STAGGER * count as u32, Arc::clone(config));
            count += 1;
            attempts.spawn(async move {
                sleep(wait).await;
                timeout(CONNECT_TIMEOUT, connect(address, config))
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                    .map_err(|error| format!("{address}: {}", explain(&error)))
            });
        }
    }
    while let Some(result) = attempts.join_next().await {
        match result {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(failure)) => failures.push(failure),
            Err(error) => failures.push(error.to_string()),
        }
    }
    Err(Error::Unreachable { attempts: failures })
}

async fn resolve(broker: &BrokerAddress) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((broker.host.as_str(), broker.port)).await?.collect())
}

async fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> io::Result<Stream> {
    let tcp = socket(address)?.connect(address).await?;
    TlsConnector::from(config).connect(tls::broker_name(), tcp).await
}

/// A socket whose packets never enter a tunnel of ours, and that notices a dead peer while it has data to send.
fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    match socket.set_mark(OUTER_MARK) {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
        Ok(()) | Err(_) => {} // without the privilege there is no tunnel of ours here either
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(KEEPALIVE * 2))?;
    socket.set_nonblocking(true)?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// TLS errors in an operator's words.
fn explain(error: &io::Error) -> String {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext, UnknownIssuer};
    let tls = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(UnknownIssuer)) => {
            "it is not this cluster set's broker (its CA is another one)".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
        )) => "its certificate is not valid at this time; compare this machine's clock with the broker's".to_owned(),
        Some(_) | None => error.to_string(),
    }
}

/// An error and its causes on one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}
