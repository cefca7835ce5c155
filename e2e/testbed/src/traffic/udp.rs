//! UDP: an echo server that says who asked, and numbered streams that measure.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hawser_drill::Total;
pub use hawser_drill::stream::PACE;
use hawser_drill::stream::{roomy, socket};

use crate::Netns;
use crate::traffic::plain;

/// Answers each datagram with itself; datagrams that begin with `?` with `server=<name> client=<address>`.
pub struct Echo {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

impl Echo {
    /// Binds `port` on both families.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(host: &Netns, port: u16, name: &str) -> Result<Self> {
        // One socket per address family: a reply leaves from the address that was asked.
        let stop = Arc::new(AtomicBool::new(false));
        let socket: UdpSocket = host.run(move || UdpSocket::bind(("::", port)))?;
        roomy(&socket)?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let answered = Arc::new(AtomicU64::new(0));
        let (name, flag, count) = (name.to_owned(), Arc::clone(&stop), Arc::clone(&answered));
        thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while !flag.load(Ordering::Relaxed) {
                let Ok((n, from)) = socket.recv_from(&mut buffer) else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                let who = format!("server={name} client={}", plain(from.ip()));
                let answer = if buffer.first() == Some(&b'?') { who.as_bytes() } else { &buffer[..n] };
                // No route back is what the client measures.
                let _ = socket.send_to(answer, from);
            }
        });
        Ok(Self { stop, answered })
    }

    /// Datagrams that came so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Asks an [`Echo`] who it is and who asks.
///
/// # Errors
/// When it does not answer within `limit`.
pub fn ask(host: &Netns, to: SocketAddr, limit: Duration) -> Result<String> {
    let socket = connect(host, to)?;
    socket.set_read_timeout(Some(limit))?;
    socket.send(b"?")?;
    let mut buffer = [0; 512];
    let n = socket.recv(&mut buffer).with_context(|| format!("{to} does not answer"))?;
    Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
}

/// Datagrams that sockets of a host had no room for: these were lost here, not on the way.
///
/// # Errors
/// When the kernel does not tell.
pub fn overflows(host: &Netns) -> Result<u64> {
    let [v4, v6] =
        host.run(|| ["snmp", "snmp6"].map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}"))));
    let (v4, v6) = (v4?, v6?);
    let mut udp = v4.lines().filter_map(|line| line.strip_prefix("Udp: ")).map(|line| line.split_whitespace());
    let (names, values) = (udp.next().context("no UDP")?, udp.next().context("no UDP counts")?);
    let of4 = names.zip(values).find(|(name, _)| *name == "RcvbufErrors").map(|(_, value)| value);
    let of6 = v6.lines().filter_map(|line| line.strip_prefix("Udp6RcvbufErrors")).map(str::trim).next();
    let count = |text: Option<&str>| text.context("no count of full buffers")?.parse::<u64>().context("not a number");
    Ok(count(of4)? + count(of6)?)
}

fn connect(host: &Netns, to: SocketAddr) -> Result<UdpSocket> {
    connect_from(host, 0, to)
}

fn connect_from(host: &Netns, port: u16, to: SocketAddr) -> Result<UdpSocket> {
    host.run(move || socket(port, to)).with_context(|| format!("No way to {to}"))
}

/// A socket for each of these ports (0: any), connected to that address.
///
/// # Errors
/// When there is no route, or a port is taken.
pub fn sockets(host: &Netns, flows: &[(u16, SocketAddr)]) -> Result<Vec<UdpSocket>> {
    flows.iter().map(|&(port, to)| connect_from(host, port, to)).collect()
}

/// Numbered datagrams to an [`Echo`] and back, every 2 ms on each of several flows.
pub struct Stream(hawser_drill::Stream);

/// How a stream went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loss {
    /// Datagrams sent.
    pub sent: u64,
    /// Different datagrams that came back.
    pub received: u64,
    /// Datagrams that came back more than once.
    pub duplicates: u64,
    /// Datagrams that came back after a later one of their flow.
    pub reordered: u64,
    /// The longest time that any flow got nothing back.
    pub longest_gap: Duration,
    /// When that began; none where nothing was sent.
    pub gap_began: Option<Instant>,
    /// When the first and the last of the lost ones were sent, since the start, about.
    pub lost_between: Option<(Duration, Duration)>,
}

impl Loss {
    /// Datagrams that never came back.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent - self.received
    }
}

impl Stream {
    /// Starts `flows` flows, each from a port of its own.
    ///
    /// # Errors
    /// When there is no route.
    pub fn start(host: &Netns, to: SocketAddr, flows: usize) -> Result<Self> {
        Self::start_from(host, &vec![(0, to); flows])
    }

    /// Starts one flow from each of these ports (0: any) to that address.
    ///
    /// # Errors
    /// When there is no route, or a port is taken.
    pub fn start_from(host: &Netns, flows: &[(u16, SocketAddr)]) -> Result<Self> {
        Self::start_on(sockets(host, flows)?)
    }

    /// Starts one flow on each of these connected sockets. The kernel may tell flows apart by their sockets, not only by their
    /// ports: whoever has seen the way of one has seen it for that socket.
    ///
    /// # Errors
    /// When a socket can't be made ready.
    pub fn start_on(sockets: Vec<UdpSocket>) -> Result<Self> {
        Ok(Self(hawser_drill::Stream::start(sockets, PACE)?))
    }

    /// Stops sending, waits for stragglers, sums up.
    ///
    /// # Errors
    /// When nothing came back at all.
    pub fn finish(self) -> Result<Loss> {
        let began = self.0.began();
        let Total { all, worst } = Total::of(&self.0.finish());
        let at = |number: u64| PACE * u32::try_from(number).unwrap_or(u32::MAX);
        let loss = Loss {
            sent: all.sent,
            received: all.received,
            duplicates: all.duplicates,
            reordered: all.reordered,
            longest_gap: all.longest_gap,
            gap_began: worst.map(|_| began + all.gap_at),
            lost_between: all.lost_between.map(|(first, last)| (at(first), at(last))),
        };
        ensure!(loss.received > 0, "Nothing came back: {loss:?}");
        Ok(loss)
    }
}
