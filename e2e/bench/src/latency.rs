//! The latency prober: a datagram every millisecond, echoed, timed between the two hosts' kernels.
//!
//! A round trip is from just before the sending call to the kernel's own time stamp of the echo's arrival, less the time the
//! echoing host had it, by the same means. So neither side's waking up counts, only the way between them. What does not come
//! back within [`LOST`] counts as infinitely slow.

use std::io::{IoSliceMut, Result as IoResult};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::time::ClockId;

/// Between two probes.
const PACE: Duration = Duration::from_millis(1);
/// How long an echo may take.
pub const LOST: Duration = Duration::from_secs(1);
/// Bytes of a probe: number, when it came, when it went back, padding.
const LEN: usize = 64;

/// Round trips of one measurement, in microseconds; infinite where nothing came back.
#[derive(Debug, Clone)]
pub struct RoundTrips(pub Vec<f64>);

/// Probes from `client` to `server` for a time. Both sockets are bound; the hosts are the sockets' own.
///
/// # Errors
/// When a socket fails, or hardly a probe comes back.
pub fn measure(client: &UdpSocket, server: &UdpSocket, time: Duration) -> Result<RoundTrips> {
    for socket in [client, server] {
        setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    }
    client.connect(server.local_addr()?)?;
    let (sending, echoing) = (AtomicBool::new(true), AtomicBool::new(true));
    let (sent, came) = thread::scope(|scope| -> Result<_> {
        scope.spawn(|| echo(server, &echoing));
        let receiver = scope.spawn(|| collect(client, &sending));
        let sent = send(client, time);
        thread::sleep(LOST.min(time));
        sending.store(false, Ordering::Relaxed);
        echoing.store(false, Ordering::Relaxed);
        Ok((sent?, receiver.join().expect("the receiver does not panic")))
    })?;
    let mut trips = vec![f64::INFINITY; sent.len()];
    let mut back = 0;
    for echo in came {
        let Some(&left) = sent.get(echo.number as usize) else { continue };
        let trip = echo.arrived.saturating_sub(left).saturating_sub(echo.stayed);
        trips[echo.number as usize] = trip.as_secs_f64() * 1e6;
        back += 1;
    }
    ensure!(back * 2 > trips.len(), "only {back} of {} probes came back", trips.len());
    Ok(RoundTrips(trips))
}

/// Sends at the pace; gives when each probe left. A late start of one does not bring the next forward.
fn send(client: &UdpSocket, time: Duration) -> Result<Vec<Duration>> {
    let (start, mut sent) = (Instant::now(), Vec::new());
    let mut due = start;
    while start.elapsed() < time {
        let mut probe = [0; LEN];
        probe[..8].copy_from_slice(&(sent.len() as u64).to_be_bytes());
        sent.push(wall_clock()?);
        // A full queue on the way is a loss like any other.
        let _ = client.send(&probe);
        due = (due + PACE).max(Instant::now());
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(sent)
}

struct Echo {
    number: u64,
    arrived: Duration,
    stayed: Duration,
}

fn collect(client: &UdpSocket, running: &AtomicBool) -> Vec<Echo> {
    let mut echoes = Vec::new();
    let mut control = cmsg_space!(TimeSpec);
    let mut data = [0; LEN];
    while running.load(Ordering::Relaxed) {
        if let Ok((arrived, _)) = receive(client, &mut data, &mut control) {
            let number = |at: usize| u64::from_be_bytes(data[at..at + 8].try_into().expect("eight bytes"));
            let stayed = Duration::from_nanos(number(16).saturating_sub(number(8)));
            echoes.push(Echo { number: number(0), arrived, stayed });
        }
    }
    echoes
}

fn echo(server: &UdpSocket, running: &AtomicBool) {
    let mut control = cmsg_space!(TimeSpec);
    let mut data = [0; LEN];
    while running.load(Ordering::Relaxed) {
        let Ok((came, from)) = receive(server, &mut data, &mut control) else { continue };
        let Ok(goes) = wall_clock() else { continue };
        data[8..16].copy_from_slice(&(came.as_nanos() as u64).to_be_bytes());
        data[16..24].copy_from_slice(&(goes.as_nanos() as u64).to_be_bytes());
        let _ = server.send_to(&data, from);
    }
}

/// One whole probe: when the kernel took it in, and its sender.
fn receive(socket: &UdpSocket, data: &mut [u8; LEN], control: &mut [u8]) -> IoResult<(Duration, SocketAddr)> {
    let mut parts = [IoSliceMut::new(data)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(control), MsgFlags::empty())?;
    let stamp = message.cmsgs()?.find_map(|c| match c {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
        _ => None,
    });
    let from = message.address.as_ref().and_then(|a| match (a.as_sockaddr_in(), a.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::V4((*v4).into())),
        (None, v6) => Some(SocketAddr::V6((*v6?).into())),
    });
    match (stamp, from) {
        (Some(stamp), Some(from)) if message.bytes == LEN => Ok((stamp, from)),
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

fn wall_clock() -> nix::Result<Duration> {
    ClockId::CLOCK_REALTIME.now().map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::median;

    #[test]
    fn times_the_loopback() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let bind = || UdpSocket::bind(address).unwrap();
            let trips = measure(&bind(), &bind(), Duration::from_millis(300)).unwrap().0;
            let middle = median(&trips);
            assert!(trips.len() > 20 && middle > 0.0 && middle < 50_000.0, "{} probes, {middle} us", trips.len());
        }
    }

    #[test]
    fn a_silent_server_is_an_error() {
        let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (client, server) = (bind(), bind());
        // A server that is connected elsewhere takes nothing from this client.
        server.connect("127.0.0.1:9").unwrap();
        assert!(measure(&client, &server, Duration::from_millis(50)).is_err());
    }
}
