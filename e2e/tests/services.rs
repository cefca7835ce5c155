//! Exported services: names, both exporters, conflicts, leaving.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hawser_e2e::figure;
use hawser_e2e::rope::{LIMIT, Rope, WEB, WEB_PORTS};
use hawser_testbed::traffic::dns;
use hawser_testbed::{Site, Workload, wait_for};

const NXDOMAIN: &str = "Non-Existent Domain";

fn wait_gone(site: &Site, client: &Workload) -> Result<()> {
    wait_for("the name to go", LIMIT, || {
        let answer = dns::query(&client.ns, site.dns()[0], WEB, "A")?;
        ensure!(answer.rcode == NXDOMAIN, "{answer:?}");
        Ok(())
    })
}

#[test]
fn an_export_is_a_name_in_the_other_site_until_it_is_unexported() -> Result<()> {
    let rope = Rope::start("export")?;
    let web = Rope::web(&rope.west, 3)?;
    let client = rope.east.add_workload(3)?;
    wait_gone(&rope.east, &client)?;

    let start = Instant::now();
    rope.export(&rope.west)?;
    let addresses = Rope::resolve(&rope.east, &client)?;
    figure(format_args!("export to answer: {:?}", start.elapsed()));
    for address in addresses {
        let answer = Rope::ask_web(&client, address, LIMIT)?;
        ensure!(answer.starts_with("server=west"), "{answer}");
    }
    let srv = dns::query(&client.ns, rope.east.dns()[0], &format!("_http._tcp.{WEB}"), "SRV")?;
    ensure!(srv.data.len() == 1 && srv.data[0].contains(" 80 "), "{srv:?}");
    ensure!(web.http.served() >= 2, "{} requests reached west", web.http.served());

    let start = Instant::now();
    rope.west.hawser(&rope.lab, 1, &["unexport", "shop/web", "--wait", "0s"])?.success()?;
    wait_gone(&rope.east, &client)?;
    figure(format_args!("unexport to NXDOMAIN: {:?}", start.elapsed()));
    rope.pass()
}

#[test]
fn two_sites_export_one_name_and_both_serve() -> Result<()> {
    let rope = Rope::start("both")?;
    let _west = Rope::web(&rope.west, 1)?;
    let client = rope.east.add_workload(3)?;
    rope.export(&rope.west)?;
    Rope::resolve(&rope.east, &client)?;
    let _east = Rope::web(&rope.east, 2)?;
    rope.export(&rope.east)?;
    let [v4, v6] = Rope::resolve(&rope.east, &client)?;
    for address in [v4, v6] {
        let mut seen = BTreeSet::new();
        wait_for("answers of both sites", LIMIT, || {
            let answer = Rope::ask_web(&client, address, Duration::from_secs(2))?;
            seen.insert(answer.split(' ').next().unwrap_or_default().to_owned());
            ensure!(seen.len() == 2, "only {seen:?}");
            Ok(())
        })?;
    }
    rope.pass()
}

#[test]
fn conflicting_ports_are_reported_on_both_exports() -> Result<()> {
    let rope = Rope::start("conflict")?;
    let west = Rope::web(&rope.west, 3)?;
    rope.export(&rope.west)?;
    let client = rope.east.add_workload(3)?;
    let [vip, _] = Rope::resolve(&rope.east, &client)?;

    // Exports are dated to the second; west's must be the older one.
    let exported = std::time::SystemTime::now();
    wait_for("the next second", LIMIT, || {
        ensure!(exported.elapsed()? > Duration::from_millis(1100));
        Ok(())
    })?;
    let east = Rope::web(&rope.east, 3)?;
    rope.east.service("web", false, &[("http", "TCP", 81, 8080), WEB_PORTS[1]], &[&east.workload])?;
    rope.export(&rope.east)?;
    for site in [&rope.west, &rope.east] {
        wait_for("the conflict's condition", LIMIT, || {
            let outcome = site.hawser(&rope.lab, 1, &["status", "-o", "json"])?;
            ensure!(outcome.stdout.contains("PortConflict"), "{}: {outcome:?}", site.options.cluster);
            Ok(())
        })
        .with_context(|| site.options.cluster.clone())?;
    }
    // The older export's port wins; only its endpoints serve it.
    for _ in 0..10 {
        let answer = Rope::ask_web(&client, vip, LIMIT)?;
        ensure!(answer.starts_with("server=west"), "{answer}");
    }
    ensure!(west.http.served() >= 10, "{}", west.http.served());
    rope.pass()
}
