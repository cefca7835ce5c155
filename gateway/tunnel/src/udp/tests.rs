//! A lane's sockets against the kernel's own behaviour, in network namespaces where errors are made up.

use hawser_datapath::checksum::Sum;
use hawser_testbed::Netns;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

#[track_caller]
fn wait(socket: &LaneSocket, events: PollFlags) {
    let mut fds = [PollFd::new(socket.as_fd(), events)];
    assert_eq!(poll(&mut fds, PollTimeout::from(5_000u16)).unwrap(), 1, "nothing within 5 s");
}

fn loopback(family: IpFamily, port: u16) -> SocketAddr {
    match family {
        IpFamily::V4 => (Ipv4Addr::LOCALHOST, port).into(),
        IpFamily::V6 => (Ipv6Addr::LOCALHOST, port).into(),
    }
}

fn port(socket: &LaneSocket) -> u16 {
    socket.socket.local_addr().unwrap().as_socket().unwrap().port()
}

#[test]
fn what_is_opened_later_closes_later_when_the_process_is_killed() {
    for family in [IpFamily::V4, IpFamily::V6] {
        let socket = LaneSocket::bind(family, 0, 1 << 20).unwrap();
        let later = std::fs::File::open("/dev/null").unwrap();
        assert!(socket.as_fd().as_raw_fd() > later.as_raw_fd(), "{socket:?} {later:?}", socket = socket.socket);
    }
}

#[test]
fn segments_out_and_datagrams_in() {
    for family in [IpFamily::V4, IpFamily::V6] {
        let a = LaneSocket::bind(family, 0, 1 << 20).unwrap();
        let mut b = LaneSocket::bind(family, 0, 1 << 20).unwrap();
        let data: Vec<u8> = (0..3000u32).map(|i| (i / 1000) as u8).collect();
        a.send(loopback(family, port(&b)), &data[..2500], 1000).unwrap();
        let (mut got, mut buf) = (Vec::new(), vec![0u8; RECEIVE_MAX]);
        while got.len() < 3 {
            wait(&b, PollFlags::POLLIN);
            while let Some(r) = b.receive(&mut buf).unwrap() {
                assert_eq!(r.from, loopback(family, port(&a)));
                assert!(r.waited() < Duration::from_secs(1));
                got.extend(buf[..r.len].chunks(r.stride).map(|c| (c[0], c.len())));
            }
        }
        assert_eq!(got, [(0, 1000), (1, 1000), (2, 500)]);
    }
}

#[test]
fn a_closed_port_is_told_with_what_we_sent() {
    for family in [IpFamily::V4, IpFamily::V6] {
        let mut a = LaneSocket::bind(family, 0, 1 << 20).unwrap();
        let closed = port(&LaneSocket::bind(family, 0, 1 << 20).unwrap());
        a.send(loopback(family, closed), b"a datagram of ours, quoted", 100).unwrap();
        wait(&a, PollFlags::POLLIN);
        let mut buf = [0u8; 512];
        let e = a.receive_error(&mut buf).unwrap();
        assert_eq!(e.kind, IcmpKind::PortUnreachable);
        assert_eq!(e.to, loopback(family, closed));
        assert_eq!(&buf[..e.quoted], b"a datagram of ours, quoted");
    }
}

/// Sends whoever is on `port` of the loopback an ICMP error about a datagram that it never sent.
fn forge(family: IpFamily, (kind, code): (u8, u8), port: u16) {
    let (domain, protocol) = match family {
        IpFamily::V4 => (Domain::IPV4, Protocol::ICMPV4),
        IpFamily::V6 => (Domain::IPV6, Protocol::ICMPV6),
    };
    // For those that carry one: an MTU. The kernel fills in the checksum of IPv6's.
    let mut message = vec![kind, code, 0, 0, 0, 0, 5, 0];
    match family {
        IpFamily::V4 => {
            message.extend([0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        }
        IpFamily::V6 => {
            message.extend([0x60, 0, 0, 0, 0, 40, 17, 64]);
            message.extend([Ipv6Addr::LOCALHOST.octets(); 2].concat());
        }
    }
    message.extend(port.to_be_bytes());
    message.extend([0, 9, 0, 40, 0, 0]);
    message.extend([0xee; 32]);
    if family == IpFamily::V4 {
        let sum = Sum::default().bytes(&message).finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let raw = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
    raw.send_to(&message, &loopback(family, 0).into()).unwrap();
}

/// Types and codes that the kernel makes different errors of.
fn errors(family: IpFamily) -> &'static [(u8, u8)] {
    match family {
        IpFamily::V4 => &[(3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 5), (3, 7), (3, 8), (3, 13), (11, 0), (12, 0)],
        IpFamily::V6 => &[(1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 0), (3, 0), (3, 1), (4, 0), (4, 1)],
    }
}

#[test]
fn what_icmp_tells_costs_no_datagram_that_goes_elsewhere_or_comes_in() {
    let ns = Netns::new("icmp", None).unwrap();
    ns.run(|| {
        for family in [IpFamily::V4, IpFamily::V6] {
            let mut a = LaneSocket::bind(family, 0, 1 << 20).unwrap();
            let mut open = LaneSocket::bind(family, 0, 1 << 20).unwrap();
            let mut buf = vec![0u8; RECEIVE_MAX];
            for &error in errors(family) {
                forge(family, error, port(&a));
                wait(&a, PollFlags::POLLERR);
                let data = [1u8; 2500];
                let sent = a.send(loopback(family, port(&open)), &data, 1000);
                assert_eq!(sent, Ok(()), "after {error:?}");
                wait(&open, PollFlags::POLLIN);
                let mut len = 0;
                while let Some(got) = open.receive(&mut buf).unwrap() {
                    len += got.len;
                }
                assert_eq!(len, data.len(), "after {error:?}");

                open.send(loopback(family, port(&a)), b"welcome", 100).unwrap();
                wait(&a, PollFlags::POLLIN);
                forge(family, error, port(&a));
                let got = a.receive(&mut buf);
                assert!(matches!(got, Ok(Some(got)) if got.len == 7), "{got:?} after {error:?}");
                let told = std::iter::from_fn(|| a.receive_error(&mut buf)).count();
                assert_eq!(told, 2, "{error:?} is told with its details");
            }
        }
    });
}

#[test]
fn of_a_batch_that_is_refused_each_goes_that_can() {
    let ns = Netns::new("small", None).unwrap();
    ns.ip("link set lo mtu 1300").unwrap();
    ns.run(|| {
        for family in [IpFamily::V4, IpFamily::V6] {
            let a = LaneSocket::bind(family, 0, 1 << 20).unwrap();
            let mut b = LaneSocket::bind(family, 0, 1 << 20).unwrap();
            let (to, data) = (loopback(family, port(&b)), [5u8; 1400 + 1400 + 500]);
            assert_eq!(a.send_batch(to, &data, 1400), Err(Unsent { count: 2, error: Errno::EMSGSIZE }));
            wait(&b, PollFlags::POLLIN);
            let mut buf = vec![0u8; RECEIVE_MAX];
            assert_eq!(b.receive(&mut buf).unwrap().map(|got| got.len), Some(500));
            assert_eq!(a.send_batch(to, &data, 1100), Ok(()));
            assert_eq!(a.send_batch(to, &data[..1400], 1400), Err(Unsent { count: 1, error: Errno::EMSGSIZE }));
        }
    });
}

#[test]
fn what_the_queue_has_no_room_for_is_told() {
    const SENT: u32 = 500;
    for family in [IpFamily::V4, IpFamily::V6] {
        let a = LaneSocket::bind(family, 0, 1 << 20).unwrap();
        let mut b = LaneSocket::bind(family, 0, 1 << 14).unwrap();
        let to = loopback(family, port(&b));
        let mut buf = vec![0u8; RECEIVE_MAX];
        let mut drain = |b: &mut LaneSocket| {
            let got = std::iter::from_fn(|| b.receive(&mut buf).unwrap());
            got.fold((0, 0), |(received, lost), got| (received + 1, lost + got.overflow))
        };
        for round in 0..2 {
            (0..SENT).for_each(|_| a.send(to, &[7; 1000], 1000).unwrap());
            let (received, before) = drain(&mut b);
            assert!(received < SENT, "no overflow");
            // The next datagram tells of those lost after the last that was taken in.
            a.send(to, b"next", 100).unwrap();
            let (one, lost) = drain(&mut b);
            assert_eq!((one, before + lost), (1, SENT - received), "round {round}");
        }
    }
}
