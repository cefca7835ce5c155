//! Any IP protocol by address, over raw sockets: the numbers of SCTP (132) and of experiments (253), and ICMP.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::Netns;
use crate::traffic::frames::checksum;
use crate::traffic::plain;

const QUESTION: &[u8] = b"hawser?";

/// Answers raw packets of one protocol that begin with a question, on both families, with the address they came from.
pub struct Echo {
    stop: Arc<AtomicBool>,
}

impl Echo {
    /// Starts answering.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn start(host: &Netns, protocol: u8) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for domain in [Domain::IPV4, Domain::IPV6] {
            let socket = raw(host, domain, protocol)?;
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((payload, from)) = receive(&socket, domain)
                        && payload == QUESTION
                    {
                        let answer = format!("client={}", plain(from));
                        // No route back is what the client measures.
                        let _ = socket.send_to(answer.as_bytes(), &SockAddr::from(SocketAddr::new(from, 0)));
                    }
                }
            });
        }
        Ok(Self { stop })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Asks an [`Echo`] who asks.
///
/// # Errors
/// When it does not answer within `limit`.
pub fn ask(host: &Netns, to: IpAddr, protocol: u8, limit: Duration) -> Result<String> {
    let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = raw(host, domain, protocol)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let end = Instant::now() + limit;
    while Instant::now() < end {
        // Asked again after each silence: one packet lost on a busy machine is not what this is about.
        socket.send_to(QUESTION, &SockAddr::from(SocketAddr::new(to, 0)))?;
        if let Ok((payload, from)) = receive(&socket, domain)
            && from == to
            && payload.starts_with(b"client=")
        {
            return Ok(String::from_utf8_lossy(&payload).into_owned());
        }
    }
    bail!("{to} does not answer protocol {protocol}")
}

/// Sends an echo request to `to` on `server` and gives the source address that `server` saw, once the reply is back.
///
/// # Errors
/// When there is no reply within `limit`.
pub fn ping(host: &Netns, server: &Netns, to: IpAddr, limit: Duration) -> Result<IpAddr> {
    let (domain, protocol, request, reply) = match to {
        IpAddr::V4(_) => (Domain::IPV4, 1, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, 58, 128, 129),
    };
    let (socket, observer) = (raw(host, domain, protocol)?, raw(server, domain, protocol)?);
    for socket in [&socket, &observer] {
        socket.set_read_timeout(Some(limit))?;
    }
    let mut packet = vec![request, 0, 0, 0, 0x48, 0x57, 0, 1];
    packet.extend_from_slice(QUESTION);
    if to.is_ipv4() {
        let sum = checksum(&[&packet]);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    socket.send_to(&packet, &SockAddr::from(SocketAddr::new(to, 0)))?;
    let seen = first(&observer, domain, request, limit).with_context(|| format!("{to} saw no echo request"))?;
    let from = first(&socket, domain, reply, limit).with_context(|| format!("No echo reply from {to}"))?;
    anyhow::ensure!(from == to, "the reply came from {from}");
    Ok(seen)
}

fn first(socket: &Socket, domain: Domain, kind: u8, limit: Duration) -> Result<IpAddr> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        let (payload, from) = receive(socket, domain)?;
        if payload.first() == Some(&kind) && payload.ends_with(QUESTION) {
            return Ok(plain(from));
        }
    }
    bail!("nothing within {limit:?}")
}

fn raw(host: &Netns, domain: Domain, protocol: u8) -> Result<Socket> {
    host.run(move || Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol)))))
        .context("Failed to open a raw socket")
}

/// One packet's payload: raw IPv4 sockets give the header, too.
fn receive(socket: &Socket, domain: Domain) -> Result<(Vec<u8>, IpAddr)> {
    let mut buffer = [MaybeUninit::new(0u8); 2048];
    let (n, from) = socket.recv_from(&mut buffer)?;
    #[expect(unsafe_code, reason = "socket2 reads into possibly uninitialised bytes")]
    // SAFETY: every byte was initialised above.
    let bytes: Vec<u8> = buffer[..n].iter().map(|b| unsafe { b.assume_init() }).collect();
    let header =
        if domain == Domain::IPV4 { usize::from(bytes.first().context("An empty packet")? & 15) * 4 } else { 0 };
    let from = from.as_socket().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |a| a.ip());
    let from = if let IpAddr::V6(v6) = from { IpAddr::V6(Ipv6Addr::from(v6.octets())) } else { from };
    Ok((bytes.get(header..).unwrap_or_default().to_vec(), from))
}
