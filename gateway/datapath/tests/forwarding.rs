//! Where packets go and which may pass, against naive models.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hawser_datapath::{ClusterPrefixes, DropReason, Packet, PathSpec, PathState, Policy, Prefixes, Route, Selector};
use hawser_liveness::State;
use hawser_model::{ClusterId, NodeName, PrefixSet};
use ipnet::IpNet;
use proptest::prelude::*;
use support::{flow, ip, prefixes, update};

const STATES: [State; 5] = [State::Unknown, State::Up, State::Suspect, State::Held, State::Down];

/// Networks and addresses out of a small space, so that they often meet.
fn net() -> impl Strategy<Value = IpNet> {
    (any::<bool>(), any::<u8>(), any::<u8>(), 0_u8..=16).prop_map(|(v6, a, b, len)| {
        let addr = address(v6, a, b);
        IpNet::new(addr, if v6 { 32 + len } else { 8 + len }).unwrap().trunc()
    })
}

fn address(v6: bool, a: u8, b: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0xfd00, 0, u16::from(a) << 8 | u16::from(b), 0, 0, 0, 0, 1).into()
    } else {
        Ipv4Addr::new(10, a, b, 1).into()
    }
}

#[derive(Debug, Clone)]
struct Config {
    clusters: Vec<(ClusterId, PrefixSet)>,
    /// (cluster, gateway, preferred).
    paths: Vec<(u16, NodeName, Vec<IpNet>)>,
}

fn config() -> impl Strategy<Value = Config> {
    let clusters = proptest::collection::vec(proptest::collection::vec(net(), 0..4), 1..5);
    let paths =
        proptest::collection::vec((any::<prop::sample::Index>(), proptest::collection::vec(net(), 0..3)), 0..10);
    (clusters, paths).prop_map(|(clusters, paths)| {
        let count = clusters.len();
        Config {
            clusters: (0..)
                .zip(clusters)
                .map(|(i, nets)| (ClusterId::new(format!("c{i}")).unwrap(), PrefixSet::new(nets)))
                .collect(),
            paths: (0..)
                .zip(paths)
                .map(|(i, (cluster, preferred))| {
                    (cluster.index(count) as u16, NodeName::new(format!("g{i}")).unwrap(), preferred)
                })
                .collect(),
        }
    })
}

impl Config {
    fn selector(&self, own: &PrefixSet) -> (Selector, BTreeSet<(ClusterId, IpNet)>) {
        let parts: Vec<_> = self.clusters.iter().map(|(id, prefixes)| ClusterPrefixes { id, prefixes }).collect();
        let paths: Vec<_> = self
            .paths
            .iter()
            .map(|(cluster, gateway, preferred)| PathSpec { cluster: *cluster, gateway, weight: 1, preferred })
            .collect();
        let (selector, skipped) = Selector::new(own, &parts, &paths);
        (selector, skipped.into_iter().map(|s| (s.cluster, s.prefix)).collect())
    }

    /// The cluster of an address: earlier clusters first, no trie.
    fn model_cluster(&self, own: &PrefixSet, addr: IpAddr) -> Option<u16> {
        let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
        let mut taken: Vec<(u16, IpNet)> = Vec::new();
        for (index, (_, nets)) in (0..).zip(&self.clusters) {
            for net in nets.iter() {
                let foreign = taken.iter().any(|(c, other)| *c != index && overlaps(net, other));
                if !foreign && !own.iter().any(|o| overlaps(net, o)) {
                    taken.push((index, *net));
                }
            }
        }
        taken.iter().find(|(_, net)| net.contains(&addr)).map(|(cluster, _)| *cluster)
    }

    /// The paths that may carry packets to an address of `cluster`.
    fn model_paths(&self, cluster: u16, addr: IpAddr, states: &[PathState]) -> BTreeSet<u16> {
        let of_cluster: Vec<u16> = (0..).zip(&self.paths).filter(|(_, p)| p.0 == cluster).map(|(i, _)| i).collect();
        let state = |i: u16| states[usize::from(i)];
        let fit = |i: &u16| state(*i).state.is_live() && !state(*i).draining;
        let mut nets: Vec<&IpNet> = of_cluster.iter().flat_map(|&i| &self.paths[usize::from(i)].2).collect();
        // What is preferred must be part of the cluster.
        nets.retain(|net| net.contains(&addr) && self.clusters[usize::from(cluster)].1.contains_net(net));
        nets.sort_by_key(|net| std::cmp::Reverse(net.prefix_len()));
        for net in nets {
            let near: BTreeSet<u16> = of_cluster
                .iter()
                .copied()
                .filter(|&i| self.paths[usize::from(i)].2.contains(net))
                .filter(fit)
                .collect();
            if !near.is_empty() {
                return near;
            }
        }
        let fit: BTreeSet<u16> = of_cluster.iter().copied().filter(fit).collect();
        if !fit.is_empty() {
            return fit;
        }
        let draining: BTreeSet<u16> = of_cluster.iter().copied().filter(|&i| state(i).state.is_live()).collect();
        if !draining.is_empty() {
            return draining;
        }
        let held = of_cluster.iter().copied().filter(|&i| state(i).state == State::Held);
        let rank = |i: &u16| (state(*i).draining, state(*i).loss);
        held.min_by(|a, b| rank(a).partial_cmp(&rank(b)).unwrap()).into_iter().collect()
    }
}

/// States with losses that are all different, so that there is one best.
fn states(n: usize) -> impl Strategy<Value = Vec<PathState>> {
    proptest::collection::vec((0..STATES.len(), any::<bool>()), n).prop_map(|states| {
        let state = |(i, (state, draining)): (usize, (usize, bool))| PathState {
            state: STATES[state],
            draining,
            loss: (i * 7 % 11) as f64 / 11.0,
            rtt: None,
        };
        states.into_iter().enumerate().map(state).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn lookups_agree_with_the_model(
        (config, states) in config().prop_flat_map(|c| { let n = c.paths.len(); (Just(c), states(n)) }),
        own in proptest::collection::vec(net(), 0..2),
        lookups in proptest::collection::vec((any::<bool>(), any::<u8>(), any::<u8>(), any::<u64>()), 1..40),
    ) {
        let own = PrefixSet::new(own);
        let (mut selector, skipped) = config.selector(&own);
        update(&mut selector, &states);
        for (v6, a, b, hash) in lookups {
            let addr = address(v6, a, b);
            let cluster = config.model_cluster(&own, addr);
            let allowed = cluster.map(|c| config.model_paths(c, addr, &states)).unwrap_or_default();
            match selector.forwarding().route(addr, hash) {
                Route::NotRemote => prop_assert_eq!(cluster, None),
                Route::NoPath { cluster: found } => {
                    prop_assert_eq!(Some(found), cluster);
                    prop_assert!(allowed.is_empty(), "{addr}: {allowed:?}");
                }
                Route::Path { cluster: found, path } => {
                    prop_assert_eq!(Some(found), cluster);
                    prop_assert!(allowed.contains(&path), "{addr}: {path} of {allowed:?}");
                }
            }
        }
        for (cluster, prefix) in skipped {
            let (index, _) = (0..).zip(&config.clusters).find(|(_, c)| c.0 == cluster).unwrap();
            prop_assert_ne!(config.model_cluster(&own, prefix.network()), Some(index), "{} was left out for nothing", prefix);
        }
    }

    /// Updating step by step ends where building anew ends, whatever came between.
    #[test]
    fn updates_leave_no_trace(
        (config, steps) in config().prop_flat_map(|c| {
            let n = c.paths.len();
            (Just(c), proptest::collection::vec(states(n), 1..6))
        }),
        lookups in proptest::collection::vec((any::<bool>(), any::<u8>(), any::<u8>(), any::<u64>()), 1..40),
    ) {
        let own = PrefixSet::default();
        let (mut stepped, _) = config.selector(&own);
        for states in &steps {
            update(&mut stepped, states);
        }
        let (mut fresh, _) = config.selector(&own);
        update(&mut fresh, steps.last().unwrap());
        for (v6, a, b, hash) in lookups {
            let addr = address(v6, a, b);
            prop_assert_eq!(stepped.forwarding().route(addr, hash), fresh.forwarding().route(addr, hash));
        }
    }

    /// Source and destination decide, whatever passed before, and nothing gets through that the model would not let through.
    #[test]
    fn policy_agrees_with_the_model(
        config in config(), own in proptest::collection::vec(net(), 0..3),
        v6: bool, addresses in proptest::collection::vec((any::<u8>(), any::<u8>()), 2..5),
        packets in proptest::collection::vec(any::<[prop::sample::Index; 3]>(), 1..40),
    ) {
        let own = PrefixSet::new(own);
        let parts: Vec<_> = config.clusters.iter().map(|(id, prefixes)| ClusterPrefixes { id, prefixes }).collect();
        let mut policy = Policy::new(Prefixes::new(&own, &parts).0.into(), []);
        for [src, dst, peer] in packets {
            let [src, dst] = [src, dst].map(|of| of.get(&addresses)).map(|&(a, b)| address(v6, a, b));
            let bytes = flow(src, dst, 1, 2);
            let packet = Packet::parse(&bytes).unwrap();
            let peer = peer.index(config.clusters.len()) as u16;
            let passes = config.model_cluster(&own, src) == Some(peer) && own.contains(dst);
            prop_assert_eq!(policy.ingress(&packet, peer).is_ok(), passes);
            prop_assert_eq!(policy.egress(&packet).is_ok(), own.contains(src));
        }
    }
}

#[test]
fn drops_have_their_reasons() {
    let (west, east) = (prefixes(&["10.1.0.0/16", "fd01::/48"]), prefixes(&["10.2.0.0/16", "fd02::/48", "fe80::/10"]));
    let id = ClusterId::new("east").unwrap();
    let (table, skipped) = Prefixes::new(&west, &[ClusterPrefixes { id: &id, prefixes: &east }]);
    assert!(skipped.is_empty());
    let policy = Policy::new(table.into(), [ip("10.1.0.77"), ip("192.168.0.7")]);
    let [mut coming, mut going] = [policy.clone(), policy];
    let mut ingress = |src, dst| coming.ingress(&Packet::parse(&flow(ip(src), ip(dst), 1, 2)).unwrap(), 0).err();
    let mut egress = |src, dst| going.egress(&Packet::parse(&flow(ip(src), ip(dst), 1, 2)).unwrap()).err();
    assert_eq!(ingress("10.2.0.5", "10.1.0.5"), None);
    assert_eq!(ingress("fd02::5", "fd01::5"), None);
    assert_eq!(ingress("10.3.0.5", "10.1.0.5"), Some(DropReason::IngressSource));
    assert_eq!(ingress("10.1.0.5", "10.1.0.6"), Some(DropReason::IngressSource), "our own address from outside");
    assert_eq!(ingress("10.2.0.5", "10.2.0.6"), Some(DropReason::IngressDestination));
    assert_eq!(ingress("10.2.0.5", "8.8.8.8"), Some(DropReason::IngressDestination));
    assert_eq!(ingress("10.2.0.5", "10.1.0.77"), Some(DropReason::IngressHost));
    assert_eq!(ingress("10.2.0.5", "192.168.0.7"), Some(DropReason::IngressHost));
    assert_eq!(ingress("10.2.0.5", "169.254.169.254"), Some(DropReason::IngressForbidden));
    assert_eq!(ingress("fe80::1", "fd01::5"), Some(DropReason::IngressForbidden), "though the peer claims it");
    assert_eq!(egress("10.1.0.5", "10.2.0.5"), None);
    assert_eq!(egress("10.9.0.5", "10.2.0.5"), Some(DropReason::EgressSource));
    assert_eq!(egress("fd01::5", "fe80::1"), Some(DropReason::EgressForbidden), "a forged probe");
    assert_eq!(egress("fe80::1", "fe80::2"), Some(DropReason::EgressForbidden));
}

#[test]
fn flows_of_all_kinds_spread_evenly_and_only_a_lost_paths_flows_move() {
    let east = prefixes(&["10.2.0.0/16", "fd02::/48"]);
    let id = ClusterId::new("east").unwrap();
    let nodes: Vec<NodeName> = (0..4).map(|i| NodeName::new(format!("gw{i}")).unwrap()).collect();
    let paths: Vec<_> =
        nodes.iter().map(|gateway| PathSpec { cluster: 0, gateway, weight: 2, preferred: &[] }).collect();
    let (mut selector, _) =
        Selector::new(&PrefixSet::default(), &[ClusterPrefixes { id: &id, prefixes: &east }], &paths);
    let mut states = vec![PathState { state: State::Up, ..PathState::UNKNOWN }; 4];
    assert!(update(&mut selector, &states));
    assert!(!update(&mut selector, &states), "nothing changed");
    let flows: Vec<(IpAddr, u64)> = (0..4000_u16)
        .map(|i| {
            let (src, dst) = if i % 2 == 0 { (ip("10.1.0.5"), ip("10.2.0.9")) } else { (ip("fd01::5"), ip("fd02::9")) };
            (dst, Packet::parse(&flow(src, dst, 30_000 + i, 80)).unwrap().flow_hash(1))
        })
        .collect();
    let routes = |selector: &Selector| -> Vec<u16> {
        let path = |(dst, hash): &(IpAddr, u64)| match selector.forwarding().route(*dst, *hash) {
            Route::Path { path, .. } => path,
            other => panic!("{other:?}"),
        };
        flows.iter().map(path).collect()
    };
    let before = routes(&selector);
    let mut shares: BTreeMap<u16, usize> = BTreeMap::new();
    before.iter().for_each(|path| *shares.entry(*path).or_default() += 1);
    assert!(shares.len() == 4 && shares.values().all(|n| (700..1300).contains(n)), "{shares:?}");

    states[2].state = State::Suspect;
    assert!(!update(&mut selector, &states), "a suspect is still used");
    states[2].state = State::Down;
    assert!(update(&mut selector, &states));
    for (was, is) in before.iter().zip(routes(&selector)) {
        assert!(is != 2 && (*was == 2 || *was == is), "{was} became {is}");
    }
}
