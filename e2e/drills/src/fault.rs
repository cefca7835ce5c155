//! What a fault is: how it is prepared, caused and healed, and what it may cost.

use std::time::Duration;

use anyhow::Result;
use hawser_testbed::Outer;

use crate::stage::Stage;

/// A step of a fault. The number of the run lets rows take turns, e.g. between the two sides.
pub type Step = fn(&mut Stage, u32) -> Result<()>;

/// One row of the list.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Names it on the command line and in the report.
    pub id: &'static str,
    /// What happens, in words.
    pub title: &'static str,
    /// What it may cost.
    pub bound: Bound,
    /// How often and how long.
    pub kind: Kind,
    /// Before packets are counted.
    pub prepare: Step,
    /// The fault.
    pub cause: Step,
    /// Its end.
    pub heal: Step,
    /// The end of what [`Self::heal`] leaves of it, where something is left: before packets can be spread again.
    pub rest: Option<Step>,
    /// How long after its end packets are still counted; none: they are not, but where the spread is measured.
    pub after: Option<Duration>,
    /// Whether paths or gateways fail by it: their history of failures is reset after each run.
    pub reset: bool,
    /// Whether packets leave paths for it and come back at its end: the time until then is measured.
    pub even: bool,
    /// What the tunnels run over; rows that are repeated share a rope over both families.
    pub outer: Outer,
}

/// How often and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As often as asked for; the fault lasts that long.
    Repeated(Duration),
    /// Once, for that long; beside the others of this kind.
    Once(Duration),
    /// Once, for that long, with the machine to itself.
    OnceAlone(Duration),
}

impl Kind {
    /// How long the fault lasts.
    #[must_use]
    pub fn length(self) -> Duration {
        match self {
            Self::Repeated(length) | Self::Once(length) | Self::OnceAlone(length) => length,
        }
    }
}

/// What a fault may cost, in its worst run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// The longest time that any flow gets nothing back, milliseconds.
    Silence(u32),
    /// No packet is lost.
    NothingLost,
    /// No packet is lost while sessions are replaced, in each run.
    NothingLostOver(Sessions),
    /// No path changes, of any lane. Where the underlay loses a share of all packets (percent), users lose at most 1 % more, either way.
    Steady(Option<u32>),
    /// From the end of the fault to the first packet of the flow that waited longest, milliseconds.
    Recovery(u32),
}

/// Sessions whose replacement a row is about. Gateways tell of one lane's for each path, both ends of a path of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sessions {
    /// So many are replaced at least.
    pub replaced: u32,
    /// The oldest gets at least so old, seconds.
    pub oldest_s: u64,
}

impl Bound {
    /// The unit of its figure.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Silence(_) | Self::Recovery(_) => "ms",
            Self::NothingLost | Self::NothingLostOver(_) => "packets",
            Self::Steady(_) => "path changes",
        }
    }

    /// The largest figure that is good.
    #[must_use]
    pub fn limit(self) -> f64 {
        match self {
            Self::Silence(ms) | Self::Recovery(ms) => f64::from(ms),
            Self::NothingLost | Self::NothingLostOver(_) | Self::Steady(_) => 0.0,
        }
    }

    /// What is measured, in words.
    #[must_use]
    pub fn measure(self) -> &'static str {
        match self {
            Self::Silence(_) => "without traffic",
            Self::NothingLost | Self::NothingLostOver(_) => "lost",
            Self::Steady(_) => "path changes",
            Self::Recovery(_) => "until traffic is back",
        }
    }
}
