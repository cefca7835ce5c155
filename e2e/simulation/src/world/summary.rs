//! What a run was made of, for who reads a test's output.

use std::fmt;
use std::time::Duration;

/// What a run was made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Virtual time.
    pub time: Duration,
    /// Datagrams sent between gateways.
    pub datagrams: u64,
    /// Faults and heals.
    pub changes: u64,
    /// Users' packets: sent into tunnels, delivered, without a path, sent into a path that was dead but not known so yet.
    pub sent: u64,
    /// See [`Self::sent`].
    pub delivered: u64,
    /// See [`Self::sent`].
    pub stranded: u64,
    /// See [`Self::sent`].
    pub into_dead: u64,
    /// Packets of hostile workloads and gateways that were refused, coming in and going out.
    pub refused: [u64; 2],
    /// State changes of paths.
    pub path_changes: u64,
    /// Verdicts against paths.
    pub verdicts: u64,
    /// Verdicts that stood against paths that were good again or still.
    pub hasty: u64,
    /// Packets sent by nodes to gateways.
    pub by_nodes: u64,
    /// The longest from a path's death to the last packet that took it while another lived, where nothing had happened for
    /// long and nothing was lost before.
    pub slowest_failover: Duration,
    /// The longest that a state contradicted what was so, counted from the last change, where sessions lasted, traffic
    /// flowed and nothing was lost.
    pub slowest_convergence: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.time.as_secs_f64() / 3600.0;
        write!(f, "{hours:.1} h: {} changes, {} datagrams; ", self.changes, self.datagrams)?;
        let (sent, delivered) = (self.sent, self.delivered);
        write!(f, "packets: {sent} sent, {delivered} delivered, {} without path, ", self.stranded)?;
        write!(f, "{} into dead paths, {:?} refused; ", self.into_dead, self.refused)?;
        write!(f, "{} path changes, {} verdicts, {} of them hasty; ", self.path_changes, self.verdicts, self.hasty)?;
        let (failover, convergence) = (self.slowest_failover, self.slowest_convergence);
        write!(f, "{} by nodes; slowest failover {failover:?}, convergence {convergence:?}", self.by_nodes)
    }
}
