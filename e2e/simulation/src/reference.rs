//! What is so, whatever the gateways think: which of them can reach which, since when, and how soon they must know.

use std::time::Duration;

use hawser_liveness::Time;

use crate::lane::SEEK_AFTER;
use crate::session::Attempts;
use crate::topology::HostId;
use crate::underlay::Weather;

/// Both ends agree with what is so after this, where packets come through at all.
pub(crate) const CONVERGENCE: Duration = Duration::from_secs(1);
/// Between probes of a path without traffic.
const IDLE: Duration = Duration::from_secs(1);
/// An outage that sessions outlive, whatever their age.
const SESSIONS_LAST: Duration = Duration::from_secs(45);
/// The same while handshakes come through in one direction only: they use up the places for keys.
const ONE_WAY_LASTS: Duration = Duration::from_secs(2);
/// The chance that a bound on lossy paths is missed by bad luck.
const BAD_LUCK: f64 = 1e-10;

/// Whether one of two gateways, its process or what it knows of the other, has just come back without its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Revival {
    None,
    /// It asks the other for a session at once.
    Asks,
    /// It has to wait until the other, behind a translator, asks for one.
    Waits,
}

/// Two gateways of different clusters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    /// Whether packets can come through both ways and both ends would answer.
    pub(crate) ok: bool,
    /// Since when that is so.
    pub(crate) since: Time,
    /// When anything about it last changed, for better or worse.
    pub(crate) disturbed: Time,
    /// When anything but the loops of the two last changed.
    pub(crate) changed: Time,
    /// How long nothing had changed before that.
    pub(crate) calm_before: Duration,
    /// When it was last known to be good for long enough to renew sessions.
    /// None: one of them forgot its sessions since.
    solid: Option<Time>,
    /// Since it is not so, one direction worked for a while.
    one_way: bool,
    /// The last change was that one of them came back.
    revival: Revival,
    /// Its weather, both ways.
    pub(crate) weather: [Weather; 2],
}

impl Reach {
    fn new() -> Self {
        Self {
            ok: true,
            since: Time::START,
            disturbed: Time::START,
            changed: Time::START,
            calm_before: Duration::ZERO,
            solid: None,
            revival: Revival::Asks,
            one_way: false,
            weather: [Weather::FAIR; 2],
        }
    }

    /// Whether nothing excuses a state that is wrong: sessions last, nothing is lost.
    pub(crate) fn is_simple(&self) -> bool {
        self.loss() <= 0.0 && (!self.ok || !self.sessions_lost())
    }

    fn sessions_lost(&self) -> bool {
        let last = if self.one_way { ONE_WAY_LASTS } else { SESSIONS_LAST };
        self.solid.is_none_or(|solid| self.since.since(solid) > last)
    }

    /// Whether nothing had happened for long before the last change, and nothing is lost.
    pub(crate) fn is_calm(&self) -> bool {
        self.calm_before >= Duration::from_secs(130) && self.loss() <= 0.0
    }

    /// Chance that a round trip is lost.
    pub(crate) fn loss(&self) -> f64 {
        1.0 - (1.0 - self.weather[0].loss) * (1.0 - self.weather[1].loss)
    }

    fn round_trip(&self) -> Duration {
        self.weather[0].longest() + self.weather[1].longest()
    }

    /// How long a state may contradict what is so, counted from the last change.
    pub(crate) fn patience(&self, idle: bool) -> Duration {
        let mut bound = CONVERGENCE + self.round_trip();
        if idle {
            bound += IDLE;
        }
        if !self.ok {
            return bound;
        }
        let interval = if idle { IDLE } else { Duration::from_millis(100) };
        let loss = self.loss();
        if loss > 0.0 {
            // So many probes in a row are never all lost.
            let tries = (BAD_LUCK.ln() / loss.ln()).ceil().min(60.0);
            bound += interval.mul_f64(tries);
        }
        if self.sessions_lost() && !(self.revival == Revival::Asks && loss <= 0.0) {
            let tries = if loss > 0.0 { (BAD_LUCK.ln() / loss.ln()).ceil().max(1.0) } else { 1.0 };
            bound += SEEK_AFTER + Attempts::LONGEST.mul_f64(tries);
        }
        bound
    }

    /// How soon after the path's death (or the first packet after a rest) no packet may take it any more.
    pub(crate) fn failover(&self) -> Duration {
        if !self.is_calm() {
            // Unanswered probes are counted generously where many were lost before.
            return CONVERGENCE + self.round_trip();
        }
        let rtt = self.round_trip();
        let miss = Duration::from_millis(20).max(rtt * 2);
        let slack = Duration::from_millis(5);
        // The next probe, then silence or eight overdue ones, whichever is longer; answers under way still count.
        Duration::from_millis(100) + Duration::from_millis(300).max(Duration::from_millis(160) + miss * 2) + rtt + slack
    }

    /// How long after the last change a verdict against a good path is a false alarm.
    pub(crate) fn steady(&self) -> Duration {
        // Loss is counted over a hundred probes.
        if self.loss() > 0.0 { Duration::from_secs(130) } else { Duration::from_secs(12) }
    }
}

/// What is so between two gateways after a change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disturbance {
    pub(crate) ok: bool,
    /// Packets come through in one direction only.
    pub(crate) one_way: bool,
    pub(crate) weather: [Weather; 2],
    pub(crate) revival: Revival,
    /// Only a loop of one of them stood still, or goes on.
    pub(crate) loops: bool,
}

/// All pairs of gateways.
#[derive(Debug)]
pub(crate) struct Reference {
    reaches: Vec<Vec<Reach>>,
}

impl Reference {
    pub(crate) fn new(hosts: usize) -> Self {
        Self { reaches: vec![vec![Reach::new(); hosts]; hosts] }
    }

    pub(crate) fn get(&self, a: HostId, b: HostId) -> &Reach {
        &self.reaches[a.min(b)][a.max(b)]
    }

    /// Something about two gateways changed at `now`.
    pub(crate) fn disturb(&mut self, (a, b): (HostId, HostId), change: &Disturbance, now: Time) {
        let &Disturbance { ok, one_way, weather, revival, loops } = change;
        let reach = &mut self.reaches[a.min(b)][a.max(b)];
        let calm = now.since(reach.disturbed);
        let renewed = Duration::from_secs(if reach.loss() > 0.0 { 90 } else { 20 });
        if reach.ok && calm >= renewed {
            reach.solid = Some(now);
        }
        reach.calm_before = calm;
        reach.disturbed = now;
        if !loops {
            reach.changed = now;
        }
        reach.weather = weather;
        reach.revival = revival;
        if revival != Revival::None {
            reach.solid = None;
        }
        reach.one_way = (reach.one_way && !reach.ok) || one_way;
        if reach.ok != ok {
            (reach.ok, reach.since) = (ok, now);
        }
    }
}
