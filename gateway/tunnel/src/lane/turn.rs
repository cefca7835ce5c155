//! How much a lane takes from one source before the others have their turn, and how soon it runs where others want to.
//!
//! A packet waits for the turn under way and, where it is answered by the same host, for the next one: turns are short, or
//! a peer's load is everybody's delay. They are counted by work, not by reads: acknowledgements take a read each, and a host
//! that receives by superpackets sends many.

use std::io;
use std::time::Duration;

use hawser_liveness::Time;
use nix::sys::prctl::set_timerslack;

use super::naps::{Direction, Naps, Taken};

/// Bytes of a turn: two superpackets.
const TURN: usize = 120_000;
/// What a read costs at least, in bytes.
const READ: usize = 2_048;
/// What a message that is no data may cost.
const HANDSHAKE: usize = 16_384;
/// Before programs that compute: what a lane does not take waits for it, whoever sent it.
const NICE: libc::c_int = -10;

/// How busy a lane is, by what its last turn took.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Bytes of packets out and in.
    taken: (usize, usize),
    /// Reads of packets and of handshake messages.
    reads: (u32, u32),
    idle: bool,
    began: Time,
    naps: Naps,
}

impl Pace {
    /// Another turn begins.
    pub(super) fn begin(&mut self, now: Time) {
        let (out, back) = std::mem::take(&mut self.taken);
        self.reads = (0, 0);
        self.idle = out + back <= READ;
        self.began = now;
    }

    /// Whether what was read just now had better go on at once: the first of a turn, where the last one had a packet at most. To
    /// look for more before would be in vain, and every packet's delay.
    pub(super) fn is_first(&mut self) -> bool {
        std::mem::take(&mut self.idle)
    }

    /// A source had its part of the turn.
    pub(super) fn took(&mut self, from: Direction, room: &Room) {
        let taken = match from {
            Direction::Out => &mut self.taken.0,
            Direction::In => &mut self.taken.1,
        };
        *taken += TURN - room.left;
        self.reads.0 += room.reads.0;
        self.reads.1 += room.reads.1;
    }

    /// How long to let packets come together after this turn, if at all. `flooded` says whether more handshakes come than are
    /// answered, when asked about the time at which the turn began.
    pub(super) fn nap(&mut self, flooded: impl FnOnce(Time) -> bool) -> Option<Duration> {
        let messages_only = self.reads.0 == 0 && self.reads.1 > 0;
        let taken = match self.taken {
            (0, 0) => Taken::Nothing,
            (_, back) if messages_only && flooded(self.began) => Taken::Flood { more: back >= TURN },
            (1..=READ, 0) => Taken::One(Direction::Out),
            (0, 1..=READ) => Taken::One(Direction::In),
            (out, back) if out + back < TURN / 2 => Taken::Some,
            _ => Taken::Many,
        };
        self.naps.after(taken, self.began)
    }
}

/// What is left of a turn.
pub(super) struct Room {
    /// Bytes.
    left: usize,
    /// Reads of packets and of handshake messages so far.
    reads: (u32, u32),
}

impl Room {
    pub(super) fn new() -> Self {
        Self { left: TURN, reads: (0, 0) }
    }

    pub(super) fn is_left(&self) -> bool {
        self.left > 0
    }

    /// So many bytes of packets were read.
    #[inline]
    pub(super) fn take(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes.max(READ));
        self.reads.0 += 1;
    }

    /// Something was read that may want a key agreement.
    #[inline]
    pub(super) fn take_handshake(&mut self) {
        self.left = self.left.saturating_sub(HANDSHAKE);
        self.reads.1 += 1;
    }
}

/// Lets this thread run before those of usual programs, and its naps end when they should: by default they are twice as long.
///
/// # Errors
/// Without `CAP_SYS_NICE`: then only the latter.
#[expect(unsafe_code, reason = "no crate that is here anyway names setpriority")]
pub(super) fn go_first() -> io::Result<()> {
    set_timerslack(1)?;
    // SAFETY: the call takes and returns numbers only; zero is the calling thread.
    let rc = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(room: &mut Room, take: impl Fn(&mut Room)) -> usize {
        let mut reads = 0;
        while room.is_left() {
            take(room);
            reads += 1;
        }
        reads
    }

    #[test]
    fn a_turn_ends_with_two_superpackets_or_some_dozens_of_small_ones() {
        assert_eq!(reads(&mut Room::new(), |room| room.take(63_888)), 2);
        assert_eq!(reads(&mut Room::new(), |room| room.take(52)), 59);
        assert_eq!(reads(&mut Room::new(), Room::take_handshake), 8);
    }

    #[test]
    fn a_lone_packet_goes_on_at_once_and_none_of_many() {
        let mut pace = Pace::default();
        let mut turn = |reads: usize| {
            pace.begin(Time::START);
            let mut room = Room::new();
            let first: Vec<bool> = (0..reads).map(|_| (room.take(100), pace.is_first()).1).collect();
            pace.took(Direction::In, &room);
            first
        };
        assert_eq!(turn(1), [true]);
        assert_eq!(turn(3), [true, false, false], "nobody knew that there would be more");
        assert_eq!(turn(2), [false; 2]);
        assert_eq!(turn(1), [false]);
        assert_eq!(turn(1), [true]);
        assert_eq!(turn(0), []);
        assert_eq!(turn(1), [true], "after a turn for a timer");
    }

    #[test]
    fn handshakes_alone_come_together_in_a_flood() {
        let (mut pace, mut now) = (Pace::default(), Time::START);
        let mut naps = |messages: usize, packets: usize, flooded: bool| {
            now = now + Duration::from_millis(10);
            pace.begin(now);
            let mut room = Room::new();
            (0..packets).for_each(|_| room.take(1_400));
            (0..messages).for_each(|_| room.take_handshake());
            pace.took(Direction::In, &room);
            pace.nap(|_| flooded).is_some()
        };
        assert!([1, 7].into_iter().all(|messages| naps(messages, 0, true)));
        assert!(!naps(8, 0, true), "there may be more at once");
        assert!(naps(1, 0, true), "which were no packets");
        for (messages, packets, flooded) in [(3, 0, false), (3, 1, true), (8, 3, true), (0, 0, true), (0, 3, true)] {
            assert!(!naps(messages, packets, flooded), "{messages} {packets} {flooded}");
        }
    }

    #[test]
    fn a_thread_goes_first_and_others_stay_where_they_are() {
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields = stat.rsplit(')').next().unwrap();
            fields.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
        };
        let before = nice();
        let of_lane = std::thread::spawn(move || go_first().map(|()| nice())).join().unwrap();
        assert_eq!(of_lane.expect("tests run as root"), NICE);
        assert_eq!(nice(), before);
    }
}
