//! Why packets are dropped, counted.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a packet or datagram was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason {
            $($(#[$doc])* $name,)*
        }

        impl DropReason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As metrics and reports write it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

drop_reasons! {
    /// From the TUN: not a whole IP packet.
    EgressMalformed = "egress_malformed",
    /// From the TUN: the source is not this cluster's.
    EgressSource = "egress_source",
    /// From the TUN: the destination is no remote cluster's.
    EgressDestination = "egress_destination",
    /// From the TUN: an address that never leaves a host or link.
    EgressForbidden = "egress_forbidden",
    /// From the TUN: the destination's cluster has no usable path.
    NoPath = "no_path",
    /// From the TUN: the path has no session yet.
    NoSession = "no_session",
    /// From the TUN: larger than the path takes.
    TooBig = "too_big",
    /// From the TUN: the queue to another lane is full.
    QueueFull = "queue_full",
    /// To the network: the socket did not take it.
    SendFailed = "send_failed",
    /// From a peer: not a whole IP packet.
    IngressMalformed = "ingress_malformed",
    /// From a peer: the source is not that peer's.
    IngressSource = "ingress_source",
    /// From a peer: the destination is not this cluster's.
    IngressDestination = "ingress_destination",
    /// From a peer: an address that never leaves a host or link.
    IngressForbidden = "ingress_forbidden",
    /// From a peer: the destination is this gateway's host.
    IngressHost = "ingress_host",
    /// From a peer: a probe that is malformed or not for this lane.
    BadProbe = "bad_probe",
    /// From the network: the socket's receive queue was full. Of what came together, one is counted.
    ReceiveQueueFull = "receive_queue_full",
    /// From a peer that keeps the queue of all long.
    QueueLong = "queue_long",
    /// From the network: a handshake message whose sender was sent a cookie to come back with.
    CookieSent = "cookie_sent",
    /// From the network: a handshake message more than its sender, or all of them, may send.
    HandshakeLimit = "handshake_limit",
    /// From the network: not a WireGuard message, or for no session of ours.
    NotOurs = "not_ours",
    /// From the network: a WireGuard message that does not authenticate, or a repeated one.
    NotAuthentic = "not_authentic",
    /// To the TUN: it did not take the packet.
    TunFailed = "tun_failed",
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const REASONS: usize = DropReason::ALL.len();

/// One lane's drops: written by that lane alone, read by any thread.
#[derive(Debug, Default)]
pub struct Counters {
    drops: [AtomicU64; REASONS],
}

impl Counters {
    /// Counts one drop. Only the lane that owns the counters may call it: it is no atomic addition, which would cost a
    /// locked instruction per packet.
    #[inline]
    pub fn dropped(&self, reason: DropReason) {
        self.dropped_many(reason, 1);
    }

    /// Counts `n` drops, as [`Self::dropped`] does.
    #[inline]
    pub fn dropped_many(&self, reason: DropReason, n: u64) {
        let counter = &self.drops[reason as usize];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// How many were dropped for this reason.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].load(Ordering::Relaxed)
    }

    /// All reasons and their counts, zeros too.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.iter().map(|&reason| (reason, self.get(reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_name() {
        let counters = Counters::default();
        counters.dropped(DropReason::NoPath);
        counters.dropped_many(DropReason::TunFailed, 5);
        let counted: Vec<_> = counters.iter().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, [(DropReason::NoPath, 1), (DropReason::TunFailed, 5)]);
        let names: std::collections::BTreeSet<_> = DropReason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), REASONS);
    }
}
