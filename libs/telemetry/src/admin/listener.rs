//! Listening on a TCP port or a unix socket, with the same connection type for both.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::AdminAddr;

/// The admin endpoint can't be served.
#[derive(Debug, thiserror::Error)]
#[error("admin endpoint {addr}: {problem}; {remedy}")]
pub struct BindError {
    addr: AdminAddr,
    problem: String,
    remedy: &'static str,
    #[source]
    source: Option<io::Error>,
}

impl BindError {
    fn io(addr: &AdminAddr, source: io::Error) -> Self {
        let remedy = match source.kind() {
            io::ErrorKind::AddrInUse => "another process listens there: stop it, or choose another with --admin",
            io::ErrorKind::PermissionDenied => "run with the rights to it, or choose another with --admin",
            _ => "choose another with --admin",
        };
        Self { addr: addr.clone(), problem: source.to_string(), remedy, source: Some(source) }
    }
}

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    pub(super) async fn bind(addr: &AdminAddr) -> Result<Self, BindError> {
        match addr {
            AdminAddr::Tcp(host) => Ok(Self::Tcp(TcpListener::bind(host).await.map_err(|e| BindError::io(addr, e))?)),
            AdminAddr::Unix(path) => {
                vacate(addr, path)?;
                let (listener, file) = bind_unix(path).map_err(|e| BindError::io(addr, e))?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    pub(super) fn local(&self) -> io::Result<AdminAddr> {
        match self {
            Self::Tcp(listener) => Ok(AdminAddr::Tcp(listener.local_addr()?.to_string())),
            Self::Unix(_, file) => Ok(AdminAddr::Unix(file.path.clone())),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Connection::Tcp(stream)),
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Connection::Unix(stream)),
        }
    }
}

/// Takes a dead process's socket away; a live one's, or anything else, stays.
fn vacate(addr: &AdminAddr, path: &Path) -> Result<(), BindError> {
    let error = |problem: &str, remedy| {
        Err(BindError { addr: addr.clone(), problem: problem.to_owned(), remedy, source: None })
    };
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(BindError::io(addr, e)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return error("something that is no socket is there", "move it away, or choose another with --admin");
        }
        Ok(_) => {}
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return error(
            "another process answers there (address already in use)",
            "stop it, or give this one its own --state or --admin",
        );
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(BindError::io(addr, e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Binds beside the path and moves the socket there once only its owner may use it.
fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push("~");
    let fresh = PathBuf::from(fresh);
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    let inode = std::fs::symlink_metadata(&fresh)?.ino();
    std::fs::rename(&fresh, path)?;
    Ok((listener, SocketFile { path: path.to_owned(), inode }))
}

/// A socket's file, removed with it unless somebody else's has taken its place.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

/// A connection of either kind.
pub(super) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
