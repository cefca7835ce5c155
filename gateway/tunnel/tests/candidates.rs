//! Which address of a peer is used: the best one that answers, and another only when it is better or the old one is gone.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod common;

use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Host, LIMIT, Outer, PORT, outer_address};
use hawser_model::ClusterId;
use hawser_testbed::{Netns, Switch, wait_for};
use hawser_tunnel::PeerCluster;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

const PACE: Duration = Duration::from_millis(2);
/// What the long way takes, each direction.
const DETOUR: Duration = Duration::from_millis(10);
/// Where the long way leads through.
const RELAY: [u8; 4] = [192, 0, 2, 50];

/// A host that passes datagrams on between hosts 1 and 2, late.
struct Relay {
    _ns: Netns,
    running: Arc<AtomicBool>,
}

impl Relay {
    fn start(switch: &Switch, lanes: u16) -> Self {
        let (ns, running) = (Netns::new("relay", None).unwrap(), Arc::new(AtomicBool::new(true)));
        switch.plug(&ns, "eth0", 1500).unwrap();
        let address = IpAddr::from(RELAY);
        ns.ip(&format!("addr add {address}/24 dev eth0")).unwrap();
        for port in PORT..PORT + lanes {
            let socket = ns.run(move || UdpSocket::bind((address, port)).unwrap());
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let (late, due) = std::sync::mpsc::channel::<(Instant, Vec<u8>, SocketAddr)>();
            let (out, running) = (socket.try_clone().unwrap(), Arc::clone(&running));
            std::thread::spawn(move || {
                for (at, data, to) in due {
                    std::thread::sleep(at.saturating_duration_since(Instant::now()));
                    // Whoever is gone by then does not get it.
                    let _ = out.send_to(&data, to);
                }
            });
            std::thread::spawn(move || {
                let mut data = [0; 2048];
                while running.load(Ordering::Relaxed) {
                    let Ok((n, from)) = socket.recv_from(&mut data) else { continue };
                    let other = if from.ip() == direct(1) { direct(2) } else { direct(1) };
                    let to = SocketAddr::new(other, port);
                    late.send((Instant::now() + DETOUR, data[..n].to_vec(), to)).unwrap();
                }
            });
        }
        Self { _ns: ns, running }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.running.store(false, Ordering::Relaxed);
    }
}

/// A host with addresses at which nobody answers, of both families. All that comes to them is in one queue, in order.
struct Decoys {
    _ns: Netns,
    socket: UdpSocket,
    addresses: Vec<IpAddr>,
}

impl Decoys {
    fn start(switch: &Switch, seekers: &[&Host]) -> Self {
        let ns = Netns::new("decoys", None).unwrap();
        switch.plug(&ns, "eth0", 1500).unwrap();
        let link = ns.device("eth0", "address").unwrap();
        let addresses: Vec<IpAddr> =
            ["192.0.2.200", "2001:db8::200", "192.0.2.201", "2001:db8::201"].map(|a| a.parse().unwrap()).to_vec();
        for address in &addresses {
            ns.ip(&format!("addr add {address}/{} dev eth0", if address.is_ipv4() { 24 } else { 64 })).unwrap();
            // Nothing waits for a neighbour's link address: what comes first was sent first.
            for seeker in seekers {
                seeker.ns.ip(&format!("neigh replace {address} lladdr {link} dev eth0 nud permanent")).unwrap();
            }
        }
        let socket = ns.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap());
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).unwrap();
        Self { _ns: ns, socket, addresses }
    }

    /// The next datagram, and the address that it came to.
    fn next(&self) -> (IpAddr, Vec<u8>) {
        let (mut data, mut control) = ([0; 2048], nix::cmsg_space!(libc::in6_pktinfo));
        let mut parts = [IoSliceMut::new(&mut data)];
        let message =
            recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut parts, Some(&mut control[..]), MsgFlags::empty());
        let message = message.expect("somebody tries again");
        let to = message.cmsgs().unwrap().find_map(|c| match c {
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr)),
            _ => None,
        });
        let n = message.bytes;
        (to.unwrap().to_canonical(), data[..n].to_vec())
    }
}

/// Two hosts that know nobody yet, and the relay beside them.
fn pair(keys: &std::path::Path, lanes: usize) -> (Switch, Relay, Host, Host) {
    let switch = Switch::new("wire").unwrap();
    let (mut a, mut b) = (Host::new(&switch, 1), Host::new(&switch, 2));
    let relay = Relay::start(&switch, lanes as u16);
    a.start(keys, lanes);
    b.start(keys, lanes);
    (switch, relay, a, b)
}

fn direct(n: u8) -> IpAddr {
    outer_address(n, Outer::V4)
}

fn direct6(n: u8) -> IpAddr {
    outer_address(n, Outer::V6)
}

/// `host` as a cluster that is reached at these addresses.
fn at(host: &Host, addresses: &[IpAddr]) -> PeerCluster {
    PeerCluster { gateways: vec![host.as_gateway(addresses)], ..host.as_peer(Outer::V4) }
}

/// Waits until all lanes' packets to a cluster go to `address`.
fn wait_endpoint(host: &Host, id: &ClusterId, address: IpAddr) {
    wait_for(&format!("{id} to be reached at {address}"), LIMIT, || {
        let report = host.tunnel().report();
        let path = report.paths.iter().find(|p| p.cluster == *id);
        let found = path.and_then(|p| p.endpoint).map(|e| e.ip());
        anyhow::ensure!(found == Some(address), "it is at {found:?}: {path:#?}");
        Ok(())
    })
    .unwrap();
}

/// Takes what comes while it is `sending`, and what comes after. What fails meanwhile, or comes late, is lost and no more.
fn until_quiet(sending: &AtomicBool, mut take: impl FnMut() -> std::io::Result<()>) {
    while take().is_ok() || sending.load(Ordering::Relaxed) {}
}

/// A stream of numbered datagrams, there and back, while `f` runs: how many were sent, and how many never came back.
fn lost_while(from: &Host, to: &Host, f: impl FnOnce()) -> (u64, u64) {
    let (here, there) = (from.inner(Outer::V4), to.inner(Outer::V4));
    let server = to.ns.run(move || UdpSocket::bind(SocketAddr::new(there, 0)).unwrap());
    let client = from.ns.run(move || UdpSocket::bind(SocketAddr::new(here, 0)).unwrap());
    client.connect(server.local_addr().unwrap()).unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    }
    let (sending, came) = (AtomicBool::new(true), AtomicU64::new(0));
    let sent = std::thread::scope(|scope| {
        scope.spawn(|| {
            until_quiet(&sending, || {
                let mut data = [0; 8];
                let (n, from) = server.recv_from(&mut data)?;
                server.send_to(&data[..n], from).map(drop)
            });
        });
        scope.spawn(|| {
            until_quiet(&sending, || {
                client.recv(&mut [0; 8])?;
                came.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
        });
        let sender = scope.spawn(|| {
            let mut sent = 0_u64;
            while sending.load(Ordering::Relaxed) {
                // What the kernel refuses, for want of a route, is lost as well.
                let _ = client.send(&sent.to_be_bytes());
                sent += 1;
                std::thread::sleep(PACE);
            }
            sent
        });
        let flows = || {
            let before = came.load(Ordering::Relaxed);
            wait_for("the stream to flow", LIMIT, || {
                anyhow::ensure!(came.load(Ordering::Relaxed) > before + 20, "{came:?} came");
                Ok(())
            })
            .unwrap();
        };
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            flows();
            f();
            flows();
        }));
        sending.store(false, Ordering::Relaxed);
        let sent = sender.join().unwrap();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        sent
    });
    (sent, sent - came.load(Ordering::Relaxed))
}

/// Two gateways of two lanes that know each other's relay only, and are live by it.
fn by_relay(keys: &std::path::Path) -> (Switch, Relay, Host, Host) {
    let (switch, relay, a, b) = pair(keys, 2);
    a.apply(vec![at(&b, &[RELAY.into()])]);
    b.apply(vec![at(&a, &[RELAY.into()])]);
    a.wait_live(&b);
    b.wait_live(&a);
    wait_endpoint(&a, &b.id(), RELAY.into());
    wait_endpoint(&b, &a.id(), RELAY.into());
    (switch, relay, a, b)
}

#[test]
fn a_better_candidate_that_appears_is_taken_without_loss() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, _relay, a, b) = by_relay(keys.path());
    let (sent, lost) = lost_while(&a, &b, || {
        a.apply(vec![at(&b, &[RELAY.into(), direct(2)])]);
        wait_endpoint(&a, &b.id(), direct(2));
        wait_endpoint(&b, &a.id(), direct(1));
    });
    assert_eq!(lost, 0, "of {sent}");
}

#[test]
fn a_better_candidate_may_be_of_the_other_family() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, _relay, a, b) = by_relay(keys.path());
    let (sent, lost) = lost_while(&a, &b, || {
        a.apply(vec![at(&b, &[RELAY.into(), direct6(2)])]);
        wait_endpoint(&a, &b.id(), direct6(2));
        wait_endpoint(&b, &a.id(), direct6(1));
    });
    assert_eq!(lost, 0, "of {sent}, to IPv6");
    // With IPv6 gone, what is slower is better than nothing.
    let (sent, lost) = lost_while(&a, &b, || {
        b.ns.ip(&format!("addr del {}/64 dev eth0", direct6(2))).unwrap();
        wait_endpoint(&a, &b.id(), RELAY.into());
        wait_endpoint(&b, &a.id(), RELAY.into());
    });
    println!("back to IPv4: {lost} of {sent} datagrams lost, one each {PACE:?}");
}

#[test]
fn a_worse_candidate_that_appears_changes_nothing() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, _relay, a, b) = pair(keys.path(), 1);
    a.apply(vec![at(&b, &[direct(2)])]);
    b.apply(vec![at(&a, &[direct(1)])]);
    a.wait_live(&b);
    b.wait_live(&a);
    let age = || a.tunnel().report().paths[0].session_age.unwrap_or_default();
    let wait_age = |what: &str, fits: &dyn Fn(Duration) -> bool| {
        wait_for(what, LIMIT, || {
            anyhow::ensure!(fits(age()), "it is {:?}", age());
            Ok(())
        })
        .unwrap();
    };
    wait_age("a session of some age", &|age| age > Duration::from_millis(1200));
    let (sent, lost) = lost_while(&a, &b, || {
        a.apply(vec![at(&b, &[RELAY.into(), direct(2)])]);
        b.apply(vec![at(&a, &[RELAY.into(), direct(1)])]);
        // The look for a better one gives a new session, on the address in use.
        wait_age("a new session", &|age| age < Duration::from_secs(1));
        wait_endpoint(&a, &b.id(), direct(2));
        wait_endpoint(&b, &a.id(), direct(1));
    });
    assert_eq!(lost, 0, "of {sent}");
}

#[test]
fn a_gateway_whose_address_changes_is_followed_at_once() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, _relay, a, b) = pair(keys.path(), 2);
    a.apply(vec![at(&b, &[direct(2)])]);
    b.apply(vec![at(&a, &[direct(1)])]);
    a.wait_live(&b);
    b.wait_live(&a);
    let moved: IpAddr = "192.0.2.77".parse().unwrap();
    let (sent, lost) = lost_while(&a, &b, || {
        // A second address of a prefix goes with the first one.
        a.ns.ip(&format!("addr del {}/24 dev eth0", direct(1))).unwrap();
        a.ns.ip(&format!("addr add {moved}/24 dev eth0")).unwrap();
        wait_endpoint(&b, &a.id(), moved);
    });
    let allowed = (Duration::from_secs(1).as_millis() / PACE.as_millis()) as u64;
    assert!(lost < allowed, "{lost} of {sent} lost: a second's worth is {allowed}");
}

#[test]
fn all_candidates_are_tried_at_once() {
    let keys = tempfile::tempdir().unwrap();
    let (switch, _relay, a, b) = pair(keys.path(), 1);
    let decoys = Decoys::start(&switch, &[&a]);
    // The last one is inside the cluster's own prefix and never tried.
    let mut addresses = decoys.addresses.clone();
    addresses.push("10.2.0.1".parse().unwrap());
    b.apply(vec![at(&a, &[])]);
    a.apply(vec![at(&b, &addresses)]);
    // One message goes to all of them before the next one goes to any.
    let mut attempts = Vec::new();
    for attempt in 1..=3 {
        let (mut asked, mut messages): (Vec<IpAddr>, Vec<Vec<u8>>) =
            decoys.addresses.iter().map(|_| decoys.next()).unzip();
        asked.sort();
        let mut all = decoys.addresses.clone();
        all.sort();
        assert_eq!(asked, all, "attempt {attempt}");
        messages.dedup();
        assert!(messages.len() == 1 && messages[0][0] == 1, "attempt {attempt}: {messages:x?}");
        attempts.extend(messages);
    }
    attempts.dedup();
    assert_eq!(attempts.len(), 3, "each attempt is a new one");

    // Among many that do not answer, the best one that does is found.
    addresses.extend([IpAddr::from(RELAY), direct(2)]);
    a.apply(vec![at(&b, &addresses)]);
    a.wait_live(&b);
    wait_endpoint(&a, &b.id(), direct(2));
    wait_endpoint(&b, &a.id(), direct(1));
}
