//! Whether one peer's load delays another's packets: host B's round trips to the middle host M, which host A sends to at full
//! speed, beside B's round trips to a middle host of its own (N) while A sends to M as before.
//!
//! On few cores the load delays everything by the CPU time that it takes; both ways have that. What differs is whether B's
//! packets go through the gateway that carries the load.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hawser_testbed::{Netns, Process};

use crate::bed::{End, WIRE_MTU, inner, outer, socket};
use crate::hawser::{Site, introduce};
use crate::iperf::Server;
use crate::latency;
use crate::runner::{Plan, order};
use crate::samples::{Figure, Samples};
use crate::stats::percentile;
use crate::subject::Subject;

/// Hosts by number: M, A, B, N.
const NAMES: [&str; 4] = ["m", "a", "b", "n"];
const M: u8 = 1;
const A: u8 = 2;
const B: u8 = 3;
const N: u8 = 4;
/// Who is wired to whom, and has a tunnel to it.
const WIRES: [[u8; 2]; 3] = [[M, A], [M, B], [N, B]];
/// Flows of the load.
const FLOWS: u32 = 4;
/// Each way's turns beside one run of the load.
const TURNS: u32 = 2;

/// The four hosts.
struct Bed {
    server: Server,
    ends: Vec<End>,
}

/// Every round: B's round trips to M while nothing else runs, then beside the load to M and to N, in turn.
///
/// # Errors
/// When a program is missing or does not come up, or a measurement fails.
pub fn measure(plan: Plan, root: &Path, samples: &mut Samples, tell: &mut dyn FnMut(&str)) -> Result<()> {
    for lanes in [1, 2] {
        tell(&format!("setting up four gateways of {lanes} lanes"));
        let bed = Bed::start(lanes, root)?;
        for round in 0..plan.rounds {
            let ways = order(&[Subject::Shared(lanes), Subject::Apart(lanes)], round).copied().collect::<Vec<_>>();
            let idle = percentile(&bed.round_trips(M, plan.time)?, 0.99);
            samples.add(Figure::FairIdle, Subject::Shared(lanes), idle);
            let (trips, rate) = bed.beside_load(&ways, plan.time)?;
            samples.add(Figure::FairLoad, Subject::Shared(lanes), rate);
            let mut said =
                format!("round {} of {}: load {rate:.3} Gbit/s; p99 idle {idle:.0} µs", round + 1, plan.rounds);
            for (way, trips) in ways.into_iter().zip(trips) {
                let [middle, p99] = [0.5, 0.99].map(|share| percentile(&trips, share));
                samples.add(Figure::Fair, way, p99);
                said.push_str(&format!(", {way} {p99:.0} µs (median {middle:.0})"));
            }
            tell(&said);
        }
    }
    Ok(())
}

impl Bed {
    fn start(lanes: u8, root: &Path) -> Result<Self> {
        let dir = root.join(format!("fair-{lanes}"));
        fs::create_dir_all(&dir)?;
        let hosts = hosts()?;
        let members: Vec<String> = (1..=hosts.len()).map(|number| format!("c{number}")).collect();
        let sites =
            (M..=N).map(|n| Site::new(Subject::Shared(lanes), n, &dir, &members)).collect::<Result<Vec<_>>>()?;
        let gateways: Vec<Process> =
            sites.iter().zip(&hosts).map(|(site, host)| site.start(host, lanes, &dir)).collect::<Result<_>>()?;
        for pair in WIRES {
            let [one, two] = pair.map(|number| &sites[usize::from(number - 1)]);
            introduce(one, two, lanes)?;
            one.reaches(two)?;
            two.reaches(one)?;
        }
        let ends = hosts.into_iter().zip(gateways).zip(M..).map(|((ns, gateway), number)| {
            let measured = vec![gateway];
            End { measured, ns, inner: inner(number) }
        });
        let ends: Vec<End> = ends.collect();
        let server = Server::start(&ends[0].ns, inner(M), &dir).context("Failed to set the load up")?;
        Ok(Self { server, ends })
    }

    fn end(&self, number: u8) -> &End {
        &self.ends[usize::from(number - 1)]
    }

    /// B's, to that host.
    fn round_trips(&self, to: u8, time: Duration) -> Result<Vec<f64>> {
        let (client, server) = (socket(self.end(B))?, socket(self.end(to))?);
        Ok(latency::measure(&client, &server, time)?.0)
    }

    /// B's each way for a time, in turns, and the rate of the load meanwhile in Gbit/s.
    fn beside_load(&self, ways: &[Subject], time: Duration) -> Result<(Vec<Vec<f64>>, f64)> {
        let turn = time / TURNS;
        // What is under way at the end of a turn is waited for.
        let whole = (turn + latency::LOST.min(turn)) * TURNS * ways.len() as u32;
        thread::scope(|scope| {
            let prober = scope.spawn(|| -> Result<Vec<Vec<f64>>> {
                let mut trips = vec![Vec::new(); ways.len()];
                thread::sleep(Duration::from_secs(1));
                for _ in 0..TURNS {
                    for (way, trips) in ways.iter().zip(&mut trips) {
                        let to = if matches!(way, Subject::Shared(_)) { M } else { N };
                        trips.extend(self.round_trips(to, turn).with_context(|| way.to_string())?);
                    }
                }
                Ok(trips)
            });
            let a = self.end(A);
            let load = self.server.tcp(&a.ns, a.inner, FLOWS, whole + Duration::from_secs(2));
            let trips = prober.join().expect("the prober does not panic")?;
            Ok((trips, load?.rate))
        })
    }
}

/// The hosts, each wired to its peers by wires of their own.
fn hosts() -> Result<Vec<Netns>> {
    let hosts = NAMES.map(|name| Netns::new(&format!("fair-{name}"), None)).into_iter().collect::<Result<Vec<_>>>()?;
    for [one, two] in WIRES {
        let [first, second] = [one, two].map(|number| &hosts[usize::from(number - 1)]);
        first.ip(&format!(
            "link add eth{two} mtu {WIRE_MTU} type veth peer name eth{one} mtu {WIRE_MTU} netns {}",
            second.path().display()
        ))?;
        for (host, own, other) in [(first, one, two), (second, two, one)] {
            host.ip(&format!("link set eth{other} up"))?;
            host.ip(&format!("addr add {}/32 dev eth{other}", outer(own)))?;
            host.ip(&format!("route add {} dev eth{other} src {}", outer(other), outer(own)))?;
        }
    }
    Ok(hosts)
}
