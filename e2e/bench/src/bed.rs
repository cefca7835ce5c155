//! Two hosts with one implementation between them, ready to be measured.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hawser_model::IpFamily;
use hawser_testbed::{Netns, Process, wait_for};

use crate::iperf::{Server, Tcp};
use crate::process::{cpu_time, peak_memory};
use crate::subject::Subject;
use crate::{chain, datagrams, flood, hawser, latency, plain};

/// MTU of the wire between the hosts.
pub const WIRE_MTU: u32 = 1500;
/// MTU inside every tunnel.
pub const TUNNEL_MTU: u32 = 1420;
/// How long an implementation may take to come up; a thousand handshakes take a while.
pub const START: Duration = Duration::from_secs(60);

/// One end: a host, where its traffic starts and ends, and the programs that carry it there.
pub struct End {
    // Programs end before the host they run on.
    /// Programs whose CPU time and memory count.
    pub measured: Vec<Process>,
    /// The host that traffic starts or ends at.
    pub ns: Netns,
    /// Its address inside the tunnel.
    pub inner: IpAddr,
}

/// See the module.
pub struct Bed {
    /// What is between the hosts.
    pub subject: Subject,
    server: Server,
    /// Where clients are.
    pub a: End,
    /// Where servers are.
    pub b: End,
    /// Whatever else must stay as long as the bed does.
    more: Box<dyn std::any::Any>,
}

/// The outer IPv4 address of a host.
#[must_use]
pub fn outer(number: u8) -> IpAddr {
    outer_of(IpFamily::V4, number)
}

/// The outer address of a host.
#[must_use]
pub fn outer_of(family: IpFamily, number: u8) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::new(192, 0, 2, number).into(),
        IpFamily::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

/// The inner IPv4 address of a host.
#[must_use]
pub fn inner(number: u8) -> IpAddr {
    inner_of(IpFamily::V4, number)
}

/// The inner address of a host, the first one of [`pods`].
#[must_use]
pub fn inner_of(family: IpFamily, number: u8) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::new(10, number, 1, 1).into(),
        IpFamily::V6 => Ipv6Addr::new(0xfd10, number.into(), 1, 0, 0, 0, 0, 1).into(),
    }
}

/// The prefix of a host's pods.
#[must_use]
pub fn pods(family: IpFamily, number: u8) -> String {
    match family {
        IpFamily::V4 => format!("10.{number}.1.0/24"),
        IpFamily::V6 => format!("fd10:{number:x}:1::/64"),
    }
}

/// The prefix of all that is behind a host.
#[must_use]
pub fn network(family: IpFamily, number: u8) -> String {
    match family {
        IpFamily::V4 => format!("10.{number}.0.0/16"),
        IpFamily::V6 => format!("fd10:{number:x}::/32"),
    }
}

/// Two hosts with a wire between them, `eth0` on both, and addresses of the subject's family.
///
/// # Errors
/// Without root, or when the kernel refuses.
pub fn hosts(subject: Subject) -> Result<[Netns; 2]> {
    let (a, b) = (Netns::new(&format!("{subject}-1"), None)?, Netns::new(&format!("{subject}-2"), None)?);
    a.ip(&format!(
        "link add eth0 mtu {WIRE_MTU} type veth peer name eth0 mtu {WIRE_MTU} netns {}",
        b.path().display()
    ))?;
    for (number, ns) in [(1, &a), (2, &b)] {
        ns.ip("link set eth0 up")?;
        let (family, address) = (subject.family(), outer_of(subject.family(), number));
        let length = if family == IpFamily::V4 { 24 } else { 64 };
        ns.ip(&format!("addr add {address}/{length} dev eth0"))?;
    }
    Ok([a, b])
}

impl Bed {
    /// Sets it up below `root` and waits until packets pass.
    ///
    /// # Errors
    /// When a program is missing or does not come up.
    pub fn start(subject: Subject, root: &Path) -> Result<Self> {
        let dir = root.join(subject.to_string());
        fs::create_dir_all(&dir)?;
        Self::set_up(subject, &dir).with_context(|| format!("Failed to set {subject} up"))
    }

    fn set_up(subject: Subject, dir: &Path) -> Result<Self> {
        let (ends, more): ([End; 2], Box<dyn std::any::Any>) = match subject {
            Subject::Raw => {
                let [a, b] = hosts(subject)?;
                let end = |ns, number| End { measured: Vec::new(), ns, inner: outer(number) };
                ([end(a, 1), end(b, 2)], Box::new(()))
            }
            Subject::WireguardGo | Subject::WireguardGoV6 | Subject::Gotatun | Subject::Boringtun => {
                (plain::ends(subject, dir)?, Box::new(()))
            }
            Subject::Hawser(lanes) | Subject::HawserV6(lanes) | Subject::OtherHawser(lanes) => {
                (hawser::ends(subject, lanes, dir)?, Box::new(()))
            }
            Subject::Crowded(lanes) | Subject::Asked(lanes) => {
                let (ends, crowd) = hawser::crowded_ends(subject, lanes, dir)?;
                (ends, Box::new(crowd))
            }
            Subject::Flooded(lanes) | Subject::Discarding(lanes) => {
                let (ends, flooder) = flood::ends(subject, lanes, dir)?;
                (ends, Box::new(flooder))
            }
            Subject::Shared(_) | Subject::Apart(_) => bail!("{subject} has three ends"),
            Subject::Chain | Subject::BareChain => {
                let (ends, chain) = chain::ends()?;
                (ends, Box::new(chain))
            }
        };
        let [a, b] = ends;
        reaches(&a, &b)?;
        let server = Server::start(&b.ns, b.inner, dir)?;
        Ok(Self { subject, server, a, b, more })
    }

    /// Sends by TCP for a time, by so many flows at once; CPU time is that of both ends and of `iperf3`.
    ///
    /// # Errors
    /// When the measurement fails.
    pub fn tcp(&self, flows: u32, time: Duration) -> Result<Tcp> {
        let before = self.cpu_time()?;
        let mut tcp = self.server.tcp(&self.a.ns, self.a.inner, flows, time)?;
        tcp.cpu += self.cpu_time()?.saturating_sub(before);
        Ok(tcp)
    }

    fn cpu_time(&self) -> Result<Duration> {
        self.a.measured.iter().chain(&self.b.measured).map(|process| cpu_time(process.pid())).sum()
    }

    /// Most memory that either end ever had, in bytes; zero where nothing runs.
    ///
    /// # Errors
    /// When an end is gone.
    pub fn peak_memory(&self) -> Result<u64> {
        let peaks = self.a.measured.iter().chain(&self.b.measured).map(|process| peak_memory(process.pid()));
        Ok(peaks.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or_default())
    }

    /// Round trips without other traffic, or beside what the caller lets run.
    ///
    /// # Errors
    /// When the measurement fails.
    pub fn round_trips(&self, time: Duration) -> Result<latency::RoundTrips> {
        let [client, server] = self.sockets()?;
        latency::measure(&client, &server, time)
    }

    /// Round trips beside so many TCP flows.
    ///
    /// # Errors
    /// When either measurement fails.
    pub fn round_trips_beside(&self, flows: u32, time: Duration) -> Result<latency::RoundTrips> {
        let [client, server] = self.sockets()?;
        std::thread::scope(|scope| {
            // The flows begin before the probes and end after them.
            let prober = scope.spawn(|| {
                std::thread::sleep(Duration::from_secs(1));
                latency::measure(&client, &server, time)
            });
            self.tcp(flows, time + Duration::from_secs(2))?;
            prober.join().expect("the prober does not panic")
        })
    }

    /// A trial of the search for the highest rate of datagrams, in Mbit/s.
    ///
    /// # Errors
    /// When a socket fails.
    pub fn datagrams(&self, rate: f64, time: Duration) -> Result<crate::search::Trial> {
        let [client, server] = self.sockets()?;
        datagrams::trial(&client, &server, rate, time)
    }

    /// What else came with the ends.
    ///
    /// # Errors
    /// When it is something else.
    pub fn more<T: 'static>(&self) -> Result<&T> {
        self.more.downcast_ref().with_context(|| format!("{} came with something else", self.subject))
    }

    fn sockets(&self) -> Result<[UdpSocket; 2]> {
        Ok([socket(&self.a)?, socket(&self.b)?])
    }
}

/// A socket at the end's inner address.
pub(crate) fn socket(end: &End) -> Result<UdpSocket> {
    let inner = end.inner;
    end.ns.run(move || UdpSocket::bind((inner, 0))).with_context(|| format!("Failed to bind to {inner}"))
}

/// Waits until a datagram comes back.
fn reaches(a: &End, b: &End) -> Result<()> {
    let (client, server) = (socket(a)?, socket(b)?);
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    }
    wait_for("packets to pass", START, || {
        client.send_to(b"there", server.local_addr()?)?;
        let mut data = [0; 16];
        let (_, from) = server.recv_from(&mut data).with_context(|| format!("nothing arrived; {}", logs(a, b)))?;
        server.send_to(b"back", from)?;
        client.recv(&mut data).with_context(|| format!("nothing came back; {}", logs(a, b)))?;
        Ok(())
    })
}

fn logs(a: &End, b: &End) -> String {
    let ends = a.measured.iter().chain(&b.measured);
    ends.map(|process| format!("{}: {}", process.log_path().display(), tail(&process.log()))).collect()
}

fn tail(log: &str) -> &str {
    log.char_indices().rev().nth(600).map_or(log, |(at, _)| &log[at..])
}

/// Where `scripts/bench-setup` puts the others.
///
/// # Errors
/// When a program is missing there.
pub fn tool(name: &str) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let path = target.join("tools/bin").join(name);
    anyhow::ensure!(path.exists(), "{} is missing; run: scripts/bench-setup", path.display());
    Ok(path.canonicalize()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_model::PrefixSet;

    #[test]
    fn a_host_is_inside_its_own_prefixes_only() {
        for family in [IpFamily::V4, IpFamily::V6] {
            for (own, other) in [(1, 2), (2, 1)] {
                let set = |text: String| PrefixSet::parse("prefix", &[text]).unwrap();
                let (pods, all) = (set(pods(family, own)), set(network(family, own)));
                let (inner, outer) = (inner_of(family, own), outer_of(family, own));
                assert!(
                    pods.contains(inner) && pods.iter().all(|net| all.contains_net(net)),
                    "{inner} {pods:?} {all:?}"
                );
                assert!(!set(network(family, other)).contains(inner) && !all.contains(outer), "{inner} {outer}");
                assert_ne!(outer, outer_of(family, other));
            }
        }
    }
}
