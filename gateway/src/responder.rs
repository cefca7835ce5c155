//! Answers the route agents' probes on `hawser-vx`, and tells every node at once when what it would answer changes. It follows
//! the tunnel's word on clusters by itself: flows of other nodes wait for it, and the gateway's own passes may be waiting for
//! a disk or an API server.
//!
//! The other end is in `hawser-route-agent`; what is said and how it is proven is `hawser-node-probe`'s.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hawser_model::defaults::{NODE_NOTICE_PORT, NODE_PROBE_PORT, VXLAN_DEVICE};
use hawser_model::{ClusterId, NodeName};
use hawser_node_probe::{
    Envelope, Listener, LivePage, MAX_DATAGRAM, Message, ProbeKey, Reach, Repeats, Speaker, link_local, pages,
};
use hawser_tunnel::ClusterStatus;
use nix::net::if_::if_nametoindex;
use prometheus_client::metrics::counter::Counter;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::watch;

/// Between looks for the device.
const LOOK: Duration = Duration::from_millis(250);

/// How each remote cluster is reached, as the tunnel tells.
pub(crate) type States = watch::Receiver<Arc<Vec<ClusterStatus>>>;

/// What the gateway says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) draining: bool,
    /// All nodes of the cluster: who is told.
    pub(crate) nodes: Vec<NodeName>,
}

/// Counts of what came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) answered: Counter,
    pub(crate) refused: Counter,
    pub(crate) notices: Counter,
}

/// The responder's voice and ear; they outlive the device.
pub(crate) struct Responder {
    device: String,
    speaker: Speaker,
    listener: Listener,
    said: watch::Receiver<Arc<Said>>,
    states: States,
    counts: Counts,
    start: Instant,
    version: u64,
    pages: Vec<LivePage>,
    /// Answers carry one page each, in turn.
    turn: usize,
}

impl Responder {
    /// A responder of `node`; it speaks from [`Self::run`] on.
    pub(crate) fn new(
        key: &ProbeKey,
        node: NodeName,
        said: watch::Receiver<Arc<Said>>,
        states: States,
        counts: Counts,
    ) -> Self {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let instance = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        Self {
            device: VXLAN_DEVICE.to_owned(),
            speaker: Speaker::new(key.clone(), node, instance),
            listener: Listener::new(key.clone(), instance),
            said,
            states,
            counts,
            start: Instant::now(),
            version: 0,
            pages: Vec::new(),
            turn: 0,
        }
    }

    /// Waits for the device, serves on it, and waits again when it goes.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        self.prepare();
        loop {
            let index = self.device_index().await;
            match bind(&self.device) {
                Ok(socket) => {
                    tracing::debug!(device = self.device, "answering node probes");
                    self.serve(&socket, index).await?;
                }
                Err(error) => {
                    tracing::debug!(device = self.device, error = format!("{error:#}"), "no socket for node probes");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn device_index(&self) -> u32 {
        loop {
            if let Ok(index) = if_nametoindex(self.device.as_str()) {
                return index;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Until the device with this index is gone.
    async fn serve(&mut self, socket: &UdpSocket, index: u32) -> anyhow::Result<()> {
        let mut buffer = [0u8; MAX_DATAGRAM + 1];
        let mut look = tokio::time::interval(LOOK);
        // Nodes that asked an earlier run must not wait for their next question.
        let mut notice = Some(Repeats::new(Instant::now()));
        loop {
            tokio::select! {
                biased;
                changed = self.said.changed() => {
                    changed.context("The gateway's state is gone")?;
                    notice = self.prepare().or(notice);
                }
                () = next_state(&mut self.states) => notice = self.prepare().or(notice),
                () = due(notice) => {
                    self.notify(socket, index);
                    notice = notice.and_then(Repeats::said);
                }
                received = socket.recv_from(&mut buffer) => match received {
                    Ok((len, from)) => self.answer(socket, &buffer[..len], from),
                    Err(error) => {
                        tracing::debug!(%error, "node probes can't be received");
                        return Ok(());
                    }
                },
                _ = look.tick() => if if_nametoindex(self.device.as_str()).ok() != Some(index) {
                    return Ok(());
                },
            }
        }
    }

    /// Lays out what is to be said; a notice of it, where it differs from what was said before.
    fn prepare(&mut self) -> Option<Repeats> {
        let draining = self.said.borrow_and_update().draining;
        let states = Arc::clone(&self.states.borrow_and_update());
        let clusters: Vec<(ClusterId, Reach)> =
            states.iter().map(|c| (c.id.clone(), Reach { state: c.state, mtu: c.mtu })).collect();
        let changed = self.pages.first().is_none_or(|p| p.draining != draining)
            || !self.pages.iter().flat_map(|p| &p.clusters).eq(&clusters);
        if changed {
            self.version += 1;
            self.pages = pages(self.version, draining, &clusters);
        }
        changed.then(|| Repeats::new(Instant::now()))
    }

    fn answer(&mut self, socket: &UdpSocket, datagram: &[u8], from: std::net::SocketAddr) {
        let now = hawser_liveness::Time::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let asked = match self.listener.open(datagram, now) {
            Ok(Envelope { instance, message: Message::Ask { seq, .. }, .. }) => (instance, seq),
            Ok(_) => return,
            Err(refused) => {
                self.counts.refused.inc();
                tracing::trace!(%from, reason = refused.as_str(), "a node probe was refused");
                return;
            }
        };
        let (asker, seq) = asked;
        self.turn = (self.turn + 1) % self.pages.len();
        let page = self.pages[self.turn].clone();
        let datagram = self.speaker.seal(Message::Answer { asker, seq, page });
        if socket.try_send_to(&datagram, from).is_ok() {
            self.counts.answered.inc();
        }
    }

    /// Tells all nodes.
    fn notify(&mut self, socket: &UdpSocket, index: u32) {
        let nodes: Vec<Ipv6Addr> = self.said.borrow().nodes.iter().map(link_local).collect();
        for page in self.pages.clone() {
            let datagram = self.speaker.seal(Message::Notice { page });
            for &node in &nodes {
                let to = SocketAddrV6::new(node, NODE_NOTICE_PORT, 0, index);
                // A node that can't be told now will ask.
                if socket.try_send_to(&datagram, to.into()).is_ok() {
                    self.counts.notices.inc();
                }
            }
        }
    }
}

async fn due(notice: Option<Repeats>) {
    match notice {
        Some(notice) => tokio::time::sleep_until(notice.at().into()).await,
        None => std::future::pending().await,
    }
}

/// Waits for the tunnel's next word; without end, where it says no more.
pub(crate) async fn next_state(states: &mut States) {
    if states.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn bind(device: &str) -> anyhow::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.bind_device(Some(device.as_bytes())).context("Failed to bind to the device")?;
    let address = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, NODE_PROBE_PORT, 0, 0);
    socket.bind(&address.into()).with_context(|| format!("Failed to bind UDP port {NODE_PROBE_PORT}"))?;
    Ok(UdpSocket::from_std(socket.into())?)
}

#[cfg(test)]
mod tests;
