//! `hawser leave` leaves nothing behind on any node.

use std::time::Duration;

use anyhow::{Result, ensure};
use hawser_e2e::rope::{LIMIT, Rope};
use hawser_testbed::{Netns, wait_for};

/// Everything of the kernel that Hawser could have touched.
fn kernel_state(ns: &Netns) -> Result<String> {
    let mut all = String::new();
    for line in
        ["rule show", "-6 rule show", "route show table all", "-6 route show table all", "-o link show", "-o addr show"]
    {
        all.push_str(&ns.ip(line)?);
    }
    all.push_str(&ns.output("nft", &["list", "ruleset"], None)?);
    // Routes of the kernel's own come and go with time; counters and lifetimes differ.
    let lines = all.lines().filter(|line| line.contains("hawser") || line.contains("4857") || line.contains("4858"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_site_that_leaves_is_clean_and_forgotten() -> Result<()> {
    let rope = Rope::start("leave")?;
    ensure!(!kernel_state(&rope.east.node(3).ns)?.is_empty(), "a member's node must show Hawser's routes");
    rope.east.hawser(&rope.lab, 1, &["leave", "--timeout", "30s"])?.success()?;
    for node in &rope.east.nodes {
        wait_for(&format!("{} to be clean", node.name), LIMIT, || {
            let left = kernel_state(&node.ns)?;
            ensure!(left.is_empty(), "{left}");
            Ok(())
        })?;
    }
    rope.west.wait_paths(0, 0, Duration::from_secs(20))?;
    rope.pass()
}
