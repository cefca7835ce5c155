//! Deadlines and transitions: what makes a path suspect, down, held and up.

use std::time::Duration;

use super::{Alarm, Base, MAX_EVENTS, Path};
use crate::window::{Proof, SLOTS};
use crate::{Event, Mode, Pace, Reason, State, Time};

impl Path {
    pub(super) fn may_probe(&self) -> bool {
        self.session && self.cfg.mode != Mode::SessionOnly
    }

    /// When the probe after one that was sent at `last` is due.
    pub(super) fn probe_after(&self, last: Time) -> Time {
        match (self.alarm, self.pace) {
            (Some(_), _) => last + self.suspect_interval(),
            (None, Pace::Normal) => last + self.cfg.interval,
            (None, Pace::Idle) => (last + self.cfg.idle_interval).rounded_up(self.cfg.idle_grain),
        }
    }

    pub(super) fn miss_after(&self) -> Duration {
        self.rtt.expected().map_or(self.cfg.min_miss, |rtt| (rtt * 2).max(self.cfg.min_miss))
    }

    /// Between probes of a suspect: at most half of those remembered are ever under way.
    fn suspect_interval(&self) -> Duration {
        self.cfg.suspect_interval.max(self.miss_after() / (SLOTS as u32 / 2))
    }

    pub(super) fn is_alive(&self) -> bool {
        matches!(self.base, Base::Up | Base::Held(_))
    }

    /// When the oldest probe since the last proof is overdue.
    pub(super) fn miss_at(&self) -> Option<Time> {
        if !self.is_alive() || self.alarm.is_some() {
            return None;
        }
        self.window.unanswered(0).map(|sent| sent.max(self.blind_until) + self.miss_after())
    }

    /// When a suspect is down, as far as the probes sent so far go.
    pub(super) fn verdict_at(&self) -> Option<Time> {
        let alarm = self.alarm?;
        let oldest = self.window.unanswered(0)?;
        let last_needed = self.window.unanswered(alarm.needed - 1)?;
        let proof = self.last_proof.unwrap_or(self.alive_since);
        // At the idle pace nothing is sent for long: that is not the path's silence.
        let silent_from = proof.max(oldest.before(self.cfg.interval));
        Some((silent_from + self.cfg.silence).max(last_needed.max(self.blind_until) + self.miss_after()))
    }

    /// When a sibling's refusal is a verdict here, too: a suspect's probe sent since then is overdue, nothing was proven.
    pub(super) fn refused_at(&self) -> Option<Time> {
        let at = self.sibling_refusal.filter(|_| self.is_alive() && self.alarm.is_some() && self.may_probe())?;
        let proven = self.last_proof.is_some_and(|proof| proof >= at);
        let asked = self.window.unanswered_since(at).filter(|_| !proven)?;
        // A suspect is probed that soon, unless the probe was postponed.
        let soon = at.max(self.blind_until) + self.suspect_interval();
        Some(soon.max(asked) + self.miss_after())
    }

    pub(super) fn hold_over_at(&self) -> Option<Time> {
        match (self.base, self.alarm) {
            (Base::Held(until), None) => Some(until),
            _ => None,
        }
    }

    /// When a change of the peer's drain is taken in that came too soon after another.
    pub(super) fn drain_at(&self) -> Option<Time> {
        (self.peer_says_draining != self.peer_draining).then_some(self.next_drain)
    }

    pub(super) fn take_drain(&mut self, now: Time) {
        if self.drain_at().is_some_and(|at| at <= now) {
            self.peer_draining = self.peer_says_draining;
            self.next_drain = now + self.cfg.drain_apart;
            self.emit(Event::PeerDraining(self.peer_draining));
        }
    }

    /// Probes soon, but no faster than a suspect.
    pub(super) fn hurry(&mut self, now: Time) {
        let earliest = self.last_probe.map_or(now, |last| now.max(last + self.suspect_interval()));
        self.next_probe = self.next_probe.min(earliest);
    }

    /// Both directions work.
    pub(super) fn prove(&mut self, proof: Proof, now: Time) {
        self.last_proof = self.last_proof.max(Some(now));
        // Whoever answers what was sent after a refusal is there again.
        self.last_refusal.take_if(|(_, at)| *at < proof.sent);
        self.sibling_refusal.take_if(|at| *at < proof.sent);
        // What a hint is about came after probes that were already on their way.
        let disproven = |a: Alarm| a.reason != Reason::Hint || proof.sent >= a.since;
        let cleared = self.alarm.is_some_and(disproven);
        if cleared {
            self.alarm = None;
            if self.base == Base::Up {
                self.show(Reason::Answered, now);
            }
        }
        if cleared || !self.is_alive() {
            self.next_probe = self.last_probe.map_or(now, |last| self.probe_after(last));
        }
        match self.base {
            Base::Unknown => {
                self.alive_since = now;
                self.become_base(Base::Up, Reason::Answered, now);
            }
            Base::Down => {
                self.alive_since = now;
                self.become_base(Base::Held(now + self.next_hold), Reason::HoldDown, now);
            }
            Base::Up | Base::Held(_) => {}
        }
    }

    /// Suspects the path and probes it at once.
    pub(super) fn raise(&mut self, reason: Reason, now: Time) {
        if let Some(alarm) = &mut self.alarm {
            if reason == Reason::Hint {
                alarm.reason = reason;
            }
            return;
        }
        let loss = self.window.unproven(self.alive_since, now, self.miss_after()).unwrap_or(0.0);
        self.alarm = Some(Alarm { since: now, reason, needed: self.cfg.unanswered_for(loss).max(1) });
        self.next_probe = self.next_probe.min(now);
        if self.base == Base::Up {
            self.show(reason, now);
        }
    }

    pub(super) fn fall(&mut self, reason: Reason, now: Time) {
        // Nobody was let down by a path in hold-down: it begins its hold-down again, no longer one.
        if self.base == Base::Up {
            self.next_hold = self.hold.fail(&self.cfg, self.alive_since, now);
        }
        self.window.forgive();
        self.become_base(Base::Down, reason, now);
    }

    pub(super) fn become_base(&mut self, base: Base, reason: Reason, now: Time) {
        self.base = base;
        self.alarm = None;
        self.show(reason, now);
    }

    pub(super) fn show(&mut self, reason: Reason, now: Time) {
        let to = match (self.base, self.alarm) {
            (Base::Unknown, _) => State::Unknown,
            (Base::Up, None) => State::Up,
            (Base::Up, Some(_)) => State::Suspect,
            (Base::Held(_), _) => State::Held,
            (Base::Down, _) => State::Down,
        };
        self.reason = reason;
        if to != self.shown {
            let from = std::mem::replace(&mut self.shown, to);
            self.shown_since = now;
            self.emit(Event::State { from, to, reason, at: now, last_proof: self.last_proof });
        }
    }

    pub(super) fn emit(&mut self, event: Event) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}
