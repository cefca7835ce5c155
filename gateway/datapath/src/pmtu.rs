//! The largest packet that one path takes, found and kept by probes of that size (RFC 8899).
//!
//! Sizes are inner packets' in bytes, tunnel headers not counted. A size is proven by one answer to a padded probe and
//! disproven by a run of unanswered ones while small probes pass. The liveness of the path, which tells how long a run must
//! be, is `hawser-liveness`'s; sending is the lane's. What an ICMP error or a socket says is a hint only.

use std::time::Duration;

use hawser_liveness::Time;
use hawser_model::defaults::WIREGUARD_OVERHEAD;

/// What every path is taken to carry: an outer packet of 1,280 bytes, IPv6's least MTU.
pub const BASE: u16 = 1280 - WIREGUARD_OVERHEAD;
/// Between confirmations of the size in use while packets above [`BASE`] are sent.
const CONFIRM: Duration = Duration::from_millis(100);
/// Between probes of a size whose first probe was not answered in time.
const RETRY: Duration = Duration::from_millis(20);
/// Until a larger size is tried again (RFC 8899, `PMTU_RAISE_TIMER`).
const RAISE: Duration = Duration::from_secs(600);
/// Precision of the search beside the common sizes.
const GRAIN: u16 = 8;
/// MTUs that links and tunnels commonly have, outer sizes.
const COMMON: [u16; 14] = [1280, 1320, 1340, 1360, 1380, 1400, 1420, 1440, 1450, 1460, 1472, 1492, 1500, 9000];

/// Where the search stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// The path is not in use; the last result stands.
    #[default]
    Idle,
    /// A larger size is being tried.
    Searching,
    /// The largest size is known, to the grain of the search.
    Found,
    /// Not even [`BASE`] passes.
    Failed,
}

impl Phase {
    /// As reports write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Searching => "Searching",
            Self::Found => "Found",
            Self::Failed => "Failed",
        }
    }
}

/// What the path's liveness knows, for a verdict about a size.
#[derive(Debug, Clone, Copy)]
pub struct Evidence {
    /// When both directions were last proven by small probes.
    pub last_proof: Option<Time>,
    /// An answer is overdue after this.
    pub miss_after: Duration,
    /// Probes in a row that must be overdue.
    pub needed: u32,
}

/// One size being tried.
#[derive(Debug, Clone, Copy)]
struct Trial {
    size: u16,
    /// Its probes have this number or a later one.
    first: u64,
    sent: u32,
    /// When it began, and when its last probe left.
    since: Time,
    last: Time,
    next: Time,
}

/// The search on one path.
#[derive(Debug, Clone)]
pub struct Search {
    /// In force.
    mtu: u16,
    /// Whether a probe of that size was answered.
    proven: bool,
    /// What the first link takes.
    max: u16,
    /// The smallest size that does not pass; `max + 1` where none is known.
    ceiling: u16,
    phase: Phase,
    trial: Option<Trial>,
    next_seq: u64,
    /// Packets above [`BASE`] were sent since the last proof.
    large: bool,
    last_proof: Time,
    raise_at: Option<Time>,
}

impl Search {
    /// A path that is taken to carry [`BASE`] until told more. Its probes are numbered from `first_seq`.
    #[must_use]
    pub fn new(first_seq: u64) -> Self {
        Self {
            mtu: BASE,
            proven: false,
            max: BASE,
            ceiling: BASE + 1,
            phase: Phase::Idle,
            trial: None,
            next_seq: first_seq.max(1),
            large: false,
            last_proof: Time::START,
            raise_at: None,
        }
    }

    /// The largest packet in force.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What the first link of the path takes.
    #[must_use]
    pub fn max(&self) -> u16 {
        self.max
    }

    /// The first link of the path takes `max`: more is never tried.
    pub fn set_max(&mut self, max: u16, now: Time) {
        let max = max.max(BASE);
        if max == self.max {
            return;
        }
        (self.max, self.ceiling, self.trial) = (max, max.saturating_add(1), None);
        if self.mtu > max {
            self.fall();
        }
        if self.phase != Phase::Idle {
            self.advance(now);
        }
    }

    /// The path came to life, or went down. A path that comes back may be another way: the last result is confirmed first, and
    /// then, or where it does not pass any more, all is tried anew.
    pub fn handle_usable(&mut self, usable: bool, now: Time) {
        match (usable, self.phase) {
            (true, Phase::Idle) => {
                (self.phase, self.ceiling) = (Phase::Searching, self.max.saturating_add(1));
                if self.proven && self.mtu > BASE {
                    self.begin(self.mtu, now);
                } else {
                    self.advance(now);
                }
            }
            (false, _) => (self.phase, self.trial, self.raise_at) = (Phase::Idle, None, None),
            (true, _) => {}
        }
    }

    /// A packet larger than [`BASE`] was sent.
    #[inline]
    pub fn handle_large(&mut self) {
        self.large = true;
    }

    /// Something says that the size in force no longer passes: it is tried at once.
    pub fn handle_hint(&mut self, now: Time) {
        if self.phase == Phase::Found && self.trial.is_none() && self.mtu > BASE {
            self.begin(self.mtu, now);
        }
    }

    /// The caller's own loop was late: what is overdue may be its own fault.
    pub fn handle_lag(&mut self, now: Time) {
        if let Some(trial) = &mut self.trial {
            (trial.sent, trial.since, trial.next) = (0, now, now);
        }
    }

    /// The answer to size probe `seq` arrived.
    pub fn handle_answer(&mut self, seq: u64, now: Time) {
        let Some(trial) = self.trial.filter(|t| (t.first..self.next_seq).contains(&seq)) else { return };
        (self.trial, self.large, self.last_proof) = (None, false, now);
        (self.mtu, self.proven) = (trial.size, true);
        if self.phase != Phase::Found {
            self.advance(now);
        }
    }

    /// Judges what is due.
    pub fn handle_timeout(&mut self, now: Time, evidence: Evidence) {
        if self.raise_at.is_some_and(|at| at <= now) {
            self.ceiling = self.max.saturating_add(1);
            self.advance(now);
        }
        if self.confirm_at().is_some_and(|at| at <= now) {
            self.begin(self.mtu, now);
        }
        let Some(trial) = self.trial else { return };
        let overdue = trial.sent >= evidence.needed && now >= trial.last + evidence.miss_after;
        // Where small packets don't pass either, the size is not what is wrong.
        let small_pass = evidence.last_proof.is_some_and(|proof| proof > trial.since + evidence.miss_after);
        if !overdue || !small_pass {
            return;
        }
        self.trial = None;
        if trial.size == BASE {
            (self.phase, self.raise_at) = (Phase::Failed, Some(now + RAISE));
            return;
        }
        self.ceiling = self.ceiling.min(trial.size);
        if trial.size == self.mtu {
            self.fall();
        }
        self.advance(now);
    }

    /// The next probe to send at `now`, if one is due: its number and size. Where more of a trial's probes are due depends
    /// on whether the first was answered within `miss_after`.
    pub fn poll_probe(&mut self, now: Time, evidence: Evidence) -> Option<(u64, u16)> {
        let trial = self.trial.as_mut()?;
        if now < trial.next {
            return None;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        trial.sent = trial.sent.saturating_add(1);
        trial.last = now;
        let wait = match trial.sent {
            1 => evidence.miss_after,
            sent if sent < evidence.needed => RETRY,
            sent if sent == evidence.needed => evidence.miss_after.max(RETRY),
            _ => 2 * RETRY,
        };
        trial.next = now + wait;
        Some((seq, trial.size))
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_probe`] have something to do next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let trial = self.trial.map(|t| t.next);
        [trial, self.confirm_at(), self.raise_at].into_iter().flatten().min()
    }

    fn confirm_at(&self) -> Option<Time> {
        let due = self.large && self.trial.is_none() && self.phase == Phase::Found && self.mtu > BASE;
        due.then(|| self.last_proof + CONFIRM)
    }

    fn fall(&mut self) {
        (self.mtu, self.proven, self.large) = (BASE, false, false);
    }

    fn begin(&mut self, size: u16, now: Time) {
        self.trial = Some(Trial { size, first: self.next_seq, sent: 0, since: now, last: now, next: now });
    }

    /// Takes the next step of the search, or ends it.
    fn advance(&mut self, now: Time) {
        self.raise_at = None;
        match self.candidate() {
            Some(size) => {
                self.phase = Phase::Searching;
                self.begin(size, now);
            }
            None => {
                self.phase = Phase::Found;
                self.raise_at = (self.mtu < self.max).then(|| now + RAISE);
            }
        }
    }

    /// The largest size first, as that is what nearly all paths take; then halves of what is left, common sizes first.
    fn candidate(&self) -> Option<u16> {
        if self.ceiling > self.max && self.mtu < self.max {
            return Some(self.max);
        }
        let between: Vec<u16> = COMMON
            .iter()
            .map(|outer| outer - WIREGUARD_OVERHEAD)
            .filter(|&size| size > self.mtu && size < self.ceiling)
            .collect();
        let gap = self.ceiling.saturating_sub(self.mtu);
        match between.get(between.len() / 2) {
            Some(&common) => Some(common),
            None if gap > GRAIN => Some(self.mtu + gap / 2),
            // Nothing above the base passed: does that?
            None => (!self.proven).then_some(self.mtu),
        }
    }
}
