//! Senders that know nothing of tunnels, and what their kernels say of the way: a stream, and a pod's datagrams.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hawser_testbed::{Netns, wait_for};

use crate::common::{Host, LIMIT, Outer};

/// A pod's sender of datagrams, which knows nothing of tunnels, and where they go to.
pub struct Sender {
    client: UdpSocket,
    server: UdpSocket,
    /// The socket options of its family: level, whether to fragment, the MTU that is known.
    options: [i32; 3],
    /// Bytes of each packet that are not payload.
    pub headers: u16,
}

impl Sender {
    pub fn new(pod: &Netns, source: IpAddr, b: &Host) -> Self {
        let target = b.inner(if source.is_ipv4() { Outer::V4 } else { Outer::V6 });
        let server = b.ns.run(move || UdpSocket::bind(SocketAddr::new(target, 0)).unwrap());
        server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let to = server.local_addr().unwrap();
        let client = pod.run(move || {
            let socket = UdpSocket::bind(SocketAddr::new(source, 0)).unwrap();
            socket.connect(to).unwrap();
            socket
        });
        let (options, headers) = if source.is_ipv4() {
            ([libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_MTU], 28)
        } else {
            ([libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_MTU], 48)
        };
        Self { client, server, options, headers }
    }

    /// Whether its datagrams may be fragmented on the way.
    fn may_be_split(&self, may: bool) {
        // The same numbers in both families.
        let how = if may { libc::IP_PMTUDISC_DONT } else { libc::IP_PMTUDISC_DO };
        set(&self.client, self.options[0], self.options[1], how);
    }

    /// Sends one of that many bytes and waits for it.
    pub fn passes(&self, len: u16) -> anyhow::Result<()> {
        let data: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        self.client.send(&data)?;
        let mut buffer = vec![0; 65_535];
        let n = self.server.recv(&mut buffer)?;
        anyhow::ensure!(buffer[..n] == data, "{n} bytes, or others");
        Ok(())
    }

    /// What its host knows of the way's MTU.
    pub fn known(&self) -> i32 {
        get(&self.client, self.options[0], self.options[2])
    }

    /// Large datagrams that may be fragmented arrive; those that may not make the host learn `mtu`, and the largest of those
    /// that fit arrive.
    pub fn learns(&self, mtu: u16) {
        self.learns_within(mtu..=mtu);
    }

    /// The same where what the path takes, the greatest of `mtus`, was less for a moment: what a host was told then it goes by for
    /// minutes (RFC 8201, 4).
    pub fn learns_within(&self, mtus: RangeInclusive<u16>) {
        self.may_be_split(true);
        for len in [1200, 1232, 1300, 3000, 8950, 20_000] {
            wait_for(&format!("a datagram of {len} bytes, {self:?}"), LIMIT, || self.passes(len)).unwrap();
        }
        self.may_be_split(false);
        let mtu = wait_for("the pod to learn the path's MTU", LIMIT, || {
            let refused = self.client.send(&vec![7; usize::from(*mtus.end())]).err().and_then(|e| e.raw_os_error());
            let known = u16::try_from(self.known())?;
            anyhow::ensure!(
                mtus.contains(&known) && refused == Some(libc::EMSGSIZE),
                "{known}, {refused:?}, not {mtus:?}"
            );
            Ok(known)
        });
        let mtu = mtu.unwrap();
        wait_for("one that just fits", LIMIT, || self.passes(mtu - self.headers)).unwrap();
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "from {:?} to {:?}", self.client.local_addr(), self.client.peer_addr())
    }
}

/// How long a stream stood still at most.
#[derive(Debug, Clone, Copy)]
pub struct Stall {
    /// Without anything that arrived; on a busy machine that is also what kept this test's threads waiting.
    pub longest: Duration,
    /// Timeouts in a row without progress, by the sender's kernel.
    pub timeouts: u8,
}

/// Timeouts double, from 200 ms on: the second comes 0.6 s after progress, the third after 1.4 s. So whoever needs no third
/// one went on within a second of the kernel's own time, however busy the machine is.
const TIMEOUTS_MAX: u8 = 2;

impl Stall {
    pub fn is_short(self, what: &str) {
        let Self { longest, timeouts } = self;
        assert!(timeouts <= TIMEOUTS_MAX, "{what}: {timeouts} timeouts in a row, stalled for {longest:?}");
    }
}

/// A TCP stream that never rests.
pub struct Stream {
    stop: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
    client: JoinHandle<u8>,
    server: JoinHandle<Duration>,
}

impl Stream {
    pub fn start(from: &Host, to: &Host, family: Outer) -> Self {
        let address = to.inner(family);
        let listener = to.ns.run(move || TcpListener::bind(SocketAddr::new(address, 0)).unwrap());
        let target = listener.local_addr().unwrap();
        let (stop, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = from.ns.run(move || TcpStream::connect(target).unwrap());
        let (ended, mut writer) = (Arc::clone(&stop), client.try_clone().unwrap());
        std::thread::spawn(move || {
            let data = vec![5u8; 16_384];
            while !ended.load(Ordering::Relaxed) && writer.write_all(&data).is_ok() {
                std::thread::sleep(Duration::from_millis(2));
            }
            let _ = writer.shutdown(Shutdown::Write);
        });
        let ended = Arc::clone(&stop);
        // Each count stands for 200 ms at least: looking more often finds the largest.
        let client = std::thread::spawn(move || {
            let mut most = 0;
            while !ended.load(Ordering::Relaxed) {
                most = timeouts(&client).max(most);
                std::thread::sleep(Duration::from_millis(20));
            }
            most
        });
        let came = Arc::clone(&arrived);
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            let (mut buffer, mut longest, mut last) = (vec![0; 65_536], Duration::ZERO, Instant::now());
            while let Ok(n) = stream.read(&mut buffer) {
                longest = longest.max(last.elapsed());
                last = Instant::now();
                came.fetch_add(n as u64, Ordering::Relaxed);
                if n == 0 {
                    return longest;
                }
            }
            panic!("nothing arrived any more");
        });
        Self { stop, arrived, client, server }
    }

    /// Waits until so many more bytes arrived.
    pub fn wait_arrived(&self, bytes: u64) {
        let before = self.arrived.load(Ordering::Relaxed);
        wait_for("the stream to go on", LIMIT, || {
            let more = self.arrived.load(Ordering::Relaxed) - before;
            anyhow::ensure!(more >= bytes, "{more} bytes arrived");
            Ok(())
        })
        .unwrap();
    }

    pub fn end(self) -> Stall {
        self.stop.store(true, Ordering::Relaxed);
        Stall { timeouts: self.client.join().unwrap(), longest: self.server.join().unwrap() }
    }
}

pub fn get(socket: &UdpSocket, level: i32, name: i32) -> i32 {
    i32::from_ne_bytes(option(socket.as_raw_fd(), level, name))
}

/// Timeouts in a row after which a sender's kernel sent again, without progress since.
fn timeouts(stream: &TcpStream) -> u8 {
    let info: [u8; 8] = option(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO);
    info[std::mem::offset_of!(libc::tcp_info, tcpi_backoff)]
}

/// The first bytes of a socket's option.
#[expect(unsafe_code, reason = "socket options by number")]
fn option<const N: usize>(socket: RawFd, level: i32, name: i32) -> [u8; N] {
    let (mut value, mut len) = ([0; N], N as u32);
    // SAFETY: value and len are live, and len is value's size; a closed descriptor is an error.
    let rc = unsafe { libc::getsockopt(socket, level, name, value.as_mut_ptr().cast(), &raw mut len) };
    assert_eq!((rc, len as usize), (0, N));
    value
}

#[expect(unsafe_code, reason = "socket options by number")]
fn set(socket: &UdpSocket, level: i32, name: i32, value: i32) {
    // SAFETY: the descriptor is open; the pointer and length describe a live i32.
    let rc = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), 4) };
    assert_eq!(rc, 0);
}
