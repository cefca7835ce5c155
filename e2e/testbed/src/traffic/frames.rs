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

/// The source address of frames that an attacker makes: the real hosts keep their places on the switch.
pub(super) const OWN_ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 0x66];

/// A captured UDP frame as an attacker sends it again, its payload cut to `keep` bytes: lengths and checksums are right, so
/// that no kernel throws it away before the program it is for. None for anything else.
#[must_use]
pub fn forge(frame: &[u8], keep: usize) -> Option<Vec<u8>> {
    let v4 = match (frame.get(12..14)?, frame.get(14)?) {
        ([8, 0], 0x45) => true,
        ([0x86, 0xdd], _) => false,
        _ => return None,
    };
    let udp = if v4 { 34 } else { 54 };
    let protocol = *frame.get(if v4 { 23 } else { 20 })?;
    let payload = frame.get(udp + 8..)?;
    if protocol != 17 {
        return None;
    }
    let mut forged = frame[..udp + 8 + keep.min(payload.len())].to_vec();
    forged[6..12].copy_from_slice(&OWN_ADDRESS);
    let length = u16::try_from(forged.len() - udp).ok()?;
    forged[udp + 4..udp + 6].copy_from_slice(&length.to_be_bytes());
    forged[udp + 6..udp + 8].fill(0);
    if v4 {
        forged[16..18].copy_from_slice(&(length + 20).to_be_bytes());
        forged[24..26].fill(0);
        let sum = checksum(&[&forged[14..34]]);
        forged[24..26].copy_from_slice(&sum.to_be_bytes());
    } else {
        forged[18..20].copy_from_slice(&length.to_be_bytes());
    }
    let addresses = if v4 { 26..34 } else { 22..54 };
    let sum = checksum(&[&forged[addresses], &[0, 17], &length.to_be_bytes(), &forged[udp..]]);
    forged[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
    Some(forged)
}

/// The Internet checksum of parts of even length, the last of any.
pub(super) fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    u16::try_from(!folded & 0xffff).expect("16 bits")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_frames_have_right_lengths_and_checksums_in_both_families() {
        let mut v4 = vec![0; 14];
        v4[12] = 8;
        v4.extend([0x45, 0, 0, 33, 0, 1, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        let mut v6 = vec![0; 14];
        (v6[12], v6[13]) = (0x86, 0xdd);
        v6.extend([0x60, 0, 0, 0, 0, 13, 17, 64]);
        v6.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        v6.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        for (mut frame, udp, addresses) in [(v4, 34, 26..34), (v6, 54, 22..54)] {
            // A checksum that a device would have filled in.
            frame.extend([0, 9, 0, 7, 0, 13, 0xab, 0xcd]);
            frame.extend(b"hello");
            for keep in [5, 2, 0, 99] {
                let forged = forge(&frame, keep).unwrap();
                let kept = keep.min(5);
                assert_eq!(&forged[udp + 8..], &b"hello"[..kept]);
                let length = [0, u8::try_from(8 + kept).unwrap()];
                assert_eq!(checksum(&[&forged[addresses.clone()], &[0, 17], &length, &forged[udp..]]), 0);
                assert!(udp == 54 || checksum(&[&forged[14..34]]) == 0);
            }
        }
        assert_eq!(forge(&[0; 60], 5), None);
    }
}
