//! TCP through a gateway that is flooded with handshakes, beside the same flow and the same flood sent to a socket of the same
//! host that discards it: what the flood costs beyond its being received at all. From many sources, from one, and from one that
//! answers the cookies that it gets.
//!
//! [`initiation`] makes the messages, [`sender`] sends them and sees the cookies that come back.

pub mod initiation;
pub mod sender;

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hawser_api::hawser::LaneSpec;
use hawser_testbed::Netns;

use self::initiation::Forger;
use self::sender::{Flood, Outcome, RATE, Target};
use crate::bed::{Bed, End};
use crate::hawser::ends_and_lanes;
use crate::process::cpu_time;
use crate::runner::{Plan, order};
use crate::samples::{Figure, Samples};
use crate::subject::Subject;

/// Where the flood comes from: one route leads there.
const ADDRESSES: &str = "100.64.0.0/16";
/// The flooded host as the flooder reaches it, and the flooder's next hop there.
const VICTIM: Ipv4Addr = Ipv4Addr::new(192, 0, 3, 1);
const NEXT: Ipv4Addr = Ipv4Addr::new(192, 0, 3, 2);
/// A port that no lane has.
const DISCARD: u16 = 9;
/// From many sources, which answer nothing.
const MANY: Kind = Kind { sources: [4096, 16], answers: false };
/// From one that answers nothing.
const ONE: Kind = Kind { sources: [1, 1], answers: false };
/// From one that answers cookies: its messages have both codes.
const ANSWERING: Kind = Kind { sources: [1, 1], answers: true };
/// In place of a cookie for the socket that gives none: the flooder has the same work.
const MADE_UP: [u8; 16] = [7; 16];
/// The flooder must keep this share of its pace, or its flood was another one.
const KEPT: f64 = 0.95;

/// What a flood is.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// Addresses that it comes from, and ports of each.
    sources: [u32; 2],
    answers: bool,
}

/// A host that floods another.
pub struct Flooder {
    host: Netns,
    lanes: Vec<LaneSpec>,
    sink: UdpSocket,
}

/// Two gateways as of [`crate::hawser::ends`], and a host that can flood the second one's.
///
/// # Errors
/// When a program is missing or does not come up, or the kernel refuses.
pub fn ends(subject: Subject, lanes: u8, dir: &Path) -> Result<([End; 2], Flooder)> {
    let (ends, lanes) = ends_and_lanes(subject, lanes, dir)?;
    let (victim, host) = (&ends[1].ns, Netns::new("flooder", None)?);
    victim.ip(&format!("link add flood0 type veth peer name eth0 netns {}", host.path().display()))?;
    victim.ip("link set flood0 up")?;
    victim.ip(&format!("addr add {VICTIM}/24 dev flood0"))?;
    victim.ip(&format!("route add {ADDRESSES} via {NEXT}"))?;
    host.ip("link set eth0 up")?;
    host.ip(&format!("addr add {NEXT}/24 dev eth0"))?;
    host.ip(&format!("route add local {ADDRESSES} dev lo"))?;
    let sink = victim.run(|| UdpSocket::bind((VICTIM, DISCARD))).context("Failed to bind the discarding socket")?;
    sink.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok((ends, Flooder { host, lanes, sink }))
}

/// Every round: one flow beside each kind of flood, to the lanes and to the discarding socket; then floods alone.
///
/// # Errors
/// When a program is missing or does not come up, or a measurement fails.
pub fn measure(plan: Plan, root: &Path, samples: &mut Samples, tell: &mut dyn FnMut(&str)) -> Result<()> {
    for lanes in [1, 2] {
        let flooded = Subject::Flooded(lanes);
        tell(&format!("setting up {flooded}"));
        let bed = Bed::start(flooded, root)?;
        let flooder = bed.more::<Flooder>()?;
        for round in 0..plan.rounds {
            let mut said = format!("round {} of {}:", round + 1, plan.rounds);
            for (figure, kind) in [(Figure::Flood, MANY), (Figure::FloodOne, ONE), (Figure::FloodCookie, ANSWERING)] {
                for &subject in order(&[flooded, Subject::Discarding(lanes)], round) {
                    let (tcp, outcome) = flooder.beside(subject, kind, || bed.tcp(1, plan.time))?;
                    samples.add(figure, subject, tcp.rate);
                    said.push_str(&format!(" {figure} {subject} {:.3} Gbit/s ({outcome});", tcp.rate));
                    if subject == flooded && figure == Figure::Flood {
                        samples.add(Figure::FloodCookies, subject, outcome.cookies_per_second());
                    }
                }
            }
            let gateway = bed.b.measured.first().context("a gateway is measured")?.pid();
            for (figure, kind) in [(Figure::FloodCpu, MANY), (Figure::FloodCookieCpu, ANSWERING)] {
                let (cores, outcome) = flooder.beside(flooded, kind, || {
                    let before = cpu_time(gateway)?;
                    thread::sleep(plan.time);
                    Ok(cpu_time(gateway)?.saturating_sub(before).as_secs_f64() / plan.time.as_secs_f64())
                })?;
                samples.add(figure, flooded, cores);
                said.push_str(&format!(" {figure} {cores:.3} cores ({outcome});"));
            }
            tell(&said);
        }
    }
    Ok(())
}

impl Flooder {
    /// What `f` gives while the flood runs, which must have been what it should be.
    fn beside<T>(&self, subject: Subject, kind: Kind, f: impl FnOnce() -> Result<T>) -> Result<(T, Outcome)> {
        let discarding = matches!(subject, Subject::Discarding(_));
        let mut flood = Flood::new(&self.host, self.targets(discarding, kind.answers)?, kind.sources)?;
        empty(&self.sink)?;
        let running = AtomicBool::new(true);
        let (value, outcome, discarded) = thread::scope(|scope| {
            let flood = scope.spawn(|| flood.run(&running));
            let sink = scope.spawn(|| discard(&self.sink, &running));
            let value = f();
            running.store(false, Ordering::Relaxed);
            let outcome = flood.join().expect("the flood does not panic");
            (value, outcome, sink.join().expect("the sink does not panic"))
        });
        let (value, outcome) = (value?, outcome?);
        ensure!(outcome.pace() >= KEPT * RATE, "the flood of {subject} was too slow: {outcome}");
        check(subject, kind, discarded, &outcome)?;
        Ok((value, outcome))
    }

    /// The lanes, or the discarding socket in their place, so that the messages are the same.
    fn targets(&self, discarding: bool, answers: bool) -> Result<Vec<Target>> {
        let target = |lane: &LaneSpec| -> Result<Target> {
            let key = STANDARD.decode(&lane.public_key)?;
            let key = key.try_into().ok().with_context(|| format!("{} is not 32 bytes", lane.public_key))?;
            let (port, seed) = (if discarding { DISCARD } else { lane.port }, u64::from(lane.port));
            let forger = match answers {
                true => Forger::answering(&key, seed, discarding.then_some(MADE_UP)),
                false => Forger::new(&key, seed),
            };
            Ok(Target { to: SocketAddrV4::new(VICTIM, port), forger })
        };
        self.lanes.iter().map(target).collect()
    }
}

/// Whether the flood was seen by whom it was for, and was of its kind.
fn check(subject: Subject, kind: Kind, discarded: u64, outcome: &Outcome) -> Result<()> {
    let Outcome { sent, answers, cookies, .. } = *outcome;
    if matches!(subject, Subject::Discarding(_)) {
        ensure!(discarded * 2 > sent, "{discarded} of {subject}'s flood were discarded: {outcome}");
        ensure!(cookies == 0, "cookies came from elsewhere: {outcome}");
    } else {
        ensure!(discarded == 0, "{discarded} of {subject}'s flood were discarded");
        // Most are asked for a cookie; those with a good one are not asked again.
        let seen = if kind.answers { cookies > 0 && cookies * 2 < sent } else { cookies * 2 > sent };
        ensure!(seen, "{cookies} cookies are no answer of {subject} to such a flood: {outcome}");
    }
    ensure!(kind.answers == (answers * 2 > sent), "the flood of {subject} was of another kind: {outcome}");
    Ok(())
}

/// Forgets what an earlier flood left.
fn empty(sink: &UdpSocket) -> Result<()> {
    sink.set_nonblocking(true)?;
    while sink.recv(&mut [0; 256]).is_ok() {}
    Ok(sink.set_nonblocking(false)?)
}

/// Reads what comes and forgets it; how much that was.
fn discard(sink: &UdpSocket, running: &AtomicBool) -> u64 {
    let mut seen = 0;
    while running.load(Ordering::Relaxed) {
        seen += u64::from(sink.recv(&mut [0; 256]).is_ok());
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_that_was_another_one_is_an_error() {
        let took = Duration::from_secs(1);
        let outcome = |answers, cookies| Outcome { sent: 1000, answers, cookies, took };
        let (flooded, discarding) = (Subject::Flooded(1), Subject::Discarding(1));
        check(flooded, MANY, 0, &outcome(0, 950)).unwrap();
        check(flooded, ANSWERING, 0, &outcome(990, 30)).unwrap();
        check(discarding, ONE, 900, &outcome(0, 0)).unwrap();
        check(discarding, ANSWERING, 900, &outcome(1000, 0)).unwrap();
        for (subject, kind, discarded, outcome) in [
            (flooded, MANY, 0, outcome(0, 30)),
            (flooded, MANY, 9, outcome(0, 950)),
            (flooded, ANSWERING, 0, outcome(990, 950)),
            (flooded, ANSWERING, 0, outcome(0, 30)),
            (flooded, ANSWERING, 0, outcome(990, 0)),
            (discarding, ONE, 900, outcome(1000, 0)),
            (discarding, ONE, 90, outcome(0, 0)),
            (discarding, ONE, 900, outcome(0, 1)),
        ] {
            assert!(check(subject, kind, discarded, &outcome).is_err(), "{subject} {kind:?} {discarded} {outcome}");
        }
    }
}
