//! Streams over loopback, both families, against a server that answers as it was told to.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hawser_drill::stream::socket;
use hawser_drill::{Flow, Stream, Total, echo};

/// Two flows to `to` until `enough` holds of them.
fn until(to: SocketAddr, what: &str, enough: impl Fn(&Flow) -> bool) -> io::Result<Vec<Flow>> {
    let sockets = (0..2).map(|_| socket(0, to)).collect::<io::Result<_>>()?;
    let stream = Stream::start(sockets, Duration::from_millis(1))?;
    let end = Instant::now() + Duration::from_secs(20);
    while !stream.now().flows.iter().all(&enough) {
        assert!(Instant::now() < end, "not {what}: {:?}", stream.now());
        thread::sleep(Duration::from_millis(5));
    }
    Ok(stream.finish())
}

#[test]
fn everything_comes_back_from_an_echo_on_both_families() {
    for to in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))] {
        let server = UdpSocket::bind(to).unwrap();
        let to = server.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::spawn(move || echo::serve(&server, &stopping).unwrap());
        let flows = until(to, "100 answers", |flow| flow.received >= 100).unwrap();
        // A stranger's datagrams are neither echoed nor counted.
        let stranger = socket(0, to).unwrap();
        stranger.send(b"of no drill").unwrap();
        stop.store(true, Ordering::Relaxed);
        let answered = thread.join().unwrap();
        let total = Total::of(&flows).all;
        assert_eq!((total.lost(), total.duplicates, total.sent), (0, 0, answered), "{flows:?}");
    }
}

#[test]
fn losses_duplicates_and_silence_are_seen() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = server.local_addr().unwrap();
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    let thread = thread::spawn(move || {
        let mut buffer = [0; 64];
        while !stopping.load(Ordering::Relaxed) {
            let Ok((length, from)) = server.recv_from(&mut buffer) else { continue };
            let number = u64::from_be_bytes(std::array::from_fn(|i| buffer[i]));
            // 10 to 59 are lost, 70 comes twice, 80 is answered after 81 to 90.
            let times = match number {
                10..60 | 80 => 0,
                70 => 2,
                _ => 1,
            };
            (0..times).for_each(|_| drop(server.send_to(&buffer[..length], from)));
            if number == 90 {
                buffer[..8].copy_from_slice(&80u64.to_be_bytes());
                let _ = server.send_to(&buffer[..length], from);
            }
        }
    });
    let flows = until(to, "past number 100", |flow| flow.received >= 100).unwrap();
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    for flow in flows {
        assert_eq!((flow.lost(), flow.duplicates, flow.reordered), (50, 1, 1), "{flow:?}");
        assert_eq!(flow.lost_between, Some((10, 59)), "{flow:?}");
        assert!(flow.longest_gap > Duration::from_millis(20), "{flow:?}");
    }
}
