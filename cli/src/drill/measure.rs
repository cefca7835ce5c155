//! Numbered packets and connections to one address, for a while. The engine is `hawser-drill`.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Context as _;
use hawser_drill::stream::socket;
use hawser_drill::{Connections, Stream};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval_at};

use super::connections::ConnectionRow;
use super::flows::{self, Flows};
use crate::exit::{Exit, Failure};
use crate::progress::note;

/// Between two lines about how it goes.
const LINE: Duration = Duration::from_secs(1);
/// How long a connection may take to be opened.
const OPEN: Duration = Duration::from_secs(2);
/// How long a connection may take to go on: TCP waits longer and longer between its tries.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is sent where.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The other end.
    pub to: SocketAddr,
    /// Flows of numbered packets.
    pub flows: u16,
    /// Between two packets of a flow.
    pub every: Duration,
    /// Connections.
    pub connections: u16,
    /// Whether it is an error that there is nobody to connect to.
    pub insist: bool,
}

/// What became of it.
#[derive(Debug)]
pub struct Measured {
    /// The flows.
    pub flows: Flows,
    /// The connections; none where there was nobody to connect to.
    pub connections: Vec<ConnectionRow>,
}

/// Sends until `until` is over, on the connections, too, where there are any.
///
/// # Errors
/// When nothing comes back at all, or an address can't be used.
pub async fn measure(
    plan: Plan,
    connections: Option<Connections>,
    until: impl Future<Output = ()>,
) -> anyhow::Result<Measured> {
    let Plan { to, flows, every, .. } = plan;
    let sockets = (0..flows).map(|_| socket(0, to)).collect::<Result<Vec<UdpSocket>, _>>();
    let sockets = sockets.with_context(|| format!("Failed to send to {to}"))?;
    let ports = sockets.iter().map(|s| Ok(s.local_addr()?.port())).collect::<anyhow::Result<Vec<u16>>>()?;
    let stream = Stream::start(sockets, every)?;
    let mut lines = interval_at(Instant::now() + LINE, LINE);
    tokio::pin!(until);
    loop {
        tokio::select! {
            () = &mut until => break,
            _ = lines.tick() => note(&flows::line(&stream.now(), every)),
        }
    }
    // Waits for stragglers, and for connections that wait for their next try.
    let flows = Flows::new(&spawn_blocking(|| stream.finish()).await?, &ports);
    if flows.all.received == 0 {
        return Err(nobody(to, format!("none of {} packets to {to} came back", flows.all.sent)));
    }
    let fates = spawn_blocking(|| connections.map(|c| c.finish(PATIENCE)).unwrap_or_default()).await?;
    Ok(Measured { flows, connections: fates.into_iter().map(ConnectionRow::of).collect() })
}

/// Opens the connections. Who answers packets need not take any: that is said, and no error unless they are asked for.
///
/// # Errors
/// When they are, and nobody takes them.
pub async fn connect(plan: Plan) -> anyhow::Result<Option<Connections>> {
    let Plan { to, connections, insist, .. } = plan;
    let opened = spawn_blocking(move || Connections::open(to, connections.into(), OPEN)).await?;
    match opened {
        Ok(connections) => Ok(Some(connections)),
        Err(error) if insist => Err(nobody(to, format!("no TCP connection to {to}: {error}"))),
        Err(error) => {
            note(&format!("no TCP connection to {to}: {error}; what becomes of connections is not measured"));
            Ok(None)
        }
    }
}

fn nobody(to: SocketAddr, what: String) -> anyhow::Error {
    Failure::new(Exit::Failed, what)
        .remedy(format!("run there: hawser drill echo --listen '[::]:{}'", to.port()))
        .into()
}
