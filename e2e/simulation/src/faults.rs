//! What goes wrong, and when: episodes of faults, each healed later, with calm between them.

use std::time::Duration;

use crate::dice::Dice;
use crate::topology::{HostId, Topology};
use crate::underlay::Weather;

/// One change of the world.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    /// Nothing comes through from one host to another any more; or does again.
    Cut {
        from: HostId,
        to: HostId,
    },
    Mend {
        from: HostId,
        to: HostId,
    },
    /// Links between two hosts get other weather, each direction its own.
    Weather {
        a: HostId,
        b: HostId,
        weather: [Weather; 2],
    },
    /// A gateway's process is gone; or comes back without memory.
    Stop {
        host: HostId,
    },
    Start {
        host: HostId,
    },
    /// A host has another public address, or its translator another mapping.
    Renumber {
        host: HostId,
    },
    /// A lane's loop does nothing for a while.
    Stall {
        host: HostId,
        lane: u8,
        pause: Duration,
    },
    Unstall {
        host: HostId,
    },
    /// Each turn of a gateway's loops is late by up to this.
    Sluggish {
        host: HostId,
        by: Duration,
    },
    /// A gateway asks to be left alone; or not any more.
    Drain {
        host: HostId,
        draining: bool,
    },
    /// A gateway is told that a cluster is gone; or that it is there, in another order.
    Forget {
        host: HostId,
        cluster: usize,
    },
    Recall {
        host: HostId,
        cluster: usize,
    },
    /// ICMP errors that quote nothing of ours.
    Forge {
        from: HostId,
        to: HostId,
    },
    /// The next episode.
    Episode,
}

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Two gateways of different clusters.
fn pair(topology: &Topology, dice: &mut Dice) -> (HostId, HostId) {
    loop {
        let (a, b) = (dice.below(topology.hosts.len()), dice.below(topology.hosts.len()));
        if topology.hosts[a].cluster != topology.hosts[b].cluster {
            return (a, b);
        }
    }
}

fn weather(dice: &mut Dice) -> Weather {
    if dice.chance(0.3) {
        return Weather::FAIR;
    }
    Weather {
        loss: dice.of(&[0.0, 0.0, 0.001, 0.01, 0.05, 0.2]),
        reorder: dice.of(&[0.0, 0.0, 0.01, 0.2]),
        duplicate: dice.of(&[0.0, 0.0, 0.01, 0.2]),
        delay: dice.of(&[MS / 5, MS, 5 * MS, 20 * MS, 40 * MS]),
        jitter: dice.of(&[MS / 20, MS / 2, 3 * MS]),
    }
}

/// How long a fault lasts: mostly short, sometimes so long that sessions end.
fn lasting(dice: &mut Dice) -> Duration {
    match dice.below(20) {
        0 => dice.between(60 * S, 400 * S),
        1..=6 => dice.between(3 * S, 30 * S),
        7..=12 => dice.between(300 * MS, 3 * S),
        _ => dice.between(10 * MS, 500 * MS),
    }
}

/// The changes of one episode, each with how long from now; the last is the next episode.
pub(crate) fn episode(topology: &Topology, dice: &mut Dice) -> Vec<(Duration, Change)> {
    let mut changes = Vec::new();
    for _ in 0..dice.of(&[1, 1, 1, 2, 2, 3, 5]) {
        let at = dice.between(Duration::ZERO, 2 * S);
        fault(topology, dice, at, &mut changes);
    }
    let calm = match dice.below(10) {
        0..=1 => dice.between(Duration::ZERO, 5 * S),
        2..=5 => dice.between(5 * S, 60 * S),
        6..=8 => dice.between(60 * S, 300 * S),
        _ => dice.between(300 * S, 900 * S),
    };
    changes.push((2 * S + calm, Change::Episode));
    changes
}

fn fault(topology: &Topology, dice: &mut Dice, at: Duration, out: &mut Vec<(Duration, Change)>) {
    let (a, b) = pair(topology, dice);
    let end = at + lasting(dice);
    let cut = |out: &mut Vec<(Duration, Change)>, from, to| {
        out.extend([(at, Change::Cut { from, to }), (end, Change::Mend { from, to })]);
    };
    match dice.below(21) {
        // One way, both ways, a host's uplink, a whole cluster.
        0..=1 => cut(out, a, b),
        2..=3 => [(a, b), (b, a)].into_iter().for_each(|(from, to)| cut(out, from, to)),
        4..=5 => {
            let others = (0..topology.hosts.len()).filter(|h| topology.hosts[*h].cluster != topology.hosts[a].cluster);
            others.for_each(|h| [(a, h), (h, a)].into_iter().for_each(|(from, to)| cut(out, from, to)));
        }
        6 => {
            let (here, there) = (topology.hosts[a].cluster, topology.hosts[b].cluster);
            for &x in &topology.clusters[here] {
                for &y in &topology.clusters[there] {
                    [(x, y), (y, x)].into_iter().for_each(|(from, to)| cut(out, from, to));
                }
            }
        }
        7..=9 => out.push((at, Change::Weather { a, b, weather: [weather(dice), weather(dice)] })),
        10..=11 => out.extend([(at, Change::Stop { host: a }), (end, Change::Start { host: a })]),
        12..=13 => out.push((at, Change::Renumber { host: a })),
        14..=15 => {
            let pause = dice.between(30 * MS, dice.clone().of(&[100 * MS, 280 * MS, 280 * MS, 3 * S]));
            // Below the number of lanes, a byte.
            let lane = dice.below(usize::from(topology.hosts[a].shape.lanes)) as u8;
            out.extend([(at, Change::Stall { host: a, lane, pause }), (at + pause, Change::Unstall { host: a })]);
        }
        16 => {
            let by = dice.of(&[5 * MS, 20 * MS, 40 * MS, 80 * MS]);
            let healed = Change::Sluggish { host: a, by: Duration::ZERO };
            out.extend([(at, Change::Sluggish { host: a, by }), (end + 10 * S, healed)]);
        }
        17 => {
            let end = Change::Drain { host: a, draining: false };
            out.extend([(at, Change::Drain { host: a, draining: true }), (at + lasting(dice) + S, end)]);
        }
        18 => {
            let cluster = topology.hosts[b].cluster;
            out.extend([(at, Change::Forget { host: a, cluster }), (end, Change::Recall { host: a, cluster })]);
        }
        19 => {
            // In use again each time, whatever its hold-down was.
            let mut from = at;
            for hold in [5, 10, 20, 40, 60] {
                for (x, y) in [(a, b), (b, a)] {
                    out.extend([(from, Change::Cut { from: x, to: y }), (from + S, Change::Mend { from: x, to: y })]);
                }
                from += S + hold * S + 2 * S;
            }
        }
        _ => (0..5).for_each(|i| out.push((at + 30 * MS * i, Change::Forge { from: a, to: b }))),
    }
}
