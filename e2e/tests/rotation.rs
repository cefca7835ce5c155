//! Keys of gateways are replaced under traffic: no packet is lost, no connection breaks, and it ends well when something
//! happens on the way.

use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use hawser_e2e::rope::LIMIT;
use hawser_e2e::{Rope, figure};
use hawser_testbed::traffic::admin;
use hawser_testbed::traffic::tcp::{Connections, Echo};
use hawser_testbed::traffic::udp::{self, Loss, Stream};
use hawser_testbed::{Site, Workload, wait_for};
use serde_json::Value;

/// Flows of each of two streams, one from each site: enough that every path carries some.
const FLOWS: usize = 8;

/// A pod in each site that both asks and answers.
struct Ends {
    pods: [Workload; 2],
    _udp: [udp::Echo; 2],
    _tcp: Echo,
    tcp: Connections,
}

impl Ends {
    fn new(rope: &Rope) -> Result<Self> {
        let pods = [rope.east.add_workload(3)?, rope.west.add_workload(3)?];
        let udp = [udp::Echo::start(&pods[0].ns, 7, "east")?, udp::Echo::start(&pods[1].ns, 7, "west")?];
        let echo = Echo::start(&pods[1].ns, 9)?;
        for (from, to) in [(0, 1), (1, 0)] {
            for to in addresses(&pods[to], 7) {
                wait_for(&format!("{to} to answer"), LIMIT, || udp::ask(&pods[from].ns, to, Duration::from_secs(1)))?;
            }
        }
        let tcp = Connections::open(&pods[0].ns, &addresses(&pods[1], 9), 2)?;
        Ok(Self { pods, _udp: udp, _tcp: echo, tcp })
    }

    /// Streams both ways while `change` happens; nothing may be lost.
    fn lose_nothing(&self, rope: &mut Rope, name: &str, change: impl FnOnce(&mut Rope) -> Result<()>) -> Result<()> {
        let full = rope.overflows(&self.pods)?;
        let mut streams = Vec::new();
        for (from, to) in [(0, 1), (1, 0)] {
            let to = addresses(&self.pods[to], 7);
            let flows: Vec<(u16, SocketAddr)> = (0..FLOWS).map(|i| (0, to[i % 2])).collect();
            streams.push(Stream::start_from(&self.pods[from].ns, &flows)?);
        }
        thread::sleep(Duration::from_millis(500));
        let changed = change(rope);
        thread::sleep(Duration::from_millis(500));
        let losses: Vec<Loss> = streams.into_iter().map(Stream::finish).collect::<Result<_>>()?;
        changed.with_context(|| name.to_owned())?;
        let full = rope.overflows(&self.pods)?.saturating_sub(full);
        let (lost, sent) = (losses.iter().map(Loss::lost).sum::<u64>(), losses.iter().map(|l| l.sent).sum::<u64>());
        figure(format_args!("{name}: {lost} of {sent} lost, {full} for full queues"));
        rope.lost_nothing_else(&losses, full).with_context(|| name.to_owned())?;
        ensure!(self.tcp.alive(Duration::from_secs(10)) == self.tcp.count(), "{name}: a connection broke");
        for site in [&rope.west, &rope.east] {
            for report in Rope::reports(site)? {
                let failover = &report["clusters"][0]["lastFailoverAgoMs"];
                ensure!(failover.is_null(), "{name}: a path fell: {report}");
            }
        }
        Ok(())
    }
}

fn addresses(pod: &Workload, port: u16) -> [SocketAddr; 2] {
    [SocketAddr::new(pod.v4.into(), port), SocketAddr::new(pod.v6.into(), port)]
}

/// `hawser rotate keys` at a site.
fn rotate(rope: &Rope, site: &Site, more: &[&str]) -> Result<String> {
    let dir = site.dir.to_str().context("UTF-8")?;
    let args = [&["rotate", "keys", "--site", dir, "-o", "json"], more].concat();
    rope.lab.hawser_on(rope.lab.broker_host(), &args, None)?.success()
}

/// The keys that a site's gateways say they use.
fn keys(site: &Site) -> Result<Vec<String>> {
    let keys = |report: &Value| -> Option<Vec<String>> {
        report["lanes"].as_array()?.iter().map(|lane| Some(lane["key"].as_str()?.to_owned())).collect()
    };
    let reports = Rope::reports(site)?;
    Ok(reports.iter().map(|r| keys(r).context("a lane has a key")).collect::<Result<Vec<_>>>()?.concat())
}

/// Waits until every gateway of the site uses only keys that are not in `old`, and is done with it.
fn wait_replaced(site: &Site, old: &[String]) -> Result<()> {
    wait_for("the keys to be replaced", LIMIT, || {
        let now = keys(site)?;
        ensure!(now.iter().all(|key| !old.contains(key)), "{now:?}, before {old:?}");
        let reports = Rope::reports(site)?;
        ensure!(reports.iter().all(|r| r["rotation"].is_null()), "{reports:#?}");
        Ok(())
    })
}

#[test]
fn keys_are_replaced_under_traffic() -> Result<()> {
    let mut rope = Rope::start("rotation")?;
    let ends = Ends::new(&rope)?;
    let before = [keys(&rope.west)?, keys(&rope.east)?];
    ends.lose_nothing(&mut rope, "one gateway's keys", |rope| {
        let node = rope.west.node(1).name.clone();
        let done = rotate(rope, &rope.west, &["--node", &node, "--wait", "60s"])?;
        ensure!(done.contains("Rotated"), "{done}");
        Ok(())
    })?;
    let [west, east] = [keys(&rope.west)?, keys(&rope.east)?];
    ensure!(east == before[1], "the other site's keys are its own");
    let kept = west.iter().filter(|key| before[0].contains(key)).count();
    ensure!(kept == west.len() / 2, "one gateway of two has new keys: {west:?}, before {:?}", before[0]);

    ends.lose_nothing(&mut rope, "all gateways' keys at once", |rope| {
        for site in [&rope.west, &rope.east] {
            rotate(rope, site, &[])?;
        }
        wait_replaced(&rope.west, &west)?;
        wait_replaced(&rope.east, &east)
    })?;
    ends.lose_nothing(&mut rope, "asked twice", |rope| {
        let again = keys(&rope.west)?;
        rotate(rope, &rope.west, &[])?;
        rotate(rope, &rope.west, &["--wait", "60s"])?;
        wait_replaced(&rope.west, &again)
    })?;
    rope.pass()
}

#[test]
fn a_rotation_survives_what_happens_on_the_way() -> Result<()> {
    let mut rope = Rope::start("rotation2")?;
    let ends = Ends::new(&rope)?;
    let before = keys(&rope.west)?;
    rope.lab.take_broker()?.kill()?;
    ends.lose_nothing(&mut rope, "the broker is away", |rope| {
        rotate(rope, &rope.west, &[])?;
        wait_for("next keys to be made", LIMIT, || {
            let reports = Rope::reports(&rope.west)?;
            ensure!(reports.iter().all(|r| r["rotation"]["totalPaths"] == 2), "{reports:#?}");
            Ok(())
        })?;
        thread::sleep(Duration::from_secs(3));
        ensure!(keys(&rope.west)? == before, "nothing is replaced by what the others can't know");
        let status = rope.west.status(&rope.lab, &[])?;
        ensure!(status.stdout.contains("its keys are being replaced"), "{status:?}");
        Ok(())
    })?;
    // With two gateways, one that restarts without a word costs what a crash costs; its next keys it must not lose.
    let next = |report: &Value| report["lanes"][0]["nextKey"].as_str().map(str::to_owned);
    let made: Vec<_> = Rope::reports(&rope.west)?.iter().map(next).collect();
    rope.west.kill(1, "hawser-gateway")?;
    rope.west.start(1, "hawser-gateway")?;
    rope.wait_up()?;
    let kept: Vec<_> = Rope::reports(&rope.west)?.iter().map(next).collect();
    ensure!(made == kept && made.iter().all(Option::is_some), "made {made:?}, kept {kept:?}");

    rope.lab.start_broker()?;
    wait_replaced(&rope.west, &before)?;
    let after = keys(&rope.west)?;
    ensure!(made.iter().flatten().all(|key| after.contains(key)), "{made:?} are in use: {after:?}");
    // A gateway of the others that was away meanwhile comes back by what is published.
    rope.east.kill(2, "hawser-gateway")?;
    rope.east.start(2, "hawser-gateway")?;
    rope.wait_up()?;
    ensure!(ends.tcp.alive(Duration::from_secs(10)) == ends.tcp.count(), "a connection broke");
    rope.pass()
}

const HOUR: Duration = Duration::from_secs(3600);

/// Gives a gateway that never ran keys that were made so long ago.
fn aged_keys(site: &Site, node: u8, age: Duration) -> Result<()> {
    let dir = site.node(node).state.join("gateway");
    fs::create_dir_all(&dir)?;
    fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
    for lane in 0..2_u8 {
        let path = dir.join(format!("lane-{lane}.key"));
        // 32 bytes that nobody else in this laboratory has.
        let letter = char::from(b'A' + 2 * node + lane);
        fs::write(&path, format!("{}=\n", letter.to_string().repeat(42) + "A"))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        File::open(&path)?.set_modified(SystemTime::now() - age)?;
    }
    Ok(())
}

fn replace_by_age(site: &Site, after: &str) -> Result<()> {
    let file = "membership.yaml";
    let text = fs::read_to_string(site.dir.join(file))?;
    let kept = text.lines().filter(|line| !line.contains("rotateKeysAfter"));
    let lines: Vec<&str> = kept.collect();
    site.write(file, &format!("{}\n  rotateKeysAfter: {after}\n", lines.join("\n")))
}

/// How many paths each gateway's replacement is about. The second one is asked first: where both are at it, they are at the
/// same time, as the first one began before.
fn turns(site: &Site) -> Result<[Option<u64>; 2]> {
    let of = |node: u8| -> Result<Option<u64>> {
        let report = admin::get(&site.node(node).state.join("gateway/admin.sock"), "/report")?;
        Ok(serde_json::from_str::<Value>(&report)?["rotation"]["totalPaths"].as_u64())
    };
    let second = of(2)?;
    Ok([of(1)?, second])
}

/// Whether the first gateway's status says that it is at it: others can wait only for what they are told.
fn is_told(site: &Site) -> Result<bool> {
    let dir = site.dir.join("generated").join(format!("gateway-{}", site.node(1).name)).join("status/GatewayNode");
    let statuses = fs::read_dir(&dir).with_context(|| format!("Failed to list {}", dir.display()))?;
    let texts = statuses.map(|file| Ok(fs::read_to_string(file?.path())?)).collect::<Result<Vec<_>>>()?;
    Ok(texts.iter().any(|text| text.contains("rotation:")))
}

#[test]
fn keys_are_replaced_by_age_one_gateway_after_the_other() -> Result<()> {
    let mut rope = Rope::prepare("rotation3", |site| site.lanes = Some(2))?;
    aged_keys(&rope.west, 1, 30 * HOUR)?;
    aged_keys(&rope.west, 2, 10 * HOUR)?;
    rope.join_all()?;
    rope.wait_up()?;
    let ends = Ends::new(&rope)?;
    let before = [keys(&rope.west)?, keys(&rope.east)?];
    ends.lose_nothing(&mut rope, "keys that are old", |rope| {
        // While the first can't come to an end, the second has to wait, however old its keys are: longer than it waits for word
        // of another one that is at it.
        rope.lab.take_broker()?.kill()?;
        replace_by_age(&rope.west, "20h")?;
        wait_for("the gateway with the oldest keys to begin", LIMIT, || {
            let turns = turns(&rope.west)?;
            ensure!(turns == [Some(2), None], "{turns:?}");
            ensure!(is_told(&rope.west)?, "not told to others yet");
            Ok(())
        })?;
        replace_by_age(&rope.west, "2h")?;
        thread::sleep(Duration::from_secs(7));
        let waiting = turns(&rope.west)?;
        ensure!(waiting == [Some(2), None] && keys(&rope.west)? == before[0], "{waiting:?}");

        rope.lab.start_broker()?;
        let mut seen = vec![waiting];
        wait_for("both to have new keys", LIMIT, || {
            let now = turns(&rope.west)?;
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            let keys = keys(&rope.west)?;
            ensure!(keys.iter().all(|key| !before[0].contains(key)) && now == [None, None], "{now:?}, {keys:?}");
            Ok(())
        })?;
        figure(format_args!("turns of the two gateways, paths each: {seen:?}"));
        ensure!(seen.contains(&[None, Some(2)]), "the second one's turn was not seen: {seen:?}");
        ensure!(!seen.iter().any(|turns| turns.iter().all(Option::is_some)), "both were at it: {seen:?}");
        Ok(())
    })?;
    ensure!(keys(&rope.east)? == before[1], "the other site's keys are its own");
    rope.pass()
}
