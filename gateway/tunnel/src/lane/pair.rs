//! One session with one remote lane, and the choice between several of the same two lanes.
//!
//! While keys are replaced at either end, two lanes have up to four sessions, one for each pair of keys. Both ends take
//! packets by all of them and send by the one of the newest keys that can carry packets; so it is each end's own and
//! unannounced decision when it moves to the next key.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use hawser_datapath::PathIndex;
use hawser_liveness::Time;
use hawser_model::PublicKey;

use super::attempts::Attempts;
use super::lazy::Lazy;
use super::newest::Newest;
use super::seek::Seek;
use super::sent::Sent;
use crate::session::{Identity, Session as _, WireGuard};
use crate::snapshot::PathSpec;

/// Keepalive of sessions with peers that are not probed, seconds: keeps address translators on the way open.
const PLAIN_KEEPALIVE: u16 = 25;
/// Sessions of replaced keys end by age at this at the latest (WireGuard's REJECT_AFTER_TIME).
const SESSION_MAX: Duration = Duration::from_secs(180);

/// Between looks for which there is no other reason than what anybody can send.
const BETWEEN_HINTS: Duration = Duration::from_secs(1);

/// Pairs change hands by pointer when the configuration changes.
pub(crate) type BoxedPair = Box<Pair>;

/// Where a key stands in its succession.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It was replaced: nothing new is made by it.
    Old,
    /// Peers know the lane by it.
    Current,
    /// It was announced to replace the current one.
    Next,
}

/// One session with one remote lane.
pub(crate) struct Pair {
    /// The path it belongs to, in the lane's path set.
    pub(crate) path: PathIndex,
    /// The same in [`crate::snapshot::Snapshot::paths`].
    pub(crate) spec: usize,
    pub(crate) remote_lane: usize,
    /// Our key and the peer's.
    pub(crate) keys: (PublicKey, PublicKey),
    /// Where they stand.
    pub(crate) standing: (Standing, Standing),
    /// Where our probes and the peer's come from.
    pub(crate) addresses: (Ipv6Addr, Ipv6Addr),
    /// Whether this lane sends the path's packets by it or its like; it only receives by others.
    pub(crate) sends: bool,
    pub(crate) slot: u32,
    pub(crate) session: Lazy<WireGuard>,
    /// Where the peer was last heard from, by authenticated data.
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) newest: Newest,
    /// Answers to our last initiation that are let in past the guard against floods.
    pub(crate) answers: u8,
    /// Its UDP port at every candidate address.
    pub(crate) port: u16,
    pub(crate) attempts: Attempts,
    pub(crate) seek: Seek,
    pub(crate) sent: Sent,
    /// When ICMP last was a reason to look that anybody may have made up.
    pub(crate) hinted: Option<Time>,
    /// One of its keys was replaced: it ends with its session, or then.
    pub(crate) ends: Option<Time>,
}

impl Pair {
    /// A pair of our `identity` and the key `remote` of one of `spec`'s lanes, still without a session and its number.
    pub(crate) fn new(
        identity: &Identity,
        spec: &PathSpec,
        (remote_lane, remote): (usize, PublicKey),
        now: Time,
    ) -> Self {
        Self {
            path: 0,
            spec: 0,
            remote_lane,
            keys: (identity.key(), remote),
            standing: (Standing::Current, Standing::Current),
            addresses: (identity.probe_address(), spec.probe_address(remote)),
            sends: false,
            slot: 0,
            session: Lazy::Asleep,
            endpoint: None,
            newest: Newest::default(),
            answers: 0,
            port: 0,
            attempts: Attempts::new(now, remote.0[0]),
            seek: Seek::new(now, remote.0[1]),
            sent: Sent::default(),
            hinted: None,
            ends: None,
        }
    }

    /// Makes the session, if there is none yet: a key agreement. `identity` is the one of our key. Whether it did.
    pub(crate) fn wake(&mut self, identity: &Identity, probes: bool) -> bool {
        let (remote, slot, keepalive) = (self.keys.1, self.slot, (!probes).then_some(PLAIN_KEEPALIVE));
        self.session.wake(|| WireGuard::new(identity, remote, slot, keepalive))
    }

    /// Whether packets can be sent by it.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        self.session.ready() && self.endpoint.is_some()
    }

    /// Whether to look because of an error that quotes nothing of ours: now and then.
    pub(crate) fn may_be_hinted(&mut self, now: Time) -> bool {
        let may = self.hinted.is_none_or(|last| now.since(last) >= BETWEEN_HINTS);
        if may {
            self.hinted = Some(now);
        }
        may
    }

    /// One of its keys was replaced, if that was not known before: it has so long.
    pub(crate) fn run_out(&mut self, now: Time) {
        self.ends.get_or_insert(now + SESSION_MAX);
    }

    /// Whether it ran out.
    pub(crate) fn has_ended(&self, now: Time) -> bool {
        self.ends.is_some_and(|ends| now >= ends || !self.session.ready())
    }

    /// What makes it better than others of the same lanes.
    pub(crate) fn merit(&self) -> Merit {
        Merit { usable: self.is_usable(), newness: newness(self.standing), mark: self.keys.0.0.max(self.keys.1.0) }
    }
}

/// An order of pairs of the same two lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Merit {
    usable: bool,
    newness: u8,
    /// Of equals, both ends choose the same, so that each sends where it hears the other.
    mark: [u8; 32],
}

fn newness((own, remote): (Standing, Standing)) -> u8 {
    own as u8 + remote as u8
}

/// Whether this end should begin a handshake for keys that stand so, given the best of the same lanes that is usable.
pub(crate) fn is_wanted(standing: (Standing, Standing), best: Option<(Standing, Standing)>) -> bool {
    if standing.0 == Standing::Old || standing.1 == Standing::Old {
        return false;
    }
    let Some(best) = best else { return true };
    // Of our next key the peer may not know yet; it begins as soon as it does.
    let premature = standing.0 == Standing::Next && standing.1 == Standing::Current;
    !premature && newness(standing) >= newness(best)
}

#[cfg(test)]
mod tests {
    use super::Standing::{Current, Next, Old};
    use super::*;

    #[test]
    fn packets_go_by_the_newest_keys_that_can_carry_them() {
        let merit = |usable, standing| Merit { usable, newness: newness(standing), mark: [0; 32] };
        assert!(merit(true, (Old, Current)) > merit(false, (Next, Next)));
        assert!(merit(true, (Current, Next)) > merit(true, (Current, Current)));
        assert!(merit(true, (Next, Next)) > merit(true, (Next, Current)));
        assert!(merit(true, (Current, Current)) > merit(true, (Current, Old)));
        let (ours, theirs) = (merit(true, (Next, Current)), merit(true, (Current, Next)));
        let by = |mark, merit| Merit { mark: [mark; 32], ..merit };
        assert!(by(7, ours) > by(3, theirs) && by(7, theirs) > by(3, ours), "whichever way round they are");
    }

    #[test]
    fn handshakes_are_begun_for_keys_that_the_peer_knows_and_that_are_not_superseded() {
        let one = Some((Current, Current));
        assert!(is_wanted((Current, Current), None) && is_wanted((Next, Current), None), "all, where nothing works");
        assert!(is_wanted((Current, Current), one), "it is renewed in time");
        assert!(is_wanted((Current, Next), one), "the peer's next key");
        assert!(!is_wanted((Next, Current), one), "the peer begins");
        assert!(is_wanted((Next, Next), one), "either end begins");
        assert!(!is_wanted((Current, Current), Some((Current, Next))), "superseded");
        assert!(is_wanted((Current, Next), Some((Current, Next))), "renewed while it is in use");
        assert!(!is_wanted((Old, Current), None) && !is_wanted((Current, Old), None), "by no replaced key, ever");
    }
}
