//! Datagrams at a steady pace on many flows, and the count of what comes back. What counts is in [`crate::tally`].

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce};

use crate::tally::{Flow, Tally};

/// The pace of drills: between two datagrams of a flow.
pub const PACE: Duration = Duration::from_millis(2);
/// How long stragglers are waited for, since the last one came.
const STRAGGLERS: Duration = Duration::from_millis(500);
/// How long at most: where they still come after this, that is what is to be told.
const STRAGGLERS_MAX: Duration = Duration::from_secs(5);
/// Rounds that a sender makes up for at most, after it was held up: more at once would fill queues that a steady pace does not,
/// and it is the way that is to be measured.
const CATCH_UP: u32 = 5;
/// Between looks at whether sending has ended.
const LOOK: u8 = 50;
/// A number and the stream's mark.
pub const LENGTH: usize = 16;

/// A running stream. Dropping it ends it.
pub struct Stream {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    sockets: Vec<UdpSocket>,
    tallies: Vec<Mutex<Tally>>,
    start: Instant,
    /// Strangers and earlier streams have other marks.
    mark: [u8; 8],
    stop: AtomicBool,
}

/// How a stream stands; see [`Stream::now`].
#[derive(Debug, Clone)]
pub struct Now {
    /// Since it began.
    pub elapsed: Duration,
    /// What became of each flow so far; what is under way counts as lost.
    pub flows: Vec<Flow>,
    /// How long each flow has been silent.
    pub silence: Vec<Duration>,
}

/// A socket for one flow: bound to `port` (0: any), connected to `to`, with room for what comes while this machine is busy.
///
/// # Errors
/// When the port is taken, or there is no route.
pub fn socket(port: u16, to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], port).into() } else { ([0u16; 8], port).into() };
    let socket = UdpSocket::bind(any)?;
    roomy(&socket)?;
    socket.connect(to)?;
    Ok(socket)
}

/// A busy machine may keep us from reading for a while; what came meanwhile was not lost on the way. Without the right to
/// more, the system's limit is what there is.
///
/// # Errors
/// When the kernel takes no size at all.
pub fn roomy(socket: &UdpSocket) -> io::Result<()> {
    let bytes = 8 << 20;
    Ok(setsockopt(socket, RcvBufForce, &bytes).or_else(|_| setsockopt(socket, RcvBuf, &bytes))?)
}

impl Stream {
    /// Starts one flow on each of these connected sockets, a datagram every `pace`.
    ///
    /// # Errors
    /// When a socket can't be made non-blocking.
    pub fn start(sockets: Vec<UdpSocket>, pace: Duration) -> io::Result<Self> {
        sockets.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
        let start = Instant::now();
        let tallies = sockets.iter().map(|_| Mutex::default()).collect();
        let mark = mark(&sockets);
        let shared = Arc::new(Shared { sockets, tallies, start, mark, stop: AtomicBool::new(false) });
        let (sending, receiving) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![thread::spawn(move || sending.send(pace)), thread::spawn(move || receiving.receive())];
        Ok(Self { shared, threads })
    }

    /// When it began: what times in [`Flow`] count from.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.shared.start
    }

    /// How it stands.
    #[must_use]
    pub fn now(&self) -> Now {
        let elapsed = self.shared.start.elapsed();
        let (mut flows, mut silence) = (Vec::new(), Vec::new());
        for tally in &self.shared.tallies {
            let tally = lock(tally);
            flows.push(tally.flow());
            silence.push(tally.silence(elapsed));
        }
        Now { elapsed, flows, silence }
    }

    /// Stops sending, waits for stragglers, gives what became of each flow, in the sockets' order.
    #[must_use]
    pub fn finish(mut self) -> Vec<Flow> {
        self.end();
        self.shared.tallies.iter().map(|tally| lock(tally).flow()).collect()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("neither thread panics");
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn send(&self, pace: Duration) {
        let mut datagram = [0; LENGTH];
        datagram[8..].copy_from_slice(&self.mark);
        let mut next = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            for (socket, tally) in self.sockets.iter().zip(&self.tallies) {
                let number = lock(tally).send();
                datagram[..8].copy_from_slice(&number.to_be_bytes());
                // What can't be sent, e.g. as an ICMP error of an earlier one is reported here: sent and lost.
                let _ = socket.send(&datagram);
            }
            let now = Instant::now();
            next = following(next, now, pace);
            thread::sleep(next.saturating_duration_since(now));
        }
        let ended = self.start.elapsed();
        self.tallies.iter().for_each(|tally| lock(tally).end(ended));
    }

    fn receive(&self) {
        let (mut stopped, mut last) = (None, Instant::now());
        loop {
            if self.stop.load(Ordering::Relaxed) {
                let now = Instant::now();
                let stopped = *stopped.get_or_insert(now);
                if now >= stopped + STRAGGLERS_MAX || now >= stopped.max(last) + STRAGGLERS {
                    return;
                }
            }
            let mut fds: Vec<_> = self.sockets.iter().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)).collect();
            // Interrupted: the sockets are looked at all the same.
            let _ = poll(&mut fds, PollTimeout::from(LOOK));
            for ((socket, tally), fd) in self.sockets.iter().zip(&self.tallies).zip(&fds) {
                if fd.any() != Some(false) && self.drain(socket, tally) {
                    last = Instant::now();
                }
            }
        }
    }

    /// Takes what there is; whether any of it was this stream's.
    fn drain(&self, socket: &UdpSocket, tally: &Mutex<Tally>) -> bool {
        let mut buffer = [0; LENGTH + 1];
        let mut any = false;
        loop {
            match socket.recv(&mut buffer) {
                Ok(LENGTH) if buffer[8..LENGTH] == self.mark => {
                    let number = u64::from_be_bytes(std::array::from_fn(|i| buffer[i]));
                    lock(tally).receive(number, self.start.elapsed());
                    any = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return any,
                // A stranger's, or an ICMP error: what that is about was sent and lost.
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// When the next round is due.
fn following(round: Instant, now: Instant, pace: Duration) -> Instant {
    (round + pace).max(now.checked_sub(pace * CATCH_UP).unwrap_or(now))
}

/// Differs between processes of a machine and between streams of a process.
fn mark(sockets: &[UdpSocket]) -> [u8; 8] {
    let port = sockets.first().and_then(|socket| socket.local_addr().ok()).map_or(0, |local| u32::from(local.port()));
    let parts = (u64::from(std::process::id()) << 32) | u64::from(port);
    parts.to_be_bytes()
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_was_held_up_makes_up_for_some_rounds_only() {
        let start = Instant::now() + Duration::from_secs(60);
        let rounds = |held_up: Duration| {
            let now = start + held_up;
            let rounds = std::iter::successors(Some(start), |round| Some(following(*round, now, PACE)));
            rounds.skip(1).take_while(|round| *round <= now).count()
        };
        assert_eq!(rounds(Duration::ZERO), 0);
        assert_eq!(rounds(PACE), 1);
        assert_eq!(rounds(PACE * 3), 3, "a late thread keeps its pace");
        assert_eq!(rounds(Duration::from_secs(4)), 6);
    }
}
