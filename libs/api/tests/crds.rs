//! `deploy/crds/` is what the types say. `UPDATE=1 cargo test -p hawser-api --test crds` writes it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::path::Path;

use hawser_api::{crd, yaml};
use serde_json::Value;

#[test]
fn files_are_current() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
    let wanted: BTreeMap<String, String> = crd::all()
        .iter()
        .map(|crd| {
            let head = "# Made from the types in libs/api; UPDATE=1 cargo test -p hawser-api --test crds\n";
            (
                format!("{}.yaml", crd.metadata.name.as_deref().unwrap()),
                format!("{head}{}", yaml::to_string(crd).unwrap()),
            )
        })
        .collect();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in &wanted {
            std::fs::write(dir.join(name), text).unwrap();
        }
    }
    let found: BTreeMap<String, String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
        .collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (name, text) in wanted {
        assert_eq!(
            found[&name], text,
            "deploy/crds/{name} is out of date: UPDATE=1 cargo test -p hawser-api --test crds"
        );
    }
}

fn by_kind(kind: &str) -> Value {
    let crds = crd::all();
    serde_json::to_value(crds.iter().find(|crd| crd.spec.names.kind == kind).unwrap()).unwrap()
}

#[test]
fn mcs_kinds_serve_both_versions_with_one_schema() {
    for (kind, short, columns) in [
        ("ServiceExport", ["svcex", "svcexport"], &["Age"][..]),
        ("ServiceImport", ["svcim", "svcimport"], &["Type", "IP", "Age"]),
    ] {
        let crd = by_kind(kind);
        assert_eq!(crd["spec"]["scope"], "Namespaced");
        assert_eq!(crd["spec"]["names"]["shortNames"], serde_json::json!(short));
        assert_eq!(crd["metadata"]["labels"]["multicluster.x-k8s.io/crd-schema-revision"], "0");
        assert_versions(&crd, columns);
    }
    let property = by_kind("ClusterProperty");
    assert_eq!(property["spec"]["scope"], "Cluster");
    assert!(
        property["metadata"]["annotations"]["api-approved.kubernetes.io"].as_str().unwrap().starts_with("https://")
    );
    assert_versions(&property, &["value", "age"]);
}

fn assert_versions(crd: &Value, columns: &[&str]) {
    let versions = crd["spec"]["versions"].as_array().unwrap();
    let flags: Vec<_> = versions.iter().map(|v| (&v["name"], &v["served"], &v["storage"])).collect();
    let (yes, no) = (Value::Bool(true), Value::Bool(false));
    assert_eq!(flags, [(&"v1alpha1".into(), &yes, &no), (&"v1beta1".into(), &yes, &yes)]);
    assert_eq!(versions[0]["schema"], versions[1]["schema"]);
    for version in versions {
        assert!(version["subresources"]["status"].is_object());
        let names: Vec<_> = version["additionalPrinterColumns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, columns);
    }
}

#[test]
fn the_import_schema_is_the_standards() {
    let crd = by_kind("ServiceImport");
    let schema = &crd["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"];
    assert_eq!(crd["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["required"], Value::Null);
    let spec = &schema["spec"];
    assert_eq!(spec["required"], serde_json::json!(["ports", "type"]));
    assert_eq!(spec["properties"]["type"]["enum"], serde_json::json!(["ClusterSetIP", "Headless"]));
    assert_eq!(spec["properties"]["ports"]["items"]["required"], serde_json::json!(["port"]));
    assert_eq!(spec["properties"]["ports"]["x-kubernetes-list-type"], "atomic");
    for field in ["ips", "ipFamilies"] {
        assert_eq!(spec["properties"][field]["maxItems"], 2, "{field}");
    }
    let status = &schema["status"]["properties"];
    assert_eq!(status["clusters"]["x-kubernetes-list-map-keys"], serde_json::json!(["cluster"]));
    assert_eq!(status["conditions"]["x-kubernetes-list-map-keys"], serde_json::json!(["type"]));
    assert_eq!(status["endpointSliceObjects"]["enum"], serde_json::json!(["Present", "Absent"]));
}

/// What a kube-apiserver asks of a structural schema, as far as types can break it.
#[test]
fn schemas_are_structural() {
    for crd in crd::all() {
        let crd = serde_json::to_value(crd).unwrap();
        for version in crd["spec"]["versions"].as_array().unwrap() {
            assert_structural(&version["schema"]["openAPIV3Schema"], crd["metadata"]["name"].as_str().unwrap());
        }
    }
}

fn assert_structural(schema: &Value, path: &str) {
    let Some(map) = schema.as_object() else { return };
    assert!(map.contains_key("type") || map.contains_key("x-kubernetes-int-or-string"), "{path} has no type: {schema}");
    assert!(!map.contains_key("$ref"), "{path} has a reference");
    assert!(
        !(map.contains_key("properties") && map.contains_key("additionalProperties")),
        "{path} has properties and additionalProperties"
    );
    for (name, property) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if path.contains('/') || name != "metadata" {
            assert_structural(property, &format!("{path}/{name}"));
        }
    }
    for part in ["items", "additionalProperties"] {
        if let Some(inner) = map.get(part) {
            assert_structural(inner, &format!("{path}/{part}"));
        }
    }
}
