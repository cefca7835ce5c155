//! Names: the zone, made anew as objects and clusters change, and the server on this node's addresses for it, which come and
//! go with the membership.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hawser_dns::{Counters, Zone};
use hawser_model::ClusterId;
use hawser_model::defaults::DNS_PORT;
use hawser_telemetry::{ReadyHandle, Task};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::objects::ZoneParts;

/// Between tries to bind an address that is not there.
const RETRY: Duration = Duration::from_millis(200);

/// What is served, and where.
#[derive(Debug, Clone, Default)]
pub(crate) struct Served {
    /// Whether the rest is final: the local API was read, addresses are on their device.
    pub(crate) decided: bool,
    /// Addresses to answer on.
    pub(crate) addresses: Vec<IpAddr>,
    /// The zone.
    pub(crate) zone: Arc<Zone>,
}

/// Makes the zone anew where something in it changed.
pub(crate) struct Names {
    out: watch::Sender<Served>,
    /// What the zone served now was made of.
    made_of: Option<(ZoneParts, BTreeSet<ClusterId>, Vec<IpAddr>)>,
    serial: u32,
}

impl Names {
    pub(crate) fn new(out: watch::Sender<Served>) -> Self {
        Self { out, made_of: None, serial: 0 }
    }

    /// Serves what the objects say on these addresses, without the endpoints of dark clusters where they are the answer.
    pub(crate) fn serve(&mut self, objects: &ZoneParts, dark: BTreeSet<ClusterId>, addresses: &[IpAddr]) {
        let parts = (objects.clone(), dark, addresses.to_vec());
        if self.made_of.as_ref() == Some(&parts) {
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        let zone = Arc::new(Zone::new(&objects.zone(addresses, parts.1.clone(), self.serial)));
        self.made_of = Some(parts);
        self.out.send_replace(Served { decided: true, addresses: addresses.to_vec(), zone });
    }

    /// Serves nothing.
    pub(crate) fn stop(&mut self) {
        self.made_of = None;
        self.out.send_replace(Served { decided: true, ..Served::default() });
    }
}

/// Serves until `stop`, on other addresses whenever they change.
pub(crate) async fn run(
    mut served: watch::Receiver<Served>,
    counters: Arc<Counters>,
    ready: ReadyHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut ready = Some(ready);
    let (zones, zone) = watch::channel(Arc::default());
    let mut bound: Vec<SocketAddr> = Vec::new();
    let mut server: Option<(CancellationToken, Task)> = None;
    loop {
        let now = served.borrow_and_update().clone();
        zones.send_replace(now.zone);
        let wanted: Vec<SocketAddr> = now.addresses.iter().map(|a| SocketAddr::new(*a, DNS_PORT)).collect();
        let running = server.as_ref().is_some_and(|(_, task)| !task.is_finished());
        if wanted != bound || (!running && !wanted.is_empty()) {
            if let Some((token, _)) = server.take() {
                token.cancel();
            }
            bound = Vec::new();
            match hawser_dns::bind(&wanted) {
                Ok((udp, tcp)) => {
                    let token = stop.child_token();
                    let serve = hawser_dns::serve(udp, tcp, zone.clone(), Arc::clone(&counters), token.clone());
                    server = Some((token, Task::spawn("dns", async move { Ok(serve.await?) })));
                    tracing::info!(addresses = ?wanted, "answering names of the cluster set");
                    bound = wanted.clone();
                }
                Err(error) => tracing::debug!(%error, "names can't be answered yet"),
            }
        }
        if now.decided && bound == wanted {
            ready.take();
        }
        let retry = if bound == wanted { Duration::MAX } else { RETRY };
        tokio::select! {
            () = stop.cancelled() => break,
            changed = served.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(retry) => {}
        }
    }
    if let Some((token, _)) = server {
        token.cancel();
    }
    Ok(())
}
