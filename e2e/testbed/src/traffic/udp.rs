//! UDP: an echo server that says who asked, and numbered streams that measure.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::Netns;
use crate::traffic::plain;

/// Answers each datagram with itself; datagrams that begin with `?` with `server=<name> client=<address>`.
pub struct Echo {
    stop: Arc<AtomicBool>,
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
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let (name, flag) = (name.to_owned(), Arc::clone(&stop));
        thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while !flag.load(Ordering::Relaxed) {
                let Ok((n, from)) = socket.recv_from(&mut buffer) else { continue };
                let who = format!("server={name} client={}", plain(from.ip()));
                let answer = if buffer.first() == Some(&b'?') { who.as_bytes() } else { &buffer[..n] };
                // No route back is what the client measures.
                let _ = socket.send_to(answer, from);
            }
        });
        Ok(Self { stop })
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

fn connect(host: &Netns, to: SocketAddr) -> Result<UdpSocket> {
    host.run(move || {
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
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
}

/// Time between datagrams of a flow.
pub const PACE: Duration = Duration::from_millis(2);

impl Stream {
    /// Starts `flows` flows, each from a port of its own.
    ///
    /// # Errors
    /// When there is no route.
    pub fn start(host: &Netns, to: SocketAddr, flows: usize) -> Result<Self> {
        let sockets = (0..flows).map(|_| connect(host, to)).collect::<Result<Vec<_>>>()?;
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
        for flow in flows {
            loss.received += flow.received;
            loss.duplicates += flow.duplicates;
            loss.reordered += flow.reordered;
            loss.longest_gap = loss.longest_gap.max(flow.longest_gap);
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
    let mut flows: Vec<Flow> = sockets.iter().map(|_| Flow::default()).collect();
    let mut end = None;
    for socket in sockets {
        socket.set_nonblocking(true).expect("UDP sockets can be non-blocking");
    }
    loop {
        if stop.load(Ordering::Relaxed) {
            let end = *end.get_or_insert_with(|| Instant::now() + Duration::from_millis(500));
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

impl Flow {
    fn count(&mut self, datagram: &[u8; 64], ending: bool) {
        let number = u64::from_be_bytes(std::array::from_fn(|i| datagram[i]));
        let Ok(number) = usize::try_from(number) else { return };
        let now = Instant::now();
        if let Some(last) = self.last
            && !ending
        {
            self.longest_gap = self.longest_gap.max(now - last);
        }
        self.last = Some(now);
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
