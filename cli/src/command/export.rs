//! `hawser export`, `hawser unexport`: a ServiceExport in `generated/cli/`.

use anyhow::Context;
use hawser_api::core::{Condition, ObjectMeta};
use hawser_api::mcs::{ServiceExport, ServiceExportSpec, ServiceImport};
use hawser_local_api::{Error, Key};
use hawser_model::ServiceName;
use serde_json::json;

use crate::args::ExportArgs;
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};
use crate::progress::{Progress, note};
use crate::site::Site;

/// `hawser export`.
///
/// # Errors
/// What makes the export invalid, clashes with others' exports (5), or is not done in time.
pub async fn export(output: Output, args: ExportArgs) -> anyhow::Result<Exit> {
    let ExportArgs { service, site, wait } = args;
    let site = Site::open(&site).await?;
    let key = key(&service);
    let metadata = ObjectMeta {
        namespace: Some(service.namespace.to_string()),
        name: Some(service.name.to_string()),
        ..ObjectMeta::default()
    };
    let wanted = ServiceExport { metadata, spec: ServiceExportSpec::default(), status: None };
    match site.client.apply(&wanted).await {
        Ok(()) => {}
        Err(Error::Owned { owner, .. }) => note(&format!("{service} is exported by {owner} already")),
        Err(error) => return Err(error).context("Failed to write the export"),
    }
    let mut conditions = Vec::new();
    let mut outcome = if wait.is_zero() { Outcome::Requested } else { Outcome::Pending };
    if !wait.is_zero() {
        let mut progress = Progress::new();
        site.wait::<ServiceExport>(&key, wait, |export| {
            conditions = export.and_then(|e| e.status.clone()).unwrap_or_default().conditions;
            outcome = judge(&conditions);
            progress.say(explain(&service, &conditions));
            outcome != Outcome::Pending
        })
        .await?;
    }
    report(output, &service, outcome, &conditions, wait)
}

/// How an export stands, by its conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Written; nobody waits.
    Requested,
    /// Nobody has said anything final.
    Pending,
    /// The others have it.
    Exported,
    /// The others have it, but another export of the same name differs.
    Conflict,
    /// It can't be exported as it is.
    Failed,
}

fn judge(conditions: &[Condition]) -> Outcome {
    let is = |type_: &str, status: &str| conditions.iter().find(|c| c.type_ == type_ && c.status == status);
    if is("Valid", "False").is_some() || is("Ready", "False").is_some_and(|c| c.reason == "Failed") {
        Outcome::Failed
    } else if is("Ready", "True").is_none() {
        Outcome::Pending
    } else if is("Conflict", "True").is_some() {
        Outcome::Conflict
    } else {
        Outcome::Exported
    }
}

/// The condition that matters most, in words.
fn explain(service: &ServiceName, conditions: &[Condition]) -> String {
    let bad = |c: &&Condition| {
        let bad = if c.type_ == "Conflict" { "True" } else { "False" };
        c.status == bad
    };
    match conditions.iter().find(bad) {
        Some(c) => format!("{service}: {} ({}): {}", c.type_, c.reason, c.message),
        None => format!("{service}: waiting for the agent"),
    }
}

fn report(
    output: Output,
    service: &ServiceName,
    outcome: Outcome,
    conditions: &[Condition],
    wait: std::time::Duration,
) -> anyhow::Result<Exit> {
    let state = format!("{outcome:?}");
    let rows: Vec<_> = conditions
        .iter()
        .map(|c| json!({ "type": c.type_, "status": c.status, "reason": c.reason, "message": c.message }))
        .collect();
    let document = json!({ "service": service.to_string(), "state": state, "conditions": rows });
    let name = format!("{}.{}.svc.clusterset.local", service.name, service.namespace);
    let text = match outcome {
        Outcome::Exported | Outcome::Conflict => format!("{service} is exported as {name}"),
        Outcome::Requested => format!("{service} will be exported as {name}"),
        Outcome::Pending | Outcome::Failed => String::new(),
    };
    output::data(output, &document, &text);
    let why = explain(service, conditions);
    match outcome {
        Outcome::Exported | Outcome::Requested => Ok(Exit::Ok),
        Outcome::Failed => {
            let missing = conditions.iter().any(|c| c.status == "False" && c.reason == "NoService");
            Err(Failure::new(if missing { Exit::NotFound } else { Exit::Failed }, why).into())
        }
        Outcome::Conflict => Err(Failure::new(Exit::Conflict, why)
            .remedy("make the exports agree; until then the oldest decides")
            .into()),
        Outcome::Pending => Err(Failure::new(Exit::TimedOut, format!("not exported within {wait:?}; {why}"))
            .remedy("see that hawser-agent runs, and that the site is a member: hawser status")
            .into()),
    }
}

/// `hawser unexport`.
///
/// # Errors
/// An export that does not exist (3), one that an operator's file holds (5), one that is not gone in time.
pub async fn unexport(output: Output, args: ExportArgs) -> anyhow::Result<Exit> {
    let ExportArgs { service, site, wait } = args;
    let site = Site::open(&site).await?;
    let key = key(&service);
    let exports = site.client.list::<ServiceExport>().await.context("Failed to list ServiceExport")?;
    if !exports.iter().any(|export| hawser_local_api::Resource::key(export) == key) {
        return Err(Failure::new(Exit::NotFound, format!("{service} is not exported from this site")).into());
    }
    site.client.delete::<ServiceExport>(key.clone()).await.context("Failed to take the export back")?;
    let own = site.identity.info()?.map(|info| info.cluster_id.to_string());
    if let (Some(own), false) = (own, wait.is_zero()) {
        let mut progress = Progress::new();
        progress.say(format!("{service}: waiting until this cluster no longer serves it"));
        let gone = site.wait::<ServiceImport>(&key, wait, |import| {
            import.is_none_or(|i| !i.status.iter().flat_map(|s| &s.clusters).any(|c| c.cluster == own))
        });
        if !gone.await? {
            return Err(Failure::new(Exit::TimedOut, format!("{service} is still imported from {own} after {wait:?}"))
                .remedy("see that hawser-agent runs and reaches the broker: hawser status")
                .into());
        }
    }
    let document = json!({ "service": service.to_string(), "exported": false });
    output::data(output, &document, &format!("{service} is no longer exported from this site"));
    Ok(Exit::Ok)
}

fn key(service: &ServiceName) -> Key {
    Key::namespaced(&service.namespace, &service.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(type_: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: "words".into(),
            last_transition_time: hawser_api::core::Time(jiff::Timestamp::UNIX_EPOCH),
            observed_generation: None,
        }
    }

    #[test]
    fn conditions_decide() {
        let valid = condition("Valid", "True", "Valid");
        let ready = condition("Ready", "True", "Exported");
        let cases = [
            (vec![], Outcome::Pending),
            (vec![valid.clone()], Outcome::Pending),
            (vec![valid.clone(), condition("Ready", "False", "Pending")], Outcome::Pending),
            (vec![valid.clone(), condition("Ready", "False", "Failed")], Outcome::Failed),
            (vec![condition("Valid", "False", "NoService"), ready.clone()], Outcome::Failed),
            (vec![valid.clone(), ready.clone()], Outcome::Exported),
            (vec![valid.clone(), ready.clone(), condition("Conflict", "False", "NoConflicts")], Outcome::Exported),
            (vec![valid, ready, condition("Conflict", "True", "PortConflict")], Outcome::Conflict),
        ];
        for (conditions, outcome) in cases {
            assert_eq!(judge(&conditions), outcome, "{conditions:?}");
        }
    }
}
