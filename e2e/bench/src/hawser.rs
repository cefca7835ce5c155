//! Hawser's ends: the real gateway process, each on a site of one host. No broker or agent runs; what they would have written
//! is there from the start ([`agent`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_api::hawser::{LaneSpec, RemoteClusterSpec};
use hawser_api::report::{GatewayReport, LaneLoadReport};
use hawser_model::IpFamily;
use hawser_model::defaults::{OUTER_MARK, OUTER_MARK_MASK, TABLE_REMOTE, WIREGUARD_PORT};
use hawser_testbed::process::binary;
use hawser_testbed::traffic::admin;
use hawser_testbed::{Netns, Process, wait_for};

use crate::agent;
use crate::bed::{End, START, TUNNEL_MTU, hosts, inner_of, network, outer_of, pods};
use crate::changes::Took;
use crate::crowd::{self, Crowd};
use crate::subject::Subject;

/// Idle peers beside the active one.
pub const CROWD: u32 = 1000;

/// How long the work after a change is watched: several rounds of timers and of figures, which are told by the next ones.
const AFTERWARDS: Duration = Duration::from_secs(4);

/// The gateway program of [`Subject::OtherHawser`].
pub static OTHER: OnceLock<PathBuf> = OnceLock::new();

/// A site of one host, which is its gateway: cluster `c<number>` with [`outer_of`] and [`inner_of`] that number.
pub(crate) struct Site {
    number: u8,
    family: IpFamily,
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

/// The same, and the second gateway's lanes.
///
/// # Errors
/// When `hawser-gateway` is missing or does not come up.
pub fn ends_and_lanes(subject: Subject, lanes: u8, dir: &Path) -> Result<([End; 2], Vec<LaneSpec>)> {
    start(subject, lanes, dir, 0).map(|(ends, [_, second])| (ends, second))
}

/// The same with a thousand idle peers of the first gateway; they live as long as what comes with the ends.
///
/// # Errors
/// When a program is missing or does not come up, or a peer is not reached.
pub fn crowded_ends(subject: Subject, lanes: u8, dir: &Path) -> Result<([End; 2], Crowd)> {
    let (ends, [first, _]) = start(subject, lanes, dir, CROWD)?;
    let asks = matches!(subject, Subject::Asked(_));
    let crowd = Crowd::start(&ends[0].ns, CROWD, asks, &keys(first), dir)?;
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
    let (ends, [first, _]) = start(subject, lanes, dir, 0)?;
    let crowd = Crowd::start(&ends[0].ns, CROWD, false, &keys(first), dir)?;
    let (dir, state) = (dir.join("site-1"), dir.join("state-1"));
    agent::learn(&dir, (0..CROWD).map(crowd::cluster).collect())?;
    Ok((ends, Members { dir, state, revision: 1, _crowd: crowd }))
}

impl Members {
    /// Makes all of the thousand members at once, or none; waits until the gateway reaches them, or has let go of them, and
    /// for what its timers do then. What that took of its lanes.
    ///
    /// # Errors
    /// When that does not come about, or the gateway tells nothing of it.
    pub fn change(&mut self, crowd: bool) -> Result<Took> {
        self.revision += 1;
        let mut all = vec!["c1".to_owned(), "c2".to_owned()];
        all.extend((0..CROWD).filter(|_| crowd).map(crowd::id));
        let mut took = Took::since(loads(&report(&self.state)?));
        agent::roster(&self.dir, self.revision, &all)?;
        wait_for("the peers to change", START, || {
            let report = report(&self.state)?;
            took.saw(&loads(&report));
            let live = report.clusters.iter().filter(|c| c.state == "Live").count();
            ensure!(live == all.len() - 1 && report.clusters.len() == live, "{live} of {}", report.clusters.len());
            Ok(())
        })?;
        std::thread::sleep(AFTERWARDS);
        took.saw(&loads(&report(&self.state)?));
        ensure!(took.is_whole(), "the gateway does not tell of its change: {took:?}");
        Ok(took)
    }
}

fn loads(report: &GatewayReport) -> Vec<LaneLoadReport> {
    report.lanes.iter().map(|lane| lane.load).collect()
}

fn keys(lanes: Vec<LaneSpec>) -> Vec<String> {
    lanes.into_iter().map(|lane| lane.public_key).collect()
}

/// Two gateways that know each other, the first also `crowd` others; the lanes of each.
fn start(subject: Subject, lanes: u8, dir: &Path, crowd: u32) -> Result<([End; 2], [Vec<LaneSpec>; 2])> {
    let [a, b] = hosts(subject)?;
    let mut members = vec!["c1".to_owned(), "c2".to_owned()];
    members.extend((0..crowd).map(crowd::id));
    let (one, two) = (Site::new(subject, 1, dir, &members)?, Site::new(subject, 2, dir, &members)?);
    let (first, second) = (one.start(&a, lanes, dir)?, two.start(&b, lanes, dir)?);
    agent::learn(&one.dir, (0..crowd).map(crowd::cluster).collect())?;
    let specs = [one.lanes(lanes)?, two.lanes(lanes)?];
    introduce(&one, &two, lanes)?;
    for (site, other) in [(&one, &two), (&two, &one)] {
        site.reaches(other)?;
    }
    let end = |ns, process, number| End { measured: vec![process], ns, inner: inner_of(subject.family(), number) };
    Ok(([end(a, first, 1), end(b, second, 2)], specs))
}

/// Tells two running gateways of each other.
pub(crate) fn introduce(one: &Site, two: &Site, lanes: u8) -> Result<()> {
    agent::learn(&one.dir, vec![two.cluster(lanes)?])?;
    agent::learn(&two.dir, vec![one.cluster(lanes)?])
}

impl Site {
    /// Writes the site of host `number`, whose roster has these members.
    pub(crate) fn new(subject: Subject, number: u8, root: &Path, members: &[String]) -> Result<Self> {
        let program = match subject {
            Subject::OtherHawser(_) => OTHER.get().cloned().context("which other build? say --other PATH")?,
            _ => binary("hawser-gateway")?,
        };
        let [dir, state] = ["site", "state"].map(|name| root.join(format!("{name}-{number}")));
        let family = subject.family();
        let site = Self { number, family, dir, state, program };
        fs::create_dir_all(&site.dir)?;
        fs::write(
            site.dir.join("site.yaml"),
            format!(
                "apiVersion: hawser.dev/v1alpha1\nkind: Membership\nmetadata: {{name: default}}\n\
                 spec: {{clusterId: c{number}, prefixes: ['{}']}}\n---\n\
                 apiVersion: v1\nkind: Node\nmetadata: {{name: c{number}-gw1, labels: {{hawser.dev/gateway: 'true'}}}}\n\
                 spec: {{podCIDRs: ['{}']}}\n\
                 status: {{addresses: [{{type: InternalIP, address: '{}'}}]}}\n",
                network(family, number),
                pods(family, number),
                outer_of(family, number)
            ),
        )?;
        agent::join(&site.dir, members)?;
        Ok(site)
    }

    fn node(&self) -> String {
        format!("c{}-gw1", self.number)
    }

    /// Starts its gateway.
    pub(crate) fn start(&self, ns: &Netns, lanes: u8, logs: &Path) -> Result<Process> {
        // What a route agent does for the host's own packets; nothing else of it is on this way.
        let rule = format!("rule add prio 4857 not fwmark {OUTER_MARK:#x}/{OUTER_MARK_MASK:#x} lookup {TABLE_REMOTE}");
        ns.ip(&if self.family == IpFamily::V4 { rule } else { format!("-6 {rule}") })?;
        let mut command = Command::new(&self.program);
        command.arg("--site").arg(&self.dir).arg("--state").arg(&self.state);
        command.args(["--node", &self.node(), "--lanes", &lanes.to_string()]);
        command.args(["--port", &WIREGUARD_PORT.to_string(), "--log-filter", "info"]);
        Process::start(ns, "hawser-gateway", command, logs)
    }

    /// Its lanes, once it has them.
    fn lanes(&self, count: u8) -> Result<Vec<LaneSpec>> {
        wait_for("the gateway to start", Duration::from_secs(20), || {
            let lanes = agent::lanes(&self.dir, &self.node())?;
            ensure!(lanes.len() == usize::from(count), "{} lanes", lanes.len());
            Ok(lanes)
        })
    }

    /// It as others hear of it.
    fn cluster(&self, lanes: u8) -> Result<RemoteClusterSpec> {
        let (number, candidate) = (self.number, outer_of(self.family, self.number).to_string());
        let lanes = self.lanes(lanes)?;
        Ok(agent::cluster(&format!("c{number}"), &network(self.family, number), lanes, &candidate))
    }

    /// Waits until full-sized packets reach another.
    pub(crate) fn reaches(&self, other: &Self) -> Result<()> {
        let cluster = format!("c{}", other.number);
        wait_for(&format!("{cluster} to be reached by full-sized packets"), START, || {
            let report = report(&self.state)?;
            let path = report.paths.iter().find(|p| p.cluster == cluster).context("no path")?;
            ensure!(path.state == "Up" && u32::from(path.mtu) == TUNNEL_MTU, "{path:?}");
            Ok(())
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
