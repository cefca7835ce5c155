//! What sockets are asked for that nix and socket2 do not name: integer options, a link's MTU, a place among descriptors.

#![expect(unsafe_code, reason = "fcntl, getsockopt, setsockopt and ioctl by number")]

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

use socket2::Socket;

/// Above all descriptors of other kinds, and with those of all lanes below the usual limit of 1,024.
const HIGH: libc::c_int = 512;

/// Gives a socket a high number: Linux closes the files of a process that was killed in descending order, and a TUN queue or an
/// inotify instance that goes before keeps ports open for 20 ms and more, in which peers are not refused yet. Where the limit of
/// descriptors is too low, it stays where it is.
pub(super) fn first_to_close(socket: Socket) -> Socket {
    // SAFETY: the descriptor is open for the call's time; what is passed is a number.
    let copy = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH) };
    if copy < 0 {
        return socket;
    }
    // SAFETY: the kernel just made this descriptor, and nothing else knows its number.
    unsafe { Socket::from_raw_fd(copy) }
}

pub(super) fn set_int(socket: &Socket, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the borrow's time; the pointer and length describe a live i32.
    let rc = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size_of::<i32>() as u32)
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(crate) fn link_mtu(socket: &Socket, name: &str) -> io::Result<i32> {
    // SAFETY: an ifreq of zeros is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the descriptor is open for the borrow's time; the kernel reads and writes the live ifreq only.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU as _, &raw mut request) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: SIOCGIFMTU fills this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_mtu })
}

pub(crate) fn get_int(socket: &Socket, level: i32, name: i32) -> io::Result<i32> {
    let mut value: i32 = 0;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the borrow's time; value and len are live and the length is value's.
    let rc = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    if rc == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
