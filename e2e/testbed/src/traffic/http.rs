//! A small HTTP server that says who asked, and its client.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};

use crate::Netns;
use crate::traffic::plain;

/// Bytes of one step of a paced download.
const STEP: usize = 512;

/// A server: `/` answers `server=<name> client=<address>`, `/paced/<milliseconds>` sends 512 bytes every 2 ms for that long.
pub struct Server {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
}

impl Server {
    /// Listens on `port` of both families.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(host: &Netns, port: u16, name: &str) -> Result<Self> {
        let listener: TcpListener = host.run(move || TcpListener::bind(("::", port)))?;
        listener.set_nonblocking(true)?;
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (name, server) = (name.to_owned(), Self { stop: Arc::clone(&stop), served: Arc::clone(&served) });
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok((stream, from)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                let (name, served, stop) = (name.clone(), Arc::clone(&served), Arc::clone(&stop));
                thread::spawn(move || {
                    // A client that goes away early is the client's business.
                    let _ = serve(stream, &name, plain(from.ip()), &served, &stop);
                });
            }
        });
        Ok(server)
    }

    /// Requests that came so far; one is counted before it is answered.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn serve(mut stream: TcpStream, name: &str, client: IpAddr, served: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    served.fetch_add(1, Ordering::Relaxed);
    let path = request.split(' ').nth(1).unwrap_or("/");
    if let Some(duration) = path.strip_prefix("/paced/") {
        let end = Instant::now() + Duration::from_millis(duration.parse()?);
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
            stream.write_all(&[b'.'; STEP])?;
            thread::sleep(Duration::from_millis(2));
        }
        return Ok(());
    }
    let body = format!("server={name} client={client}\n");
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    Ok(())
}

fn open(host: &Netns, to: SocketAddr, limit: Duration) -> Result<TcpStream> {
    host.run(move || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.connect_timeout(&to.into(), limit).with_context(|| format!("Failed to connect to {to}"))?;
        Ok(socket.into())
    })
}

/// The body of `GET http://<to><path>`.
///
/// # Errors
/// When the server does not answer within `limit`.
pub fn get(host: &Netns, to: SocketAddr, path: &str, limit: Duration) -> Result<String> {
    let mut stream = open(host, to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("{to} does not answer"))?;
    let (_, body) = answer.split_once("\r\n\r\n").context("Not an HTTP answer")?;
    Ok(body.trim().to_owned())
}

/// A download that runs in the background.
pub struct Download {
    thread: thread::JoinHandle<Result<Progress>>,
}

/// How a download went.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Bytes received.
    pub bytes: usize,
    /// The longest time without a byte.
    pub longest_stall: Duration,
    /// Whether the server ended it, rather than an error.
    pub complete: bool,
}

impl Download {
    /// Starts a paced download of `length`.
    ///
    /// # Errors
    /// When the server can't be reached within 5 s.
    pub fn start(host: &Netns, to: SocketAddr, length: Duration) -> Result<Self> {
        let mut stream = open(host, to, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(stream, "GET /paced/{} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n", length.as_millis())?;
        Ok(Self { thread: thread::spawn(move || read_all(stream)) })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn finish(self) -> Result<Progress> {
        self.thread.join().map_err(|_| anyhow::anyhow!("The download panicked"))?
    }
}

fn read_all(mut stream: TcpStream) -> Result<Progress> {
    let (mut buffer, mut last) = (vec![0; 65536], Instant::now());
    let mut progress = Progress { bytes: 0, longest_stall: Duration::ZERO, complete: false };
    loop {
        let n = stream.read(&mut buffer).with_context(|| format!("The connection broke after {progress:?}"))?;
        progress.longest_stall = progress.longest_stall.max(last.elapsed());
        last = Instant::now();
        if n == 0 {
            progress.complete = true;
            return Ok(progress);
        }
        progress.bytes += n;
    }
}
