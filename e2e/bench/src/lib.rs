//! The data plane beside others: same machine, same run, same measures, alternating.
//!
//! Everything happens in network namespaces of this process's own. What is measured and what it should be is data
//! ([`goals`]); a [`bed`] is two hosts with one implementation between them, or none; [`runner`] takes the beds in turn and
//! keeps one sample per round; ratios are made within a round, because machines drift.
//!
//! - [`bed`]: the hosts and the implementations: [`hawser`] (the real gateway process on sites of one host each),
//!   [`plain`] (the others, by their control socket), [`chain`] (pod to pod over all hops). [`agent`] writes what the
//!   processes would be told by an agent.
//! - [`iperf`], [`latency`], [`datagrams`], [`process`]: one kind of measurement each; [`search`]: the highest rate.
//! - [`changes`]: what changes of peers cost; [`crowd`]: a thousand peers in one process, the program `hawser-bench-crowd`.
//! - [`fair`]: a peer's round trips beside another's load; [`flood`]: a flow beside a flood of handshakes.
//! - [`samples`], [`stats`], [`goals`]: figures to rows; [`table`], [`plot`]: rows and figures to look at.
//!
//! Hosts as namespaces are `hawser-testbed`'s; the report's form is `hawser-e2e`'s. How to read the result:
//! `docs/performance.md`.

pub mod agent;
pub mod bed;
pub mod chain;
pub mod changes;
pub mod crowd;
pub mod datagrams;
pub mod fair;
pub mod flood;
pub mod goals;
pub mod hawser;
pub mod iperf;
pub mod latency;
pub mod plain;
pub mod plot;
pub mod process;
pub mod runner;
pub mod samples;
pub mod search;
pub mod stats;
pub mod subject;
pub mod table;
