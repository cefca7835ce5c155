//! A process's admin endpoint, over its unix socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// The body of `GET <path>`.
///
/// # Errors
/// When nobody listens, or the answer is not 200.
pub fn get(socket: &Path, path: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("Failed to reach {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("Not an HTTP answer")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "{status}: {body}");
    Ok(body.to_owned())
}
