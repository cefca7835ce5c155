//! The nft tables, loaded by the `nft` program in one transaction.
//!
//! `inet hawser` is replaced as a whole; `inet hawser-affinity` keeps its sets (which clients have which endpoint) and gets
//! new chains. An empty chain named after the ruleset's digest says what is loaded, so that a restarted agent leaves it alone;
//! a listing remembered from then on shows when somebody else changed it.

use std::process::Stdio;

use hawser_route_plan::Ruleset;
use hawser_route_plan::ruleset::{TABLE, TABLE_AFFINITY};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::error::Error;

/// What is known to be loaded.
#[derive(Debug, Default)]
pub(crate) struct Nft {
    seen: Option<Seen>,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    ruleset: String,
    listing: [u8; 32],
}

impl Nft {
    /// Makes the tables what they should be; says what was done, if anything.
    pub(crate) async fn converge(&mut self, wanted: &Ruleset) -> Result<Option<&'static str>, Error> {
        let main = list(TABLE).await?;
        let affinity = list(TABLE_AFFINITY).await?;
        if wanted.is_empty() {
            self.seen = None;
            return remove_tables(main.is_some(), affinity.is_some()).await;
        }
        let digest = wanted.digest();
        let now = Seen { ruleset: digest.clone(), listing: fingerprint(main.as_ref(), affinity.as_ref()) };
        let loaded = main.as_ref().is_some_and(|t| names(t, "chain").any(|n| n == marker(&digest)))
            && affinity.is_some() != wanted.affinity.is_empty();
        if loaded && self.seen.as_ref().is_none_or(|seen| *seen == now) {
            self.seen = Some(now);
            return Ok(None);
        }
        // One that is loaded but was not seen to be was broken off before it was looked at.
        let drifted = self.seen.as_ref().is_some_and(|seen| seen.ruleset == digest);
        run(&transaction(wanted, &digest, affinity.as_ref()), "load the nft tables").await?;
        let listing = fingerprint(list(TABLE).await?.as_ref(), list(TABLE_AFFINITY).await?.as_ref());
        self.seen = Some(Seen { ruleset: digest, listing });
        Ok(Some(if drifted { "restored the nft tables that somebody changed" } else { "loaded the nft tables" }))
    }
}

fn marker(digest: &str) -> String {
    format!("ruleset-{digest}")
}

fn named(table: &str, kind: &str, name: &str) -> Value {
    json!({ kind: { "family": "inet", "table": table, "name": name } })
}

fn table(name: &str) -> Value {
    json!({ "table": { "family": "inet", "name": name } })
}

/// Everything as one list of commands: the kernel takes all or nothing, between two packets.
fn transaction(wanted: &Ruleset, digest: &str, affinity: Option<&Value>) -> Vec<Value> {
    let mut commands =
        vec![json!({ "add": table(TABLE) }), json!({ "delete": table(TABLE) }), json!({ "add": table(TABLE) })];
    commands.extend(wanted.main.iter().map(|statement| json!({ "add": statement })));
    commands.push(json!({ "add": named(TABLE, "chain", &marker(digest)) }));
    if wanted.affinity.is_empty() {
        commands.extend(affinity.map(|_| json!({ "delete": table(TABLE_AFFINITY) })));
        return commands;
    }
    commands.push(json!({ "add": table(TABLE_AFFINITY) }));
    if let Some(existing) = affinity {
        commands.extend(names(existing, "map").map(|n| json!({ "flush": named(TABLE_AFFINITY, "map", n) })));
        commands.extend(names(existing, "chain").map(|n| json!({ "flush": named(TABLE_AFFINITY, "chain", n) })));
        for kind in ["chain", "set", "map"] {
            let stays = |name: &str| wanted.affinity.iter().any(|s| s[kind]["name"] == name);
            let gone = names(existing, kind).filter(|n| !stays(n));
            commands.extend(gone.map(|n| json!({ "delete": named(TABLE_AFFINITY, kind, n) })));
        }
    }
    // A set's name says all about it; the kernel would call one that packets have filled another.
    let kept = |s: &Value| {
        affinity.is_some_and(|a| s["set"]["name"].as_str().is_some_and(|n| names(a, "set").any(|k| k == n)))
    };
    commands.extend(wanted.affinity.iter().filter(|s| !kept(s)).map(|statement| json!({ "add": statement })));
    commands
}

async fn remove_tables(main: bool, affinity: bool) -> Result<Option<&'static str>, Error> {
    let there = [(main, TABLE), (affinity, TABLE_AFFINITY)];
    let commands: Vec<Value> =
        there.iter().filter(|(there, _)| *there).map(|(_, name)| json!({ "delete": table(name) })).collect();
    if commands.is_empty() {
        return Ok(None);
    }
    run(&commands, "remove the nft tables").await?;
    Ok(Some("removed the nft tables"))
}

/// Runs commands as one transaction.
pub(crate) async fn run(commands: &[Value], action: &str) -> Result<(), Error> {
    let input = json!({ "nftables": commands }).to_string();
    let output = exec(&["-j", "-f", "-"], Some(input), action).await?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Nft { action: action.to_owned(), message })
}

/// What `nft -j` says to a question; none where the thing asked for does not exist.
pub(crate) async fn ask(args: &[&str]) -> Result<Option<Value>, Error> {
    let action = format!("nft {}", args.join(" "));
    let args: Vec<&str> = ["-j"].iter().chain(args).copied().collect();
    let output = exec(&args, None, &action).await?;
    if output.status.success() {
        let answer = serde_json::from_slice(&output.stdout);
        return answer.map(Some).map_err(|e| Error::Nft { action, message: e.to_string() });
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if message.contains("No such file or directory") { Ok(None) } else { Err(Error::Nft { action, message }) }
}

async fn exec(args: &[&str], input: Option<String>, action: &str) -> Result<std::process::Output, Error> {
    let error = |e| Error::io(format!("{action}: run nft"))(e);
    let mut child = Command::new("nft")
        .args(args)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(error)?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // A program that ends without reading says why on stderr.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    child.wait_with_output().await.map_err(error)
}

/// A table without the contents of sets that packets fill.
async fn list(name: &str) -> Result<Option<Value>, Error> {
    if name == TABLE_AFFINITY {
        ask(&["-t", "list", "table", "inet", name]).await
    } else {
        ask(&["list", "table", "inet", name]).await
    }
}

/// The names of a table's things of a kind.
fn names<'a>(listing: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a str> {
    listing["nftables"].as_array().into_iter().flatten().filter_map(move |s| s[kind]["name"].as_str())
}

/// Tells listings apart by what they do, not by what was counted or in which order sets are kept.
fn fingerprint(main: Option<&Value>, affinity: Option<&Value>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for listing in [main, affinity] {
        hash.update(listing.map(normal).unwrap_or_default().to_string().as_bytes());
        hash.update([0]);
    }
    hash.finalize().into()
}

fn normal(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(k, _)| !["handle", "metainfo", "packets", "bytes"].contains(&k.as_str()));
            let kept = kept.map(|(key, value)| {
                let mut value = normal(value);
                if let (Value::Array(items), "elem" | "set") = (&mut value, key.as_str()) {
                    items.sort_by_cached_key(Value::to_string);
                }
                (key.clone(), value)
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(normal).collect()),
        other => other.clone(),
    }
}
