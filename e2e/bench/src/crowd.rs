//! A thousand peers in one process: each has a WireGuard key, an address and a prefix of its own, answers handshakes and
//! probes; on request it also probes by itself once a second, as an idle gateway does. They carry no traffic.
//!
//! The process is the program `hawser-bench-crowd`; [`Crowd`] runs it on a host behind the gateway's. [`responder`] is what
//! the program does.

pub mod responder;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519::{PublicKey, StaticSecret};
use hawser_api::hawser::{LaneSpec, RemoteClusterSpec};
use hawser_testbed::process::binary;
use hawser_testbed::{Netns, Process, wait_for};
use sha2::{Digest as _, Sha256};

use crate::agent;

/// UDP port of every peer.
pub const PORT: u16 = 51820;
/// Addresses of all peers: one route leads to them.
const ADDRESSES: &str = "100.64.0.0/16";
/// A path without traffic is probed at the idle pace after ten seconds.
const IDLE: Duration = Duration::from_secs(30);
/// Questions per second and session that still are the idle pace; the busy one is ten.
const IDLE_PACE: f64 = 2.0;

/// The running crowd.
pub struct Crowd {
    process: Process,
    sessions: usize,
    _host: Netns,
}

/// Peer `index`'s cluster id.
#[must_use]
pub fn id(index: u32) -> String {
    format!("crowd-{index}")
}

/// Its outer address.
#[must_use]
pub fn address(index: u32) -> Ipv4Addr {
    let [_, _, high, low] = (index + 1).to_be_bytes();
    Ipv4Addr::new(100, 64, high, low)
}

/// Which peer has that outer address.
#[must_use]
pub fn index(address: Ipv4Addr) -> Option<u32> {
    let [100, 64, high, low] = address.octets() else { return None };
    u32::from_be_bytes([0, 0, high, low]).checked_sub(1)
}

/// Its key, good for a measurement only: anybody can derive it.
#[must_use]
pub fn key(index: u32) -> StaticSecret {
    StaticSecret::from(<[u8; 32]>::from(Sha256::digest(format!("hawser-bench crowd {index}"))))
}

/// It as its cluster's gateway.
#[must_use]
pub fn cluster(index: u32) -> RemoteClusterSpec {
    let key = STANDARD.encode(PublicKey::from(&key(index)).as_bytes());
    let lane = LaneSpec { public_key: key, port: PORT, next_public_key: None };
    let [_, _, high, low] = index.to_be_bytes();
    let prefix = format!("10.{}.{low}.0/24", 64 + u16::from(high));
    agent::cluster(&id(index), &prefix, vec![lane], &address(index).to_string())
}

impl Crowd {
    /// Starts `count` peers on a host of their own, wired to `gateway`, whose lanes have these keys. `asks`: they probe, too.
    ///
    /// # Errors
    /// When the program is missing or the kernel refuses.
    pub fn start(gateway: &Netns, count: u32, asks: bool, keys: &[String], logs: &Path) -> Result<Self> {
        let host = Netns::new("crowd", None)?;
        gateway.ip(&format!("link add crowd0 type veth peer name eth0 netns {}", host.path().display()))?;
        gateway.ip("link set crowd0 up")?;
        gateway.ip("addr add 192.0.3.1/24 dev crowd0")?;
        gateway.ip(&format!("route add {ADDRESSES} via 192.0.3.2"))?;
        host.ip("link set eth0 up")?;
        host.ip("addr add 192.0.3.2/24 dev eth0")?;
        host.ip(&format!("route add local {ADDRESSES} dev lo"))?;
        host.ip("route add default via 192.0.3.1")?;
        let mut command = Command::new(binary("hawser-bench-crowd")?);
        command.args(["--peers", &count.to_string()]).args(keys.iter().flat_map(|key| ["--key", key]));
        if asks {
            command.arg("--ask");
        }
        let process = Process::start(&host, "crowd", command, logs)?;
        Ok(Self { process, sessions: count as usize * keys.len(), _host: host })
    }

    /// Waits until every peer has a session with every lane and all are probed at the idle pace.
    ///
    /// # Errors
    /// With the crowd's own last count.
    pub fn wait_idle(&self) -> Result<()> {
        wait_for("every peer to be idle", IDLE, || {
            let log = self.process.log();
            let line = log.lines().last().context("no count yet")?;
            let (sessions, questions) = parse(line).with_context(|| format!("no count: {line}"))?;
            ensure!(sessions == self.sessions, "{sessions} sessions of {}: {line}", self.sessions);
            ensure!((questions as f64) < IDLE_PACE * self.sessions as f64, "{line}");
            Ok(())
        })
    }
}

/// A line of the program's output, see [`responder::Count`].
fn parse(line: &str) -> Option<(usize, u64)> {
    let mut words = line.split(' ');
    match (words.next()?, words.next()?, words.next()?, words.next()?) {
        ("sessions", sessions, "questions", questions) => Some((sessions.parse().ok()?, questions.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_thousand_peers_are_a_thousand() {
        let specs: Vec<_> = (0..1000).map(cluster).collect();
        let distinct = |f: &dyn Fn(&RemoteClusterSpec) -> String| specs.iter().map(f).collect::<BTreeSet<_>>().len();
        assert_eq!(distinct(&|s| s.cluster_id.clone()), 1000);
        assert_eq!(distinct(&|s| s.prefixes[0].clone()), 1000);
        assert_eq!(distinct(&|s| s.gateways[0].candidates[0].clone()), 1000);
        assert_eq!(distinct(&|s| s.gateways[0].lanes[0].public_key.clone()), 1000);
        for i in [0, 1, 254, 255, 256, 999] {
            assert_eq!(index(address(i)), Some(i));
        }
        assert_eq!(index(Ipv4Addr::new(100, 64, 0, 0)), None);
    }

    #[test]
    fn reads_what_the_program_prints() {
        let count = responder::Count { sessions: 2000, questions: 1998 };
        assert_eq!(parse(&count.to_string()), Some((2000, 1998)));
        assert_eq!(parse("sessions many"), None);
    }
}
