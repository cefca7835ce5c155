//! The status of a site as a pure function of what was found.
#![allow(clippy::unwrap_used, reason = "test helpers, which the lint does not know for tests")]

use std::path::PathBuf;

use hawser_api::report::{ClusterReport, GatewayReport, LaneLoadReport, LaneReport, PathReport, RotationReport};
use hawser_cli::status::model::{ClusterState, Severity, Unready, Verdict};
use hawser_cli::status::screen::{paths, screen};
use hawser_cli::status::{Inputs, Status, assess};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": type_, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-11-20T10:00:00Z" })
}

fn membership(conditions: &[Value]) -> Value {
    json!({
        "apiVersion": "hawser.dev/v1alpha1", "kind": "Membership", "metadata": { "name": "default" },
        "spec": { "clusterId": "west", "prefixes": ["10.1.0.0/16"] },
        "status": {
            "conditions": conditions, "rosterRevision": 7, "certificateExpires": "2026-12-15T00:00:00Z",
            "members": [{ "clusterId": "east", "generation": 1 }],
        },
    })
}

fn gateway_node(node: &str, live: u32) -> Value {
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    json!({
        "apiVersion": "hawser.dev/v1alpha1", "kind": "GatewayNode", "metadata": { "name": node },
        "spec": { "node": node, "lanes": [{ "publicKey": key, "port": 51820 }], "candidates": ["192.168.1.1"] },
        "status": {
            "rosterRevision": 7,
            "clusters": [{ "cluster": "east", "generation": 1, "state": "Live", "since": "2026-11-20T10:00:00Z",
                           "reason": "", "livePaths": live, "totalPaths": 2 }],
        },
    })
}

fn remote(id: &str, gateways: &[&str], conditions: &[Value]) -> Value {
    let gateways: Vec<_> =
        gateways.iter().map(|g| json!({ "node": g, "lanes": [], "candidates": ["192.0.2.1"] })).collect();
    json!({
        "apiVersion": "hawser.dev/v1alpha1", "kind": "RemoteCluster", "metadata": { "name": id },
        "spec": { "clusterId": id, "generation": 1, "rosterRevision": 7, "prefixes": ["10.2.0.0/16"],
                  "gateways": gateways },
        "status": { "conditions": conditions },
    })
}

fn path(gateway: &str, state: &str, rtt_us: u64) -> PathReport {
    PathReport {
        cluster: "east".into(),
        gateway: gateway.into(),
        state: state.into(),
        since_ms: 12_000,
        rtt_us: Some(rtt_us),
        loss_percent: Some(0.0),
        proof_age_ms: Some(rtt_us / 100),
        mtu: 1420,
        rx_bytes: 600_000_000,
        tx_bytes: 4_500_000,
        ..PathReport::default()
    }
}

fn report(node: &str, paths: Vec<PathReport>) -> GatewayReport {
    let live = paths.iter().filter(|p| matches!(p.state.as_str(), "Up" | "Suspect")).count() as u32;
    let total_paths = paths.len() as u32;
    let state = if live > 0 { "Live" } else { "Dark" }.to_owned();
    GatewayReport {
        node: node.into(),
        cluster: "west".into(),
        roster_revision: 7,
        lanes: vec![LaneReport {
            key: "00".into(),
            key_age_s: 11_520,
            port: 51820,
            next_key: None,
            load: LaneLoadReport::default(),
        }],
        clusters: vec![ClusterReport {
            cluster: "east".into(),
            state,
            live_paths: live,
            total_paths,
            ..Default::default()
        }],
        paths,
        ..GatewayReport::default()
    }
}

/// A member with two gateways that both reach both gateways of east.
fn healthy() -> Inputs {
    let joined = [
        condition("Joined", "True", "Joined", "member of the cluster set \"prod\""),
        condition("BrokerReachable", "True", "Connected", "the stream to the broker is open"),
    ];
    let import = json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
        "metadata": { "namespace": "shop", "name": "web" }, "spec": { "type": "ClusterSetIP", "ports": [] },
        "status": { "clusters": [{ "cluster": "east" }] },
    });
    let both = |first| vec![path("e-gw-1", "Up", first), path("e-gw-2", "Up", 1_620)];
    Inputs {
        site: "/etc/hawser/site".into(),
        now: "2026-11-23T10:00:00Z".parse().unwrap(),
        info: Some(object(json!({ "clusterSet": "prod", "clusterId": "west", "generation": 1, "brokers": [] }))),
        announced: true,
        membership: Some(object(membership(&joined))),
        nodes: vec![],
        gateways: vec![object(gateway_node("gw-1", 2)), object(gateway_node("gw-2", 2))],
        remotes: vec![object(remote("east", &["e-gw-1", "e-gw-2"], &[]))],
        exports: vec![],
        imports: vec![object(import)],
        reports: vec![
            (PathBuf::from("/s1"), Ok(report("gw-1", both(1_130)))),
            (PathBuf::from("/s2"), Ok(report("gw-2", both(1_210)))),
        ],
        unready: vec![],
        problems: vec![],
    }
}

fn why(status: &Status, severity: Severity) -> Vec<String> {
    let found = status.why.iter().filter(|f| f.severity == severity);
    found.map(|f| format!("{}: {}", f.about, f.text)).collect()
}

#[test]
fn all_is_well() {
    let status = assess(&healthy());
    assert_eq!(status.verdict, Verdict::Healthy, "{:?}", status.why);
    insta::assert_snapshot!(screen(&status));
}

#[test]
fn a_remote_gateway_is_gone() {
    let mut inputs = healthy();
    for (_, report) in &mut inputs.reports {
        let report = report.as_mut().unwrap();
        report.paths[1] = PathReport {
            reason: "8 probes unanswered".into(),
            proof_age_ms: Some(12_310),
            loss_percent: Some(100.0),
            ..path("e-gw-2", "Down", 1_620)
        };
        report.clusters[0].live_paths = 1;
        report.clusters[0].last_failover_ago_ms = Some(245_000);
        report.clusters[0].last_failover_ms = Some(310);
    }
    let status = assess(&inputs);
    assert_eq!(status.verdict, Verdict::Degraded);
    assert_eq!(status.clusters[0].loss_percent, Some(0.0), "the loss of paths that carry traffic");
    insta::assert_snapshot!(screen(&status));
}

#[test]
fn each_path_shows_its_own_mtu() {
    let mut inputs = healthy();
    let report = inputs.reports[1].1.as_mut().unwrap();
    report.paths[0] = PathReport { mtu: 1320, mtu_state: "Found".into(), ..report.paths[0].clone() };
    report.paths[1] = PathReport { mtu: 1200, mtu_state: "Searching".into(), ..path("e-gw-2", "Down", 1_620) };
    let status = assess(&inputs);
    assert_eq!((status.clusters[0].mtu, status.clusters[0].mtu_max), (Some(1320), Some(1420)), "of those that are up");
    let document = serde_json::to_value(&status).unwrap();
    let mtus: Vec<_> = document["paths"].as_array().unwrap().iter().map(|p| p["mtu"].as_u64().unwrap()).collect();
    assert_eq!(mtus, [1420, 1420, 1320, 1200], "{document:#}");
    assert!(screen(&status).contains("1320–1420"), "{}", screen(&status));
    insta::assert_snapshot!(paths(&status), @r"
    GATEWAY  PEER         ADDRESS  RTT     LOSS  MTU               STATE
    gw-1     east/e-gw-1  –        1.13ms  0.0%  1420              Up
    gw-1     east/e-gw-2  –        1.62ms  0.0%  1420              Up
    gw-2     east/e-gw-1  –        1.21ms  0.0%  1320              Up
    gw-2     east/e-gw-2  –        1.62ms  0.0%  1200 (searching)  Down
    ");
}

#[test]
fn a_cluster_is_dark_and_its_agent_silent() {
    let mut inputs = healthy();
    let stale = condition("StaleEndpoints", "True", "AgentSilent", "no stream for 2m");
    inputs.remotes = vec![object(remote("east", &["e-gw-1", "e-gw-2"], &[stale]))];
    for (_, report) in &mut inputs.reports {
        let down = vec![path("e-gw-1", "Down", 1_130), path("e-gw-2", "Down", 1_620)];
        let node = report.as_ref().unwrap().node.clone();
        *report = Ok(self::report(&node, down));
    }
    let status = assess(&inputs);
    assert_eq!(status.clusters[0].state, ClusterState::Unreachable);
    assert_eq!(status.proof_age_ms, None);
    insta::assert_snapshot!(screen(&status));
}

#[test]
fn keys_that_are_being_replaced_are_a_note() {
    let mut inputs = healthy();
    let report = inputs.reports[0].1.as_mut().unwrap();
    report.rotation = Some(RotationReport {
        since_s: 12,
        moved_paths: 1,
        total_paths: 2,
        waiting_for: vec!["east/e-gw-2, which does not use the next keys yet".into()],
    });
    inputs.reports.truncate(1);
    let mut silent = gateway_node("gw-2", 7);
    silent["status"]["keys"] = json!({ "created": "2026-11-23T09:00:00Z",
        "rotation": { "since": "2026-11-23T09:59:00Z", "movedPaths": 2, "totalPaths": 2 } });
    inputs.gateways[1] = object(silent);
    let status = assess(&inputs);
    assert_eq!(status.verdict, Verdict::Healthy, "{:?}", status.why);
    assert_eq!(status.gateways.iter().map(|g| g.key_age_s).collect::<Vec<_>>(), [Some(11_520), Some(3600)]);
    let notes = why(&status, Severity::Note);
    let wanted = [
        "gw-1: its keys are being replaced for 12s: the next ones are in use on 1 of 2 paths; it waits for east/e-gw-2, \
         which does not use the next keys yet",
        "gw-2: its keys are being replaced for 1m: the next ones are in use on 2 of 2 paths",
    ];
    assert!(wanted.iter().all(|text| notes.iter().any(|note| note == text)), "{notes:#?}");
}

#[test]
fn gateways_that_cannot_be_asked_are_shown_by_their_last_status() {
    let mut inputs = healthy();
    inputs.reports.truncate(1);
    let status = assess(&inputs);
    assert_eq!(status.verdict, Verdict::Healthy, "{:?}", status.why);
    assert_eq!(status.clusters[0].paths.to_string(), "4/4");
    assert!(why(&status, Severity::Note)[0].starts_with("gw-2: no figures from here"), "{:?}", status.why);

    inputs.reports.clear();
    inputs.gateways[1] = object(gateway_node("gw-2", 1));
    let status = assess(&inputs);
    assert_eq!(status.verdict, Verdict::Degraded);
    insta::assert_snapshot!(screen(&status));
}

#[test]
fn a_gateway_that_should_answer_and_does_not_is_named() {
    let mut inputs = healthy();
    inputs.reports[1].1 = Err("connection refused".into());
    let status = assess(&inputs);
    assert_eq!(status.verdict, Verdict::Degraded);
    assert_eq!(
        why(&status, Severity::Degraded),
        ["gateway: no gateway answers at /s2/gateway/admin.sock: connection refused"]
    );
    assert!(status.next.iter().any(|n| n.contains("hawser-gateway")), "{:?}", status.next);
}

#[test]
fn what_the_broker_refused_is_the_reason() {
    let mut inputs = healthy();
    let refused = "cluster west: prefixes: 10.2.3.0/24 overlaps 10.2.0.0/16 of east; claim another";
    let conditions = [
        condition("Joined", "True", "Joined", ""),
        condition("PrefixesKnown", "False", "Refused", refused),
        condition("BrokerReachable", "Unknown", "Connecting", "not tried yet"),
    ];
    inputs.membership = Some(object(membership(&conditions)));
    let status = assess(&inputs);
    assert_eq!(status.verdict, Verdict::Degraded);
    assert_eq!(why(&status, Severity::Degraded), [format!("membership: PrefixesKnown is false (Refused): {refused}")]);
    assert!(serde_json::to_string(&status).unwrap().contains("10.2.3.0/24"));
}

#[test]
fn exports_that_fail_spoil_the_verdict_and_conflicts_are_notes() {
    let export = |name: &str, conditions: &[Value]| {
        object(json!({
            "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
            "metadata": { "namespace": "shop", "name": name }, "spec": {}, "status": { "conditions": conditions },
        }))
    };
    let mut inputs = healthy();
    let ready = condition("Ready", "True", "Exported", "the broker holds it");
    let conflict = condition("Conflict", "True", "PortConflict", "Conflicting ports");
    inputs.exports = vec![export("web", &[ready, conflict])];
    let status = assess(&inputs);
    assert_eq!((status.verdict, status.clusters[0].exports), (Verdict::Healthy, 1));
    assert_eq!(why(&status, Severity::Note), ["shop/web: export Conflict (PortConflict): Conflicting ports"]);

    let no_service = "there is no Service shop/db";
    inputs.exports.push(export(
        "db",
        &[condition("Valid", "False", "NoService", no_service), condition("Ready", "False", "Failed", no_service)],
    ));
    let status = assess(&inputs);
    assert_eq!(status.verdict, Verdict::Degraded);
    assert_eq!(why(&status, Severity::Degraded), [format!("shop/db: export Valid (NoService): {no_service}")]);
    assert!(!status.exports[1].exported && status.exports[0].exported);
}

#[test]
fn a_site_that_has_not_joined_says_how_to() {
    let mut inputs = healthy();
    (inputs.info, inputs.announced) = (None, false);
    (inputs.gateways, inputs.remotes, inputs.reports, inputs.imports) = (vec![], vec![], vec![], vec![]);
    let status = assess(&inputs);
    assert_eq!(status.verdict, Verdict::NotJoined);
    insta::assert_snapshot!(screen(&status));
}

#[test]
fn a_site_that_left_is_told_nothing_else() {
    let mut inputs = healthy();
    (inputs.info, inputs.announced) = (None, false);
    inputs.remotes.clear();
    inputs.reports[0].1.as_mut().unwrap().roster_revision = 0;
    let status = assess(&inputs);
    assert_eq!(status.verdict, Verdict::NotJoined);
    assert_eq!(why(&status, Severity::Degraded), ["membership: this site has not joined a cluster set"]);
    assert!(why(&status, Severity::Note).is_empty(), "{:?}", status.why);
}

#[test]
fn a_revoked_site_is_told_how_to_come_back() {
    let mut inputs = healthy();
    let conditions = [
        condition("Joined", "False", "Revoked", "an administrator revoked this cluster"),
        condition("BrokerReachable", "False", "Refused", "generation 1 was revoked"),
    ];
    inputs.membership = Some(object(membership(&conditions)));
    inputs.announced = false;
    (inputs.gateways, inputs.remotes, inputs.reports) = (vec![], vec![], vec![]);
    let status = assess(&inputs);
    assert_eq!(status.verdict, Verdict::Removed);
    insta::assert_snapshot!(screen(&status), @r"
    prod: REMOVED  west is no member of the cluster set any more
    WHY   membership: Joined is false (Revoked): an administrator revoked this cluster
    NEXT  hawser leave --site /etc/hawser/site
          hawser join --site /etc/hawser/site --token-file FILE   (with a new token)
    ");
}

#[test]
fn without_the_broker_the_broker_is_what_to_look_at() {
    let mut inputs = healthy();
    let away = condition("BrokerReachable", "False", "ConnectionFailed", "no broker answers: 192.0.2.1:7443");
    inputs.membership = Some(object(membership(&[condition("Joined", "True", "Joined", ""), away])));
    let status = assess(&inputs);
    assert_eq!((status.verdict, status.clusters[0].state), (Verdict::Degraded, ClusterState::Healthy));
    assert_eq!(status.next, ["hawser broker serve   (on the broker's host; traffic goes on without it)"]);
}

#[test]
fn processes_that_ended_or_wait_are_named() {
    let mut inputs = healthy();
    let unready = |process, answers, why: &str| Unready {
        process,
        socket: format!("/var/lib/hawser/{process}/admin.sock").into(),
        answers,
        why: why.into(),
    };
    inputs.unready =
        vec![unready("agent", false, "Connection refused"), unready("route-agent", true, "waiting for: kernel")];
    let status = assess(&inputs);
    assert_eq!(status.verdict, Verdict::Degraded);
    assert_eq!(
        why(&status, Severity::Degraded),
        [
            "agent: it does not answer at /var/lib/hawser/agent/admin.sock: Connection refused; start hawser-agent there",
            "route-agent: it is not ready, waiting for: kernel (/var/lib/hawser/route-agent/admin.sock)",
        ]
    );
    assert!(status.next[0].starts_with("systemctl restart hawser-agent"), "{:?}", status.next);
    assert!(status.next[1].starts_with("journalctl -u hawser-route-agent"), "{:?}", status.next);
}

/// The only gateway of this host is dead: its own end is what to look at, not the other's.
#[test]
fn a_dead_gateway_at_home_is_mended_at_home() {
    let mut inputs = healthy();
    inputs.gateways.truncate(1);
    inputs.reports = vec![("/var/lib/hawser".into(), Err("Connection refused".into()))];
    let status = assess(&inputs);
    assert_eq!((status.verdict, status.clusters[0].state), (Verdict::Degraded, ClusterState::Unknown));
    assert_eq!(status.next.len(), 1, "{:?}", status.next);
    assert!(status.next[0].starts_with("systemctl restart hawser-gateway"), "{:?}", status.next);
}

#[test]
fn what_is_missing_is_asked_for() {
    let mut inputs = healthy();
    let node = json!({ "apiVersion": "v1", "kind": "Node",
                       "metadata": { "name": "gw-3", "labels": { "hawser.dev/gateway": "true" } } });
    inputs.nodes = vec![object(node)];
    inputs.remotes.push(object(remote("north", &[], &[])));
    inputs.problems = vec!["svc.yaml:3: not YAML; correct it".into()];
    inputs.now = "2026-12-14T00:00:00Z".parse().unwrap();
    inputs.announced = false;
    inputs.reports[0].1.as_mut().unwrap().roster_revision = 6;
    let found = why(&assess(&inputs), Severity::Degraded).join("\n");
    for part in [
        "gw-3: the node is labelled as a gateway but runs none",
        "gw-1: it applies roster revision 6, not 7",
        "north: it has announced no gateway",
        "manifest: svc.yaml:3: not YAML",
        "membership: the certificate ends at 2026-12-15T00:00:00Z",
        "membership: the agent has not taken it up yet",
    ] {
        assert!(found.contains(part), "{part:?} is not in\n{found}");
    }
}

#[test]
fn many_findings_still_fit_one_screen() {
    let mut inputs = healthy();
    inputs.problems = (0..100).map(|n| format!("{n}.yaml: bad")).collect();
    let screen = screen(&assess(&inputs));
    assert!(screen.lines().count() <= 24, "{screen}");
    assert!(screen.contains("and 88 more"), "{screen}");
}
