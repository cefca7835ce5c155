//! The demo: what Hawser is for, step by step, each with what it proves.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hawser_testbed::traffic::{dns, http, udp};
use hawser_testbed::{Workload, wait_for};

use crate::report::Report;
use crate::rope::{LIMIT, Rope, WEB, Web};

/// What the demo says while it runs.
pub trait Narrator {
    /// A step begins.
    fn step(&mut self, text: &str);
    /// What the step showed.
    fn shows(&mut self, text: &str);
}

/// The story's actors, as it leaves them.
pub struct Stage {
    /// Broker and sites.
    pub rope: Rope,
    /// The server in `west`.
    pub web: Web,
    /// The client in `east`.
    pub client: Workload,
}

/// Tells the story.
///
/// # Errors
/// With the step that failed and what was seen.
pub fn tell(say: &mut dyn Narrator, report: &mut Report) -> Result<Stage> {
    say.step("Make two sites and a broker out of network namespaces");
    let mut rope = Rope::prepare("demo", |_| {})?;
    say.shows(
        "west and east: 2 gateways and 1 more node each, a LAN each, one WAN; no route to this machine's network",
    );

    say.step("Join both with one-use tokens");
    let start = Instant::now();
    rope.join_all()?;
    rope.wait_up()?;
    let joined = start.elapsed();
    say.shows(&format!("4 gateways, 2 paths each, all up, proven by probes inside the tunnels: {}", ms(joined)));
    report.at_most("join:tunnels-up", joined.as_secs_f64() * 1e3, "ms", 30_000.0);

    let web = Rope::web(&rope.west, 3)?;
    let client = rope.east.add_workload(3)?;
    export(&rope, &client, say, report)?;
    reach(&rope, &client, &web, say)?;
    capture_holds_no_plaintext(&rope, say)?;
    kill_gateway(&mut rope, &client, &web, say, report)?;
    unexport(&rope, &client, say, report)?;
    Ok(Stage { rope, web, client })
}

fn export(rope: &Rope, client: &Workload, say: &mut dyn Narrator, report: &mut Report) -> Result<()> {
    say.step("Ask east for web.shop before it is exported");
    let dns = rope.east.dns()[0];
    let before = wait_for("east's DNS", LIMIT, || {
        let answer = dns::query(&client.ns, dns, WEB, "A")?;
        ensure!(answer.rcode == NXDOMAIN, "{answer:?}");
        Ok(answer)
    })?;
    say.shows(&format!("{WEB} → {}", before.rcode));

    say.step("west: hawser export shop/web");
    let start = Instant::now();
    rope.export(&rope.west)?;
    let addresses = Rope::resolve(&rope.east, client)?;
    let took = start.elapsed();
    say.shows(&format!("{WEB} → {} and {}, {} after the command began", addresses[0], addresses[1], ms(took)));
    report.at_most("export:answer-in-dns", took.as_secs_f64() * 1e3, "ms", 5_000.0);
    Ok(())
}

const NXDOMAIN: &str = "Non-Existent Domain";

fn reach(rope: &Rope, client: &Workload, web: &Web, say: &mut dyn Narrator) -> Result<()> {
    say.step("east: curl http://web.shop.svc.clusterset.local");
    for family in ["-4", "-6"] {
        let url = "http://web.shop.svc.clusterset.local/";
        let answer = wait_for(&format!("curl {family} {url}"), LIMIT, || {
            client.ns.output("curl", &[family, "--silent", "--show-error", "--max-time", "2", url], None)
        })?;
        let own = if family == "-4" { client.v4.to_string() } else { client.v6.to_string() };
        ensure!(answer.trim() == format!("server=west client={own}"), "the source address was not kept: {answer}");
        say.shows(&format!("{family}: {} — the client's own address", answer.trim()));
    }
    let direct = SocketAddr::new(web.workload.v4.into(), 7);
    let answer = udp::ask(&client.ns, direct, Duration::from_secs(5))?;
    say.shows(&format!("by address, UDP {direct}: {answer}"));
    let served = web.http.served();
    ensure!(served >= 2, "the server in west served {served} requests");
    ensure!(rope.lab.broker()?.pid() > 0, "no broker");
    Ok(())
}

fn capture_holds_no_plaintext(rope: &Rope, say: &mut dyn Narrator) -> Result<()> {
    say.step("Look at the WAN's capture for what was said");
    let mut wireguard = 0;
    for entry in std::fs::read_dir(rope.lab.logs())? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("wan.pcap")) {
            let bytes = std::fs::read(&path)?;
            ensure!(!contains(&bytes, b"server=west"), "plaintext on the WAN, see {}", path.display());
            // A transport message: type 4 and three zero bytes after a UDP header.
            wireguard += bytes.windows(4).filter(|w| *w == [4, 0, 0, 0]).count();
        }
    }
    ensure!(wireguard > 0, "no WireGuard packet was captured");
    say.shows("WireGuard messages only, no word of the answer");
    Ok(())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn kill_gateway(
    rope: &mut Rope,
    client: &Workload,
    web: &Web,
    say: &mut dyn Narrator,
    report: &mut Report,
) -> Result<()> {
    say.step("Kill a gateway of west (-9) while 16 flows and a download run");
    let [vip, _] = Rope::resolve(&rope.east, client)?;
    let download = http::Download::start(&client.ns, SocketAddr::new(vip, 80), Duration::from_secs(6))?;
    let stream = udp::Stream::start(&client.ns, SocketAddr::new(web.workload.v4.into(), 7), 16)?;
    thread::sleep(Duration::from_secs(2));
    rope.west.kill(1, "hawser-gateway")?;
    thread::sleep(Duration::from_secs(3));
    let loss = stream.finish()?;
    let progress = download.finish().context("The download did not survive")?;
    ensure!(progress.complete, "the download broke: {progress:?}");
    let gap = loss.longest_gap.as_secs_f64() * 1e3;
    say.shows(&format!(
        "longest time without traffic of any flow: {gap:.0} ms; {} of {} datagrams lost; the download went on (longest stall {})",
        loss.lost(), loss.sent, ms(progress.longest_stall)
    ));
    report.at_most("gateway-killed:time-without-traffic", gap, "ms", 400.0);
    let status = rope.east.status(&rope.lab, &[])?;
    ensure!(status.code == 7, "status must exit 7 while a gateway is gone: {status:?}");
    say.shows(&format!("hawser status in east exits {}:\n{}", status.code, status.stdout.trim_end()));

    say.step("Start it again");
    let start = Instant::now();
    rope.west.start(1, "hawser-gateway")?;
    rope.wait_up()?;
    say.shows(&format!("all paths up after {} (hold-down included), with the keys it had", ms(start.elapsed())));
    Ok(())
}

fn unexport(rope: &Rope, client: &Workload, say: &mut dyn Narrator, report: &mut Report) -> Result<()> {
    say.step("west: hawser unexport shop/web");
    let start = Instant::now();
    rope.west.hawser(&rope.lab, 1, &["unexport", "shop/web", "--wait", "0s"])?.success()?;
    wait_for("the name to go", LIMIT, || {
        let answer = dns::query(&client.ns, rope.east.dns()[0], WEB, "A")?;
        ensure!(answer.rcode == NXDOMAIN, "{answer:?}");
        Ok(())
    })?;
    let took = start.elapsed();
    say.shows(&format!("the name is gone after {}", ms(took)));
    report.at_most("unexport:gone-from-dns", took.as_secs_f64() * 1e3, "ms", 5_000.0);
    Ok(())
}

fn ms(duration: Duration) -> String {
    if duration < Duration::from_secs(10) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}
