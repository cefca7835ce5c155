//! Sends a flood at its pace, from many addresses and ports or from one, counts the cookies that come back, and answers them
//! where its messages are to have both codes.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hawser_testbed::Netns;

use super::initiation::Forger;
use crate::crowd::{address, responder};

/// Messages a second.
pub const RATE: f64 = 10_000.0;
/// Between two bursts.
const STEP: Duration = Duration::from_millis(1);
/// What a flood that was held up makes up for at once, at most.
const BURST: u64 = 200;
/// The first byte of a cookie, and its length.
const COOKIE: (u8, usize) = (3, 64);

/// Who is flooded.
#[derive(Clone)]
pub struct Target {
    /// Where it listens.
    pub to: SocketAddrV4,
    /// What makes messages to it.
    pub forger: Forger,
}

/// See the module.
pub struct Flood {
    sockets: Vec<UdpSocket>,
    addresses: u32,
    targets: Vec<Target>,
}

/// What was sent, and what came back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Initiations.
    pub sent: u64,
    /// Those with the second code.
    pub answers: u64,
    /// Cookies.
    pub cookies: u64,
    /// For how long.
    pub took: Duration,
}

impl Outcome {
    /// Initiations per second.
    #[must_use]
    pub fn pace(&self) -> f64 {
        self.sent as f64 / self.took.as_secs_f64()
    }

    /// Cookies per second.
    #[must_use]
    pub fn cookies_per_second(&self) -> f64 {
        self.cookies as f64 / self.took.as_secs_f64()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} initiations/s, {:.0} cookies/s", self.pace(), self.cookies_per_second())?;
        if self.answers > 0 {
            write!(f, ", {:.0} % with a cookie", self.answers as f64 / self.sent as f64 * 100.0)?;
        }
        Ok(())
    }
}

impl Flood {
    /// From so many addresses and so many ports of each, in turn; the targets are taken in turn too.
    ///
    /// # Errors
    /// When a socket can't be bound.
    pub fn new(host: &Netns, targets: Vec<Target>, [addresses, ports]: [u32; 2]) -> Result<Self> {
        let bind = move || -> std::io::Result<Vec<UdpSocket>> {
            (0..ports).map(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).collect()
        };
        let sockets = host.run(bind).context("Failed to bind the flood's ports")?;
        sockets.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
        Ok(Self { sockets, addresses, targets })
    }

    /// Floods while `running`.
    ///
    /// # Errors
    /// When a socket fails.
    pub fn run(&mut self, running: &AtomicBool) -> Result<Outcome> {
        let (start, mut step, mut cookies, mut answers) = (Instant::now(), 0, 0, 0);
        let Self { sockets, addresses, targets } = self;
        let mut pace = Pace::default();
        while running.load(Ordering::Relaxed) {
            let socket = &sockets[step % sockets.len()];
            let before = pace.sent;
            for number in before..before + pace.due(start.elapsed()) {
                let from = address((number % u64::from(*addresses)) as u32);
                let at = number as usize % targets.len();
                let target = &mut targets[at];
                answers += u64::from(target.forger.has_cookie());
                responder::send(socket, &target.forger.message(), from, target.to);
            }
            cookies += collect(&sockets[(step + sockets.len() / 2) % sockets.len()], targets)?;
            step += 1;
            thread::sleep(STEP);
        }
        let took = start.elapsed();
        for socket in &*sockets {
            cookies += collect(socket, targets)?;
        }
        Ok(Outcome { sent: pace.sent, answers, cookies, took })
    }
}

/// How much is due.
#[derive(Debug, Default)]
struct Pace {
    sent: u64,
    skipped: u64,
}

impl Pace {
    /// Messages to send now, so long after the start. More than a burst is not made up for: that would be another flood, a
    /// shorter and harder one.
    fn due(&mut self, elapsed: Duration) -> u64 {
        let waiting = ((elapsed.as_secs_f64() * RATE).round() as u64).saturating_sub(self.sent + self.skipped);
        let now = waiting.min(BURST);
        self.sent += now;
        self.skipped += waiting - now;
        now
    }
}

/// Takes the cookies that wait; how many they are.
fn collect(socket: &UdpSocket, targets: &mut [Target]) -> Result<u64> {
    let (mut data, mut cookies) = ([0; 256], 0);
    loop {
        match socket.recv_from(&mut data) {
            Ok((len, from)) if (data[0], len) == COOKIE => {
                cookies += 1;
                if let Some(target) = targets.iter_mut().find(|target| SocketAddr::V4(target.to) == from) {
                    target.forger.learn(&data[..len]);
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(cookies),
            // What ICMP told of one message says nothing of the others.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error).context("The flood's socket failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_pace_and_makes_up_for_little() {
        let mut pace = Pace::default();
        let sent: Vec<u64> =
            [0, 1, 3, 13, 1013, 1014].into_iter().map(|ms| pace.due(Duration::from_millis(ms))).collect();
        assert_eq!(sent, [0, 10, 20, 100, BURST, 10], "what a second without a turn left undone is not sent later");
        assert_eq!(pace.sent, 140 + BURST);
    }

    #[test]
    fn counts_cookies_only() {
        let [lane, flooder] = [(), ()].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        flooder.set_nonblocking(true).unwrap();
        let (kind, len) = COOKIE;
        let mut cookie = vec![0; len];
        cookie[0] = kind;
        let mut response = cookie.clone();
        response[0] = 2;
        for message in [&cookie[..], &cookie[..len - 1], &response, &cookie, &[]] {
            lane.send_to(message, flooder.local_addr().unwrap()).unwrap();
        }
        assert_eq!(collect(&flooder, &mut []).unwrap(), 2);
        assert_eq!(collect(&flooder, &mut []).unwrap(), 0);
    }

    #[test]
    fn speaks_of_seconds() {
        let outcome = Outcome { sent: 20_000, answers: 0, cookies: 19_000, took: Duration::from_secs(2) };
        assert_eq!(outcome.to_string(), "10000 initiations/s, 9500 cookies/s");
        let answering = Outcome { answers: 19_000, cookies: 100, ..outcome };
        assert_eq!(answering.to_string(), "10000 initiations/s, 50 cookies/s, 95 % with a cookie");
    }
}
