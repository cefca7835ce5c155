//! Datagrams at a given rate, each its own sending call, counted on arrival.
//!
//! The sender is paced in steps of 100 µs and does not make up for time lost, so that a rate is a rate and not a series of
//! bursts; the receiver's buffer is large enough that its being scheduled late costs nothing.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::prctl::set_timerslack;
use nix::sys::socket::{setsockopt, sockopt};

use crate::search::Trial;

/// Payload of each datagram, in bytes.
pub const PAYLOAD: usize = 1360;
/// The sender sleeps this long between two groups.
const STEP: Duration = Duration::from_micros(100);
/// What the sender did not get to send in this time, it leaves.
const MAKE_UP: Duration = Duration::from_millis(2);
/// What is still on its way gets this long to arrive.
const LINGER: Duration = Duration::from_millis(300);
/// A sender that manages less than this share of what was asked is at its end.
const EXHAUSTED: f64 = 0.97;
const BUFFER: usize = 16 << 20;

/// Sends from `client` to `server` at `rate` (Mbit/s of payload) for a time. Both sockets are bound.
///
/// # Errors
/// When a socket fails or nothing could be sent.
pub fn trial(client: &UdpSocket, server: &UdpSocket, rate: f64, time: Duration) -> Result<Trial> {
    setsockopt(server, sockopt::RcvBufForce, &BUFFER)?;
    server.set_read_timeout(Some(Duration::from_millis(50)))?;
    client.connect(server.local_addr()?)?;
    let running = AtomicBool::new(true);
    let (sent, took, received) = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(server, &running));
        let (sent, took) = send(client, rate, time);
        thread::sleep(LINGER);
        running.store(false, Ordering::Relaxed);
        (sent, took, receiver.join().expect("the receiver does not panic"))
    });
    ensure!(sent > 0, "nothing was sent at {rate} Mbit/s");
    let megabits = |datagrams: u64| (datagrams * PAYLOAD as u64 * 8) as f64 / 1e6;
    let loss = 1.0 - received.min(sent) as f64 / sent as f64;
    let arrived = megabits(received) / took.as_secs_f64();
    Ok(Trial { arrived, loss, exhausted: megabits(sent) / took.as_secs_f64() < EXHAUSTED * rate })
}

fn send(client: &UdpSocket, rate: f64, time: Duration) -> (u64, Duration) {
    // Pacing needs wake-ups that are on time; the default slack is half a step.
    let _ = set_timerslack(1);
    let per_second = rate * 1e6 / (PAYLOAD * 8) as f64;
    let data = [0x5a; PAYLOAD];
    let (start, mut last) = (Instant::now(), Instant::now());
    let (mut sent, mut due) = (0, 0.0);
    while start.elapsed() < time {
        let now = Instant::now();
        due = (due + per_second * now.duration_since(last).as_secs_f64()).min(per_second * MAKE_UP.as_secs_f64());
        last = now;
        while due >= 1.0 {
            // A queue that is full is a loss, which the receiver counts.
            let _ = client.send(&data);
            sent += 1;
            due -= 1.0;
        }
        thread::sleep(STEP);
    }
    (sent, start.elapsed())
}

fn receive(server: &UdpSocket, running: &AtomicBool) -> u64 {
    let mut data = [0; PAYLOAD + 1];
    let mut received = 0;
    while running.load(Ordering::Relaxed) {
        received += u64::from(server.recv(&mut data).is_ok_and(|len| len == PAYLOAD));
    }
    received
}

/// Takes what is left of an earlier trial off the socket.
///
/// # Errors
/// When the socket fails.
pub fn drain(server: &UdpSocket) -> Result<()> {
    server.set_read_timeout(Some(Duration::from_millis(20)))?;
    while server.recv(&mut [0]).is_ok() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_takes_a_low_rate() {
        let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (client, server) = (bind(), bind());
        let trial = trial(&client, &server, 20.0, Duration::from_millis(300)).unwrap();
        assert!(trial.loss < 0.01, "{trial:?}");
        assert!(trial.arrived > 0.0 && trial.arrived < 21.0, "never faster than asked: {trial:?}");
    }

    #[test]
    fn an_absurd_rate_exhausts_the_sender() {
        let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let trial = trial(&bind(), &bind(), 1e7, Duration::from_millis(100)).unwrap();
        assert!(trial.exhausted, "{trial:?}");
    }
}
