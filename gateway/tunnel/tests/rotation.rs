//! Lane keys are replaced while packets flow: none is lost, and the old keys are of no use afterwards.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use common::{Host, LIMIT, Outer, outer_address, pair, udp_echo};
use hawser_testbed::traffic::udp::{Echo, Stream};
use hawser_testbed::wait_for;
use hawser_tunnel::{LaneInfo, NextKey};

/// Flows of each stream: enough that every lane carries some.
const FLOWS: usize = 8;

/// Tells each host what there is to know of the other.
fn tell(a: &Host, b: &Host) {
    a.apply(vec![b.as_peer(Outer::V4)]);
    b.apply(vec![a.as_peer(Outer::V4)]);
}

fn wait_next_key(host: &Host, wanted: NextKey) {
    wait_for(&format!("h{}'s next keys to be {wanted:?}", host.number), LIMIT, || {
        let rotation = host.tunnel().rotation();
        let all = rotation.iter().flat_map(|r| &r.paths).all(|path| path.next == wanted);
        if rotation.is_some() && all { Ok(()) } else { anyhow::bail!("{rotation:#?}") }
    })
    .unwrap();
}

fn keys_of(host: &Host) -> Vec<hawser_model::PublicKey> {
    host.tunnel().lanes().iter().map(|lane| lane.key).collect()
}

/// Streams from each host to the other while `change` happens; nothing may be lost, no path may have fallen.
fn nothing_is_lost(a: &Host, b: &Host, port: u16, change: impl FnOnce()) {
    let mut echoes = Vec::new();
    let mut streams = Vec::new();
    for (from, to) in [(a, b), (b, a)] {
        echoes.push(Echo::start(&to.ns, port, "echo").unwrap());
        let flows: Vec<(u16, SocketAddr)> =
            (0..FLOWS).map(|i| (0, SocketAddr::new(to.inner([Outer::V4, Outer::V6][i % 2]), port))).collect();
        udp_echo(from, to, Outer::V6, 100);
        streams.push(Stream::start_from(&from.ns, &flows).unwrap());
    }
    std::thread::sleep(Duration::from_millis(300));
    change();
    std::thread::sleep(Duration::from_millis(300));
    for stream in streams {
        let loss = stream.finish().unwrap();
        let reports = [a, b].map(|host| host.tunnel().report());
        let queues = [a, b].map(|host| host.ns.queue_overflows("hawser-tun").unwrap());
        assert_eq!(loss.lost(), 0, "{loss:?} {reports:#?} {queues:?}");
    }
    for host in [a, b] {
        let report = host.tunnel().report();
        assert!(report.clusters[0].last_failover.is_none(), "{report:#?}");
    }
}

fn rotate(lanes: [usize; 2]) {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, a, b) = pair(keys.path(), lanes, Outer::V4);
    nothing_is_lost(&a, &b, 7, || {
        let before = keys_of(&a);
        a.tunnel().prepare_keys().unwrap();
        wait_next_key(&a, NextKey::Waiting);
        assert_eq!(keys_of(&a), before, "nothing is replaced while nobody knows by what");
        tell(&a, &b);
        wait_next_key(&a, NextKey::InUse);
        a.tunnel().promote_keys().unwrap();
        assert!(a.tunnel().rotation().is_none());
        // Before it is told, the other end goes on by what it knows.
        std::thread::sleep(Duration::from_millis(500));
        tell(&a, &b);
        assert!(keys_of(&a).iter().all(|key| !before.contains(key)));
    });
    nothing_is_lost(&a, &b, 8, || {
        for host in [&a, &b] {
            host.tunnel().prepare_keys().unwrap();
        }
        tell(&a, &b);
        for host in [&a, &b] {
            wait_next_key(host, NextKey::InUse);
        }
        a.tunnel().promote_keys().unwrap();
        tell(&a, &b);
        b.tunnel().promote_keys().unwrap();
        tell(&a, &b);
    });
}

#[test]
fn one_end_then_both_at_once() {
    rotate([2, 2]);
}

#[test]
fn ends_with_different_numbers_of_lanes() {
    rotate([3, 2]);
}

#[test]
fn both_ends_in_their_own_time() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, a, b) = pair(keys.path(), [1, 1], Outer::V6);
    nothing_is_lost(&a, &b, 7, || {
        a.tunnel().prepare_keys().unwrap();
        tell(&a, &b);
        wait_next_key(&a, NextKey::InUse);
        b.tunnel().prepare_keys().unwrap();
        tell(&a, &b);
        wait_next_key(&b, NextKey::InUse);
        wait_next_key(&a, NextKey::InUse);
        b.tunnel().promote_keys().unwrap();
        tell(&a, &b);
        a.tunnel().promote_keys().unwrap();
        tell(&a, &b);
        b.tunnel().prepare_keys().unwrap();
        tell(&a, &b);
        wait_next_key(&b, NextKey::InUse);
        b.tunnel().promote_keys().unwrap();
        tell(&a, &b);
    });
}

#[test]
fn a_restart_in_the_middle_goes_on_with_the_same_keys() {
    let keys = tempfile::tempdir().unwrap();
    let (_switch, mut a, b) = pair(keys.path(), [2, 2], Outer::V4);
    a.tunnel().prepare_keys().unwrap();
    tell(&a, &b);
    let before = a.tunnel().lanes();
    a.stop();
    a.start(keys.path(), 2);
    let keys_only = |lanes: &[LaneInfo]| lanes.iter().map(|l| (l.key, l.next.unwrap().0)).collect::<Vec<_>>();
    assert_eq!(keys_only(&a.tunnel().lanes()), keys_only(&before), "both keys are those of before");
    tell(&a, &b);
    wait_next_key(&a, NextKey::InUse);
    a.tunnel().promote_keys().unwrap();
    a.stop();
    a.start(keys.path(), 2);
    assert_eq!(keys_of(&a), before.iter().map(|lane| lane.next.unwrap().0).collect::<Vec<_>>());
    // The other end was not told yet that they are in force.
    a.apply(vec![b.as_peer(Outer::V4)]);
    a.wait_live(&b);
    udp_echo(&a, &b, Outer::V4, 500);
    udp_echo(&b, &a, Outer::V6, 500);
}

/// Whoever has a copy of the old keys gets no session, at either end of it.
#[test]
fn the_old_keys_are_refused() {
    let keys = tempfile::tempdir().unwrap();
    let (switch, a, b) = pair(keys.path(), [1, 1], Outer::V4);
    let stolen = keys.path().join("h3");
    copy(&keys.path().join("h1"), &stolen);
    let old = a.as_peer(Outer::V4);
    a.tunnel().prepare_keys().unwrap();
    tell(&a, &b);
    wait_next_key(&a, NextKey::InUse);
    a.tunnel().promote_keys().unwrap();
    tell(&a, &b);
    b.settled();

    let mut thief = Host::new(&switch, 3);
    thief.start(keys.path(), 1);
    assert_eq!(keys_of(&thief)[0], old.gateways[0].gateway.lanes[0].public_key);
    let refused = [b.drops("not_ours"), a.drops("not_ours")];
    // As the one that was robbed, towards its peer; and for that peer's own messages to the old key.
    thief.apply(vec![b.as_peer(Outer::V4)]);
    wait_for("handshakes by the old key to be refused", LIMIT, || {
        anyhow::ensure!(b.drops("not_ours") >= refused[0] + 3, "{:?}", b.tunnel().report().drops);
        Ok(())
    })
    .unwrap();
    no_session(&thief, "the thief");
    // Whoever goes by the old key again would take the thief for the one that was robbed.
    thief.stop();
    b.apply(vec![old]);
    wait_for("handshakes for the old key to be refused", LIMIT, || {
        anyhow::ensure!(a.drops("not_ours") >= refused[1] + 3, "{:?}", a.tunnel().report().drops);
        Ok(())
    })
    .unwrap();
    no_session(&b, "a peer that knows the old key only");
    b.apply(vec![a.as_peer(Outer::V4)]);
    b.wait_live(&a);
    assert_eq!(outer_address(1, Outer::V4), b.tunnel().report().paths[0].endpoint.unwrap().ip());
}

fn no_session(host: &Host, of: &str) {
    let report = host.tunnel().report();
    assert!(report.paths.iter().all(|path| path.session_age.is_none()), "{of}: {report:#?}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
