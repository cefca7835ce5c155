//! How flows spread over paths, through the whole of it: path set, selector, buckets, packets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use hawser_datapath::{ClusterPrefixes, Packet, PathSpec, PathState, Route, Selector};
use hawser_liveness::State;
use hawser_model::{ClusterId, NodeName, PrefixSet};
use proptest::prelude::*;
use support::{flow, ip, packet, prefixes, update};

const FLOWS: u16 = 1000;

/// A cluster `east` with gateways of these weights, named after `name`.
fn selector(name: &str, weights: &[u16]) -> Selector {
    let (own, id): (PrefixSet, ClusterId) = (prefixes(&["10.1.0.0/16"]), ClusterId::new("east").unwrap());
    let remote = prefixes(&["10.2.0.0/16", "fd02::/48"]);
    let nodes: Vec<NodeName> = (0..weights.len()).map(|i| NodeName::new(format!("{name}-{i}")).unwrap()).collect();
    let paths: Vec<PathSpec<'_>> = nodes
        .iter()
        .zip(weights)
        .map(|(gateway, weight)| PathSpec { cluster: 0, gateway, weight: *weight, preferred: &[] })
        .collect();
    Selector::new(&own, &[ClusterPrefixes { id: &id, prefixes: &remote }], &paths).0
}

fn state(state: State) -> PathState {
    PathState { state, ..PathState::UNKNOWN }
}

/// Flows as clients make them: several hosts, ports counted up, one server.
fn hashes(seed: u64) -> Vec<u64> {
    let [a, b, ..] = seed.to_be_bytes();
    let hash = |i: u16| {
        let src: IpAddr = Ipv4Addr::new(10, 1, a, (i % 7) as u8).into();
        let bytes = flow(src, Ipv4Addr::new(10, 2, b, 9).into(), 32_768 + i, 80);
        Packet::parse(&bytes).unwrap().flow_hash(0)
    };
    (0..FLOWS).map(hash).collect()
}

/// Which path each flow takes.
fn spread(selector: &Selector, hashes: &[u64]) -> Vec<Option<u16>> {
    let path = |hash: &u64| match selector.forwarding().route(ip("10.2.0.9"), *hash) {
        Route::Path { path, .. } => Some(path),
        _ => None,
    };
    hashes.iter().map(path).collect()
}

fn shares(spread: &[Option<u16>]) -> BTreeMap<Option<u16>, usize> {
    spread.iter().fold(BTreeMap::new(), |mut shares, path| {
        *shares.entry(*path).or_default() += 1;
        shares
    })
}

/// The largest deviation of a path's share from the fair one, as a part of that.
fn deviation(shares: &BTreeMap<Option<u16>, usize>, weights: &[u16]) -> f64 {
    let total: u16 = weights.iter().sum();
    let all: usize = shares.values().sum();
    let of = |(path, weight): (u16, &u16)| {
        let fair = all as f64 * f64::from(*weight) / f64::from(total);
        (shares.get(&Some(path)).copied().unwrap_or(0) as f64 - fair).abs() / fair
    };
    (0..).zip(weights).map(of).fold(0.0, f64::max)
}

/// Deviations from the fair share over many clusters, sorted.
struct Spread {
    /// Of a thousand flows.
    flows: Vec<f64>,
    /// Of the buckets, which flows are hashed to.
    buckets: Vec<f64>,
    /// What chance alone makes of a thousand flows that are thrown at the paths one by one.
    chance: Vec<f64>,
}

impl Spread {
    fn median(sorted: &[f64]) -> f64 {
        sorted[sorted.len() / 2]
    }

    fn worst(sorted: &[f64]) -> f64 {
        sorted[sorted.len() - 1]
    }
}

/// A hash for every bucket, as often for each.
fn every_bucket() -> Vec<u64> {
    (0..1_u64 << 13).map(|bucket| bucket << 51).collect()
}

fn over_clusters(weights: &[u16]) -> Spread {
    let total: u16 = weights.iter().sum();
    let (mut flows, mut buckets, mut chance) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..101_u64 {
        let seed = (run + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut selector = selector(&format!("gw{run}"), weights);
        update(&mut selector, &vec![state(State::Up); weights.len()]);
        let hashes = hashes(seed);
        flows.push(deviation(&shares(&spread(&selector, &hashes)), weights));
        buckets.push(deviation(&shares(&spread(&selector, &every_bucket())), weights));
        let thrown = |hash: &u64| {
            let scaled = u128::from(hash.wrapping_mul(seed | 1)) * u128::from(total);
            let mut left = (scaled >> 64) as u16;
            let hit = (0..).zip(weights).find(|(_, weight)| {
                let hit = left < **weight;
                left = left.saturating_sub(**weight);
                hit
            });
            hit.map(|(path, _)| path)
        };
        chance.push(deviation(&shares(&hashes.iter().map(thrown).collect::<Vec<_>>()), weights));
    }
    [&mut flows, &mut buckets, &mut chance].into_iter().for_each(|all| all.sort_by(f64::total_cmp));
    Spread { flows, buckets, chance }
}

/// The standard deviation of the share that so many throws give the path of the least weight; as a part of the fair share.
fn sigma(weights: &[u16], throws: f64) -> f64 {
    let total: u16 = weights.iter().sum();
    let least = f64::from(*weights.iter().min().unwrap()) / f64::from(total);
    ((1.0 - least) / least / throws).sqrt()
}

/// What is bounded is how evenly the paths of a cluster share its buckets: by rendezvous each bucket is thrown as a die is, once
/// for all time, 1,024 or more a path (2,048 for two of any weight). With up to five paths of equal weight every cluster is
/// within a tenth. A thousand flows are thrown at buckets in turn: that adds what a thousand throws vary by, and no table could
/// take it away.
#[test]
fn a_thousand_flows_spread_evenly_by_weight() {
    let equal: Vec<Vec<u16>> = (2..=8).map(|n| vec![1; n]).collect();
    let unequal = [vec![1, 2], vec![4, 2, 2], vec![8, 1]];
    for weights in equal.iter().chain(&unequal) {
        let Spread { flows, buckets, chance } = over_clusters(weights);
        let [(flows, worst), (buckets, most), (chance, by_chance)] =
            [flows, buckets, chance].map(|all| (Spread::median(&all), Spread::worst(&all)));
        // Five sigma: of a hundred clusters and each of their paths, it is the worst one that counts.
        let size = (weights.len() * 1024).next_power_of_two().min(8192);
        let table = match equal.contains(weights) && weights.len() <= 5 {
            true => 0.1,
            false => 5.0 * sigma(weights, size as f64),
        };
        let bound = table + 3.0 * sigma(weights, f64::from(FLOWS));
        println!(
            "{weights:?}: buckets {buckets:.3}, at most {most:.3} of {table:.3}; a thousand flows {flows:.3}, at most {worst:.3} of {bound:.3}; \
             by chance {chance:.3}, at most {by_chance:.3}"
        );
        assert!(most <= table, "{weights:?}: a cluster's buckets are {most:.3} off, {table:.3} is the most");
        assert!(worst <= bound, "{weights:?}: a cluster's flows are {worst:.3} off, {bound:.3} is the most");
        // The typical cluster: within a tenth where a thousand throws are, and nowhere much worse than those.
        assert!(flows < 0.1_f64.max(chance * 1.25), "{weights:?}: {flows:.3} off, chance alone {chance:.3}");
    }
}

#[test]
fn the_share_of_each_path_is_even_within_a_tenth() {
    for (run, n) in (0..200_u16).zip((2..=8_usize).cycle()) {
        let mut selector = selector(&format!("gw{run}"), &vec![1; n]);
        update(&mut selector, &vec![state(State::Up); n]);
        let shares = shares(&spread(&selector, &every_bucket()));
        let off = deviation(&shares, &vec![1; n]);
        assert!(shares.len() == n && off <= 0.1, "gw{run} of {n}: {shares:?}, {off:.3} off");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A path that goes takes its flows and no others, they spread over what is left, and all return with it.
    #[test]
    fn losing_a_path_moves_only_its_flows(
        weights in proptest::collection::vec(1_u16..5, 2..9), lost: prop::sample::Index, seed: u64, name in "[a-z]{1,8}",
    ) {
        let (n, lost) = (weights.len(), lost.index(weights.len()));
        let (mut selector, hashes) = (selector(&name, &weights), hashes(seed));
        let mut states = vec![state(State::Up); n];
        update(&mut selector, &states);
        let before = spread(&selector, &hashes);
        states[lost] = state(State::Down);
        update(&mut selector, &states);
        let without = spread(&selector, &hashes);
        for (was, is) in before.iter().zip(&without) {
            prop_assert!(is.is_some() && *is != Some(lost as u16));
            prop_assert!(was == is || *was == Some(lost as u16), "{was:?} became {is:?} without {lost}");
        }
        let moved = before.iter().zip(&without).filter(|(was, is)| was != is).count();
        prop_assert_eq!(moved, before.iter().filter(|path| **path == Some(lost as u16)).count());
        let heirs = shares(&without).len();
        prop_assert!(heirs == n - 1, "{heirs} of {} paths are left in use", n - 1);
        // Suspicion moves nothing; recovery undoes what the loss did.
        states[lost] = state(State::Suspect);
        update(&mut selector, &states);
        prop_assert_eq!(before, spread(&selector, &hashes));
    }

    /// Every fragment of a datagram hashes as the others, the first one included, and as every gateway hashes it.
    #[test]
    fn fragments_of_a_datagram_go_one_way(v6: bool, ports: (u16, u16), protocol in prop::sample::select(vec![6_u8, 17, 132, 253]), cuts in 1_usize..8, host: u8, id: u32) {
        let (src, dst): (IpAddr, IpAddr) = match v6 {
            true => (ip("fd01::5"), format!("fd02::{host:x}").parse().unwrap()),
            false => (ip("10.1.0.5"), Ipv4Addr::new(10, 2, 0, host).into()),
        };
        let mut datagram = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
        datagram.extend((0..(cuts + 1) * 64).map(|i| i as u8));
        let last = datagram.len().div_ceil(64) - 1;
        let fragments = datagram.chunks(64).enumerate().map(|(i, part)| {
            let (units, more) = ((i * 8) as u16, u16::from(i < last));
            if v6 {
                let head = [&[protocol, 0][..], &(units << 3 | more).to_be_bytes(), &id.to_be_bytes()].concat();
                packet(src, dst, 44, &[&head, part].concat())
            } else {
                let mut bytes = packet(src, dst, protocol, part);
                bytes[6..8].copy_from_slice(&(units | more << 13).to_be_bytes());
                bytes
            }
        });
        let hashes: Vec<u64> = fragments.map(|f| Packet::parse(&f).unwrap().flow_hash(0)).collect();
        prop_assert!(hashes.len() > 1 && hashes.iter().all(|h| *h == hashes[0]), "{hashes:x?}");
    }

    /// With all paths bad, one that answers again is used at once, in hold-down or not; draining ones only as a last resort.
    #[test]
    fn the_first_to_answer_carries_everything(n in 2_usize..8, first: prop::sample::Index, seed: u64) {
        let (mut selector, hashes, first) = (selector("gw", &vec![1; n]), hashes(seed), first.index(n));
        let mut states = vec![state(State::Down); n];
        update(&mut selector, &states);
        prop_assert!(spread(&selector, &hashes).iter().all(Option::is_none));
        states[first] = state(State::Held);
        update(&mut selector, &states);
        prop_assert!(spread(&selector, &hashes).iter().all(|path| *path == Some(first as u16)));
        let other = (first + 1) % n;
        states[other] = PathState { draining: true, ..state(State::Up) };
        update(&mut selector, &states);
        prop_assert!(spread(&selector, &hashes).iter().all(|path| *path == Some(other as u16)));
    }
}
