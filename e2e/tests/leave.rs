//! `hawser leave` leaves nothing behind on any node.

use std::time::Duration;

use anyhow::{Result, ensure};
use hawser_e2e::rope::{LIMIT, Rope};
use hawser_testbed::{Netns, wait_for};

/// What is in the kernel: rules, routes, devices, addresses, neighbours, forwarding entries, nft. Forwarding itself stays
/// on, as others may count on it by now, and so do ephemeral neighbours.
fn kernel_state(ns: &Netns) -> Result<String> {
    let mut all = String::new();
    for line in [
        "rule show",
        "-6 rule show",
        "route show table all",
        "-6 route show table all",
        "-o link show",
        "-o addr show",
        "neigh show nud permanent",
    ] {
        all.push_str(&ns.ip(line)?);
    }
    all.push_str(&ns.output("bridge", &["fdb", "show"], None)?);
    all.push_str(&ns.output("nft", &["list", "ruleset"], None)?);
    // What the kernel notes by itself: groups that somebody listened to, cached routes.
    let lines = all.lines().filter(|line| !line.contains("ff02::") && !line.contains("cache"));
    let mut lines: Vec<_> = lines.map(|line| line.trim_end().to_owned()).collect();
    lines.sort();
    Ok(lines.join("\n"))
}

fn difference(before: &str, after: &str) -> String {
    let lines = |a: &str, b: &str, sign: char| {
        let b: Vec<_> = b.lines().collect();
        a.lines().filter(|line| !b.contains(line)).map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    lines(before, after, '-') + &lines(after, before, '+')
}

#[test]
fn a_site_that_leaves_is_clean_and_forgotten() -> Result<()> {
    let mut rope = Rope::prepare("leave", |_| {})?;
    let before = rope.east.nodes.iter().map(|node| kernel_state(&node.ns)).collect::<Result<Vec<_>>>()?;
    rope.join_all()?;
    rope.wait_up()?;
    for (node, before) in rope.east.nodes.iter().zip(&before) {
        let made = difference(before, &kernel_state(&node.ns)?);
        ensure!(made.contains("hawser-vx") && made.contains("table inet hawser"), "{}: {made}", node.name);
    }
    rope.east.hawser(&rope.lab, 1, &["leave", "--timeout", "30s"])?.success()?;
    for (node, before) in rope.east.nodes.iter().zip(&before) {
        wait_for(&format!("{} to be clean", node.name), LIMIT, || {
            let left = difference(before, &kernel_state(&node.ns)?);
            ensure!(left.is_empty(), "{left}");
            Ok(())
        })?;
    }
    rope.west.wait_paths(0, 0, Duration::from_secs(20))?;
    rope.pass()
}
