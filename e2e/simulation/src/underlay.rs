//! The network between gateways: links with their weather, addresses that change, translators.

use std::time::Duration;

use hawser_datapath::probe;

use crate::dice::Dice;
use crate::topology::HostId;

/// Where datagrams come from and go to: a host's public address, numbered anew when it changes, and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addr {
    pub(crate) host: u8,
    pub(crate) number: u32,
    pub(crate) port: u8,
}

/// What a data message holds. A packet's bytes are the sender's; nothing but the session may show them.
#[derive(Debug, Clone)]
pub(crate) enum Inner {
    Keepalive,
    Probe([u8; probe::LEN]),
    Packet(Box<[u8]>),
}

/// A datagram. There is no way to put an inner packet into one but sealed.
#[derive(Debug, Clone)]
pub(crate) enum Datagram {
    Initiation {
        from: (HostId, u8),
        stamp: u64,
    },
    Response {
        stamp: u64,
        keys: u64,
    },
    Data {
        keys: u64,
        counter: u64,
        inner: Inner,
    },
    /// ICMP: nothing listens at `to`, which was sent what `quoted` stands for.
    Unreachable {
        to: Addr,
        quoted: u64,
    },
}

/// How one direction of a link treats what it carries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weather {
    /// Chances to be lost, to be overtaken, to come twice.
    pub(crate) loss: f64,
    pub(crate) reorder: f64,
    pub(crate) duplicate: f64,
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
}

impl Weather {
    pub(crate) const FAIR: Self = Self {
        loss: 0.0,
        reorder: 0.0,
        duplicate: 0.0,
        delay: Duration::from_millis(2),
        jitter: Duration::from_micros(200),
    };
    /// What overtaken datagrams are late by.
    pub(crate) const LATE: Duration = Duration::from_millis(15);

    /// The longest that a datagram takes.
    pub(crate) fn longest(&self) -> Duration {
        self.delay + self.jitter + if self.reorder > 0.0 { Self::LATE } else { Duration::ZERO }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// Faults that cut it now.
    pub(crate) cuts: u32,
    pub(crate) weather: Weather,
}

/// All links, by sender and receiver.
#[derive(Debug)]
pub(crate) struct Underlay {
    links: Vec<Vec<Link>>,
    /// Each host's address number, which its packets come from and are found at.
    numbers: Vec<u32>,
}

impl Underlay {
    pub(crate) fn new(hosts: usize) -> Self {
        Self { links: vec![vec![Link { cuts: 0, weather: Weather::FAIR }; hosts]; hosts], numbers: vec![1; hosts] }
    }

    pub(crate) fn link(&self, from: HostId, to: HostId) -> &Link {
        &self.links[from][to]
    }

    pub(crate) fn link_mut(&mut self, from: HostId, to: HostId) -> &mut Link {
        &mut self.links[from][to]
    }

    pub(crate) fn carries(&self, from: HostId, to: HostId) -> bool {
        self.links[from][to].cuts == 0
    }

    /// Gives a host another address, or its translator another mapping.
    pub(crate) fn renumber(&mut self, host: HostId) {
        self.numbers[host] += 1;
    }

    pub(crate) fn address(&self, host: HostId, port: u8) -> Addr {
        Addr { host: host as u8, number: self.numbers[host], port }
    }

    /// How long a datagram takes, for each of its copies that arrive.
    pub(crate) fn carry(&self, from: HostId, to: Addr, dice: &mut Dice) -> [Option<Duration>; 2] {
        let host = usize::from(to.host);
        let Link { cuts, weather } = self.links[from][host];
        if cuts > 0 || !self.is_current(to) || dice.chance(weather.loss) {
            return [None, None];
        }
        let twice = dice.chance(weather.duplicate);
        let mut once = || {
            let late = if dice.chance(weather.reorder) { Weather::LATE.mul_f64(dice.share()) } else { Duration::ZERO };
            weather.delay + weather.jitter.mul_f64(dice.share()) + late
        };
        let first = once();
        [Some(first), twice.then(once)]
    }

    pub(crate) fn is_current(&self, to: Addr) -> bool {
        self.numbers[usize::from(to.host)] == to.number
    }
}
