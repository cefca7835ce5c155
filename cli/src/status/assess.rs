//! Judges what was found. Pure: the same findings always give the same status.

use std::collections::BTreeSet;

use hawser_api::core::Condition;
use hawser_api::hawser::GatewayNode;
use hawser_api::labels;
use hawser_api::mcs::ServiceExport;

use super::cluster::{self, answers};
use super::model::{ConditionRow, Count, ExportRow, Finding, GatewayRow, Inputs, Severity, Status, Unready, Verdict};
use super::{keys, next};

/// The version of the JSON document.
const SCHEMA: &str = "hawser.dev/status/v1";
/// The agent renews at two thirds of 30 days; with less than this left it has failed to, repeatedly.
const CERTIFICATE_DAYS_LEFT: i64 = 5;

/// How the site stands.
#[must_use]
pub fn assess(inputs: &Inputs) -> Status {
    let mut why = Vec::new();
    let (mut clusters, mut paths) = (Vec::new(), Vec::new());
    let standing = standing(inputs);
    match standing {
        // What is missing is missing because of this.
        Standing::NotJoined => {
            if inputs.membership.is_none() {
                why.push(no_membership());
            }
            why.push(finding(Severity::Degraded, "membership", "this site has not joined a cluster set".to_owned()));
        }
        Standing::Removed(condition) => why.push(finding(Severity::Degraded, "membership", told(condition))),
        Standing::Member => {
            membership(inputs, &mut why);
            let silent = silent_gateways(inputs);
            processes(inputs, &mut why);
            gateways(inputs, &mut why);
            for remote in &inputs.remotes {
                let (row, findings) = cluster::row(inputs, remote, &silent);
                why.extend(findings);
                clusters.push(row);
            }
            paths = cluster::paths(inputs);
            exports(inputs, &mut why);
        }
    }
    for problem in &inputs.problems {
        why.push(finding(Severity::Degraded, "manifest", problem.clone()));
    }
    why.sort_by_key(|finding| finding.severity);

    let verdict = match (standing, why.iter().any(|f| f.severity == Severity::Degraded)) {
        (Standing::NotJoined, _) => Verdict::NotJoined,
        (Standing::Removed(_), _) => Verdict::Removed,
        (Standing::Member, true) => Verdict::Degraded,
        (Standing::Member, false) => Verdict::Healthy,
    };
    let status = inputs.membership.as_ref().and_then(|m| m.status.as_ref());
    Status {
        schema: SCHEMA,
        verdict,
        cluster_set: inputs.info.as_ref().map(|i| i.cluster_set.clone()),
        cluster: own_id(inputs),
        proof_age_ms: clusters.iter().filter_map(|c| c.proof_age_ms).max(),
        roster_revision: status.map_or(0, |s| s.roster_revision),
        certificate_expires: status.and_then(|s| s.certificate_expires.as_ref()).map(|t| t.0.to_string()),
        membership: status.map(|s| conditions(&s.conditions)).unwrap_or_default(),
        gateways: inputs.gateways.iter().map(|g| gateway_row(inputs, g)).collect(),
        exports: inputs.exports.iter().map(export_row).collect(),
        next: next::commands(inputs, verdict, &why, &clusters),
        clusters,
        paths,
        why,
    }
}

fn own_id(inputs: &Inputs) -> Option<String> {
    let spec = inputs.membership.as_ref().map(|m| m.spec.cluster_id.clone());
    inputs.info.as_ref().map(|i| i.cluster_id.to_string()).or(spec)
}

#[derive(Clone, Copy)]
enum Standing<'a> {
    NotJoined,
    /// The condition that says so.
    Removed(&'a Condition),
    Member,
}

fn standing(inputs: &Inputs) -> Standing<'_> {
    let status = inputs.membership.as_ref().and_then(|m| m.status.as_ref());
    let mut conditions = status.iter().flat_map(|s| &s.conditions);
    let removed = |c: &&Condition| {
        c.type_ == "Joined" && c.status == "False" && matches!(&*c.reason, "Revoked" | "Replaced" | "NotInRoster")
    };
    match conditions.find(removed) {
        _ if inputs.info.is_none() && !inputs.announced => Standing::NotJoined,
        Some(condition) if !inputs.announced => Standing::Removed(condition),
        _ => Standing::Member,
    }
}

fn no_membership() -> Finding {
    let text = format!("there is no Membership {:?} in this site", labels::MEMBERSHIP);
    finding(Severity::Degraded, "membership", text)
}

fn told(condition: &Condition) -> String {
    format!("{} is false ({}): {}", condition.type_, condition.reason, condition.message)
}

fn membership(inputs: &Inputs, why: &mut Vec<Finding>) {
    let Some(membership) = &inputs.membership else {
        why.push(no_membership());
        return;
    };
    let mut degraded = |text: String| why.push(finding(Severity::Degraded, "membership", text));
    let Some(status) = &membership.status else {
        degraded("its status was never written; does hawser-agent run?".to_owned());
        return;
    };
    for condition in status.conditions.iter().filter(|c| c.status == "False") {
        degraded(told(condition));
    }
    if !inputs.announced {
        degraded("the agent has not taken it up yet; does hawser-agent run?".to_owned());
    }
    if let Some(expires) = &status.certificate_expires {
        let left = expires.0.duration_since(inputs.now);
        if left.as_hours() < CERTIFICATE_DAYS_LEFT * 24 {
            let end = if left.is_negative() { "has ended" } else { "ends" };
            degraded(format!("the certificate {end} at {}; the agent could not renew it", expires.0));
        }
    }
}

fn processes(inputs: &Inputs, why: &mut Vec<Finding>) {
    for Unready { process, socket, answers, why: text } in &inputs.unready {
        let text = match answers {
            true => format!("it is not ready, {text} ({})", socket.display()),
            false => format!("it does not answer at {}: {text}; start hawser-{process} there", socket.display()),
        };
        why.push(finding(Severity::Degraded, process, text));
    }
}

/// Gateways that no report speaks for.
fn silent_gateways(inputs: &Inputs) -> Vec<&GatewayNode> {
    let reported: BTreeSet<&str> = answers(inputs).map(|r| r.node.as_str()).collect();
    inputs.gateways.iter().filter(|g| !reported.contains(g.spec.node.as_str())).collect()
}

fn gateways(inputs: &Inputs, why: &mut Vec<Finding>) {
    let known: BTreeSet<&str> = inputs.gateways.iter().map(|g| g.spec.node.as_str()).collect();
    for node in &inputs.nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let label = node.metadata.labels.as_ref().and_then(|l| l.get(labels::GATEWAY));
        if label.is_some_and(|value| value == "true") && !known.contains(name) {
            let text = "the node is labelled as a gateway but runs none; start hawser-gateway there".to_owned();
            why.push(finding(Severity::Degraded, name, text));
        }
    }
    for (state, report) in &inputs.reports {
        if let Err(error) = report {
            let text = format!("no gateway answers at {}: {error}", state.join("gateway/admin.sock").display());
            why.push(finding(Severity::Degraded, "gateway", text));
        }
    }
    let revision = roster_revision(inputs);
    for gateway in &inputs.gateways {
        let row = gateway_row(inputs, gateway);
        if row.roster_revision < revision {
            let text = format!("it applies roster revision {}, not {revision}", row.roster_revision);
            why.push(finding(Severity::Degraded, &row.node, text));
        }
        if row.draining {
            why.push(finding(Severity::Note, &row.node, "it is being drained".to_owned()));
        }
        why.extend(keys::finding(&row));
        if !row.figures {
            let mut text = "no figures from here; paths are by its last status".to_owned();
            if inputs.reports.iter().all(|(_, report)| report.is_ok()) {
                text += " (name its state directory: --state)";
            }
            why.push(finding(Severity::Note, &row.node, text));
        }
    }
}

fn gateway_row(inputs: &Inputs, gateway: &GatewayNode) -> GatewayRow {
    let node = gateway.spec.node.clone();
    let status = gateway.status.clone().unwrap_or_default();
    let report = answers(inputs).find(|r| r.node == node);
    let key_age_s = keys::age(gateway, report, inputs.now);
    let rotation = keys::rotation(gateway, report, inputs.now);
    match report {
        Some(report) => GatewayRow {
            figures: true,
            lanes: report.lanes.len(),
            draining: report.draining,
            roster_revision: i64::try_from(report.roster_revision).unwrap_or(i64::MAX),
            paths: Count {
                up: report.clusters.iter().map(|c| c.live_paths).sum(),
                total: report.clusters.iter().map(|c| c.total_paths).sum(),
            },
            node,
            key_age_s,
            rotation,
        },
        None => GatewayRow {
            figures: false,
            lanes: gateway.spec.lanes.len(),
            draining: inputs.membership.iter().any(|m| m.spec.drained_nodes.contains(&node)),
            roster_revision: status.roster_revision,
            paths: Count {
                up: status.clusters.iter().map(|c| c.live_paths).sum(),
                total: status.clusters.iter().map(|c| c.total_paths).sum(),
            },
            node,
            key_age_s,
            rotation,
        },
    }
}

fn roster_revision(inputs: &Inputs) -> i64 {
    inputs.membership.as_ref().and_then(|m| m.status.as_ref()).map_or(0, |s| s.roster_revision)
}

fn exports(inputs: &Inputs, why: &mut Vec<Finding>) {
    for export in &inputs.exports {
        let about = service(export);
        for condition in export_conditions(export) {
            let (bad, severity) = match condition.type_.as_str() {
                "Valid" | "Ready" => (condition.status == "False", Severity::Degraded),
                // The others serve it; what clashes or is left out is the owner's to decide.
                "Conflict" | "EndpointsSkipped" => (condition.status == "True", Severity::Note),
                _ => (false, Severity::Note),
            };
            // An invalid export is not ready for the same reason.
            let repeated = condition.type_ == "Ready"
                && export_conditions(export).iter().any(|c| c.type_ == "Valid" && c.message == condition.message);
            if bad && !repeated {
                let text = format!("export {} ({}): {}", condition.type_, condition.reason, condition.message);
                why.push(finding(severity, &about, text));
            }
        }
    }
}

fn export_row(export: &ServiceExport) -> ExportRow {
    ExportRow {
        service: service(export),
        exported: exported(export),
        conditions: conditions(export_conditions(export)),
    }
}

/// Whether the broker holds an export.
pub(super) fn exported(export: &ServiceExport) -> bool {
    export_conditions(export).iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn export_conditions(export: &ServiceExport) -> &[Condition] {
    export.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default()
}

fn service(export: &ServiceExport) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&export.metadata.namespace), part(&export.metadata.name))
}

fn conditions(conditions: &[Condition]) -> Vec<ConditionRow> {
    let row = |c: &Condition| ConditionRow {
        type_: c.type_.clone(),
        status: c.status.clone(),
        reason: c.reason.clone(),
        message: c.message.clone(),
    };
    conditions.iter().map(row).collect()
}

fn finding(severity: Severity, about: &str, text: String) -> Finding {
    Finding { severity, about: about.to_owned(), text }
}
