//! `FORWARD` chains of others whose policy is to drop (a Docker host's): an accept in a table of ours does not help there, so
//! our rule goes into that chain too, in front, marked as ours.
//!
//! Chains made by nft or iptables-nft are seen by `nft`; iptables-legacy has a world of its own, asked by its programs where
//! the kernel says that it is in use.

use std::collections::BTreeSet;
use std::fs;

use hawser_route_plan::ruleset::{TABLE, TABLE_AFFINITY};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::error::Error;
use crate::nft;

const COMMENT: &str = "hawser";

/// A base chain of somebody else that drops what it does not know.
struct Chain {
    family: String,
    table: String,
    name: String,
}

/// Makes sure that packets of these devices pass; with no devices, removes our rules. Says what was done.
pub(crate) async fn converge(devices: &BTreeSet<&'static str>) -> Result<Vec<String>, Error> {
    let mut done = nft_chains(devices).await?;
    for (names, program) in
        [("/proc/net/ip_tables_names", "iptables-legacy"), ("/proc/net/ip6_tables_names", "ip6tables-legacy")]
    {
        if fs::read_to_string(names).is_ok_and(|tables| tables.lines().any(|t| t == "filter")) {
            done.extend(legacy(program, devices).await);
        }
    }
    Ok(done)
}

async fn nft_chains(devices: &BTreeSet<&'static str>) -> Result<Vec<String>, Error> {
    let mut commands = Vec::new();
    let mut done = Vec::new();
    for chain in forward_chains().await? {
        let Chain { family, table, name } = &chain;
        let Some(listing) = nft::ask(&["-a", "list", "chain", family, table, name]).await? else { continue };
        let ours: Vec<&Value> = listing["nftables"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|s| &s["rule"])
            .filter(|r| r["comment"] == COMMENT)
            .collect();
        if devices.is_empty() {
            let of = |r: &Value| json!({ "family": family, "table": table, "chain": name, "handle": r["handle"] });
            commands.extend(ours.iter().map(|r| json!({ "delete": { "rule": of(r) } })));
            if !ours.is_empty() {
                done.push(format!("removed our rules from {family} {table} {name}"));
            }
        } else if chain_drops(&listing) && ours.len() != 2 * devices.len() {
            let of = |r: &Value| json!({ "family": family, "table": table, "chain": name, "handle": r["handle"] });
            commands.extend(ours.iter().map(|r| json!({ "delete": { "rule": of(r) } })));
            commands.extend(devices.iter().flat_map(|d| {
                ["iifname", "oifname"].map(|key| {
                    let expr = json!([
                        { "match": { "op": "==", "left": { "meta": { "key": key } }, "right": d } },
                        { "accept": null },
                    ]);
                    let rule =
                        json!({ "family": family, "table": table, "chain": name, "expr": expr, "comment": COMMENT });
                    json!({ "insert": { "rule": rule } })
                })
            }));
            done.push(format!("{family} {table} {name} drops by policy: our devices pass it now"));
        }
    }
    if !commands.is_empty() {
        nft::run(&commands, "let our devices pass other FORWARD chains").await?;
    }
    Ok(done)
}

fn chain_drops(listing: &Value) -> bool {
    listing["nftables"].as_array().into_iter().flatten().any(|s| s["chain"]["policy"] == "drop")
}

async fn forward_chains() -> Result<Vec<Chain>, Error> {
    let Some(listing) = nft::ask(&["list", "chains"]).await? else { return Ok(Vec::new()) };
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let chains = listing["nftables"].as_array().into_iter().flatten().map(|s| &s["chain"]);
    Ok(chains
        .filter(|c| c["hook"] == "forward" && c["type"] == "filter")
        .filter(|c| ["ip", "ip6", "inet"].iter().any(|f| c["family"] == *f))
        .filter(|c| c["table"] != TABLE && c["table"] != TABLE_AFFINITY)
        .filter_map(|c| Some(Chain { family: text(&c["family"])?, table: text(&c["table"])?, name: text(&c["name"])? }))
        .collect())
}

/// The same by iptables-legacy. A host without the program can't be helped from here; it is told.
async fn legacy(program: &str, devices: &BTreeSet<&'static str>) -> Vec<String> {
    let run = async |args: &[&str]| Command::new(program).args(["-w", "5"]).args(args).output().await;
    let policy = match run(&["-S", "FORWARD"]).await {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => {
            tracing::debug!(%program, %error, "iptables-legacy is in use here but can't be asked");
            return Vec::new();
        }
    };
    let drops = policy.lines().any(|l| l == "-P FORWARD DROP");
    let mut done = Vec::new();
    for device in hawser_route_plan::routes::DEVICES {
        for direction in ["-i", "-o"] {
            let rule = [direction, device, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"];
            let with = |verb| [[verb, "FORWARD"].as_slice(), rule.as_slice()].concat();
            let there = run(&with("-C")).await.is_ok_and(|o| o.status.success());
            let wanted = drops && devices.contains(device);
            let verb = match (there, wanted, devices.is_empty()) {
                (false, true, _) => "-I",
                (true, _, true) => "-D",
                _ => continue,
            };
            if run(&with(verb)).await.is_ok_and(|o| o.status.success()) {
                done.push(format!("{program} {verb} FORWARD {direction} {device}"));
            }
        }
    }
    done
}
