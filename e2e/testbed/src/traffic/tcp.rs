//! TCP connections that stay open: which of them live through a fault?

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};

use crate::Netns;

/// Between two exchanges of a connection.
const PACE: Duration = Duration::from_millis(20);

/// Sends back what it is sent, on every connection.
pub struct Echo {
    stop: Arc<AtomicBool>,
}

impl Echo {
    /// Listens on `port` of both families.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(host: &Netns, port: u16) -> Result<Self> {
        let listener: TcpListener = host.run(move || TcpListener::bind(("::", port)))?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let echo = Self { stop: Arc::clone(&stop) };
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    // Ends with its connection.
                    Ok((stream, _)) => drop(thread::spawn(move || answer(stream))),
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(echo)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let mut buffer = [0; 512];
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n])?;
    }
}

struct Connection {
    stream: TcpStream,
    exchanges: Arc<AtomicU64>,
}

/// Connections to an [`Echo`] that exchange a number every 20 ms.
pub struct Connections {
    connections: Vec<Connection>,
}

impl Connections {
    /// Opens `count` connections to each address.
    ///
    /// # Errors
    /// When one can't be opened within 5 s.
    pub fn open(host: &Netns, to: &[SocketAddr], count: usize) -> Result<Self> {
        let mut connections = Vec::new();
        for &to in to.iter().flat_map(|to| std::iter::repeat_n(to, count)) {
            let stream: TcpStream = host.run(move || -> Result<TcpStream> {
                let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
                socket
                    .connect_timeout(&to.into(), Duration::from_secs(5))
                    .with_context(|| format!("Failed to connect to {to}"))?;
                Ok(socket.into())
            })?;
            stream.set_nodelay(true)?;
            let exchanges = Arc::new(AtomicU64::new(0));
            let (own, count) = (stream.try_clone()?, Arc::clone(&exchanges));
            // Ends when the connection does.
            thread::spawn(move || exchange(own, &count));
            connections.push(Connection { stream, exchanges });
        }
        Ok(Self { connections })
    }

    /// How many connections there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.connections.len()
    }

    /// How many exchange numbers again within `limit`: a fault may have made TCP wait for its next try.
    #[must_use]
    pub fn alive(&self, limit: Duration) -> usize {
        let before: Vec<u64> = self.connections.iter().map(|c| c.exchanges.load(Ordering::Relaxed)).collect();
        let end = Instant::now() + limit;
        loop {
            let moved =
                self.connections.iter().zip(&before).filter(|(c, b)| c.exchanges.load(Ordering::Relaxed) > **b + 1);
            let moved = moved.count();
            if moved == before.len() || Instant::now() >= end {
                return moved;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        for connection in &self.connections {
            // It may have ended by itself.
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
    }
}

fn exchange(mut stream: TcpStream, count: &AtomicU64) -> Result<()> {
    let mut number = 0u64;
    loop {
        stream.write_all(&number.to_be_bytes())?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)?;
        anyhow::ensure!(u64::from_be_bytes(answer) == number, "An answer to something else");
        number += 1;
        count.store(number, Ordering::Relaxed);
        thread::sleep(PACE);
    }
}
