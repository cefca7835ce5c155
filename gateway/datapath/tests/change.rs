//! A path set that goes from one configuration to another: what stays stays, and nothing tells it from a new set else.

mod support;

use hawser_datapath::{PathConfig, PathSet, Route};
use hawser_liveness::{Config, State, Time};
use hawser_model::{ClusterId, NodeName, RemoteCluster};
use proptest::prelude::*;
use support::{cluster, gateway, prefixes};

/// Clusters of up to three gateways; `pick` says which there are, and how many gateways each has.
fn some_clusters(pick: &[u8]) -> Vec<RemoteCluster> {
    let of = |(i, gateways): (usize, &u8)| {
        let id = format!("c{i}");
        let names: Vec<String> = (0..*gateways % 4).map(|g| format!("{id}-{g}")).collect();
        let half = format!("10.{}.128.0/17", 10 + i);
        let gateways = names.iter().enumerate().map(|(g, name)| {
            let preferred: &[&str] = if g == 1 { &[half.as_str()] } else { &[] };
            gateway(name, 1 + g as u16, preferred)
        });
        cluster(&id, &[&format!("10.{}.0.0/16", 10 + i)], gateways.collect())
    };
    pick.iter().enumerate().filter(|(_, gateways)| **gateways > 0).map(of).collect()
}

proptest! {
    /// What stays over a change keeps its state, and the tables that follow are those that a new set would make.
    #[test]
    fn a_changed_set_forwards_as_a_new_one_with_the_same_states(
        before in prop::collection::vec(0_u8..4, 6),
        after in prop::collection::vec(0_u8..4, 6),
        up in prop::collection::vec(any::<bool>(), 24),
    ) {
        let (now, own) = (Time::from_millis(5000), prefixes(&["10.1.0.0/16"]));
        let cfg = PathConfig { lane: 0, liveness: Config::default() };
        let (mut set, mut fresh) = (PathSet::new(cfg), PathSet::new(cfg));
        let make_up = |set: &mut PathSet, only: &[(ClusterId, NodeName)]| {
            let paths: Vec<_> = set.paths().map(|(p, i)| (p, (i.cluster.clone(), i.gateway.clone()))).collect();
            for (path, name) in paths {
                let chosen = up[(name.1.as_str().bytes().map(usize::from).sum::<usize>()) % up.len()];
                if chosen && only.contains(&name) {
                    set.handle(path, now, |life| {
                        life.handle_session(true, now);
                        life.handle_timeout(now);
                        if let Some(seq) = life.poll_probe(now) {
                            life.handle_probe_answer(seq, now);
                        }
                    });
                }
            }
        };
        let names = |set: &PathSet| -> Vec<_> {
            set.paths().map(|(_, i)| (i.cluster.clone(), i.gateway.clone())).collect()
        };
        set.apply(&own, &some_clusters(&before), now);
        let known = names(&set);
        make_up(&mut set, &known);
        let _ = set.forwarding(now);
        set.apply(&own, &some_clusters(&after), now);
        fresh.apply(&own, &some_clusters(&after), now);
        make_up(&mut fresh, &known);
        prop_assert_eq!(names(&set), names(&fresh));
        let states = |set: &PathSet| (0..names(set).len()).map(|p| set.state(p as u16)).collect::<Vec<_>>();
        prop_assert_eq!(states(&set), states(&fresh));
        let mut found = 0;
        for cluster in 10..16 {
            for host in [1, 200] {
                for flow in (0..64_u64).map(|f| f << 58 | f) {
                    let dst = format!("10.{cluster}.{host}.1").parse().unwrap();
                    let route = set.forwarding(now).route(dst, flow);
                    prop_assert_eq!(route, fresh.forwarding(now).route(dst, flow));
                    found += usize::from(matches!(route, Route::Path { .. }));
                }
            }
        }
        prop_assert_eq!(found > 0, states(&set).contains(&Some(State::Up)));
    }
}
