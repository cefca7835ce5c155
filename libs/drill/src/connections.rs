//! TCP connections that stay, and exchange a number now and then: which of them live through a fault? [`serve`] is the other
//! end.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Between two exchanges of a connection.
pub const PACE: Duration = Duration::from_millis(20);
/// Connections that are served at once.
const MOST: usize = 1024;
/// Between looks at whether to stop.
const LOOK: u8 = 100;
/// A number, both ways.
const LENGTH: usize = 8;

/// Sends back what connections to `listener` send, until `stop` is set; gives how many there were.
///
/// # Errors
/// When the listener can't be waited on.
pub fn serve(listener: &TcpListener, stop: &AtomicBool) -> io::Result<u64> {
    listener.set_nonblocking(true)?;
    let mut open: Vec<(TcpStream, JoinHandle<()>)> = Vec::new();
    let mut served = 0;
    while !stop.load(Ordering::Relaxed) {
        // Interrupted: the listener is looked at all the same.
        let _ = poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], PollTimeout::from(LOOK));
        let Ok((stream, _)) = listener.accept() else {
            // None came, it went away before, or the system has no room for it now.
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        open.retain(|(_, thread)| !thread.is_finished());
        if let (true, Ok(own)) = (open.len() < MOST, stream.try_clone()) {
            // Ends with its connection.
            open.push((stream, thread::spawn(move || drop(answer(own)))));
            served += 1;
        }
    }
    for (stream, thread) in open {
        close(&stream);
        let _ = thread.join();
    }
    Ok(served)
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let mut number = [0; LENGTH];
    loop {
        stream.read_exact(&mut number)?;
        stream.write_all(&number)?;
    }
}

/// Connections that exchange a number every [`PACE`]. Dropping them ends them.
pub struct Connections(Vec<Connection>);

struct Connection {
    port: u16,
    stream: TcpStream,
    progress: Arc<Mutex<Progress>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Progress {
    exchanges: u64,
    last: Instant,
    longest: Duration,
    broke: Option<String>,
}

/// What became of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// Its source port.
    pub port: u16,
    /// Numbers that came back.
    pub exchanges: u64,
    /// The longest time between two of them.
    pub longest_wait: Duration,
    /// Why it is no more; none: it lived.
    pub broke: Option<String>,
}

impl Connections {
    /// Opens `count` connections to `to`, each within `limit`.
    ///
    /// # Errors
    /// When one can't be opened.
    pub fn open(to: SocketAddr, count: usize, limit: Duration) -> io::Result<Self> {
        Self::start((0..count).map(|_| TcpStream::connect_timeout(&to, limit)).collect::<io::Result<_>>()?)
    }

    /// Exchanges numbers on these.
    ///
    /// # Errors
    /// When one is not connected.
    pub fn start(streams: Vec<TcpStream>) -> io::Result<Self> {
        let connection = |stream: TcpStream| {
            stream.set_nodelay(true)?;
            let now = Instant::now();
            let progress = Progress { exchanges: 0, last: now, longest: Duration::ZERO, broke: None };
            let progress = Arc::new(Mutex::new(progress));
            let (own, into, port) = (stream.try_clone()?, Arc::clone(&progress), stream.local_addr()?.port());
            let thread = Some(thread::spawn(move || exchange(own, &into)));
            Ok(Connection { port, stream, progress, thread })
        };
        Ok(Self(streams.into_iter().map(connection).collect::<io::Result<_>>()?))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many exchange numbers again within `limit`: a fault may have made TCP wait for its next try.
    #[must_use]
    pub fn alive(&self, limit: Duration) -> usize {
        self.moving(limit).into_iter().filter(|moved| *moved).count()
    }

    /// Waits until each exchanged numbers again or broke, for `limit` at most; says what became of them and ends them.
    #[must_use]
    pub fn finish(self, limit: Duration) -> Vec<Fate> {
        let moving = self.moving(limit);
        let fate = |(connection, moves): (&Connection, bool)| {
            let Progress { exchanges, last, longest, broke } = connection.progress();
            let silent = || format!("no answer for {} ms", last.elapsed().as_millis());
            let longest_wait = if moves { longest } else { longest.max(last.elapsed()) };
            let broke = broke.or_else(|| (!moves).then(silent));
            Fate { port: connection.port, exchanges, longest_wait, broke }
        };
        self.0.iter().zip(moving).map(fate).collect()
    }

    fn moving(&self, limit: Duration) -> Vec<bool> {
        let before: Vec<u64> = self.0.iter().map(|c| c.progress().exchanges).collect();
        let end = Instant::now() + limit;
        loop {
            let now: Vec<Progress> = self.0.iter().map(Connection::progress).collect();
            // What was on its way proves nothing.
            let moved: Vec<bool> = now.iter().zip(&before).map(|(now, before)| now.exchanges > *before + 1).collect();
            if moved.iter().zip(&now).all(|(moved, now)| *moved || now.broke.is_some()) || Instant::now() >= end {
                return moved;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Connection {
    fn progress(&self) -> Progress {
        lock(&self.progress).clone()
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.0.iter().for_each(|connection| close(&connection.stream));
        for thread in self.0.iter_mut().filter_map(|connection| connection.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn exchange(mut stream: TcpStream, progress: &Mutex<Progress>) {
    let mut number = 0u64;
    let error = loop {
        if let Err(error) = one(&mut stream, number) {
            break error;
        }
        number += 1;
        note(&mut lock(progress), number, Instant::now());
        thread::sleep(PACE);
    };
    lock(progress).broke = Some(error.to_string());
}

fn one(stream: &mut TcpStream, number: u64) -> io::Result<()> {
    stream.write_all(&number.to_be_bytes())?;
    let mut answer = [0; LENGTH];
    stream.read_exact(&mut answer)?;
    let same = u64::from_be_bytes(answer) == number;
    same.then_some(()).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer to something else"))
}

fn note(progress: &mut Progress, exchanges: u64, now: Instant) {
    progress.longest = progress.longest.max(now - progress.last);
    (progress.exchanges, progress.last) = (exchanges, now);
}

/// It may have ended by itself.
fn close(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}
