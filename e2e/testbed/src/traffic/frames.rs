//! Frames as an attacker on the wire sends them: replayed, truncated, made up.

#![expect(unsafe_code, reason = "packet sockets need a link-layer address, which socket2 takes as raw storage only")]

use std::fs;
use std::mem::size_of;
use std::path::Path;

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use crate::Netns;

/// An attacker's place on a wire: sends frames as they are.
pub struct Injector {
    socket: Socket,
    to: SockAddr,
}

impl Injector {
    /// Opens a packet socket on `device` of `host`.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, or when there is no such device.
    pub fn open(host: &Netns, device: &str) -> Result<Self> {
        let device = device.to_owned();
        host.run(move || {
            let index = nix::net::if_::if_nametoindex(device.as_str())?;
            let socket = Socket::new(Domain::PACKET, Type::RAW, None::<Protocol>)?;
            Ok(Self { socket, to: link_address(index)? })
        })
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// When the device refuses it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.socket.send_to(frame, &self.to).context("Failed to send a frame")?;
        Ok(())
    }
}

fn link_address(index: u32) -> Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is plain data, smaller than and aligned for the storage it views.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = u16::try_from(libc::AF_PACKET)?;
    address.sll_ifindex = i32::try_from(index)?;
    let length = u32::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: family and length are those of the sockaddr_ll filled in above.
    Ok(unsafe { SockAddr::new(storage, length) })
}

/// The frames of a capture file that were captured whole.
///
/// # Errors
/// When the file is not a capture.
pub fn read_capture(path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = fs::read(path).with_context(|| format!("Failed to read {}", path.display()))?;
    let mut rest = bytes.get(24..).context("Not a capture file")?;
    let mut frames = Vec::new();
    // Each record: seconds, fraction, captured length, length on the wire; the file's end may be half written.
    while let Some((head, tail)) = rest.split_at_checked(16) {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        let (captured, length) = (usize::try_from(word(8))?, usize::try_from(word(12))?);
        let Some((frame, next)) = tail.split_at_checked(captured) else { break };
        if captured == length {
            frames.push(frame.to_vec());
        }
        rest = next;
    }
    Ok(frames)
}
