//! Lanes' loops in virtual time: when one turns, and what follows from its turn.

use std::time::Duration;

use hawser_liveness::Time;

use super::{Event, Machine, World};
use crate::lane::{Around, Effects};
use crate::topology::HostId;
use crate::underlay::{Addr, Datagram};

impl World {
    /// A datagram is at a host's door.
    pub(super) fn arrive(&mut self, from: Addr, to: Addr, datagram: Datagram) {
        let (host, now) = (usize::from(to.host), self.now);
        if !self.underlay.is_current(to) {
            return;
        }
        let Some(process) = &mut self.machines[host].process else {
            if let Datagram::Data { keys, counter, .. } = datagram {
                let quoted = crate::lane::quotable(keys, counter);
                self.send(host, self.underlay.address(host, to.port), from, Datagram::Unreachable { to, quoted });
            }
            return;
        };
        if let Some(lane) = process.lanes.get_mut(usize::from(to.port)) {
            lane.receive(now, from, datagram);
            self.turn(host, to.port);
        }
    }

    pub(super) fn send(&mut self, host: HostId, from: Addr, to: Addr, datagram: Datagram) {
        self.summary.datagrams += 1;
        let [first, second] = self.underlay.carry(host, to, &mut self.dice);
        if let Some(late) = second {
            self.after(late, Event::Arrive { from, to, datagram: datagram.clone() });
        }
        if let Some(late) = first {
            self.after(late, Event::Arrive { from, to, datagram });
        }
    }

    pub(super) fn wake(&mut self, host: HostId, lane: u8) {
        let now = self.now;
        let Some(process) = &mut self.machines[host].process else { return };
        let Some(woken) = process.lanes.get_mut(usize::from(lane)) else { return };
        // Another wake-up took this one's place.
        if woken.wakes_at == Some(now) {
            woken.wakes_at = None;
            self.turn(host, lane);
        }
    }

    /// One turn of a lane's loop, or none while it is stalled; then what follows from it.
    pub(super) fn turn(&mut self, host: HostId, lane: u8) {
        let now = self.now;
        let Machine { process: Some(process), sluggish, .. } = &mut self.machines[host] else { return };
        let (index, count) = (usize::from(lane), process.lanes.len());
        let turning = &mut process.lanes[index];
        if turning.stalled_until > now {
            let until = turning.stalled_until;
            return self.wake_at(host, lane, until);
        }
        if !sluggish.is_zero() {
            turning.stalled_until = now + sluggish.mul_f64(self.dice.share());
        }
        let epoch = process.board.epoch;
        let mut fx = std::mem::take(&mut self.fx);
        turning.turn(&mut Around {
            now,
            host,
            topology: &self.topology,
            board: &mut process.board,
            candidates: &self.candidates,
            fx: &mut fx,
        });
        let next = turning.due().max(now + Duration::from_nanos(1));
        let news = process.board.epoch != epoch;
        self.wake_at(host, lane, next);
        self.follow(host, lane, &mut fx);
        self.fx = fx;
        for other in (0..count).filter(|other| news && *other != index) {
            self.wake_at(host, other as u8, now + Duration::from_nanos(1));
        }
    }

    pub(super) fn wake_at(&mut self, host: HostId, lane: u8, at: Time) {
        let Some(process) = &mut self.machines[host].process else { return };
        let lane_at = &mut process.lanes[usize::from(lane)].wakes_at;
        if lane_at.is_none_or(|pending| at < pending) {
            *lane_at = Some(at);
            self.at(at, Event::Wake { host, lane });
        }
    }

    /// Makes what a turn did happen.
    pub(super) fn follow(&mut self, host: HostId, lane: u8, fx: &mut Effects) {
        if let Some(violation) = fx.violation.take() {
            self.fail(&format!("g{host} lane {lane}: {violation}"));
        }
        let from = self.underlay.address(host, lane);
        for (to, datagram) in fx.datagrams.drain(..) {
            self.send(host, from, to, datagram);
        }
        if std::mem::take(&mut fx.published) {
            self.speak_up(host);
        }
        for event in fx.events.drain(..) {
            self.path_event(host, lane, &event);
        }
        for to in fx.sent.drain(..) {
            self.check_sent(host, lane, to);
        }
        for (from, packet) in fx.delivered.drain(..) {
            self.check_delivered(from, host, &packet);
        }
        for cluster in fx.stranded.drain(..) {
            self.summary.stranded += 1;
            self.watch.talked(host, lane, cluster, self.now);
        }
        for (refused, new) in self.summary.refused.iter_mut().zip(std::mem::take(&mut fx.refused)) {
            *refused += new;
        }
        for (other, to, packet) in fx.handed.drain(..) {
            if let Some(process) = &mut self.machines[host].process {
                process.lanes[usize::from(other)].hand_over(to, packet);
                self.wake_at(host, other, self.now + Duration::from_nanos(1));
            }
        }
    }
}
