//! The state machine of one path: what it is told and what it wants done. `verdict` is what it makes of that.

mod verdict;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::hold::Hold;
use crate::rtt::Rtt;
use crate::window::Window;
use crate::{Config, Event, Mode, Pace, Reason, State, Time};

/// Events kept for a caller that does not poll; the oldest go first, [`Path::state`] always holds.
const MAX_EVENTS: usize = 32;

/// What a path is apart from being suspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Unknown,
    Up,
    /// In hold-down until then.
    Held(Time),
    Down,
}

/// A suspicion.
#[derive(Debug, Clone, Copy)]
struct Alarm {
    since: Time,
    reason: Reason,
    /// Overdue probes that make a verdict.
    needed: u32,
}

/// Measured figures of a path.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
    /// Its mean deviation.
    pub jitter: Option<Duration>,
    /// Share of the last 100 probes without an answer, 0 to 1.
    pub loss: Option<f64>,
    /// When the last authenticated packet of the peer arrived.
    pub last_heard: Option<Time>,
    /// When both directions were last proven.
    pub last_proof: Option<Time>,
    /// Probes sent since the start.
    pub probes_sent: u64,
}

/// One path's liveness.
///
/// Call `handle_*` when something happens, [`Self::handle_timeout`] when the time of [`Self::poll_timeout`] has come, and
/// after either [`Self::poll_probe`] and [`Self::poll_event`] until they return nothing. Arrival times may lie in the past
/// of other calls (a kernel's timestamps do); arrivals should be handled before timeouts of the same moment.
#[derive(Debug, Clone)]
pub struct Path {
    /// Thousands of paths have the same.
    cfg: Arc<Config>,
    pace: Pace,
    base: Base,
    /// When it last became up or held.
    alive_since: Time,
    alarm: Option<Alarm>,
    shown: State,
    shown_since: Time,
    reason: Reason,
    window: Window,
    rtt: Rtt,
    hold: Hold,
    next_hold: Duration,
    session: bool,
    last_heard: Option<Time>,
    last_proof: Option<Time>,
    last_probe: Option<Time>,
    next_probe: Time,
    /// Our own loop stood still until then: what arrived meanwhile is being read.
    blind_until: Time,
    last_refusal: Option<(u64, Time)>,
    sibling_refusal: Option<Time>,
    peer_seq: u64,
    /// As taken in, and as it says.
    peer_draining: bool,
    peer_says_draining: bool,
    /// A change of it is taken in no sooner.
    next_drain: Time,
    events: VecDeque<Event>,
}

impl Path {
    /// A path of which nothing is known, to be probed at once.
    #[must_use]
    pub fn new(cfg: impl Into<Arc<Config>>, now: Time) -> Self {
        let cfg = cfg.into();
        Self {
            pace: Pace::Normal,
            base: Base::Unknown,
            alive_since: now,
            alarm: None,
            shown: State::Unknown,
            shown_since: now,
            reason: Reason::Started,
            window: Window::new(cfg.first_seq.max(1)),
            rtt: Rtt::default(),
            hold: Hold::default(),
            next_hold: cfg.hold_min,
            session: cfg.mode == Mode::Probes,
            last_heard: None,
            last_proof: None,
            last_probe: None,
            next_probe: now,
            blind_until: now,
            last_refusal: None,
            sibling_refusal: None,
            peer_seq: 0,
            peer_draining: false,
            peer_says_draining: false,
            next_drain: Time::START,
            events: VecDeque::new(),
            cfg,
        }
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.shown
    }

    /// Since when it stands so.
    #[must_use]
    pub fn since(&self) -> Time {
        self.shown_since
    }

    /// Why it stands so.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// When both directions were last proven.
    #[must_use]
    pub fn last_proof(&self) -> Option<Time> {
        self.last_proof
    }

    /// Whether it was told of a session; without probes in a session, always.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.session
    }

    /// Whether the peer asked to be left alone.
    #[must_use]
    pub fn peer_draining(&self) -> bool {
        self.peer_draining
    }

    /// The number of the peer's last probe that arrived here, 0 for none: goes into every probe and answer.
    #[must_use]
    pub fn echo(&self) -> u64 {
        self.peer_seq
    }

    /// Its figures.
    #[must_use]
    pub fn stats(&self, now: Time) -> Stats {
        Stats {
            rtt: self.rtt.mean(),
            jitter: self.rtt.deviation(),
            loss: self.window.loss(now, self.miss_after()),
            last_heard: self.last_heard,
            last_proof: self.last_proof,
            probes_sent: self.window.sent_total(),
        }
    }

    /// Goes by the numbers of another path from the next probe on.
    pub fn share_config(&mut self, of: &Self) {
        self.cfg = Arc::clone(&of.cfg);
    }

    /// Sets how often it is probed while nothing is wrong.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
        if let Some(last) = self.last_probe {
            self.next_probe = self.next_probe.min(self.probe_after(last));
        }
    }

    /// The answer to our probe `seq` arrived at `now`.
    pub fn handle_probe_answer(&mut self, seq: u64, now: Time) {
        self.handle_authenticated(now);
        if let Some(proof) = self.window.answered(seq) {
            self.rtt.sample(now.since(proof.sent), now);
            self.prove(proof, now);
        }
    }

    /// A probe of the peer arrived at `now`: its number, and the last of ours that it says it got (0: none).
    pub fn handle_peer_probe(&mut self, seq: u64, echo: u64, now: Time) {
        self.peer_seq = seq;
        self.handle_echo(echo, now);
    }

    /// A packet of the peer that arrived at `now` says that it got our probe `echo` (0: none).
    pub fn handle_echo(&mut self, echo: u64, now: Time) {
        self.handle_authenticated(now);
        if let Some(proof) = self.window.heard(echo).filter(|p| p.new) {
            self.prove(proof, now);
        }
    }

    /// Any authenticated packet of the peer arrived at `now`: proves that direction only.
    pub fn handle_authenticated(&mut self, now: Time) {
        self.last_heard = self.last_heard.max(Some(now));
        if matches!(self.base, Base::Down | Base::Unknown) {
            self.hurry(now);
        }
    }

    /// The peer says whether it is draining. A change counts at once, one soon after it a little later: nobody has us do much
    /// by changing its mind.
    pub fn handle_drain(&mut self, draining: bool, now: Time) {
        self.peer_says_draining = draining;
        self.take_drain(now);
    }

    /// Something suggests trouble: an ICMP error, a link going down, a sibling lane's suspicion.
    pub fn handle_hint(&mut self, now: Time) {
        if matches!(self.base, Base::Up | Base::Held(_)) && self.cfg.mode != Mode::SessionOnly {
            self.raise(Reason::Hint, now);
        }
    }

    /// The peer's host refused our packet `ciphertext_id` (an ICMP port unreachable that quotes it, verified by the caller).
    pub fn handle_port_unreachable(&mut self, ciphertext_id: u64, now: Time) {
        let before = self.last_refusal.replace((ciphertext_id, now));
        let recent = |at: Time| now.since(at) <= self.cfg.refusal_window;
        let second = before.is_some_and(|(id, at)| id != ciphertext_id && recent(at));
        let second = second || self.sibling_refusal.is_some_and(recent);
        if second && matches!(self.base, Base::Up | Base::Held(_)) {
            self.fall(Reason::Refused, now);
        } else {
            self.handle_hint(now);
        }
    }

    /// Packets of another lane to the same process of the peer were refused at `at`. Hosts send few of these errors, so that a
    /// lane may see only one, or none: beside one of our own it is the second, beside overdue probes of a suspect the proof.
    pub fn handle_sibling_refusal(&mut self, at: Time, now: Time) {
        self.sibling_refusal = self.sibling_refusal.max(Some(at));
        let recent = |at: Time| now.since(at) <= self.cfg.refusal_window;
        let own = self.last_refusal.is_some_and(|(_, own)| recent(own));
        if own && recent(at) && matches!(self.base, Base::Up | Base::Held(_)) {
            self.fall(Reason::Refused, now);
        }
    }

    /// An authenticated word that the peer's process is gone: no further proof is needed.
    pub fn handle_gone(&mut self, now: Time) {
        if self.is_alive() {
            self.fall(Reason::Gone, now);
        }
    }

    /// The caller's own loop was late by `lag`. Beyond half an interval, no answer is overdue before one sent for at `now` is,
    /// as earlier ones may wait in a socket; silence goes on, as a verdict also needs the probes that the lag kept from being
    /// sent. Beyond [`Config::silence`] all begins anew: the machine itself may have stood still.
    pub fn handle_lag(&mut self, now: Time, lag: Duration) {
        if lag > self.cfg.interval / 2 {
            self.blind_until = now;
        }
        if lag > self.cfg.silence {
            self.window.forgive();
        }
    }

    /// A session came to be, or is gone.
    pub fn handle_session(&mut self, alive: bool, now: Time) {
        if self.session == alive || self.cfg.mode == Mode::Probes {
            return;
        }
        self.session = alive;
        match (alive, self.cfg.mode) {
            (true, Mode::SessionOnly) => {
                self.alive_since = now;
                self.become_base(Base::Up, Reason::Session, now);
            }
            (true, _) => self.hurry(now),
            (false, _) if matches!(self.base, Base::Up | Base::Held(_)) => self.fall(Reason::NoSession, now),
            (false, _) => {}
        }
    }

    /// Nothing else lives: ends a hold-down.
    pub fn release_hold(&mut self, now: Time) {
        if matches!(self.base, Base::Held(_)) {
            self.alive_since = now;
            self.become_base(Base::Up, Reason::Released, now);
        }
    }

    /// Judges what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.miss_at().is_some_and(|at| at <= now) {
            self.raise(Reason::AnswerMissed, now);
        }
        if self.refused_at().is_some_and(|at| at <= now) {
            self.fall(Reason::Refused, now);
        }
        if self.verdict_at().is_some_and(|at| at <= now) {
            let since = self.last_proof.unwrap_or(self.alive_since) + self.miss_after();
            let heard = self.last_heard.is_some_and(|at| at > since);
            self.fall(if heard { Reason::OneWay } else { Reason::Silent }, now);
        }
        if self.hold_over_at().is_some_and(|at| at <= now) {
            self.alive_since = now;
            self.become_base(Base::Up, Reason::HoldOver, now);
        }
        self.take_drain(now);
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_probe`] have something to do next, and what.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        [
            (self.may_probe().then_some(self.next_probe), "probe due"),
            (self.miss_at(), "answer overdue"),
            (self.refused_at(), "refusal verdict"),
            (self.verdict_at(), "silence verdict"),
            (self.hold_over_at(), "hold-down over"),
            (self.drain_at(), "drain changed"),
        ]
        .into_iter()
        .filter_map(|(at, why)| at.map(|at| (at, why)))
        .min_by_key(|(at, _)| *at)
    }

    /// Whether [`Self::poll_probe`] has a probe to send at `now`.
    #[must_use]
    pub fn probe_due(&self, now: Time) -> bool {
        self.may_probe() && self.next_probe <= now
    }

    /// The caller can't send the probe that is due before `until`. A verdict needs as many probes as ever.
    pub fn postpone_probe(&mut self, until: Time) {
        self.next_probe = self.next_probe.max(until);
    }

    /// The number of the probe to send at `now`, if one is due.
    pub fn poll_probe(&mut self, now: Time) -> Option<u64> {
        if !self.probe_due(now) {
            return None;
        }
        self.last_probe = Some(now);
        self.next_probe = self.probe_after(now);
        Some(self.window.send(now))
    }

    /// What happened since the last call, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            // Most paths have none for hours: no memory is kept for more.
            self.events = VecDeque::new();
        }
        event
    }
}
