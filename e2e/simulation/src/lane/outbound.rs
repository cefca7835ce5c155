//! TUN to underlay: which path, then seal and send.

use hawser_datapath::{Packet, PathIndex, Route};
use hawser_liveness::{State, Time};

use super::inbound::quotable;
use super::{Around, Lane, Link};
use crate::topology::{HostId, Topology};
use crate::underlay::{Datagram, Inner};

/// What was sent is remembered for so many messages.
const SENT: usize = 64;

impl Lane {
    pub(super) fn outbound(&mut self, packet: Box<[u8]>, around: &mut Around<'_>) {
        let now = around.now;
        let Ok(parsed) = Packet::parse(&packet) else {
            around.fx.refused[1] += 1;
            return;
        };
        if self.policy.egress(&parsed).is_err() {
            around.fx.refused[1] += 1;
            return;
        }
        match self.paths.forwarding(now).route(parsed.dst(), parsed.flow_hash(0)) {
            Route::Path { path, cluster } => {
                self.check_choice(Some(path), cluster, &parsed, around);
                self.send(path, packet, around);
            }
            Route::NoPath { cluster } => {
                self.check_choice(None, cluster, &parsed, around);
                self.no_path(cluster, packet, around);
            }
            Route::NotRemote => around.fx.refused[1] += 1,
        }
    }

    fn send(&mut self, path: PathIndex, packet: Box<[u8]>, around: &mut Around<'_>) {
        let Some(link) = self.links.get(usize::from(path)).copied().flatten() else { return };
        match self.ready_sender(path) {
            Some(sender) => self.send_by(path, sender, link.to, packet, around),
            None => {
                let helper = around.board.notes.get(&link.to).and_then(|n| n.helper(self.index, Time::START));
                around.fx.handed.extend(helper.map(|lane| (lane, link.to, packet)));
            }
        }
    }

    fn send_by(&mut self, path: PathIndex, sender: usize, to: HostId, packet: Box<[u8]>, around: &mut Around<'_>) {
        let len = packet.len() as u64;
        self.seal(sender, Inner::Packet(packet), around);
        around.fx.sent.push(to);
        self.paths.handle_sent(path, 1, len, around.now);
    }

    /// This lane has no path to a cluster: another may have one.
    fn no_path(&mut self, cluster: u16, packet: Box<[u8]>, around: &mut Around<'_>) {
        let now = around.now;
        let helper = (0..).zip(&self.links).find_map(|(path, link)| {
            let link = (*link)?;
            self.paths.info_of(path).filter(|info| info.cluster_index == cluster)?;
            let fell = match self.paths.state(path) {
                Some(State::Down) => self.paths.since(path).unwrap_or(now),
                _ => Time::START,
            };
            Some((around.board.notes.get(&link.to)?.helper(self.index, fell)?, link.to))
        });
        match helper {
            Some((lane, to)) => around.fx.handed.push((lane, to, packet)),
            None => {
                let id = self.paths.paths().find(|(_, i)| i.cluster_index == cluster).map(|(_, i)| &i.cluster);
                around.fx.stranded.extend(id.map(Topology::cluster_of));
            }
        }
    }

    /// Sends what another lane left here.
    pub(super) fn handed_over(&mut self, to: HostId, packet: Box<[u8]>, around: &mut Around<'_>) {
        let path = (0..).zip(&self.links).find(|(_, link)| link.is_some_and(|l| l.to == to)).map(|(path, _)| path);
        if let Some((path, sender)) = path.and_then(|path| Some((path, self.ready_sender(path)?))) {
            self.send_by(path, sender, to, packet, around);
        }
    }

    /// Seals into a session and sends to where its peer was last heard.
    pub(super) fn seal(&mut self, pair: usize, inner: Inner, around: &mut Around<'_>) {
        let pair = &mut self.pairs[pair];
        let (Some(to), Some((keys, counter))) = (pair.endpoint, pair.session.seal()) else { return };
        if pair.sent.len() == SENT {
            pair.sent.pop_front();
        }
        pair.sent.push_back((quotable(keys, counter), around.now));
        around.fx.datagrams.push((to, Datagram::Data { keys, counter, inner }));
    }

    /// The rule of selection, from the paths' states alone: the nearest live ones first where some are nearest, then a
    /// live path before a draining one before one in hold-down, and none only where there is none.
    fn check_choice(&self, chosen: Option<PathIndex>, cluster: u16, packet: &Packet<'_>, around: &mut Around<'_>) {
        let of = |path: PathIndex| self.paths.info_of(path).is_some_and(|info| info.cluster_index == cluster);
        let ranks = |draining: &dyn Fn(PathIndex, &Link) -> bool| {
            let (mut best, mut taken) = (4, 4);
            for (path, link) in (0..).zip(&self.links).filter_map(|(path, link)| Some((path, link.as_ref()?))) {
                let near = around.topology.is_nearest(link.to, packet.dst());
                let rank = match (self.paths.state(path), draining(path, link)) {
                    _ if !of(path) => continue,
                    (Some(State::Up | State::Suspect), false) if near => 0,
                    (Some(State::Up | State::Suspect), false) => 1,
                    (Some(State::Up | State::Suspect), true) => 2,
                    (Some(State::Held), _) => 3,
                    _ => 4,
                };
                best = best.min(rank);
                if chosen == Some(path) {
                    taken = rank;
                }
            }
            (taken, best)
        };
        let (taken, best) = ranks(&|_, link| link.draining);
        if taken == best {
            return;
        }
        // The last drain may have come with this turn's packets.
        let row = |path| self.paths.path_row(path, around.now);
        let (taken, best) = ranks(&|path, _| row(path).is_some_and(|row| row.draining));
        if taken != best {
            let states: Vec<_> = self.path_states().collect();
            around.fx.violation = Some(format!(
                "a packet to {} took path {chosen:?} of rank {taken}, {best} was to be had: {states:?}",
                packet.dst()
            ));
        }
    }

    /// Sends a packet to a peer past all checks of this end: what a hostile gateway could do.
    pub(crate) fn smuggle(&mut self, to: HostId, packet: Box<[u8]>, around: &mut Around<'_>) {
        let pair = self.links.iter().flatten().find(|link| link.to == to).map(|link| link.sender);
        if let Some(pair) = pair {
            self.seal(pair, Inner::Packet(packet), around);
        }
    }
}
