//! Looking for a better address of a peer that is reached. A handshake to all its candidates is answered on the one that it
//! reached first, so that nothing moves before both directions of the new way are proven. `timers` sends what is due here.

use std::time::Duration;

use hawser_liveness::Time;

/// From a look to the next, where there is a choice: at first, and after each that left things as they were twice as long, up to
/// so long. Each makes a new session, which WireGuard itself does every two minutes.
const FIRST: Duration = Duration::from_secs(25);
const LONGEST: Duration = Duration::from_secs(150);
/// From the first session to a look whether it came about by the best address: what is asked first may answer late, e.g. for
/// want of a neighbour's link address.
const SOON: Duration = Duration::from_secs(1);
/// A better way is faster by more than this, or by this share of the round trip: ways that are as good stay as they are.
const CLEARLY: (Duration, u32) = (Duration::from_millis(1), 8);

/// When to look next, and what is left of a look under way.
#[derive(Debug, Clone)]
pub(crate) struct Seek {
    next: Time,
    /// To the one after that.
    pause: Duration,
    /// Spreads peers out: 256ths of a quarter of the pause, which are added.
    seed: u8,
    /// The message that went to the address in use; the other candidates get it later, so that it wins a draw.
    late: Option<(Time, Box<[u8]>)>,
}

impl Seek {
    /// The first look comes after a while; `seed` tells peers apart.
    pub(crate) fn new(now: Time, seed: u8) -> Self {
        let mut seek = Self { next: now, pause: FIRST, seed, late: None };
        seek.put_off(now);
        seek
    }

    fn put_off(&mut self, now: Time) {
        self.next = now + self.pause + self.pause / 4 * u32::from(self.seed) / 256;
    }

    /// There are other candidates now.
    pub(crate) fn hurry(&mut self, now: Time) {
        (self.next, self.pause) = (now, FIRST);
    }

    /// The peer is at another address: it may move again.
    pub(crate) fn moved(&mut self) {
        self.pause = FIRST;
    }

    /// The peer is reached, by whatever address answered first.
    pub(crate) fn reached(&mut self, now: Time) {
        self.next = self.next.min(now + SOON);
    }

    pub(crate) fn due(&self, now: Time) -> bool {
        now >= self.next
    }

    /// An initiation went to the address in use, whose round trip is `rtt`.
    pub(crate) fn begun(&mut self, message: &[u8], rtt: Option<Duration>, now: Time) {
        let (least, share) = CLEARLY;
        let start = rtt.map_or(least, |rtt| (rtt / share).max(least));
        self.put_off(now);
        self.pause = (self.pause * 2).min(LONGEST);
        self.late = Some((now + start, message.into()));
    }

    /// The initiation for the other candidates, once its time has come.
    pub(crate) fn take_late(&mut self, now: Time) -> Option<Box<[u8]>> {
        self.late.take_if(|(at, _)| *at <= now).map(|(_, message)| message)
    }

    /// An initiation was answered: nobody else needs to be asked.
    pub(crate) fn answered(&mut self) {
        self.late = None;
    }

    /// When the rest of a look is due.
    pub(crate) fn late_at(&self) -> Option<Time> {
        self.late.as_ref().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_in_use_has_a_start() {
        let ms = Time::from_millis;
        let mut seek = Seek::new(ms(0), 255);
        assert!(!seek.due(ms(25_000)) && seek.due(ms(32_000)));
        seek.reached(ms(50));
        assert!(!seek.due(ms(1_049)) && seek.due(ms(1_050)));
        seek.hurry(ms(100));
        assert!(seek.due(ms(100)));
        seek.begun(b"hello", Some(Duration::from_millis(80)), ms(100));
        assert!(!seek.due(ms(25_100)) && seek.due(ms(32_000)));
        assert_eq!((seek.late_at(), seek.take_late(ms(109))), (Some(ms(110)), None));
        assert_eq!(seek.take_late(ms(110)).as_deref(), Some(&b"hello"[..]));
        assert_eq!((seek.late_at(), seek.take_late(ms(200))), (None, None), "once");

        seek.begun(b"again", None, ms(40_000));
        assert_eq!(seek.late_at(), Some(ms(40_001)));
        seek.answered();
        assert_eq!(seek.take_late(ms(41_000)), None, "answered by then");
    }

    #[test]
    fn looks_in_vain_become_rare_and_a_change_makes_them_frequent_again() {
        let mut now = Time::from_millis(1000);
        let mut seek = Seek::new(now, 0);
        let next = |seek: &mut Seek, now: &mut Time| {
            let before = *now;
            *now = seek.next;
            seek.begun(b"hello", None, *now);
            now.since(before).as_secs()
        };
        let pauses: Vec<u64> = (0..7).map(|_| next(&mut seek, &mut now)).collect();
        assert_eq!(pauses, [25, 25, 50, 100, 150, 150, 150]);
        seek.moved();
        assert_eq!([(); 3].map(|()| next(&mut seek, &mut now)), [150, 25, 50], "the next but one");
        seek.hurry(now);
        assert_eq!([(); 3].map(|()| next(&mut seek, &mut now)), [0, 25, 50]);
    }
}
