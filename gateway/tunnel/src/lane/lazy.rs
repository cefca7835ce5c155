//! A session that is made when it is first needed: making one costs a key agreement, and a thousand new peers need not
//! hold up a lane for theirs all at once. Who makes them, and how many in a turn, is `timers`' and `inbound`'s business.

use std::time::Duration;

use crate::session::{Opened, Session};

/// See the module.
pub(crate) enum Lazy<S> {
    /// Not needed yet: takes and sends nothing.
    Asleep,
    /// Boxed, so that pairs change hands by pointer.
    Awake(Box<S>),
}

impl<S: Session> Lazy<S> {
    /// Makes it, if it is not; whether it was not.
    pub(crate) fn wake(&mut self, make: impl FnOnce() -> S) -> bool {
        let asleep = matches!(self, Self::Asleep);
        if asleep {
            *self = Self::Awake(Box::new(make()));
        }
        asleep
    }
}

impl<S: Session> Session for Lazy<S> {
    #[inline]
    fn ready(&self) -> bool {
        match self {
            Self::Awake(session) => session.ready(),
            Self::Asleep => false,
        }
    }

    #[inline]
    fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        match self {
            Self::Awake(session) => session.seal(packet, out),
            Self::Asleep => None,
        }
    }

    #[inline]
    fn open(&mut self, datagram: &[u8], out: &mut [u8]) -> Opened {
        match self {
            Self::Awake(session) => session.open(datagram, out),
            Self::Asleep => Opened::Rejected,
        }
    }

    fn initiate(&mut self, out: &mut [u8]) -> Option<usize> {
        match self {
            Self::Awake(session) => session.initiate(out),
            Self::Asleep => None,
        }
    }

    fn tick(&mut self, out: &mut [u8]) -> Option<usize> {
        match self {
            Self::Awake(session) => session.tick(out),
            Self::Asleep => None,
        }
    }

    fn age(&self) -> Option<Duration> {
        match self {
            Self::Awake(session) => session.age(),
            Self::Asleep => None,
        }
    }
}
