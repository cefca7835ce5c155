//! The gateway's shell: TUN, UDP, lanes, keys.
//!
//! [`Tunnel::start`] opens everything and runs; [`Tunnel::apply`] replaces the peers as a whole; lanes do the rest and
//! [`Tunnel::report`] and [`Tunnel::cluster_states`] tell how it goes. What decides about packets and paths is pure and
//! lives in `hawser-datapath` and `hawser-liveness`; who the peers are is the business of the `hawser-gateway` process.
//!
//! - [`config`]: what a tunnel is told.
//! - [`status`]: what it tells.
//! - `error`: why one can't start, and what to do about it.
//! - [`keys`]: lane keys on disk; `rotation`: how lanes come to new ones.
//! - `lane`: the threads that move packets; `session`, `udp`, `tun`, `raw`: what they move them with.
//! - `control`, `netlink`: the TUN's addresses and routes, by what the lanes found; `links`: the host's others.
//! - `shared`, `snapshot`: what lanes and control have in common.

mod board;
pub mod config;
mod control;
mod error;
pub mod keys;
mod lane;
mod links;
mod netlink;
mod raw;
mod rotation;
mod session;
mod shared;
mod snapshot;
pub mod status;
mod tun;
mod udp;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use hawser_datapath::paths::Layout;
use hawser_datapath::{PathConfig, Policy, Skipped};
use hawser_model::{ClusterId, IpFamily};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::watch;

pub use config::{Config, LANES_MAX, PeerCluster, PeerGateway, Peers};
pub use error::Error;
pub use keys::{KeyError, LaneKey};
pub use netlink::NetlinkError;
pub use status::{ClusterStatus, LaneInfo, LaneLoad, NextKey, PathStatus, Report, RotatingPath, Rotation, Traffic};

use crate::control::{Control, MTU_MIN};
use crate::error::system;
use crate::lane::{Lane, Newcomers, Parts};
use crate::links::Links;
use crate::netlink::Device;
use crate::raw::RawSender;
use crate::rotation::Keys;
use crate::shared::{Change, Door, Shared};
use crate::snapshot::Snapshot;
use crate::status::Summary;
use crate::udp::LaneSocket;

/// Payload that a socket may hold back: some 5 ms of what a lane decrypts, a scheduler's slice. Less loses bursts, more hides
/// probes behind old packets.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A running tunnel. Its kernel state goes with it.
pub struct Tunnel {
    shared: Arc<Shared>,
    keys: Mutex<Keys>,
    threads: Vec<JoinHandle<()>>,
    control: tokio::task::JoinHandle<()>,
    states: watch::Receiver<Arc<Vec<ClusterStatus>>>,
}

impl Tunnel {
    /// Opens the device and the ports in this thread's network namespace and starts the lanes, without peers.
    ///
    /// # Errors
    /// When something it needs is taken or refused; nothing is left behind then.
    pub async fn start(config: Config, cluster: ClusterId) -> Result<Self, Error> {
        if !(1..=LANES_MAX).contains(&config.lanes) {
            return Err(Error::Lanes(config.lanes));
        }
        let keys = Keys::load(config.keys, config.lanes, config.port)?;
        let sockets = (0..config.lanes).map(|lane| bind(lane, config.port)).collect::<Result<Vec<_>, _>>()?;
        let queues = tun::open(&config.device, config.lanes)
            .map_err(|source| Error::Tun { device: config.device.clone(), source })?;
        let device = Device::open(&config.device).map_err(system("opening netlink"))?;
        device.up(MTU_MIN).await?;

        let mut seed = [0u8; 8];
        SystemRandom::new().fill(&mut seed).map_err(|_| KeyError::Random)?;
        let seed = u64::from_le_bytes(seed);
        let mut doors = Vec::new();
        let mut rings = Vec::new();
        for lane in 0..config.lanes {
            // Random, so that echoes of an earlier run's probes are not taken for this one's.
            let first_seq = seed.wrapping_add(lane as u64) >> 16;
            let liveness = hawser_liveness::Config { first_seq, ..hawser_liveness::Config::default() };
            let (door, ring) = Door::new(PathConfig { lane: lane as u8, liveness })
                .map_err(|e| system("making an event descriptor")(e.into()))?;
            doors.push(door);
            rings.push(ring);
        }
        let snapshot = Snapshot::new(Arc::new(Peers::none(cluster)), None, |_| MTU_MIN, Vec::new());
        let shared = Shared::new(snapshot.with_identities(keys.identities()), doors);
        let (sender, states) = watch::channel(Arc::default());
        let control = Control { shared: Arc::clone(&shared), device, states: sender };
        let control = tokio::spawn(control.run());
        let mut tunnel = Self { shared, keys: Mutex::new(keys), threads: Vec::new(), control, states };
        let raw = (0..config.lanes).map(|_| RawSender::open()).collect::<Result<Vec<_>, _>>();
        let raw = raw.map_err(system("opening raw sockets"))?;
        for (index, (((sockets, tun), ring), raw)) in sockets.into_iter().zip(queues).zip(rings).zip(raw).enumerate() {
            let lane = Lane::new(Parts { index, tun, sockets, raw, ring }, Arc::clone(&tunnel.shared))
                .map_err(|errno| system("waiting for packets")(errno.into()))?;
            let thread = std::thread::Builder::new()
                .name(format!("lane-{index}"))
                .spawn(move || lane.run())
                .map_err(system("starting a lane's thread"))?;
            tunnel.threads.push(thread);
        }
        Ok(tunnel)
    }

    /// Replaces all peers. Sessions of peers that stay go on; those of peers that go end with each lane's next turn. Also
    /// looks whether the host's links and routes changed.
    pub fn apply(&self, peers: Arc<Peers>) {
        let _keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (current, links) = (self.shared.snapshot.load(), Links::look());
        if current.is_of(&peers, |a| links.inner_mtu(a), links.addresses()) {
            return;
        }
        let next = Snapshot::new(peers, Some(&current), |a| links.inner_mtu(a), links.addresses());
        next.warn_refused(&current);
        self.take_up(next);
    }

    /// Puts a snapshot in force. The caller holds the keys, so that nobody else does so at the same time.
    pub(crate) fn take_up(&self, next: Snapshot) {
        let clusters: Vec<_> = next.peers.clusters.iter().map(PeerCluster::to_model).collect();
        let layout = Layout::new(&next.peers.prefixes, &clusters);
        for Skipped { cluster, prefix, overlaps } in layout.skipped() {
            tracing::warn!(%cluster, %prefix, %overlaps, "a prefix is left out: it overlaps another cluster's or our own");
        }
        let (last, next, now) = (self.shared.snapshot.load(), Arc::new(next), self.shared.now());
        for (lane, door) in self.shared.doors.iter().enumerate() {
            let paths = layout.of_lane(&door.config, |cluster, gateway| next.paths_of(cluster)[gateway].max_mtu, now);
            door.leave(Change {
                new: Newcomers::new(&last, &next, &paths, lane, now),
                paths,
                policy: Policy::new(Arc::clone(layout.prefixes()), next.hosts.iter().copied()),
                snapshot: Arc::clone(&next),
            });
        }
        self.shared.snapshot.store(next);
        self.shared.ring_all();
        self.shared.changed.notify_one();
    }

    /// Waits until every lane goes by the peers applied last: sessions of dropped ones are gone then.
    pub fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        let revision = shared.snapshot.load().revision;
        async move {
            while shared.doors.iter().any(|door| door.status().revision < revision) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    }

    /// Asks peers to choose other gateways (or takes that back): probes carry it from now on, and what this host itself sends
    /// prefers them too.
    pub fn set_draining(&self, draining: bool) {
        if self.shared.draining.swap(draining, Ordering::Relaxed) != draining {
            self.shared.announce(None);
            self.shared.changed.notify_one();
        }
    }

    /// The lanes: keys and ports to publish.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneInfo> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).lanes.clone()
    }

    /// How each remote cluster is reached; changes are seen at once.
    #[must_use]
    pub fn cluster_states(&self) -> watch::Receiver<Arc<Vec<ClusterStatus>>> {
        self.states.clone()
    }

    /// Everything there is to tell, figures no older than a quarter of a second.
    #[must_use]
    pub fn report(&self) -> Report {
        let snapshot = self.shared.snapshot.load_full();
        let lanes: Vec<_> = self.shared.doors.iter().map(Door::status).collect();
        let loads = lanes.iter().map(|lane| lane.load).collect();
        let mut drops = BTreeMap::new();
        for (reason, count) in self.shared.counters.iter().flat_map(|c| c.iter()) {
            *drops.entry(reason.as_str()).or_default() += count;
        }
        let paths = Summary::new(&snapshot, &lanes).paths(self.shared.now());
        Report { lanes: self.lanes(), loads, clusters: self.states.borrow().to_vec(), paths, drops }
    }

    /// Whether all lanes run. A lane ends only by [`Self::shutdown`], or when its device was taken from it.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.threads.iter().all(|t| !t.is_finished())
    }

    /// Stops the lanes and waits for them: device, addresses and routes are gone afterwards.
    pub async fn shutdown(mut self) {
        self.control.abort();
        self.shared.stop();
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|t| drop(t.join())));
        if joined.await.is_err() {
            tracing::warn!("a lane's thread could not be waited for");
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.control.abort();
        self.shared.stop();
    }
}

/// One socket per family; a host without IPv6 has none for that.
fn bind(lane: usize, base: u16) -> Result<Vec<LaneSocket>, Error> {
    let port = base + lane as u16;
    let mut sockets = Vec::new();
    for family in [IpFamily::V4, IpFamily::V6] {
        match LaneSocket::bind(family, port, RECEIVE_BUFFER) {
            Ok(socket) => sockets.push(socket),
            Err(e) if family == IpFamily::V6 && e.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
            Err(e) if family == IpFamily::V6 && e.kind() == std::io::ErrorKind::AddrNotAvailable => {}
            Err(source) => return Err(Error::Port { lane, port, family, source }),
        }
    }
    Ok(sockets)
}
