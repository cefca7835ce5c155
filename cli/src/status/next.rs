//! The commands that a status calls for. Pure.

use super::cluster::answers;
use super::model::{ClusterRow, Finding, Inputs, Severity, Verdict};

/// What to do next, most urgent first.
pub(super) fn commands(inputs: &Inputs, verdict: Verdict, why: &[Finding], clusters: &[ClusterRow]) -> Vec<String> {
    let site = inputs.site.display();
    match verdict {
        Verdict::NotJoined => vec![format!("hawser join --site {site} --token-file FILE")],
        Verdict::Removed => vec![
            format!("hawser leave --site {site}"),
            format!("hawser join --site {site} --token-file FILE   (with a new token)"),
        ],
        Verdict::Healthy if clusters.is_empty() => {
            vec!["hawser token create --cluster ID   (let another cluster join)".to_owned()]
        }
        Verdict::Healthy => vec![format!("hawser export NAMESPACE/NAME --site {site}")],
        Verdict::Degraded => mend(inputs, why, clusters),
    }
}

/// What is wrong at home comes first: it may be why the rest is.
fn mend(inputs: &Inputs, why: &[Finding], clusters: &[ClusterRow]) -> Vec<String> {
    let site = inputs.site.display();
    let about = |id: &str| why.iter().any(|f| f.severity == Severity::Degraded && f.about == id);
    let mut next = Vec::new();
    for process in inputs.unready.iter().filter(|p| !p.answers) {
        next.push(format!(
            "systemctl restart hawser-{0}   (or journalctl -u hawser-{0}: why it ended)",
            process.process
        ));
    }
    for process in inputs.unready.iter().filter(|p| p.answers) {
        next.push(format!("journalctl -u hawser-{}   (what it waits for)", process.process));
    }
    if inputs.reports.is_empty() && !inputs.gateways.is_empty() {
        next.push(format!("hawser status --site {site} --state DIR   (where a gateway keeps its state)"));
    }
    if about("gateway") || why.iter().any(|f| f.text.contains("start hawser-gateway")) {
        let text =
            "systemctl restart hawser-gateway   (on the gateway that is missing; journalctl -u hawser-gateway: why)";
        next.push(text.to_owned());
    }
    let agent_asked = inputs.unready.iter().any(|p| p.process == "agent");
    if broker_is_away(inputs) {
        next.push("hawser broker serve   (on the broker's host; traffic goes on without it)".to_owned());
    } else if about("membership") && !agent_asked {
        next.push("journalctl -u hawser-agent   (what the agent says)".to_owned());
    }
    // With nobody here to ask, the other end is not the one to look at first.
    if inputs.reports.is_empty() || answers(inputs).next().is_some() {
        let troubled = clusters.iter().filter(|row| about(&row.cluster));
        next.extend(troubled.map(|row| format!("hawser status   (on {}: the other end of its paths)", row.cluster)));
    }
    next.dedup();
    next
}

fn broker_is_away(inputs: &Inputs) -> bool {
    let status = inputs.membership.as_ref().and_then(|m| m.status.as_ref());
    let mut conditions = status.iter().flat_map(|s| &s.conditions);
    conditions.any(|c| c.type_ == "BrokerReachable" && c.status == "False" && c.reason == "ConnectionFailed")
}
