//! Asks every gateway how it is, each 100 ms (each 20 ms while in doubt), and listens to what they and their nodes say unasked.
//!
//! The other ends: the gateway process answers; other nodes' route agents take [`Message::GatewayGone`]. Messages are of
//! `hawser-node-probe`, verdicts of `hawser-liveness`; what comes out is one [`GatewayView`] per gateway.

mod gateway;
mod voice;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_liveness::{Event, Time};
use hawser_model::NodeName;
use hawser_node_probe::{MAX_DATAGRAM, Message, Repeats, link_local};
use hawser_route_plan::GatewayView;
use tokio::sync::{mpsc, watch};

use crate::metrics::Metrics;
use crate::socket::ProbeSocket;
use gateway::Gateway;
use voice::Voice;

/// What is known of each gateway.
pub(crate) type Gateways = Arc<BTreeMap<NodeName, GatewayView>>;

/// Between looks for a key or a device that is not there, and for a key that changed.
const LOOK: Duration = Duration::from_secs(1);
/// From the loss of a socket to the next.
const REBIND: Duration = Duration::from_millis(10);

/// Whom to ask, and on which device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The index of `hawser-vx`; none: there is none, or no IPv6.
    pub(crate) device: Option<u32>,
    /// The cluster's gateways.
    pub(crate) gateways: BTreeSet<NodeName>,
    /// All nodes: who is told when this node's gateway is gone.
    pub(crate) nodes: BTreeSet<NodeName>,
}

/// This node's gateway process is gone: its TUN vanished.
pub(crate) struct OwnGatewayGone;

/// See the module.
pub(crate) struct Prober {
    node: NodeName,
    key: PathBuf,
    asked: watch::Receiver<Asked>,
    gone: mpsc::Receiver<OwnGatewayGone>,
    out: watch::Sender<Gateways>,
    metrics: Metrics,
    start: Instant,
    voice: Option<Voice>,
    /// Why there is no voice, as it was said.
    mute: Option<String>,
    socket: Option<ProbeSocket>,
    gateways: BTreeMap<NodeName, Gateway>,
    /// The end of this node's gateway, while it is told.
    telling: Option<Repeats>,
}

/// What woke the prober.
enum Wake {
    Asked,
    Gone,
    Datagram(usize, Ipv6Addr),
    Lost(std::io::Error),
    Due,
    Ended,
}

impl Prober {
    pub(crate) fn new(
        node: NodeName,
        key: PathBuf,
        asked: watch::Receiver<Asked>,
        gone: mpsc::Receiver<OwnGatewayGone>,
        out: watch::Sender<Gateways>,
        metrics: Metrics,
    ) -> Self {
        Self {
            node,
            key,
            asked,
            gone,
            out,
            metrics,
            start: Instant::now(),
            voice: None,
            mute: None,
            socket: None,
            gateways: BTreeMap::new(),
            telling: None,
        }
    }

    fn time(&self) -> Time {
        Time::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Runs until the rest of the process is gone.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let mut buffer = [0; MAX_DATAGRAM + 1];
        let mut look = Instant::now();
        loop {
            if look <= Instant::now() {
                look = Instant::now() + LOOK;
                self.read_key();
            }
            self.bind();
            let due = self.next_due(look);
            let wake = self.wait(due, &mut buffer).await;
            let lag = due.elapsed();
            match wake {
                Wake::Asked => self.follow(),
                Wake::Gone => self.telling = Some(Repeats::new(Instant::now())),
                Wake::Datagram(length, from) => self.hear(&buffer[..length], from),
                Wake::Lost(error) => {
                    tracing::debug!(%error, "node probes lost their socket");
                    self.socket = None;
                    tokio::time::sleep(REBIND).await;
                }
                Wake::Due => self.judge(lag),
                Wake::Ended => return Ok(()),
            }
            self.tell();
            self.ask();
            self.publish();
        }
    }

    async fn wait(&mut self, due: Instant, buffer: &mut [u8; MAX_DATAGRAM + 1]) -> Wake {
        let Self { asked, gone, socket, .. } = self;
        let datagram = async {
            match socket {
                Some(socket) => match socket.receive(buffer).await {
                    Ok((length, from)) => Wake::Datagram(length, from),
                    Err(error) => Wake::Lost(error),
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = asked.changed() => if changed.is_ok() { Wake::Asked } else { Wake::Ended },
            Some(OwnGatewayGone) = gone.recv() => Wake::Gone,
            wake = datagram => wake,
            () = tokio::time::sleep_until(due.into()) => Wake::Due,
        }
    }

    /// Takes the shared key, anew where it changed: `hawser join` makes it.
    fn read_key(&mut self) {
        match Voice::read(&self.key, &self.node, self.voice.as_ref()) {
            Ok(Some(voice)) => self.voice = Some(voice),
            Ok(None) => {}
            Err(error) => {
                let said = self.mute.replace(error.clone());
                if !self.asked.borrow().gateways.is_empty() && said != self.mute {
                    tracing::warn!(path = %self.key.display(), %error, "without the probe key gateways are not asked");
                }
            }
        }
    }

    /// Binds to the device of now.
    fn bind(&mut self) {
        let device = self.asked.borrow().device;
        if self.socket.as_ref().map(ProbeSocket::index) == device {
            return;
        }
        self.socket = device.and_then(|index| match ProbeSocket::bind(index) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::debug!(%error, "node probes can't be bound yet");
                None
            }
        });
    }

    /// Takes gateways that came, forgets those that went.
    fn follow(&mut self) {
        let asked = self.asked.borrow_and_update().clone();
        let now = self.time();
        self.gateways.retain(|name, _| asked.gateways.contains(name));
        for name in asked.gateways {
            self.gateways.entry(name).or_insert_with(|| Gateway::new(now));
        }
    }

    fn next_due(&self, look: Instant) -> Instant {
        let paths = self.gateways.values().filter_map(|g| g.path.poll_timeout());
        let at = |time: Time| self.start + Duration::from_nanos(time.as_nanos());
        let due = paths.map(|(time, _)| at(time)).chain(self.telling.map(Repeats::at)).chain([look]);
        due.min().unwrap_or(look)
    }

    fn judge(&mut self, lag: Duration) {
        let now = self.time();
        for gateway in self.gateways.values_mut() {
            gateway.path.handle_lag(now, lag);
            gateway.path.handle_timeout(now);
        }
    }

    fn hear(&mut self, datagram: &[u8], from: Ipv6Addr) {
        let now = self.time();
        let Some(voice) = &mut self.voice else { return };
        let said = match voice.listener.open(datagram, now) {
            Ok(said) if link_local(&said.node) == from => said,
            Ok(_) => return self.metrics.refused("other_address"),
            Err(refused) => return self.metrics.refused(refused.as_str()),
        };
        let Some(gateway) = self.gateways.get_mut(&said.node) else { return };
        gateway.take(&said, now);
    }

    /// Sends the probes that are due.
    fn ask(&mut self) {
        let now = self.time();
        let (Some(voice), Some(socket)) = (&mut self.voice, &self.socket) else {
            return;
        };
        for (name, gateway) in &mut self.gateways {
            while let Some(seq) = gateway.path.poll_probe(now) {
                let echo = gateway.path.echo();
                socket.ask(name, &voice.speaker.seal(Message::Ask { seq, echo }));
            }
        }
    }

    /// Tells every node that this node's gateway is gone, several times: a lost packet must not cost 300 ms.
    fn tell(&mut self) {
        let Some(due) = self.telling.filter(|telling| telling.at() <= Instant::now()) else { return };
        self.telling = due.said();
        let (Some(voice), Some(socket)) = (&mut self.voice, &self.socket) else { return };
        for node in &self.asked.borrow().nodes {
            socket.tell(node, &voice.speaker.seal(Message::GatewayGone));
        }
    }

    fn publish(&mut self) {
        for (name, gateway) in &mut self.gateways {
            while let Some(event) = gateway.path.poll_event() {
                match event {
                    Event::State { from, to, reason, .. } => {
                        tracing::info!(gateway = %name, %from, %to, %reason, "gateway");
                    }
                    Event::PeerDraining(draining) => tracing::info!(gateway = %name, draining, "gateway"),
                }
            }
        }
        let now: BTreeMap<NodeName, GatewayView> = self.gateways.iter().map(|(n, g)| (n.clone(), g.view())).collect();
        self.out.send_if_modified(|known| {
            let changed = **known != now;
            if changed {
                *known = Arc::new(now);
            }
            changed
        });
    }
}
