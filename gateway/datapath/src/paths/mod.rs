//! All paths of one lane: their life, and the forwarding snapshot, cluster states and report that follow from it.
//!
//! Every lane has a set of its own and drives it in its own loop, so that a verdict moves the lane's flows in its next
//! batch. Lane `j` of `L` sends to lane `j mod L'` of a gateway with `L'` lanes ([`lane_pairs`]); the set watches that pair.
//! Lanes tell each other two things only: suspicions ([`PathEvent::Hint`]), and the states of plain WireGuard peers, which lane 0 alone has a session with ([`PathSet::handle_mirror`]).
//!
//! - [`set`]: the set, driven by `handle_*` and `poll_*`.
//! - [`layout`]: what another configuration makes of it, worked out beforehand; `places` finds what stays.
//! - [`event`]: what it reports as it happens.
//! - [`report`]: what it reports when asked.
//! - [`clock`]: when the lane's loop drives it, and does what else is due.
//! - `slot`: one path; its MTU is [`crate::pmtu`]'s. `timers`: deadlines. `budget`: how many probes are sent.

mod budget;
pub mod clock;
pub mod event;
pub mod layout;
pub(crate) mod places;
pub mod report;
pub mod set;
mod slot;
mod timers;

pub use clock::{Clock, Job};
pub use event::PathEvent;
pub use layout::{Exchanged, LanePaths, Layout, Leftovers};
pub use report::{ClusterRow, PathRow};
pub use set::{PathConfig, PathSet};
pub use slot::PathInfo;

/// The pairs of lanes (local, remote) between a gateway with `local` and one with `remote` lanes, each in use in at least
/// one direction: both ends derive the same. Pair (0, 0) is always the first.
pub fn lane_pairs(local: u8, remote: u8) -> impl Iterator<Item = (u8, u8)> {
    let (local, remote) = (local.max(1), remote.max(1));
    (0..local.max(remote)).map(move |k| (k % local, k % remote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_derive_the_same_pairs_and_every_lane_can_send() {
        for local in 1..=8 {
            for remote in 1..=8 {
                let mut here: Vec<_> = lane_pairs(local, remote).collect();
                let mut there: Vec<_> = lane_pairs(remote, local).map(|(a, b)| (b, a)).collect();
                assert_eq!(here.first(), Some(&(0, 0)));
                for lane in 0..local {
                    assert!(here.contains(&(lane, lane % remote)), "{local}:{remote} lane {lane}");
                }
                here.sort_unstable();
                there.sort_unstable();
                assert_eq!(here, there);
            }
        }
    }
}
