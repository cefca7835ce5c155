//! A real broker on loopback, sites in temporary directories, and the `hawser` binary run against them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::Parser;
use hawser_broker::{InitArgs, ServeArgs};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Insists on an exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("stdout is not JSON ({e}): {self:?}"))
    }

    /// The JSON error on stderr.
    pub(crate) fn error(&self) -> Value {
        let line = self.stderr.lines().last().unwrap_or_default();
        let document: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("no JSON error ({e}): {self:?}"));
        assert_eq!(document["error"]["exitCode"], self.code, "{self:?}");
        document["error"].clone()
    }
}

/// Runs `hawser` with exactly these variables.
pub(crate) async fn hawser(args: &[&str], env: &[(&str, &Path)], input: &str) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser"));
    command.args(args).env_clear().envs(env.iter().copied()).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that doesn't read its input may end first.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    let output = child.wait_with_output().await.unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) struct Lab {
    dir: TempDir,
    address: SocketAddr,
    stop: CancellationToken,
    broker: JoinHandle<anyhow::Result<()>>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Lab {
    /// Begins a cluster set and serves it.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        hawser_broker::init(&InitArgs {
            dir: dir.path().join("broker"),
            set: "prod".into(),
            address: vec!["127.0.0.1:1".into()],
            admin: "root".into(),
        })
        .unwrap();
        let (address, stop, broker) = serve(dir.path(), "127.0.0.1:0").await;
        Self { dir, address, stop, broker }
    }

    /// Ends the broker and removes all it had.
    #[allow(dead_code, reason = "not every test loses it")]
    pub(crate) async fn lose_broker(&mut self) {
        self.stop.cancel();
        (&mut self.broker).await.unwrap().unwrap();
        std::fs::remove_dir_all(self.dir.path().join("broker")).unwrap();
    }

    /// Serves what is there now, at the same address.
    #[allow(dead_code, reason = "as above")]
    pub(crate) async fn serve_again(&mut self) {
        (_, self.stop, self.broker) = serve(self.dir.path(), &self.address.to_string()).await;
    }

    pub(crate) fn admin_dir(&self) -> PathBuf {
        self.dir.path().join("broker/admin")
    }

    /// Runs `hawser` as the administrator.
    pub(crate) async fn admin(&self, args: &[&str]) -> Outcome {
        hawser(args, &[("HAWSER_ADMIN_DIR", &self.admin_dir())], "").await
    }

    pub(crate) async fn token(&self, cluster: &str) -> String {
        self.admin(&["token", "create", "--cluster", cluster]).await.exits(0).stdout
    }

    /// A site with a Membership manifest.
    pub(crate) fn site(&self, cluster: &str, prefix: &str) -> PathBuf {
        let site = self.empty_site(cluster);
        let membership = format!(
            "apiVersion: hawser.dev/v1alpha1\nkind: Membership\nmetadata: {{name: default}}\nspec:\n  clusterId: {cluster}\n  prefixes: ['{prefix}']\n"
        );
        std::fs::write(site.join("membership.yaml"), membership).unwrap();
        site
    }

    pub(crate) fn empty_site(&self, name: &str) -> PathBuf {
        let site = self.dir.path().join(name);
        std::fs::create_dir_all(&site).unwrap();
        site
    }

    /// `hawser join` that waits for no agent.
    pub(crate) async fn join(&self, site: &Path, token: &str, more: &[&str]) -> Outcome {
        let mut args = vec!["join", "--token-file", "-", "--wait", "0s"];
        args.extend(more);
        on(site, &args, token).await
    }
}

async fn serve(dir: &Path, listen: &str) -> (SocketAddr, CancellationToken, JoinHandle<anyhow::Result<()>>) {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        serve: ServeArgs,
    }
    let broker = dir.join("broker");
    let args = ["serve", "--listen", listen, "--dir", broker.to_str().unwrap()];
    let bound = hawser_broker::bind(&Flags::parse_from(args).serve).await.unwrap();
    let address = bound.addresses()[0];
    let info = format!("{{\"clusterSet\": \"prod\", \"brokers\": [\"{address}\"]}}");
    std::fs::write(broker.join("admin/broker.json"), info).unwrap();
    let stop = CancellationToken::new();
    (address, stop.clone(), tokio::spawn(bound.run(stop)))
}

/// Runs `hawser` at a site.
pub(crate) async fn on(site: &Path, args: &[&str], input: &str) -> Outcome {
    hawser(args, &[("HAWSER_SITE", site)], input).await
}
