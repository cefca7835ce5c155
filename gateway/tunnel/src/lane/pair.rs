//! One session with one remote lane, and the choice between several of the same two lanes.
//!
//! While keys are replaced at either end, two lanes have up to four sessions, one for each pair of keys. Both ends take
//! packets by all of them and send by the one of the newest keys that can carry packets; so it is each end's own and
//! unannounced decision when it moves to the next key.

use std::net::{Ipv6Addr, SocketAddr};

use hawser_datapath::{PathIndex, probe};
use hawser_liveness::Time;
use hawser_model::PublicKey;

use super::attempts::Attempts;
use super::sent::Sent;
use crate::session::{Identity, Session as _, WireGuard};

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
    pub(crate) session: WireGuard,
    /// Where the peer was last heard from, by authenticated data.
    pub(crate) endpoint: Option<SocketAddr>,
    /// Its UDP port at every candidate address.
    pub(crate) port: u16,
    pub(crate) attempts: Attempts,
    pub(crate) sent: Sent,
    /// One of its keys was replaced: it ends with its session, or then.
    pub(crate) ends: Option<Time>,
}

/// What a new pair is made from.
pub(crate) struct Origin<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) remote: PublicKey,
    pub(crate) remote_lane: usize,
    pub(crate) slot: u32,
    pub(crate) keepalive: Option<u16>,
}

impl Pair {
    pub(crate) fn new(origin: &Origin<'_>, now: Time) -> Self {
        let &Origin { identity, remote, remote_lane, slot, keepalive } = origin;
        let own = identity.key();
        Self {
            path: 0,
            spec: 0,
            remote_lane,
            keys: (own, remote),
            standing: (Standing::Current, Standing::Current),
            addresses: (probe::address(&own), probe::address(&remote)),
            sends: false,
            slot,
            session: WireGuard::new(identity, remote, slot, keepalive),
            endpoint: None,
            port: 0,
            attempts: Attempts::new(now, remote.0[0]),
            sent: Sent::default(),
            ends: None,
        }
    }

    /// Whether packets can be sent by it.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        self.session.ready() && self.endpoint.is_some()
    }

    /// What makes it better than others of the same lanes.
    pub(crate) fn merit(&self) -> Merit {
        Merit { usable: self.is_usable(), newness: newness(self.standing) }
    }
}

/// An order of pairs of the same two lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Merit {
    usable: bool,
    newness: u8,
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
        let merit = |usable, standing| Merit { usable, newness: newness(standing) };
        assert!(merit(true, (Old, Current)) > merit(false, (Next, Next)));
        assert!(merit(true, (Current, Next)) > merit(true, (Current, Current)));
        assert!(merit(true, (Next, Next)) > merit(true, (Next, Current)));
        assert!(merit(true, (Current, Current)) > merit(true, (Current, Old)));
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
