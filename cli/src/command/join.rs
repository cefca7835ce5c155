//! `hawser join`: token → key → certificate → `secrets/`; then the agent takes it up.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use hawser_api::convert;
use hawser_api::core::ObjectMeta;
use hawser_api::hawser::{Membership, MembershipSpec};
use hawser_api::labels;
use hawser_api::mcs::ClusterProperty;
use hawser_broker_client::{Error, Join, JoinToken, Joined, MemberInfo, member};
use hawser_broker_pki::Pin;
use hawser_local_api::Key;
use hawser_model::PrefixPolicy;
use ipnet::IpNet;
use serde_json::json;
use tonic::Code;
use zeroize::Zeroizing;

use crate::args::JoinArgs;
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};
use crate::progress::{Progress, note};
use crate::site::Site;

/// A token is a line of a few hundred bytes.
const MAX_TOKEN_FILE: u64 = 64 << 10;

/// `hawser join`.
///
/// # Errors
/// A token or Membership that is not valid, what the broker refuses, and being unable to reach it.
pub async fn run(output: Output, args: JoinArgs) -> anyhow::Result<Exit> {
    let token: JoinToken = read_token(&args.token_file)?.parse()?;
    let site = Site::open(&args.site).await?;
    let before = site.membership().await?;
    let membership = membership(&site, &args, &token, before.as_ref())?;
    if args.has_membership() {
        write_membership(&site, &membership).await?;
    }
    if let Some(info) = already(&site, &token, args.replace).await? {
        note(&format!("{} is a member of {} already", info.cluster_id, info.cluster_set));
        site.identity.ensure_probe_key()?;
        return finish(output, &site, &args, &info, 0).await;
    }
    let mut progress = Progress::new();
    progress.say(format!("asking the broker to take {} in", token.cluster_id));
    let key = site.identity.join_key()?;
    let prefixes = membership.spec.prefixes.clone();
    let joined = member::join(Join { token: &token, key, replace: args.replace, prefixes }).await;
    if joined.is_err() && args.has_membership() && before.is_none() {
        // Nothing came of it: the site is as it was.
        site.client.delete::<Membership>(Key::cluster(labels::MEMBERSHIP)).await?;
    }
    if let Err(Error::Refused(status)) = &joined
        && status.code() == Code::PermissionDenied
    {
        // Not with this key: the next attempt is another one.
        site.identity.discard_join_key()?;
    }
    let Joined { identity, roster } = joined.context("Failed to join")?;
    drop(progress);

    // What the agent needs is there before the identity says "joined".
    site.identity.ensure_probe_key()?;
    site.identity.store(&identity)?;
    let revision = member::verify_roster(&identity.ca, &roster)?.revision;
    finish(output, &site, &args, &identity.info, revision).await
}

impl JoinArgs {
    /// Whether the command line says what a Membership manifest would.
    fn has_membership(&self) -> bool {
        !(self.prefixes.is_empty() && self.vip_prefixes.is_empty() && self.dns_address.is_empty())
    }
}

fn read_token(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_TOKEN_FILE).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_TOKEN_FILE).read_to_string(&mut text))
    };
    read.map_err(|e| Failure::new(Exit::Usage, format!("Failed to read the token from {}: {e}", path.display())))?;
    Ok(text)
}

/// The membership as it will be: what the command line says, or the site's manifest.
fn membership(
    site: &Site,
    args: &JoinArgs,
    token: &JoinToken,
    existing: Option<&Membership>,
) -> anyhow::Result<Membership> {
    let membership = match (args.has_membership(), existing) {
        (true, _) => from_flags(args, token),
        (false, Some(existing)) => existing.clone(),
        (false, None) => {
            let message = format!("there is no Membership in {}", site.path.display());
            let remedy = "write one, or say what it would hold: --prefixes, --vip-prefixes, --dns-address";
            return Err(Failure::new(Exit::Usage, message).remedy(remedy).into());
        }
    };
    check(&membership, token)?;
    Ok(membership)
}

/// Writes the Membership that the command line describes; an operator's own is not overruled.
async fn write_membership(site: &Site, membership: &Membership) -> anyhow::Result<()> {
    match site.client.apply(membership).await {
        Err(hawser_local_api::Error::Owned { owner, .. }) => {
            let message = format!("the site has a Membership already, in {owner}");
            Err(Failure::new(Exit::Conflict, message).remedy("change that manifest and leave the flags out").into())
        }
        other => other.context("Failed to write the Membership"),
    }
}

fn from_flags(args: &JoinArgs, token: &JoinToken) -> Membership {
    let texts = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect();
    let spec = MembershipSpec {
        cluster_id: token.cluster_id.to_string(),
        brokers: token.brokers.iter().map(ToString::to_string).collect(),
        prefixes: texts(&args.prefixes),
        vip_prefixes: texts(&args.vip_prefixes),
        dns_address: args.dns_address.iter().map(ToString::to_string).collect(),
        drained_nodes: Vec::new(),
        rotate_keys_after: None,
        peer_max_age: None,
    };
    let metadata = ObjectMeta { name: Some(labels::MEMBERSHIP.to_owned()), ..ObjectMeta::default() };
    Membership { metadata, spec, status: None }
}

/// What the broker would refuse anyway is refused before a token is used for it.
fn check(membership: &Membership, token: &JoinToken) -> anyhow::Result<()> {
    let plan = convert::membership(membership).map_err(|errors| {
        let all = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n       ");
        Failure::new(Exit::Usage, all)
    })?;
    let wrong = |exit, field: &str, rule: String| {
        let mut failure = Failure::new(exit, format!("Membership {}: {field}: {rule}", labels::MEMBERSHIP));
        failure.field = Some(field.to_owned());
        failure.rule = Some(rule);
        failure
    };
    if plan.cluster != token.cluster_id {
        let rule = format!("it is {:?}, but the token is for {:?}", plan.cluster, token.cluster_id);
        let failure = wrong(Exit::Conflict, "spec.clusterId", rule);
        return Err(failure.remedy("use a token for this cluster: hawser token create").into());
    }
    if plan.prefixes.is_empty() {
        let failure = wrong(Exit::Usage, "spec.prefixes", "it is empty".to_owned());
        return Err(failure.remedy("list the CIDRs that others route here").into());
    }
    PrefixPolicy::default()
        .check(&plan.prefixes)
        .map_err(|e| wrong(Exit::Usage, "spec.prefixes", format!("{}: {}", e.prefix, e.rule)).remedy(e.remedy))?;
    Ok(())
}

/// The membership this site has already, where joining would only repeat it.
async fn already(site: &Site, token: &JoinToken, replace: bool) -> anyhow::Result<Option<MemberInfo>> {
    let Some(identity) = site.identity.load()? else { return Ok(None) };
    let info = identity.info;
    if Pin::of_cert(&identity.ca)? != token.ca_pin || info.cluster_id != token.cluster_id {
        let message = format!("the site is {} of the cluster set {} already", info.cluster_id, info.cluster_set);
        let remedy = format!("leave it first: hawser leave --site {}", site.path.display());
        return Err(Failure::new(Exit::Conflict, message).remedy(remedy).into());
    }
    let ended = site
        .membership()
        .await?
        .and_then(|m| m.status)
        .is_some_and(|status| status.conditions.iter().any(|c| c.type_ == "Joined" && c.status == "False"));
    Ok(if replace || ended { None } else { Some(info) })
}

/// Waits for the agent, then says what was reached.
async fn finish(
    output: Output,
    site: &Site,
    args: &JoinArgs,
    info: &MemberInfo,
    revision: u64,
) -> anyhow::Result<Exit> {
    let taken_up = args.wait.is_zero() || taken_up(site, args, revision).await?;
    let state = if args.wait.is_zero() {
        "Requested"
    } else if taken_up {
        "Joined"
    } else {
        "Pending"
    };
    let MemberInfo { cluster_set, cluster_id, generation, .. } = info;
    let document =
        json!({ "cluster": cluster_id, "clusterSet": cluster_set, "generation": generation, "state": state });
    output::data(output, &document, &format!("{cluster_id} is a member of {cluster_set} (generation {generation})"));
    if !taken_up {
        let message = format!("{cluster_id} joined, but the site's agent has not taken it up within {:?}", args.wait);
        return Err(Failure::new(Exit::TimedOut, message)
            .remedy(format!("start hawser-agent, then: hawser status --site {}", site.path.display()))
            .into());
    }
    if output == Output::Table {
        note(&format!("next: hawser status --site {}", site.path.display()));
    }
    Ok(Exit::Ok)
}

async fn taken_up(site: &Site, args: &JoinArgs, revision: u64) -> anyhow::Result<bool> {
    let mut progress = Progress::new();
    progress.say("waiting for the agent to take the membership up");
    let started = tokio::time::Instant::now();
    let key = Key::cluster(labels::MEMBERSHIP);
    let revision = i64::try_from(revision).unwrap_or(i64::MAX);
    let joined = site.wait::<Membership>(&key, args.wait, |membership| {
        let status = membership.and_then(|m| m.status.as_ref());
        status.is_some_and(|status| {
            status.roster_revision >= revision
                && status.conditions.iter().any(|c| c.type_ == "Joined" && c.status == "True")
        })
    });
    if !joined.await? {
        return Ok(false);
    }
    let left = args.wait.saturating_sub(started.elapsed());
    site.wait::<ClusterProperty>(&Key::cluster(labels::PROPERTY_CLUSTER_SET), left, |p| p.is_some()).await
}
