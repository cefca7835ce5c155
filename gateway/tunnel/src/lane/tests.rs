//! A lane that does not run, step by step: what other threads, strangers and its device hand to it.

use std::net::{IpAddr, TcpStream, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use boringtun::x25519::StaticSecret;
use hawser_datapath::paths::Layout;
use hawser_datapath::{DropReason, Packet, PathConfig};
use hawser_model::{ClusterId, Gateway, NodeName, PrefixSet, PublicKey};
use hawser_testbed::Netns;

use super::lazy::Lazy;
use super::pair::{Pair, Standing};
use super::*;
use crate::config::{PeerCluster, PeerGateway, Peers as Config};
use crate::rotation::Identities;
use crate::session::Identity;
use crate::shared::Door;
use crate::snapshot::Snapshot;
use crate::tun;
use crate::udp::{IcmpError, IcmpKind};

const DEVICE: &str = "hawser-test";
const START: Time = Time::from_millis(5_000);

/// So many clusters of one gateway with one lane each, from number `first` on.
fn peers(first: u16, count: u16) -> Config {
    let cluster = |n: u16| {
        let [high, low] = n.to_be_bytes();
        let mut key = [9; 32];
        key[..2].copy_from_slice(&[high, low]);
        let gateway = Gateway {
            node: NodeName::new("e1").unwrap(),
            lanes: vec![hawser_model::Lane { public_key: PublicKey(key), port: 51820, next_public_key: None }],
            candidates: Vec::new(),
            preferred: Vec::new(),
            probes: true,
        };
        let address = format!("198.51.{high}.{low}").parse().unwrap();
        PeerCluster {
            id: ClusterId::new(format!("c{n}")).unwrap(),
            generation: 1,
            prefixes: PrefixSet::new([format!("10.{}.{low}.0/24", 100 + high).parse().unwrap()]),
            gateways: vec![PeerGateway { gateway, addresses: vec![address] }],
        }
    };
    Config {
        cluster: ClusterId::new("west").unwrap(),
        prefixes: PrefixSet::new(["10.1.0.0/16".parse().unwrap()]),
        addresses: Vec::new(),
        clusters: (first..first + count).map(cluster).collect(),
    }
}

/// The first of two lanes with these peers, and the ring of the other, in this thread's namespace.
fn lane(peers: &Config) -> (Lane, Receiver<Handover>) {
    let door = |lane| Door::new(PathConfig { lane, liveness: hawser_liveness::Config::default() }).unwrap();
    let ((door, ring), (other, others)) = (door(0), door(1));
    let identity = |seed| Identities { current: Arc::new(Identity::new(StaticSecret::from([seed; 32]))), next: None };
    let nobody = Arc::new(Config::none(peers.cluster.clone()));
    let snapshot = Snapshot::new(nobody, None, |_| 1420, Vec::new()).with_identities(vec![identity(1), identity(2)]);
    let shared = Shared::new(snapshot, vec![door, other]);
    let sockets = [IpFamily::V4, IpFamily::V6].map(|family| LaneSocket::bind(family, 51820, 1 << 20).unwrap());
    let tun = tun::open(DEVICE, 1).unwrap().remove(0);
    let parts = Parts { index: 0, tun, sockets: sockets.into(), raw: RawSender::open().unwrap(), ring };
    let mut lane = Lane::new(parts, shared).unwrap();
    apply(&mut lane, peers);
    (lane, others)
}

/// Changes to these peers; where the sessions are that were made for it.
fn apply(lane: &mut Lane, peers: &Config) -> Vec<*const Pair> {
    let change = prepare(lane, peers);
    let made = change.new.made().collect();
    lane.take(change);
    made
}

/// What control would leave to a lane with these peers.
fn prepare(lane: &Lane, peers: &Config) -> Change {
    let clusters: Vec<_> = peers.clusters.iter().map(PeerCluster::to_model).collect();
    let layout = Layout::new(&peers.prefixes, &clusters);
    let last = lane.shared.snapshot.load_full();
    let next = Arc::new(Snapshot::new(Arc::new(peers.clone()), Some(&last), |_| 1420, Vec::new()));
    lane.shared.snapshot.store(Arc::clone(&next));
    let now = lane.shared.now();
    let paths = layout.of_lane(&lane.shared.doors[0].config, |cluster, at| next.paths_of(cluster)[at].max_mtu, now);
    Change {
        new: Newcomers::new(&last, &next, &paths, 0, now),
        paths,
        policy: Policy::new(Arc::clone(layout.prefixes()), next.hosts.iter().copied()),
        snapshot: next,
    }
}

fn in_namespace(test: impl FnOnce() + Send + 'static) {
    Netns::new("lane", None).unwrap().run(test);
}

#[test]
fn what_other_lanes_leave_is_taken_in_parts_and_all_of_it() {
    in_namespace(|| {
        let (mut lane, _others) = lane(&peers(1, 1));
        // For no path of this configuration: each is dropped.
        let dropped = |lane: &Lane| lane.counters.get(DropReason::NoSession);
        for sent in 0..200 {
            assert!(lane.shared.doors[0].leave_packet(Handover { revision: 0, spec: 0, packet: vec![sent] }));
        }
        lane.shared.doors[0].ring();
        let mut turns = Vec::new();
        loop {
            let ready = lane.sources.wait(Time::START, START).unwrap();
            if !ready.bell {
                break;
            }
            let before = dropped(&lane);
            assert!(lane.turn(Ready { bell: true, ..Ready::default() }));
            turns.push(dropped(&lane) - before);
        }
        println!("{turns:?}");
        assert_eq!(turns.iter().sum::<u64>(), 200, "the bell ends when nothing is left");
        assert!(turns.iter().all(|&taken| taken <= 64), "{turns:?}");
    });
}

#[test]
fn a_lane_makes_none_of_the_sessions_that_a_change_brings() {
    in_namespace(|| {
        let with_lanes = |count: u16, lanes: u8| {
            let mut peers = peers(0, count);
            for cluster in &mut peers.clusters {
                let gateway = &mut cluster.gateways[0].gateway;
                let more = |lane| {
                    let mut more = gateway.lanes[0].clone();
                    more.public_key.0[31] = lane;
                    more
                };
                gateway.lanes = (0..lanes).map(more).collect();
            }
            peers
        };
        for lanes in 1..=4 {
            let (mut lane, _others) = lane(&with_lanes(2, lanes));
            let held = |lane: &Lane| lane.peers.pairs.iter().map(|pair| &raw const **pair).collect::<Vec<_>>();
            let before = held(&lane);
            let mut made = apply(&mut lane, &with_lanes(5, lanes));
            made.extend(&before);
            let mut now = held(&lane);
            made.sort_unstable();
            now.sort_unstable();
            assert_eq!(made, now, "{lanes} lanes");
            assert!(lane.peers.pairs.iter().enumerate().all(|(i, p)| lane.peers.by_receiver(p.slot << 8) == Some(i)));
            let slots: std::collections::HashSet<u32> = lane.peers.pairs.iter().map(|pair| pair.slot).collect();
            assert_eq!(slots.len(), lane.peers.pairs.len(), "each has a number of its own");
        }
    });
}

#[test]
fn a_lane_that_missed_a_change_has_what_one_has_that_did_not() {
    in_namespace(|| {
        let (mut lane, _others) = lane(&peers(0, 4));
        let known = |lane: &Lane| -> Vec<_> { lane.peers.pairs.iter().map(|pair| pair.keys.1.0[1]).collect() };
        // Cluster 1 went and came, 4 and 5 came, while the lane was told of the last of it only.
        let mut without = peers(0, 6);
        without.clusters.remove(1);
        prepare(&lane, &without);
        let (one, two) = (lane.peers.pairs[1].slot, lane.peers.pairs[2].slot);
        apply(&mut lane, &peers(0, 7));
        assert_eq!(known(&lane), [0, 1, 2, 3, 4, 5, 6]);
        assert!(lane.peers.pairs[1].slot != one, "another session: the path is another one");
        assert_eq!(lane.peers.pairs[2].slot, two);
        for (index, pair) in lane.peers.pairs.iter().enumerate() {
            let path = index as PathIndex;
            assert_eq!((pair.path, pair.spec, pair.sends, pair.port), (path, index, true, 51820));
            assert_eq!(lane.peers.link(path).map(|link| (link.spec, link.sender)), Some((index, Some(index))));
            assert_eq!(lane.peers.path_of(index), Some(path));
            assert_eq!(lane.peers.by_receiver(pair.slot << 8), Some(index));
            assert_eq!(lane.peers.by_keys(pair.keys.0, pair.keys.1), Some(index));
        }
        assert_eq!(lane.peers.by_slot.len(), 7);
        apply(&mut lane, &peers(0, 1));
        assert_eq!((known(&lane), lane.peers.by_slot.len(), lane.peers.link(1).is_none()), (vec![0], 1, true));
    });
}

#[test]
fn new_paths_have_a_session_for_each_of_the_keys_and_send_by_the_newest() {
    in_namespace(|| {
        let (mut lane, _others) = lane(&peers(0, 1));
        let mut two = peers(0, 2);
        two.clusters[1].gateways[0].gateway.lanes[0].next_public_key = Some(PublicKey([3; 32]));
        let made = apply(&mut lane, &two);
        let standings: Vec<_> = lane.peers.pairs[1..].iter().map(|pair| pair.standing).collect();
        assert_eq!(standings, [(Standing::Current, Standing::Current), (Standing::Current, Standing::Next)]);
        assert_eq!((made.len(), lane.peers.link(1).and_then(|link| link.sender)), (2, Some(2)));
        let own = lane.peers.identities().current.key();
        assert_eq!(lane.peers.by_keys(own, PublicKey([3; 32])), Some(2));
    });
}

#[test]
fn a_thousand_new_peers_are_worked_on_in_parts_and_each_of_them() {
    in_namespace(|| {
        let (mut lane, _others) = lane(&peers(0, 1000));
        let awake = |lane: &Lane| lane.peers.pairs.iter().filter(|p| matches!(p.session, Lazy::Awake(_))).count();
        let shown = |lane: &Lane| lane.shared.doors[0].status().paths.len();
        let mut turns = 0;
        while awake(&lane) < 1000 || shown(&lane) < 1000 {
            let before = awake(&lane);
            lane.run_timers();
            assert!(awake(&lane) - before <= 1, "a key agreement at a time");
            turns += 1;
            assert!(turns < 20_000, "{} have a session, {} are shown", awake(&lane), shown(&lane));
        }
    });
}

#[test]
fn what_others_found_about_many_is_heard_in_parts_and_without_delay() {
    in_namespace(|| {
        let (mut lane, _others) = lane(&peers(0, 200));
        let heard = |lane: &Lane| lane.peers.links().filter(|(_, link)| link.hints == 1).count();
        let quiet = |lane: &Lane| lane.epoch == Some(lane.shared.epoch.load(Ordering::Relaxed));
        while !quiet(&lane) {
            lane.run_timers();
        }
        lane.peers.snapshot.paths.iter().for_each(|spec| assert_eq!(spec.board.hint(), 1));
        lane.shared.announce(Some(1));
        let mut turns = Vec::new();
        while !quiet(&lane) {
            let before = heard(&lane);
            lane.run_timers();
            turns.push(heard(&lane) - before);
            assert!(quiet(&lane) || lane.timers.due() == Time::START, "the rest is due at once: {turns:?}");
        }
        println!("{turns:?}");
        assert_eq!(turns.iter().sum::<usize>(), 200);
        assert!(turns.iter().all(|heard| *heard <= 32), "{turns:?}");
    });
}

#[test]
fn session_numbers_are_no_series_and_each_is_one_sessions() {
    in_namespace(|| {
        let (mut lane, _others) = lane(&peers(0, 1000));
        let numbers = |lane: &Lane| -> Vec<u32> { lane.peers.pairs.iter().map(|pair| pair.slot).collect() };
        let before = numbers(&lane);
        assert_eq!(before.len(), 1000);
        let near = before.windows(2).filter(|w| w[0].abs_diff(w[1]) < 1000).count();
        assert!(near < 10, "{near} follow each other");
        // Half of them go, others come.
        apply(&mut lane, &peers(500, 1000));
        let after = numbers(&lane);
        assert_eq!(before[500..], after[..500], "sessions that stay keep theirs");
        assert_eq!(lane.peers.by_slot.len(), 1000);
        for (index, number) in after.iter().enumerate() {
            assert_eq!(lane.peers.by_receiver(number << 8 | 1), Some(index));
        }
    });
}

#[test]
fn made_up_answers_use_up_nobodys() {
    in_namespace(|| {
        let (mut lane, _others) = lane(&peers(0, 1000));
        lane.peers.pairs.iter_mut().for_each(|pair| pair.answers = 3);
        let mut answer = [7; 92];
        answer[..4].copy_from_slice(&[2, 0, 0, 0]);
        let mut found = 0;
        for number in 0..4000_u32 {
            for message in 1..=3 {
                answer[8..12].copy_from_slice(&(number << 8 | message).to_le_bytes());
                found += usize::from(lane.expected(&answer).is_some());
            }
        }
        // A thousand of sixteen million numbers are in use.
        assert!(found <= 9, "{found} were somebody's");
        assert!(lane.peers.pairs.iter().filter(|pair| pair.answers == 3).count() >= 997);
    });
}

#[test]
fn errors_that_quote_nothing_of_ours_are_a_hint_a_second() {
    in_namespace(|| {
        let (mut lane, _others) = lane(&peers(0, 2));
        let to: SocketAddr = "192.0.2.9:51820".parse().unwrap();
        for pair in 0..2 {
            assert!(lane.peers.move_to(pair, to));
        }
        assert_eq!(lane.peers.senders_to(to), [0, 1]);
        let error = IcmpError { kind: IcmpKind::PortUnreachable, to, quoted: 100 };
        let mut hints = 0;
        for ms in 0..3000 {
            let before = lane.peers.pairs[0].hinted;
            lane.icmp_error(&error, &[0xee; 100], START + Duration::from_millis(ms));
            hints += u32::from(lane.peers.pairs[0].hinted != before);
        }
        assert_eq!(hints, 3);
        let elsewhere = IcmpError { to: "192.0.2.9:51821".parse().unwrap(), ..error };
        let later = START + Duration::from_secs(10);
        lane.icmp_error(&elsewhere, &[0xee; 100], later);
        lane.icmp_error(&IcmpError { kind: IcmpKind::TooBig, ..error }, &[0xee; 100], later);
        assert_ne!(lane.peers.pairs[0].hinted, Some(later), "of another address, or of sizes");
        apply(&mut lane, &peers(1, 2));
        assert_eq!(lane.peers.senders_to(to), [0], "the one that stayed");
    });
}

#[test]
fn what_has_no_session_when_it_is_sealed_is_dropped_and_not_sent() {
    in_namespace(|| {
        let (mut lane, _others) = lane(&peers(0, 1));
        assert_eq!(lane.send(0, "192.0.2.9:51820".parse().unwrap(), true, START), None);
        assert_eq!(lane.counters.get(DropReason::NoSession), 1);
        assert!(lane.batch.contents().is_none());
    });
}

/// Reads the device until a packet to `to` is at hand.
fn read(lane: &mut Lane, to: IpAddr) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if lane.segments.read(&lane.tun).unwrap() {
            if Packet::parse(lane.segments.packet()).is_ok_and(|packet| packet.dst() == to) {
                return;
            }
        } else {
            std::thread::yield_now();
        }
    }
    panic!("nothing to {to}");
}

#[test]
fn what_goes_by_another_lane_is_as_large_as_passes() {
    let ns = Netns::new("lane", None).unwrap();
    let (mut lane, others) = ns.run(|| lane(&peers(0, 1)));
    for line in [
        format!("addr add 10.1.0.1/16 dev {DEVICE}"),
        format!("link set {DEVICE} up"),
        format!("route add 10.100.0.0/16 dev {DEVICE}"),
    ] {
        ns.ip(&line).unwrap();
    }
    ns.run(move || {
        let to: IpAddr = "10.100.0.1".parse().unwrap();
        let mtu = lane.peers.snapshot.paths[0].mtu();
        let socket = UdpSocket::bind(("10.1.0.1", 0)).unwrap();
        socket.send_to(&[1; 1400], (to, 9)).unwrap();
        read(&mut lane, to);
        assert!(lane.segments.packet().len() > usize::from(mtu));
        lane.hand_over(0, Some(1), START);
        assert!(others.try_recv().is_err(), "larger than the path takes");
        assert_eq!(lane.counters.get(DropReason::TooBig), 1);

        socket.send_to(&[1; 100], (to, 9)).unwrap();
        read(&mut lane, to);
        lane.hand_over(0, Some(1), START);
        assert_eq!(others.try_recv().map(|left| left.packet.len()), Ok(128));

        std::thread::spawn(move || TcpStream::connect_timeout(&(to, 80).into(), Duration::from_millis(1)));
        read(&mut lane, to);
        lane.hand_over(0, Some(1), START);
        let left = others.try_recv().unwrap();
        // The first option.
        assert_eq!(left.packet[40..44], [[2, 4], (mtu - 40).to_be_bytes()].concat());
        assert_eq!(lane.shared.doors[1].bell().read().unwrap(), 3, "rung once for each");
    });
}
