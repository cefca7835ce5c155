//! What a lane waits for: its bell, its TUN queue, its sockets, and the clock.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use hawser_liveness::Time;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tun_rs::SyncDevice;

const BELL: u64 = 0;
const TUN: u64 = 1;
const CLOCK: u64 = 2;
const SOCKET: u64 = 3;

/// See the module. The kernel keeps the list of what is waited for, so that waiting costs by what happened; and it keeps an
/// alarm, which is set when something is due earlier than it goes off, not for every wait.
pub(super) struct Sources {
    epoll: Epoll,
    alarm: TimerFd,
    /// When the alarm goes off.
    set: Option<Time>,
}

/// Which sources have something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) bell: bool,
    pub(super) tun: bool,
    pub(super) sockets: [bool; 2],
    pub(super) errors: [bool; 2],
}

impl Sources {
    /// The sources stay what they are for the lane's life.
    pub(super) fn new<'a>(
        bell: impl AsFd,
        tun: BorrowedFd<'a>,
        sockets: impl IntoIterator<Item = BorrowedFd<'a>>,
    ) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        epoll.add(bell, readable(BELL))?;
        epoll.add(tun, readable(TUN))?;
        let alarm = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        // Told once each time, so that it need not be read.
        epoll.add(&alarm, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, CLOCK))?;
        for (socket, token) in sockets.into_iter().zip(SOCKET..) {
            epoll.add(socket, readable(token))?;
        }
        Ok(Self { epoll, alarm, set: None })
    }

    /// Waits until something is there, or it is `due`; or for less, where an earlier alarm goes off that is not needed any more.
    pub(super) fn wait(&mut self, due: Time, now: Time) -> nix::Result<Ready> {
        let limit = if due <= now { EpollTimeout::ZERO } else { EpollTimeout::NONE };
        if due > now && self.set.is_none_or(|set| due < set) {
            self.alarm.set(Expiration::OneShot(TimeSpec::from(due.since(now))), TimerSetTimeFlags::empty())?;
            self.set = Some(due);
        }
        let mut events = [EpollEvent::empty(); 5];
        let count = match self.epoll.wait(&mut events, limit) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(e) => return Err(e),
        };
        let mut ready = Ready::default();
        for event in &events[..count] {
            match event.data() {
                BELL => ready.bell = true,
                TUN => ready.tun = true,
                CLOCK => self.set = None,
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

#[expect(unsafe_code, reason = "the device lends its descriptor as a number only")]
pub(super) fn tun_fd(tun: &SyncDevice) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is the device's own and stays open as long as the device, which the result borrows.
    unsafe { BorrowedFd::borrow_raw(tun.as_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use nix::sys::eventfd::EventFd;

    use super::*;

    const NOTHING: Ready = Ready { bell: false, tun: false, sockets: [false; 2], errors: [false; 2] };

    struct Lane {
        start: Instant,
        bell: EventFd,
        others: [EventFd; 3],
        sources: Sources,
    }

    impl Lane {
        fn new() -> Self {
            let event = || EventFd::new().unwrap();
            let (bell, others) = (event(), [event(), event(), event()]);
            let [tun, v4, v6] = others.each_ref().map(AsFd::as_fd);
            let sources = Sources::new(&bell, tun, [v4, v6]).unwrap();
            Self { start: Instant::now(), bell, others, sources }
        }

        fn now(&self) -> Time {
            Time::START + self.start.elapsed()
        }

        fn wait(&mut self, due: Time) -> Ready {
            let now = self.now();
            self.sources.wait(due, now).unwrap()
        }

        /// Waits as a lane does: again, until it is due.
        fn wait_out(&mut self, due: Time) -> u32 {
            let mut waits = 0;
            while self.now() < due {
                assert_eq!(self.wait(due), NOTHING);
                waits += 1;
            }
            waits
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_is_there_is_told_until_it_is_taken() {
        let mut lane = Lane::new();
        let far = lane.now() + ms(60_000);
        lane.bell.write(1).unwrap();
        for due in [Time::START, far, far] {
            assert_eq!(lane.wait(due), Ready { bell: true, ..NOTHING });
        }
        lane.bell.read().unwrap();
        assert_eq!(lane.wait(Time::START), NOTHING);
        for source in &lane.others {
            source.write(1).unwrap();
        }
        assert_eq!(lane.wait(far), Ready { bell: false, tun: true, sockets: [true; 2], errors: [false; 2] });
    }

    #[test]
    fn what_is_due_later_keeps_the_alarm_and_what_is_due_earlier_sets_it() {
        let mut lane = Lane::new();
        let [soon, later, far] = [60_000, 120_000, 600_000].map(|after| lane.now() + ms(after));
        lane.bell.write(1).unwrap();
        for (due, set) in [(far, far), (later, later), (soon, soon), (far, soon), (Time::START, soon)] {
            lane.wait(due);
            assert_eq!(lane.sources.set, Some(set));
        }
    }

    #[test]
    fn an_alarm_that_is_not_needed_any_more_goes_off_once_at_most_and_keeps_no_other_from_being_set() {
        let mut lane = Lane::new();
        // Ends a wait that nothing else would end.
        let bell = lane.bell.as_fd().try_clone_to_owned().unwrap();
        std::thread::spawn(move || {
            std::thread::sleep(ms(10_000));
            nix::unistd::write(bell, &1_u64.to_ne_bytes())
        });
        for unseen in [false, true, false, true] {
            let due = lane.now() + ms(2);
            lane.bell.write(1).unwrap();
            lane.wait(due);
            lane.bell.read().unwrap();
            while unseen && lane.now() < due + ms(1) {
                std::thread::yield_now();
            }
            let next = lane.now() + ms(5);
            assert!(lane.wait_out(next) <= 2);
        }
    }
}
