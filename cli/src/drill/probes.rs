//! Numbered probes every 2 ms on each of several UDP flows, and what echoes them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::tally::{FlowRow, Tally};

/// Between two probes of a flow.
pub const PACE: Duration = Duration::from_millis(2);
/// How long stragglers are waited for.
const STRAGGLERS: Duration = Duration::from_millis(500);
/// The flow's number and its run's; whoever echoes sends it back as it is.
const LENGTH: usize = 16;

/// Sends probes to `to` until `until` is over, then gives one row per flow.
///
/// # Errors
/// When there is no route to `to`.
pub async fn send(to: SocketAddr, flows: u16, until: impl Future<Output = ()>) -> io::Result<Vec<FlowRow>> {
    let start = Instant::now();
    // Strangers and earlier drills have other marks.
    let mark = std::process::id().to_be_bytes().repeat(2);
    let mut sockets = Vec::new();
    for _ in 0..flows {
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(to).await?;
        sockets.push((Arc::new(socket), Arc::new(Mutex::new(Tally::default()))));
    }
    let mut receivers = JoinSet::new();
    for (socket, tally) in sockets.iter().cloned() {
        receivers.spawn(receive(socket, tally, mark.clone(), start));
    }
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tokio::pin!(until);
    loop {
        tokio::select! {
            () = &mut until => break,
            _ = pace.tick() => {}
        }
        for (socket, tally) in &sockets {
            let number = lock(tally).send();
            let mut probe = number.to_be_bytes().to_vec();
            probe.extend_from_slice(&mark);
            // A probe that can't be sent now, or an error of an earlier one: sent and lost.
            let _ = socket.try_send(&probe);
        }
    }
    let ended = start.elapsed();
    for (_, tally) in &sockets {
        lock(tally).end(ended);
    }
    tokio::time::sleep(STRAGGLERS).await;
    receivers.abort_all();
    let row = |(socket, tally): &(Arc<UdpSocket>, Arc<Mutex<Tally>>)| Ok(lock(tally).row(socket.local_addr()?.port()));
    sockets.iter().map(row).collect()
}

async fn receive(socket: Arc<UdpSocket>, tally: Arc<Mutex<Tally>>, mark: Vec<u8>, start: Instant) {
    let mut buffer = [0; LENGTH + 1];
    loop {
        // An error here is about a probe that was sent and lost.
        let Ok(length) = socket.recv(&mut buffer).await else { continue };
        if length == LENGTH && buffer[8..LENGTH] == mark[..] {
            let number = u64::from_be_bytes(std::array::from_fn(|i| buffer[i]));
            lock(&tally).receive(number, start.elapsed());
        }
    }
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Echoes what comes to `at` until `until` is over; gives how many datagrams that were. Only what a drill may have sent is
/// echoed: nothing is gained by using this to reflect other traffic.
///
/// # Errors
/// When `at` can't be bound.
pub async fn answer(at: SocketAddr, until: impl Future<Output = ()>) -> io::Result<u64> {
    let socket = UdpSocket::bind(at).await?;
    let mut buffer = [0; LENGTH + 1];
    let mut answered = 0;
    tokio::pin!(until);
    loop {
        tokio::select! {
            () = &mut until => return Ok(answered),
            received = socket.recv_from(&mut buffer) => {
                if let Ok((LENGTH, from)) = received && socket.try_send_to(&buffer[..LENGTH], from).is_ok() {
                    answered += 1;
                }
            }
        }
    }
}
