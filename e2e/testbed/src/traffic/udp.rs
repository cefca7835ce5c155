//! UDP: an echo server that says who asked, and numbered streams that measure.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

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

/// A busy machine may keep us from reading for a while; what came meanwhile was not lost on the way.
fn roomy(socket: &UdpSocket) -> Result<()> {
    setsockopt(socket, RcvBufForce, &(8 << 20)).context("Failed to make a socket's buffer large")
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
    host.run(move || {
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], port).into() } else { ([0u16; 8], port).into() };
        let socket = UdpSocket::bind(any)?;
        roomy(&socket)?;
        socket.connect(to).with_context(|| format!("No route to {to}"))?;
        Ok(socket)
    })
}

/// Numbered datagrams to an [`Echo`] and back, every 2 ms on each of several flows.
pub struct Stream {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Vec<u64>>,
    receiver: JoinHandle<Vec<Flow>>,
}

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
    /// When that began; none where nothing ever came back.
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

#[derive(Default)]
struct Flow {
    seen: Vec<bool>,
    highest: usize,
    received: u64,
    duplicates: u64,
    reordered: u64,
    last: Option<Instant>,
    longest_gap: Duration,
    gap_began: Option<Instant>,
}

/// Time between datagrams of a flow.
pub const PACE: Duration = Duration::from_millis(2);

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
        let sockets =
            flows.iter().map(|&(port, to)| connect_from(host, port, to)).collect::<Result<Vec<UdpSocket>>>()?;
        let outgoing = sockets.iter().map(UdpSocket::try_clone).collect::<std::io::Result<Vec<_>>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sending, receiving) = (Arc::clone(&stop), Arc::clone(&stop));
        Ok(Self {
            stop,
            sender: thread::spawn(move || send(&outgoing, &sending)),
            receiver: thread::spawn(move || receive(&sockets, &receiving)),
        })
    }

    /// Stops sending, waits for stragglers, sums up.
    ///
    /// # Errors
    /// When nothing came back at all.
    pub fn finish(self) -> Result<Loss> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().map_err(|_| anyhow::anyhow!("The sender panicked"))?;
        let flows = self.receiver.join().map_err(|_| anyhow::anyhow!("The receiver panicked"))?;
        let mut loss = Loss { sent: sent.iter().sum(), ..Loss::default() };
        for (flow, sent) in flows.into_iter().zip(&sent) {
            loss.lost_between = widest(loss.lost_between, flow.lost_between(*sent));
            loss.received += flow.received;
            loss.duplicates += flow.duplicates;
            loss.reordered += flow.reordered;
            if flow.longest_gap > loss.longest_gap {
                (loss.longest_gap, loss.gap_began) = (flow.longest_gap, flow.gap_began);
            }
        }
        ensure!(loss.received > 0, "Nothing came back: {loss:?}");
        Ok(loss)
    }
}

fn send(sockets: &[UdpSocket], stop: &AtomicBool) -> Vec<u64> {
    let mut sent = vec![0u64; sockets.len()];
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        for (socket, count) in sockets.iter().zip(&mut sent) {
            // An ICMP error of an earlier datagram may be reported here; the datagram counts as sent and lost.
            let _ = socket.send(&count.to_be_bytes());
            *count += 1;
        }
        next += PACE;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    sent
}

fn receive(sockets: &[UdpSocket], stop: &AtomicBool) -> Vec<Flow> {
    let start = Some(Instant::now());
    let mut flows: Vec<Flow> = sockets.iter().map(|_| Flow { last: start, ..Flow::default() }).collect();
    let mut end = None;
    for socket in sockets {
        socket.set_nonblocking(true).expect("UDP sockets can be non-blocking");
    }
    loop {
        if stop.load(Ordering::Relaxed) {
            let end = *end.get_or_insert_with(|| {
                let now = Instant::now();
                // A flow that is silent by now has been since it was last heard.
                flows.iter_mut().for_each(|flow| flow.pause(now));
                now + Duration::from_millis(500)
            });
            if Instant::now() >= end {
                return flows;
            }
        }
        let mut fds: Vec<_> = sockets.iter().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)).collect();
        let _ = poll(&mut fds, PollTimeout::from(50u8));
        let mut buffer = [0; 64];
        for (socket, flow) in sockets.iter().zip(&mut flows) {
            loop {
                match socket.recv(&mut buffer) {
                    Ok(8..) => flow.count(&buffer, stop.load(Ordering::Relaxed)),
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    // An ICMP error; what it is about was sent and lost.
                    Err(_) => {}
                }
            }
        }
    }
}

type Span = Option<(Duration, Duration)>;

fn widest(a: Span, b: Span) -> Span {
    a.into_iter().chain(b).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

impl Flow {
    fn lost_between(&self, sent: u64) -> Span {
        let lost = |number: &u64| usize::try_from(*number).is_ok_and(|n| !self.seen.get(n).copied().unwrap_or(false));
        let at = |number: u64| PACE * u32::try_from(number).unwrap_or(u32::MAX);
        Some((at((0..sent).find(lost)?), at((0..sent).rev().find(lost)?)))
    }

    /// Something came back, or sending ended.
    fn pause(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now)
            && now - last > self.longest_gap
        {
            (self.longest_gap, self.gap_began) = (now - last, Some(last));
        }
    }

    fn count(&mut self, datagram: &[u8; 64], ending: bool) {
        let number = u64::from_be_bytes(std::array::from_fn(|i| datagram[i]));
        let Ok(number) = usize::try_from(number) else { return };
        if !ending {
            self.pause(Instant::now());
        }
        if self.seen.len() <= number {
            self.seen.resize(number + 1, false);
        }
        if self.seen[number] {
            self.duplicates += 1;
            return;
        }
        self.seen[number] = true;
        self.received += 1;
        if number < self.highest {
            self.reordered += 1;
        }
        self.highest = self.highest.max(number);
    }
}
