//! What a lane waits for: its bell, its TUN queue, its sockets, and the clock.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use tun_rs::SyncDevice;

use crate::udp::LaneSocket;

const BELL: u64 = 0;
const TUN: u64 = 1;
const SOCKET: u64 = 2;

/// See the module. The kernel keeps the list of what is waited for, so that waiting costs by what happened.
pub(super) struct Sources {
    epoll: Epoll,
}

/// Which sources have something.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ready {
    pub(super) bell: bool,
    pub(super) tun: bool,
    pub(super) sockets: [bool; 2],
    pub(super) errors: [bool; 2],
}

impl Sources {
    /// The sources stay what they are for the lane's life.
    pub(super) fn new(bell: &EventFd, tun: &SyncDevice, sockets: &[LaneSocket]) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        epoll.add(bell, readable(BELL))?;
        epoll.add(tun_fd(tun), readable(TUN))?;
        for (socket, token) in sockets.iter().zip(SOCKET..) {
            epoll.add(socket.as_fd(), readable(token))?;
        }
        Ok(Self { epoll })
    }

    /// Waits until something is there, or for `limit`.
    pub(super) fn wait(&self, limit: Duration) -> nix::Result<Ready> {
        let mut events = [EpollEvent::empty(); 4];
        let count = match wait_exactly(&self.epoll, &mut events, limit) {
            // Kernels before 5.11 count in milliseconds; filters of system calls that are older refuse what they don't know.
            Err(Errno::ENOSYS | Errno::EPERM) => self.epoll.wait(&mut events, whole_millis(limit)),
            result => result,
        };
        let count = match count {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(e) => return Err(e),
        };
        let mut ready = Ready::default();
        for event in &events[..count] {
            match event.data() {
                BELL => ready.bell = true,
                TUN => ready.tun = true,
                socket => {
                    let family = (socket - SOCKET) as usize;
                    ready.sockets[family] = true;
                    ready.errors[family] = event.events().contains(EpollFlags::EPOLLERR);
                }
            }
        }
        Ok(ready)
    }
}

/// At least `limit`: a timer that is not due yet would be asked again at once.
fn whole_millis(limit: Duration) -> EpollTimeout {
    EpollTimeout::try_from(limit.saturating_add(Duration::from_nanos(999_999))).unwrap_or(EpollTimeout::MAX)
}

#[expect(unsafe_code, reason = "nix has no epoll_pwait2")]
fn wait_exactly(epoll: &Epoll, events: &mut [EpollEvent], limit: Duration) -> nix::Result<usize> {
    // The kernel's own timespec has 64-bit numbers on every platform.
    let limit = [i64::try_from(limit.as_secs()).unwrap_or(i64::MAX), limit.subsec_nanos().into()];
    // SAFETY: the descriptor is open for the borrow's time; `EpollEvent` is a transparent `epoll_event`, of which the kernel
    // writes at most as many as there are; the time is two live numbers that it reads, and no signal mask is given.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll.0.as_raw_fd(),
            events.as_mut_ptr().cast::<libc::epoll_event>(),
            events.len() as libc::c_int,
            std::ptr::from_ref(&limit),
            std::ptr::null::<libc::sigset_t>(),
            0_usize,
        )
    };
    Errno::result(rc).map(|count| count as usize)
}

#[expect(unsafe_code, reason = "the device lends its descriptor as a number only")]
pub(super) fn tun_fd(tun: &SyncDevice) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is the device's own and stays open as long as the device, which the result borrows.
    unsafe { BorrowedFd::borrow_raw(tun.as_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_kernels_wait_no_shorter_than_asked() {
        for (limit, millis) in [(0, 0_u8), (1, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(whole_millis(Duration::from_nanos(limit)), EpollTimeout::from(millis), "{limit} ns");
        }
        assert_eq!(whole_millis(Duration::MAX), EpollTimeout::MAX);
    }
}
