//! Underlay to TUN: whose datagram, open, check, deliver. Also what ICMP says about what was sent.

use std::time::Duration;

use hawser_datapath::probe::{self, Probe};
use hawser_datapath::{Packet, mss};
use hawser_liveness::Time;

use super::{Around, Lane};
use crate::underlay::{Addr, Datagram, Inner};

/// The largest inner packet.
const MTU: u16 = 1420;
/// How long what was sent is remembered for ICMP errors that quote it.
const QUOTED_WITHIN: Duration = Duration::from_millis(200);

/// What an ICMP error may quote of a data message.
pub(crate) fn quotable(keys: u64, counter: u64) -> u64 {
    keys << 32 ^ counter
}

impl Lane {
    /// A datagram that arrived at `at`, which may be a while ago.
    pub(super) fn received(&mut self, at: Time, from: Addr, datagram: Datagram, around: &mut Around<'_>) {
        match datagram {
            Datagram::Initiation { from: sender, stamp } => self.initiation(sender, stamp, from, around),
            Datagram::Response { stamp, keys } => self.response(stamp, keys, from, around),
            Datagram::Data { keys, counter, inner } => self.data((keys, counter), inner, from, at, around),
            Datagram::Unreachable { to, quoted } => self.unreachable(to, quoted, around),
        }
    }

    fn initiation(&mut self, sender: (usize, u8), stamp: u64, from: Addr, around: &mut Around<'_>) {
        let Some(pair) = self.pairs.iter_mut().find(|p| p.remote == sender) else { return };
        let keys = around.fx.fresh();
        if pair.session.answer(stamp, keys, around.now) {
            around.fx.datagrams.push((from, Datagram::Response { stamp, keys }));
        }
    }

    fn response(&mut self, stamp: u64, keys: u64, from: Addr, around: &mut Around<'_>) {
        let now = around.now;
        for index in 0..self.pairs.len() {
            let pair = &mut self.pairs[index];
            let was_ready = pair.session.ready();
            if (usize::from(from.host), from.port) != pair.remote || !pair.session.answered(stamp, keys, now) {
                continue;
            }
            pair.endpoint = Some(from);
            pair.newest = pair.newest.max((keys, 0));
            pair.attempts.succeeded();
            if let Some((keys, counter)) = pair.session.seal() {
                around.fx.datagrams.push((from, Datagram::Data { keys, counter, inner: Inner::Keepalive }));
            }
            if !was_ready {
                self.established(index, now);
            }
            return;
        }
    }

    fn data(&mut self, seal: (u64, u64), inner: Inner, from: Addr, at: Time, around: &mut Around<'_>) {
        let now = around.now;
        // Who has the keys is who it is from, whatever its address.
        let opened = (0..self.pairs.len()).find_map(|index| {
            let session = &mut self.pairs[index].session;
            let was_ready = session.ready();
            session.open(seal.0, seal.1, now).then_some((index, was_ready))
        });
        let Some((index, was_ready)) = opened else { return };
        let pair = &mut self.pairs[index];
        // What was under way on another way when the peer moved does not call it back there.
        if seal > pair.newest {
            (pair.newest, pair.endpoint) = (seal, Some(from));
        }
        if !was_ready {
            self.established(index, now);
        }
        match inner {
            Inner::Keepalive => {}
            Inner::Probe(packet) => self.inner(index, packet.into(), at, around),
            Inner::Packet(packet) => self.inner(index, packet, at, around),
        }
    }

    fn inner(&mut self, index: usize, mut packet: Box<[u8]>, at: Time, around: &mut Around<'_>) {
        let pair = &self.pairs[index];
        if probe::is_probe(&packet) {
            if let Some(probe) = Probe::decode(&packet, pair.probe_address, self.probe_address) {
                self.probed(index, &probe, at, around);
            }
            return;
        }
        let Some(cluster) = self.paths.info_of(pair.path).map(|info| info.cluster_index) else { return };
        let passes = Packet::parse(&packet).is_ok_and(|p| self.policy.ingress(&p, cluster).is_ok());
        if !passes {
            around.fx.refused[0] += 1;
            return;
        }
        mss::clamp(&mut packet, MTU);
        self.paths.handle_received(pair.path, 1, packet.len() as u64, around.now);
        around.fx.delivered.push((pair.remote.0, packet));
    }

    fn unreachable(&mut self, to: Addr, quoted: u64, around: &mut Around<'_>) {
        let now = around.now;
        let pairs = self.pairs.iter().filter(|p| p.endpoint == Some(to) && p.sends);
        let told: Vec<_> = pairs
            .map(|p| (p, p.sent.iter().any(|(id, at)| *id == quoted && now.since(*at) <= QUOTED_WITHIN)))
            .map(|(p, ours)| (p.path, p.remote.0, ours))
            .collect();
        for (path, host, ours) in told {
            if ours {
                around.board.of(host).refuse(self.index, now);
            }
            self.paths.handle(path, now, |life| match ours {
                true => life.handle_port_unreachable(quoted, now),
                false => life.handle_hint(now),
            });
            self.clock.request();
        }
    }
}
