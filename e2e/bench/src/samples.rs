//! What was measured: one value per figure, subject and round.

use std::collections::BTreeMap;
use std::fmt;

use crate::subject::Subject;

/// What is measured together, and can be asked for alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Measure {
    /// One TCP flow: its rate and its CPU time.
    Tcp1,
    /// One TCP flow of IPv6 over IPv6.
    Tcp1V6,
    /// Eight TCP flows: their rate and the memory they take.
    Tcp8,
    /// The highest rate of datagrams.
    Udp,
    /// Round trips without other traffic.
    RttIdle,
    /// Round trips beside four TCP flows.
    RttLoad,
    /// A thousand idle peers beside the active one: rate and memory.
    Peers,
    /// From pod to pod over all hops.
    Chain,
    /// A thousand peers added and removed: what that takes of a lane's time.
    Changes,
    /// A peer's round trips beside another peer's load.
    Fair,
    /// TCP beside a flood of handshakes.
    Flood,
}

/// One kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Rate of one TCP flow.
    Tcp1,
    /// CPU time of that, per amount.
    Cpu,
    /// Rate of one TCP flow of IPv6 over IPv6.
    Tcp1V6,
    /// Rate of eight TCP flows together.
    Tcp8,
    /// Most memory an end ever had, after eight flows.
    Memory,
    /// Highest rate of datagrams.
    Udp,
    /// Median round trip at idle.
    IdleMedian,
    /// 99th percentile of that.
    IdleP99,
    /// 99th percentile of round trips beside four TCP flows.
    LoadP99,
    /// Rate of one TCP flow, taken in turn with and without a crowd of idle peers.
    Peers,
    /// Most memory the end with the crowd ever had, after eight flows.
    PeersMemory,
    /// Rate of one TCP flow over all hops.
    Chain,
    /// CPU time that a lane spends at once to take a thousand new peers over.
    PeersAdded,
    /// The longest that it spends at once on anything but packets from then on.
    PeersAddedTurn,
    /// What it spends to let a thousand go.
    PeersRemoved,
    /// The longest from then on.
    PeersRemovedTurn,
    /// The longest that a lane spent at once on anything but packets since its start.
    Control,
    /// 99th percentile of a peer's round trips beside another peer's load.
    Fair,
    /// The same without the load.
    FairIdle,
    /// The load.
    FairLoad,
    /// Rate of one TCP flow beside a flood of handshakes from many sources.
    Flood,
    /// The same from one source.
    FloodOne,
    /// The same from one source that answers cookies.
    FloodCookie,
    /// Cookies that came back of a flood beside the flow.
    FloodCookies,
    /// Share of a core that a gateway takes that has nothing to do but the flood.
    FloodCpu,
    /// The same of a flood that answers cookies.
    FloodCookieCpu,
}

impl Figure {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 26] = [
        Self::Tcp1,
        Self::Tcp8,
        Self::Udp,
        Self::Cpu,
        Self::Tcp1V6,
        Self::IdleMedian,
        Self::IdleP99,
        Self::LoadP99,
        Self::Memory,
        Self::Peers,
        Self::PeersMemory,
        Self::Chain,
        Self::PeersAdded,
        Self::PeersAddedTurn,
        Self::PeersRemoved,
        Self::PeersRemovedTurn,
        Self::Control,
        Self::Fair,
        Self::FairIdle,
        Self::FairLoad,
        Self::Flood,
        Self::FloodOne,
        Self::FloodCookie,
        Self::FloodCookies,
        Self::FloodCpu,
        Self::FloodCookieCpu,
    ];

    /// The measure that it comes from.
    #[must_use]
    pub fn measure(self) -> Measure {
        match self {
            Self::Tcp1 | Self::Cpu => Measure::Tcp1,
            Self::Tcp1V6 => Measure::Tcp1V6,
            Self::Tcp8 | Self::Memory => Measure::Tcp8,
            Self::Udp => Measure::Udp,
            Self::IdleMedian | Self::IdleP99 => Measure::RttIdle,
            Self::LoadP99 => Measure::RttLoad,
            Self::Peers | Self::PeersMemory => Measure::Peers,
            Self::Chain => Measure::Chain,
            Self::PeersAdded | Self::PeersAddedTurn | Self::PeersRemoved | Self::PeersRemovedTurn => Measure::Changes,
            Self::Control => Measure::Changes,
            Self::Fair | Self::FairIdle | Self::FairLoad => Measure::Fair,
            Self::Flood | Self::FloodOne | Self::FloodCookie => Measure::Flood,
            Self::FloodCookies | Self::FloodCpu | Self::FloodCookieCpu => Measure::Flood,
        }
    }

    /// The unit of its values.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Tcp1 | Self::Tcp1V6 | Self::Tcp8 | Self::Udp | Self::Peers | Self::Chain => "Gbit/s",
            Self::FairLoad | Self::Flood | Self::FloodOne | Self::FloodCookie => "Gbit/s",
            Self::Cpu => "CPU-s/Gbit",
            Self::IdleMedian | Self::IdleP99 | Self::LoadP99 => "µs",
            Self::PeersAdded | Self::PeersAddedTurn | Self::PeersRemoved | Self::PeersRemovedTurn => "µs",
            Self::Control | Self::Fair | Self::FairIdle => "µs",
            Self::Memory | Self::PeersMemory => "MB",
            Self::FloodCookies => "1/s",
            Self::FloodCpu | Self::FloodCookieCpu => "cores",
        }
    }

    /// What it is, in words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Tcp1 => "TCP, 1 flow",
            Self::Tcp8 => "TCP, 8 flows",
            Self::Udp => "UDP, 1,360 B, ≤ 0.1 % loss",
            Self::Cpu => "CPU time, 1 flow",
            Self::Tcp1V6 => "TCP, 1 flow, IPv6 over IPv6",
            Self::IdleMedian => "round trip, idle, median",
            Self::IdleP99 => "round trip, idle, p99",
            Self::LoadP99 => "round trip beside 4 flows, p99",
            Self::Memory => "peak memory of an end, 8 flows",
            Self::Peers => "TCP, 1 flow, idle peers beside",
            Self::PeersMemory => "peak memory, 1,000 peers, 8 flows",
            Self::Chain => "TCP, 1 flow, pod to pod",
            Self::PeersAdded => "a lane's time for 1,000 new peers",
            Self::PeersAddedTurn => "95 of 100 turns of a lane after 1,000 new peers",
            Self::PeersRemoved => "a lane's time to let 1,000 peers go",
            Self::PeersRemovedTurn => "95 of 100 turns of a lane after 1,000 peers went",
            Self::Control => "a lane's longest turn of control work since its start",
            Self::Fair => "round trip beside another peer's load, p99",
            Self::FairIdle => "round trip without that load, p99",
            Self::FairLoad => "that load, TCP",
            Self::Flood => "TCP, 1 flow, handshake flood from many sources",
            Self::FloodOne => "TCP, 1 flow, handshake flood from one source",
            Self::FloodCookie => "TCP, 1 flow, handshake flood that answers cookies",
            Self::FloodCookies => "cookies sent to the flood beside the flow",
            Self::FloodCpu => "CPU time that a flood alone takes",
            Self::FloodCookieCpu => "CPU time that a flood alone takes that answers cookies",
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp1 => "tcp1",
            Self::Cpu => "cpu",
            Self::Tcp1V6 => "tcp1-v6",
            Self::Tcp8 => "tcp8",
            Self::Memory => "rss",
            Self::Udp => "udp",
            Self::IdleMedian => "rtt-idle-median",
            Self::IdleP99 => "rtt-idle-p99",
            Self::LoadP99 => "rtt-load-p99",
            Self::Peers => "peers",
            Self::PeersMemory => "peers-rss",
            Self::Chain => "chain",
            Self::PeersAdded => "peers-added",
            Self::PeersAddedTurn => "peers-added-turn",
            Self::PeersRemoved => "peers-removed",
            Self::PeersRemovedTurn => "peers-removed-turn",
            Self::Control => "control",
            Self::Fair => "fair",
            Self::FairIdle => "fair-idle",
            Self::FairLoad => "fair-load",
            Self::Flood => "flood",
            Self::FloodOne => "flood-one",
            Self::FloodCookie => "flood-cookie",
            Self::FloodCookies => "flood-cookies",
            Self::FloodCpu => "flood-cpu",
            Self::FloodCookieCpu => "flood-cookie-cpu",
        })
    }
}

/// All values of a run, and why others are missing.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    values: BTreeMap<(Figure, Subject), Vec<f64>>,
    failures: BTreeMap<Measure, String>,
}

impl Samples {
    /// Notes the next round's value.
    pub fn add(&mut self, figure: Figure, subject: Subject, value: f64) {
        self.values.entry((figure, subject)).or_default().push(value);
    }

    /// Notes that a measure failed: none of its figures count.
    pub fn fail(&mut self, measure: Measure, why: String) {
        self.failures.insert(measure, why);
    }

    /// Why a measure failed, if it did.
    #[must_use]
    pub fn failure(&self, measure: Measure) -> Option<&str> {
        self.failures.get(&measure).map(String::as_str)
    }

    /// The values of all rounds; nothing where the measure failed or did not run.
    #[must_use]
    pub fn values(&self, figure: Figure, subject: Subject) -> Option<&[f64]> {
        if self.failures.contains_key(&figure.measure()) {
            return None;
        }
        self.values.get(&(figure, subject)).map(Vec::as_slice)
    }

    /// The subjects that a figure was measured of.
    pub fn subjects(&self, figure: Figure) -> impl Iterator<Item = Subject> + '_ {
        self.values.keys().filter(move |(f, _)| *f == figure).map(|(_, s)| *s)
    }
}
