//! Files as operators, editors, crashes and mistakes leave them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hawser_api::core::{Namespace, Service};
use hawser_api::mcs::ServiceExport;
use hawser_local_api::behaviour::{export, until};
use hawser_local_api::{Client, Error, Key, Kind, LocalApi, Object};
use hawser_local_api_directory::{DirectoryApi, Problem, SiteArgs};
use serde_json::json;
use tempfile::TempDir;

const EXPORT: Kind = Kind::of::<ServiceExport>();
const SERVICE: Kind = Kind::of::<Service>();
const NAMESPACE: Kind = Kind::of::<Namespace>();

struct Site {
    dir: TempDir,
    api: Arc<DirectoryApi>,
}

impl Site {
    /// A site with these files, open for the agent of node `n1`.
    async fn with(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            write(&dir.path().join(name), text);
        }
        let api = open(dir.path(), "agent", "n1").await.unwrap();
        Self { dir, api }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Waits until the names of all Services are these.
    async fn services(&self, wanted: &[&str]) {
        let names = async || {
            let objects = self.api.list(SERVICE).await.unwrap();
            objects.into_iter().map(|object| object.key.to_string()).collect::<Vec<_>>()
        };
        self.wait(async || names().await == wanted, async || format!("services {:?}", names().await)).await;
    }

    /// Waits until a problem's text has all of these.
    async fn problem(&self, parts: &[&str]) -> Problem {
        let find = || {
            let fits = |problem: &Problem| parts.iter().all(|part| problem.to_string().contains(part));
            self.api.problems().into_iter().find(fits)
        };
        self.wait(async || find().is_some(), async || format!("problems {:#?}", self.api.problems())).await;
        find().unwrap()
    }

    async fn no_problems(&self) {
        let problems = || self.api.problems();
        self.wait(async || problems().is_empty(), async || format!("problems {:#?}", problems())).await;
    }

    async fn wait(&self, done: impl AsyncFn() -> bool, seen: impl AsyncFn() -> String) {
        for _ in 0..1500 {
            if done().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not come; last: {}", seen().await);
    }
}

async fn open(site: &Path, process: &str, node: &str) -> Result<Arc<DirectoryApi>, Error> {
    let args = SiteArgs { site: site.to_owned(), node: node.parse().unwrap(), state: site.join("state") };
    DirectoryApi::open(&args, process).await
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn service(name: &str, port: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: shop\nspec:\n  ports:\n  - port: {port}\n"
    )
}

fn key(name: &str) -> Key {
    Key::namespaced("shop", name)
}

fn port(object: &Object) -> serde_json::Value {
    object.value()["spec"]["ports"][0]["port"].take()
}

#[tokio::test]
async fn edits_of_all_kinds_are_seen() {
    let site =
        Site::with(&[("a.yaml", &service("a", "1")), ("deep/er/b.yml", &service("b", "1")), ("notes.txt", "no")]).await;
    site.services(&["shop/a", "shop/b"]).await;
    site.no_problems().await;
    let mut watch = site.api.watch(SERVICE);
    // In place, as some editors do.
    write(&site.path("a.yaml"), &service("a", "2"));
    until(&mut watch, |object| port(object) == 2).await;
    // By rename, as others do.
    write(&site.path(".a.swp"), &service("a", "3"));
    fs::rename(site.path(".a.swp"), site.path("a.yaml")).unwrap();
    until(&mut watch, |object| port(object) == 3).await;
    // By moving the old one away first; the object never goes.
    fs::rename(site.path("a.yaml"), site.path("a.yaml~")).unwrap();
    write(&site.path("a.yaml"), &service("a", "4"));
    until(&mut watch, |object| port(object) == 4).await;
    write(&site.path("new/folder/c.yaml"), &service("c", "1"));
    site.services(&["shop/a", "shop/b", "shop/c"]).await;
    fs::rename(site.path("new"), site.path("newer")).unwrap();
    write(&site.path("newer/folder/c.yaml"), &service("d", "1"));
    site.services(&["shop/a", "shop/b", "shop/d"]).await;
    fs::remove_dir_all(site.path("newer")).unwrap();
    fs::remove_file(site.path("deep/er/b.yml")).unwrap();
    site.services(&["shop/a"]).await;
    site.no_problems().await;
}

#[tokio::test]
async fn a_bad_document_costs_only_itself() {
    let text = format!("{}---\nkind: [\n---\n{}", service("a", "1"), service("b", "1"));
    let site = Site::with(&[("all.yaml", &text)]).await;
    site.services(&["shop/a", "shop/b"]).await;
    let problem = site.problem(&["all.yaml"]).await;
    assert!((10..=11).contains(&problem.line.unwrap()), "{problem}");
}

#[tokio::test]
async fn a_mistake_is_named_and_the_last_good_version_stays() {
    let site = Site::with(&[("a.yaml", &format!("{}---\n{}", service("a", "1"), service("b", "1")))]).await;
    site.services(&["shop/a", "shop/b"]).await;
    // A field of a wrong type in one of them.
    write(&site.path("a.yaml"), &format!("{}---\n{}", service("a", "many"), service("b", "2")));
    let problem = site.problem(&["a.yaml:8", "Service shop/a", "spec.ports[0].port", "correct the field"]).await;
    assert_eq!(problem.line, Some(8), "{problem}");
    let mut watch = site.api.watch(SERVICE);
    until(&mut watch, |object| object.key == key("b") && port(object) == 2).await;
    let ports: Vec<_> = site.api.list(SERVICE).await.unwrap().iter().map(port).collect();
    assert_eq!(ports, [1, 2], "the last good version of a must stay");
    // No YAML at all, then nothing, then bytes that are no text: nothing is known of either object.
    for bad in [&b"apiVersion: v1\nkind: {"[..], b"", b"\xff\xfe\xfd"] {
        fs::write(site.path("a.yaml"), bad).unwrap();
        site.problem(&["a.yaml"]).await;
        site.services(&["shop/a", "shop/b"]).await;
    }
    write(&site.path("a.yaml"), &service("a", "3"));
    site.services(&["shop/a"]).await;
    site.no_problems().await;
}

#[tokio::test]
async fn unusable_objects_are_named_with_a_remedy() {
    let site = Site::with(&[
        ("kind.yaml", "apiVersion: v1\nkind: Servise\nmetadata: {name: a, namespace: shop}\n"),
        ("name.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: ../../x, namespace: shop}\n"),
        ("namespace.yaml", "\n\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n"),
        ("field.yaml", "apiVersion: hawser.dev/v1alpha1\nkind: Membership\nmetadata: {name: default}\nspec:\n  clusterId: west\n  prefixs: []\n"),
        ("twice.yaml", &format!("{}---\n{}", service("t", "1"), service("t", "2"))),
        ("secrets/token.yaml", &service("secret", "1")),
        (".hidden/x.yaml", &service("hidden", "1")),
    ])
    .await;
    site.problem(&["kind.yaml:1", "Servise", "outside the site"]).await;
    site.problem(&["name.yaml:1", "metadata.name", "DNS subdomain", "rename it"]).await;
    site.problem(&["namespace.yaml", "metadata.namespace", "name the namespace"]).await;
    site.problem(&["field.yaml:6", "Membership default", "prefixs"]).await;
    site.problem(&["twice.yaml:9", "Service shop/t", "the first one counts"]).await;
    assert_eq!(site.api.problems().len(), 5, "{:#?}", site.api.problems());
    site.services(&["shop/t"]).await;
}

#[tokio::test]
async fn the_operators_file_wins() {
    let site = Site::with(&[]).await;
    let cli = DirectoryApi::open_cli(site.dir.path()).await.unwrap();
    cli.apply(export("web", json!({"exportedLabels": {"by": "cli"}}))).await.unwrap();
    let mut watch = site.api.watch(EXPORT);
    until(&mut watch, |object| object.key == key("web")).await;
    let operators = "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\nmetadata: {name: web, namespace: shop}\n\
                     spec: {exportedLabels: {by: operator}}\nstatus: {conditions: []}\n";
    write(&site.path("exports/web.yaml"), operators);
    until(&mut watch, |object| object.value()["spec"]["exportedLabels"]["by"] == "operator").await;
    site.problem(&["generated/cli/ServiceExport/shop_web.yaml", "exports/web.yaml has it too"]).await;

    until(&mut cli.watch(EXPORT), |object| object.value()["spec"]["exportedLabels"]["by"] == "operator").await;
    for error in [cli.apply(export("web", json!({}))).await, cli.delete(EXPORT, key("web")).await] {
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Owned { .. }), "{error}");
        let file = fs::canonicalize(site.path("exports/web.yaml")).unwrap();
        assert!(error.to_string().contains(&format!("remove it from {}", file.display())), "{error}");
    }
    assert!(!site.path("generated/cli/ServiceExport/shop_web.yaml").exists(), "the CLI's own copy would come back");
    site.no_problems().await;
    assert_eq!(
        fs::read_to_string(site.path("exports/web.yaml")).unwrap(),
        operators,
        "an operator's file was rewritten"
    );

    site.api.apply_status(EXPORT, key("web"), json!({"note": "of the agent"})).await.unwrap();
    let object = until(&mut watch, |object| object.status().is_some_and(|status| status["note"].is_string())).await;
    assert_eq!(object.value()["spec"]["exportedLabels"]["by"], "operator");
    // The status goes with the object.
    fs::remove_file(site.path("exports/web.yaml")).unwrap();
    let status = site.path("generated/agent-n1/status/ServiceExport/shop_web.yaml");
    site.wait(async || !status.exists(), async || "the status stays".to_owned()).await;
}

#[tokio::test]
async fn of_two_files_the_first_seen_counts() {
    let site = Site::with(&[("z.yaml", &service("a", "1"))]).await;
    write(&site.path("a.yaml"), &service("a", "2"));
    let problem = site.problem(&["a.yaml", "z.yaml has it too", "remove it from one of them"]).await;
    assert_eq!(problem.object, "Service shop/a");
    assert_eq!(port(&site.api.list(SERVICE).await.unwrap()[0]), 1);
    fs::remove_file(site.path("z.yaml")).unwrap();
    until(&mut site.api.watch(SERVICE), |object| port(object) == 2).await;
    site.no_problems().await;
}

#[tokio::test]
async fn links_do_not_lead_out() {
    let outside = tempfile::tempdir().unwrap();
    write(&outside.path().join("x"), &service("outside", "1"));
    let site =
        Site::with(&[("real/a.txt", &service("inside", "1")), ("secrets/s.yaml", &service("secret", "1"))]).await;
    symlink(outside.path().join("x"), site.path("out.yaml")).unwrap();
    symlink(outside.path(), site.path("outdir")).unwrap();
    symlink(site.path("secrets/s.yaml"), site.path("secret.yaml")).unwrap();
    symlink("real/a.txt", site.path("in.yaml")).unwrap();
    site.services(&["shop/inside"]).await;
    site.problem(&["out.yaml", "a link out of the site"]).await;
    site.problem(&["secret.yaml", "a link out of the site"]).await;
    // What a link inside leads to is followed when it changes.
    write(&site.path("real/a.txt"), &service("changed", "1"));
    site.services(&["shop/changed"]).await;
    // A link in the place of our own folder is not written through.
    symlink(outside.path(), site.path("generated/agent-n1/ServiceExport")).unwrap();
    let error = site.api.apply(export("web", json!({}))).await.unwrap_err();
    assert!(matches!(error, Error::Storage { .. }), "{error}");
    assert!(!outside.path().join("shop_web.yaml").exists());
}

#[tokio::test]
async fn large_and_strange_files_are_left_alone() {
    let site = Site::with(&[("a.yaml", &service("a", "1"))]).await;
    write(&site.path("large.yaml"), &format!("# {}\n{}", "x".repeat(1 << 20), service("large", "1")));
    nix::unistd::mkfifo(&site.path("pipe.yaml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    site.problem(&["large.yaml", "longer than 1048576 bytes"]).await;
    site.problem(&["pipe.yaml", "no regular file"]).await;
    site.services(&["shop/a"]).await;
    let big = export("web", json!({"exportedAnnotations": {"a": "x".repeat(1 << 20)}}));
    let error = site.api.apply(big).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
}

#[tokio::test]
async fn what_is_written_is_private_whole_and_in_its_place() {
    let site = Site::with(&[]).await;
    write(&site.path("generated/agent-n2/.1.2.tmp"), "another's");
    site.api.apply(export("web", json!({}))).await.unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    site.api.apply(Object::from_value(NAMESPACE, namespace).unwrap()).await.unwrap();
    let long = "a.".repeat(126) + "a";
    site.api.apply(export(&long, json!({}))).await.unwrap();
    let mode = |name: &str| fs::metadata(site.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("generated/agent-n1/ServiceExport/shop_web.yaml"), 0o640);
    assert_eq!(mode("generated/agent-n1/Namespace/shop.yaml"), 0o640);
    for dir in ["generated", "generated/agent-n1", "generated/agent-n1/ServiceExport"] {
        assert_eq!(mode(dir), 0o750, "{dir}");
    }
    assert_eq!(site.api.list(EXPORT).await.unwrap().len(), 2);
    site.api.delete(EXPORT, key(&long)).await.unwrap();
    let left: Vec<_> = fs::read_dir(site.path("generated/agent-n1/ServiceExport")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(site.path("generated/agent-n2/.1.2.tmp").exists(), "another process's file was touched");
}

#[tokio::test]
async fn one_process_of_a_name() {
    let site = Site::with(&[]).await;
    let error = open(site.dir.path(), "agent", "n1").await.err().unwrap();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.to_string().contains("generated/agent-n1") && source.contains("--node"), "{error}: {source}");
    drop(open(site.dir.path(), "agent", "n2").await.unwrap());

    let Site { dir, api } = site;
    write(&dir.path().join("generated/agent-n1/ServiceExport/.9.9.tmp"), "half");
    drop(api);
    let again = open(dir.path(), "agent", "n1").await.unwrap();
    assert!(!dir.path().join("generated/agent-n1/ServiceExport/.9.9.tmp").exists(), "a crash's leftover stays");
    drop(again);
    let missing = open(&dir.path().join("missing"), "agent", "n1").await.err().unwrap();
    assert!(missing.to_string().contains("missing"), "{missing}");
}

#[tokio::test]
async fn ten_thousand_objects() {
    let dir = tempfile::tempdir().unwrap();
    for file in 0..100 {
        let documents: Vec<String> = (0..50).map(|i| service(&format!("s{file}-{i}"), "1")).collect();
        write(&dir.path().join(format!("{file}.yaml")), &documents.join("---\n"));
        for i in 0..50 {
            let text = service(&format!("g{file}-{i}"), "1");
            write(&dir.path().join(format!("generated/agent-n9/Service/shop_g{file}-{i}.yaml")), &text);
        }
    }
    let start = std::time::Instant::now();
    let api = open(dir.path(), "agent", "n1").await.unwrap();
    println!("10,000 objects in 5,100 files opened in {:?}", start.elapsed());
    let site = Site { dir, api };
    let client = Client::new(Arc::clone(&site.api) as Arc<dyn LocalApi>);
    let mut view = client.reflect::<Service>();
    hawser_local_api::wait_for(&mut view, |view| view.len() == 10_000).await.unwrap();
    let start = std::time::Instant::now();
    write(&site.path("new.yaml"), &service("new", "1"));
    hawser_local_api::wait_for(&mut view, |view| view.len() == 10_001).await.unwrap();
    println!("one more seen after {:?}", start.elapsed());
}

/// A writer killed at any moment leaves whole files only.
#[tokio::test]
async fn a_killed_writer_leaves_whole_files() {
    const CHILD: &str = "HAWSER_TEST_WRITER_SITE";
    if let Ok(dir) = std::env::var(CHILD) {
        let api = open(Path::new(&dir), "gateway", "n1").await.unwrap();
        for round in 0_u64.. {
            let labels: serde_json::Map<_, _> = (0..200).map(|i| (format!("l{i}"), round.to_string().into())).collect();
            api.apply(export("web", json!({"exportedLabels": labels}))).await.unwrap();
            if round == 0 {
                println!("\nwriting");
            }
        }
    }
    let site = Site::with(&[]).await;
    for wait in [1, 7, 20] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["a_killed_writer_leaves_whole_files", "--exact", "--nocapture"])
            .env(CHILD, site.dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap());
        let started = std::io::BufRead::lines(lines).map_while(Result::ok).any(|line| line == "writing");
        tokio::time::sleep(Duration::from_millis(wait)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(started, "the writer did not start");
        let text = fs::read_to_string(site.path("generated/gateway-n1/ServiceExport/shop_web.yaml")).unwrap();
        let value: serde_json::Value =
            hawser_api::yaml::parse(hawser_api::yaml::documents(&text).next().unwrap()).unwrap();
        let labels = value["spec"]["exportedLabels"].as_object().unwrap();
        assert_eq!(labels.len(), 200);
        assert!(labels.values().all(|value| *value == labels["l0"]), "{text}");
    }
    site.no_problems().await;
}
