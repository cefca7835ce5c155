//! TCP connections that stay open: which of them live through a fault? The engine is `hawser-drill`.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hawser_drill::connections;
use socket2::{Domain, Socket, Type};

use crate::Netns;

/// Sends back what it is sent, on every connection.
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Listens on `port` of both families.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(host: &Netns, port: u16) -> Result<Self> {
        let listener: TcpListener = host.run(move || TcpListener::bind(("::", port)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        // That nobody can be served is what connections say.
        let thread = thread::spawn(move || drop(connections::serve(&listener, &stopping)));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Connections to an [`Echo`] that exchange a number every 20 ms.
pub struct Connections(hawser_drill::Connections);

impl Connections {
    /// Opens `count` connections to each address.
    ///
    /// # Errors
    /// When one can't be opened within 5 s.
    pub fn open(host: &Netns, to: &[SocketAddr], count: usize) -> Result<Self> {
        let any: Vec<_> = to.iter().flat_map(|to| std::iter::repeat_n((0, *to), count)).collect();
        Self::open_from(host, &any)
    }

    /// Opens one connection from each of these ports (0: any) to that address.
    ///
    /// # Errors
    /// When one can't be opened within 5 s, or its port is taken.
    pub fn open_from(host: &Netns, from: &[(u16, SocketAddr)]) -> Result<Self> {
        let streams = from.iter().map(|&(port, to)| host.run(move || connect(port, to))).collect::<Result<_>>()?;
        Ok(Self(hawser_drill::Connections::start(streams)?))
    }
}

impl Deref for Connections {
    type Target = hawser_drill::Connections;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

fn connect(port: u16, to: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    socket.bind(&SocketAddr::new(any, port).into()).with_context(|| format!("Port {port} is taken"))?;
    let connected = socket.connect_timeout(&to.into(), Duration::from_secs(5));
    connected.with_context(|| format!("Failed to connect to {to}"))?;
    Ok(socket.into())
}
