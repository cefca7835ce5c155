//! The paths' MTUs: what the set is told about them and which probes it wants sent.

use hawser_liveness::Time;

use super::PathSet;
use crate::forwarding::PathIndex;
use crate::paths::event::PathEvent;
use crate::pmtu::Search;
use crate::probe::{Kind, Probe};

impl PathSet {
    /// The first link of a path takes inner packets of `max` bytes. Until told so, a path carries [`crate::pmtu::BASE`] and
    /// nothing larger is tried.
    pub fn set_max_mtu(&mut self, path: PathIndex, max: u16, now: Time) {
        if self.slot(path).is_some_and(|slot| slot.size.max() != max) {
            self.resize(path, |size| size.set_max(max, now));
            self.rearm(path);
        }
    }

    /// A packet larger than [`crate::pmtu::BASE`] went out by a path: its MTU is kept under watch.
    #[inline]
    pub fn handle_large(&mut self, path: PathIndex) {
        let Some(slot) = self.slot_mut(path) else { return };
        let before = slot.size.poll_timeout();
        slot.size.handle_large();
        if slot.size.poll_timeout() != before {
            self.rearm(path);
        }
    }

    /// Something suggests that a path's MTU is smaller now: an ICMP error, what a sibling lane found.
    pub fn handle_mtu_hint(&mut self, path: PathIndex, now: Time) {
        self.resize(path, |size| size.handle_hint(now));
        self.rearm(path);
    }

    /// The largest inner packet that a path takes, bytes, as far as this lane found.
    #[must_use]
    pub fn mtu(&self, path: PathIndex) -> Option<u16> {
        self.slot(path).map(|slot| slot.size.mtu())
    }

    /// A padded probe to send now, the path to send it by and the size to send it at. To be asked after
    /// [`Self::handle_timeout`], as [`Self::poll_probe`] is.
    pub fn poll_size_probe(&mut self, now: Time) -> Option<(PathIndex, Probe, u16)> {
        while let Some(path) = self.sizing.pop_front() {
            let (draining, healthy, liveness) = (self.draining, self.healthy, self.cfg.liveness);
            let Some(slot) = self.slot_mut(path) else { continue };
            slot.sizing = false;
            let evidence = slot.evidence(&liveness, now);
            let probe = slot.size.poll_probe(now, evidence).map(|(seq, size)| {
                let (kind, rx_packets) = (Kind::SizeAsk, slot.counts.rx_packets);
                (path, Probe { kind, seq, sent: now, echo: 0, draining, healthy, rx_packets }, size)
            });
            self.rearm(path);
            if probe.is_some() {
                return probe;
            }
        }
        None
    }

    /// Judges the size under trial, and has its next probe asked for.
    pub(super) fn judge_size(&mut self, path: PathIndex, now: Time) {
        let liveness = self.cfg.liveness;
        let due = |slot: &&mut crate::paths::slot::Slot| slot.size.poll_timeout().is_some_and(|at| at <= now);
        let Some(slot) = self.slot_mut(path).filter(due) else { return };
        let evidence = slot.evidence(&liveness, now);
        self.resize(path, |size| size.handle_timeout(now, evidence));
        if let Some(slot) = self.slot_mut(path)
            && !std::mem::replace(&mut slot.sizing, true)
        {
            self.sizing.push_back(path);
        }
    }

    /// Tells a path's search something, and everybody what came of it.
    pub(super) fn resize(&mut self, path: PathIndex, f: impl FnOnce(&mut Search)) {
        let Some(slot) = self.slot_mut(path) else { return };
        let from = slot.size.mtu();
        f(&mut slot.size);
        let to = slot.size.mtu();
        if from != to {
            let (cluster, gateway) = (slot.info.cluster.clone(), slot.info.gateway.clone());
            self.emit(PathEvent::Mtu { path, cluster, gateway, from, to });
        }
    }
}
