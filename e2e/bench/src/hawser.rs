//! Hawser's ends: the real gateway process, each on a site of one host. No broker or agent runs; what they would have written
//! is there from the start ([`agent`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_api::report::{GatewayReport, LaneLoadReport};
use hawser_model::defaults::{OUTER_MARK, OUTER_MARK_MASK, TABLE_REMOTE, WIREGUARD_PORT};
use hawser_testbed::process::binary;
use hawser_testbed::traffic::admin;
use hawser_testbed::{Netns, Process, wait_for};

use crate::agent;
use crate::bed::{End, START, TUNNEL_MTU, hosts, inner, outer};
use crate::crowd::{self, Crowd};
use crate::subject::Subject;

/// Idle peers beside the active one.
pub const CROWD: u32 = 1000;

/// The gateway program of [`Subject::OtherHawser`].
pub static OTHER: OnceLock<PathBuf> = OnceLock::new();

/// A site of one host, which is its gateway.
struct Site {
    number: u8,
    dir: PathBuf,
    state: PathBuf,
    program: PathBuf,
}

/// Two hosts with gateways of `lanes` lanes each.
///
/// # Errors
/// When `hawser-gateway` is missing or does not come up.
pub fn ends(subject: Subject, lanes: u8, dir: &Path) -> Result<[End; 2]> {
    start(subject, lanes, dir, 0).map(|(ends, _)| ends)
}

/// The same with a thousand idle peers of the first gateway; they live as long as what comes with the ends.
///
/// # Errors
/// When a program is missing or does not come up, or a peer is not reached.
pub fn crowded_ends(subject: Subject, lanes: u8, dir: &Path) -> Result<([End; 2], Crowd)> {
    let (ends, keys) = start(subject, lanes, dir, CROWD)?;
    let crowd = Crowd::start(&ends[0].ns, CROWD, &keys, dir)?;
    let state = dir.join("state-1");
    wait_for("a thousand peers to be reached", START, || {
        let report = report(&state)?;
        let live = report.clusters.iter().filter(|c| c.state == "Live").count();
        ensure!(live == CROWD as usize + 1, "{live} are");
        Ok(())
    })?;
    crowd.wait_idle()?;
    Ok((ends, crowd))
}

/// Who the first gateway's peers are: the second gateway alone, or a thousand more that answer.
pub struct Members {
    dir: PathBuf,
    state: PathBuf,
    revision: i64,
    _crowd: Crowd,
}

/// Two gateways that know each other, and a thousand that answer the first but are no members yet.
///
/// # Errors
/// When a program is missing or does not come up.
pub fn changing_ends(subject: Subject, lanes: u8, dir: &Path) -> Result<([End; 2], Members)> {
    let (ends, keys) = start(subject, lanes, dir, 0)?;
    let crowd = Crowd::start(&ends[0].ns, CROWD, &keys, dir)?;
    let (dir, state) = (dir.join("site-1"), dir.join("state-1"));
    agent::learn(&dir, (0..CROWD).map(crowd::cluster).collect())?;
    Ok((ends, Members { dir, state, revision: 1, _crowd: crowd }))
}

impl Members {
    /// Makes all of the thousand members at once, or none; waits until the gateway reaches them, or has let go of them. What
    /// each lane says of its load then.
    ///
    /// # Errors
    /// When that does not come about.
    pub fn change(&mut self, crowd: bool) -> Result<Vec<LaneLoadReport>> {
        self.revision += 1;
        let mut all = vec!["c1".to_owned(), "c2".to_owned()];
        all.extend((0..CROWD).filter(|_| crowd).map(crowd::id));
        agent::roster(&self.dir, self.revision, &all)?;
        wait_for("the peers to change", START, || {
            let report = report(&self.state)?;
            let live = report.clusters.iter().filter(|c| c.state == "Live").count();
            ensure!(live == all.len() - 1 && report.clusters.len() == live, "{live} of {}", report.clusters.len());
            Ok(report.lanes.iter().map(|lane| lane.load).collect())
        })
    }
}

/// Two gateways that know each other, the first also `crowd` others; the first one's lane keys.
fn start(subject: Subject, lanes: u8, dir: &Path, crowd: u32) -> Result<([End; 2], Vec<String>)> {
    let [a, b] = hosts(subject)?;
    let (one, two) = (Site::new(subject, 1, dir, crowd)?, Site::new(subject, 2, dir, crowd)?);
    let (first, second) = (one.start(&a, lanes, dir)?, two.start(&b, lanes, dir)?);
    let keys = one.lanes(lanes)?;
    let mut others = vec![agent::cluster("c2", "10.2.0.0/16", two.lanes(lanes)?, &outer(2).to_string())];
    others.extend((0..crowd).map(crowd::cluster));
    agent::learn(&one.dir, others)?;
    agent::learn(&two.dir, vec![agent::cluster("c1", "10.1.0.0/16", keys.clone(), &outer(1).to_string())])?;
    for (site, other) in [(&one, "c2"), (&two, "c1")] {
        wait_for(&format!("{other} to be reached by full-sized packets"), START, || {
            let report = report(&site.state)?;
            let path = report.paths.iter().find(|p| p.cluster == other).context("no path")?;
            ensure!(path.state == "Up" && u32::from(path.mtu) == TUNNEL_MTU, "{path:?}");
            Ok(())
        })?;
    }
    let end = |ns, process, number| End { measured: vec![process], ns, inner: inner(number) };
    let keys = keys.into_iter().map(|lane| lane.public_key).collect();
    Ok(([end(a, first, 1), end(b, second, 2)], keys))
}

impl Site {
    fn new(subject: Subject, number: u8, root: &Path, crowd: u32) -> Result<Self> {
        let program = match subject {
            Subject::OtherHawser(_) => OTHER.get().cloned().context("which other build? say --other PATH")?,
            _ => binary("hawser-gateway")?,
        };
        let [dir, state] = ["site", "state"].map(|name| root.join(format!("{name}-{number}")));
        let site = Self { number, dir, state, program };
        fs::create_dir_all(&site.dir)?;
        fs::write(
            site.dir.join("site.yaml"),
            format!(
                "apiVersion: hawser.dev/v1alpha1\nkind: Membership\nmetadata: {{name: default}}\n\
                 spec: {{clusterId: c{number}, prefixes: [10.{number}.0.0/16]}}\n---\n\
                 apiVersion: v1\nkind: Node\nmetadata: {{name: c{number}-gw1, labels: {{hawser.dev/gateway: 'true'}}}}\n\
                 spec: {{podCIDRs: [10.{number}.1.0/24]}}\n\
                 status: {{addresses: [{{type: InternalIP, address: {}}}]}}\n",
                outer(number)
            ),
        )?;
        let mut members = vec!["c1".to_owned(), "c2".to_owned()];
        members.extend((0..crowd).map(crowd::id));
        agent::join(&site.dir, &members)?;
        Ok(site)
    }

    fn node(&self) -> String {
        format!("c{}-gw1", self.number)
    }

    fn start(&self, ns: &Netns, lanes: u8, logs: &Path) -> Result<Process> {
        // What a route agent does for the host's own packets; nothing else of it is on this way.
        ns.ip(&format!("rule add prio 4857 not fwmark {OUTER_MARK:#x}/{OUTER_MARK_MASK:#x} lookup {TABLE_REMOTE}"))?;
        let mut command = Command::new(&self.program);
        command.arg("--site").arg(&self.dir).arg("--state").arg(&self.state);
        command.args(["--node", &self.node(), "--lanes", &lanes.to_string()]);
        command.args(["--port", &WIREGUARD_PORT.to_string(), "--log-filter", "info"]);
        Process::start(ns, "hawser-gateway", command, logs)
    }

    /// Its lanes, once it has them.
    fn lanes(&self, count: u8) -> Result<Vec<hawser_api::hawser::LaneSpec>> {
        wait_for("the gateway to start", Duration::from_secs(20), || {
            let lanes = agent::lanes(&self.dir, &self.node())?;
            ensure!(lanes.len() == usize::from(count), "{} lanes", lanes.len());
            Ok(lanes)
        })
    }
}

/// What a gateway reports by its admin socket.
///
/// # Errors
/// When it does not answer.
pub fn report(state: &Path) -> Result<GatewayReport> {
    let text = admin::get(&state.join("gateway/admin.sock"), "/report")?;
    serde_json::from_str(&text).context("The gateway's report can't be read")
}
