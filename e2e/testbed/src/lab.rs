//! A laboratory: a WAN, a broker host, and sites that are added to it.
//!
//! WAN addresses: `198.51.100.0/24` and `2001:db8:0:ff::/64`; the broker is `.1`, host `h` of site `s` is `10 s + h`.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::process::binary;
use crate::{Netns, Process, Site, SiteOptions, Switch, wait_for};

/// `host:port` of the broker, IPv4 and IPv6.
pub const BROKER_ADDRESSES: [&str; 2] = ["198.51.100.1:7443", "[2001:db8:0:ff::1]:7443"];

/// See the module.
pub struct Lab {
    // Dropped first: programs end before the namespaces they live in.
    broker: Option<Process>,
    captures: Vec<Process>,
    wan: Switch,
    broker_host: Netns,
    dir: Option<TempDir>,
    passed: Cell<bool>,
    captured: bool,
}

impl Lab {
    /// Makes the WAN and the broker host; nothing runs yet.
    ///
    /// # Errors
    /// Without root, or when the kernel refuses.
    pub fn new(name: &str) -> Result<Self> {
        let mut lab = Self::without_captures(name)?;
        lab.captured = true;
        lab.capture_wan();
        Ok(lab)
    }

    /// The same, with nothing recorded on any wire: for measurements, which a capture slows down.
    ///
    /// # Errors
    /// Without root, or when the kernel refuses.
    pub fn without_captures(name: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix(&format!("hawser-{name}-")).tempdir()?;
        fs::create_dir(dir.path().join("logs"))?;
        let wan = Switch::new("wan")?;
        let broker_host = Netns::new("broker", None)?;
        wan.plug(&broker_host, "wan0", 1500)?;
        broker_host.ip("addr add 198.51.100.1/24 dev wan0")?;
        broker_host.ip("addr add 2001:db8:0:ff::1/64 dev wan0")?;
        let (captures, passed) = (Vec::new(), Cell::new(false));
        Ok(Self { broker: None, captures, wan, broker_host, dir: Some(dir), passed, captured: false })
    }

    /// Says that all went well: files need not be kept.
    pub fn pass(&self) {
        self.passed.set(true);
    }

    /// Whether the wires are recorded.
    pub(crate) fn is_captured(&self) -> bool {
        self.captured
    }

    /// The folder of this laboratory's files.
    ///
    /// # Panics
    /// Never: the folder lives as long as the laboratory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("kept until drop").path()
    }

    /// Where logs and captures go.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.dir().join("logs")
    }

    /// The wire between sites and broker.
    #[must_use]
    pub fn wan(&self) -> &Switch {
        &self.wan
    }

    /// The broker's host.
    #[must_use]
    pub fn broker_host(&self) -> &Netns {
        &self.broker_host
    }

    /// The broker's folder.
    #[must_use]
    pub fn broker_dir(&self) -> PathBuf {
        self.dir().join("broker")
    }

    /// A command line of `hawser`, to be run by [`Lab::hawser`] or in a host.
    ///
    /// # Errors
    /// When it is not built.
    pub fn hawser_command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("hawser")?);
        command.args(args).env("HAWSER_ADMIN_DIR", self.broker_dir().join("admin"));
        Ok(command)
    }

    /// Runs `hawser` on `host` to its end; gives exit code, standard output, standard error.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn hawser_on(&self, host: &Netns, args: &[&str], input: Option<&str>) -> Result<Outcome> {
        run(host, self.hawser_command(args)?, input)
    }

    /// Runs `hawser` on the broker's host and insists on success; gives its standard output.
    ///
    /// # Errors
    /// With what it said.
    pub fn hawser(&self, args: &[&str]) -> Result<String> {
        self.hawser_on(&self.broker_host, args, None)?.success()
    }

    /// Makes the cluster set: CA, roster, first administrator.
    ///
    /// # Errors
    /// With what `hawser broker init` said.
    pub fn init_broker(&self, set: &str) -> Result<()> {
        let dir = self.broker_dir();
        let mut args = vec!["broker", "init", "--dir", path_str(&dir)?, "--set", set];
        for address in BROKER_ADDRESSES {
            args.extend(["--address", address]);
        }
        self.hawser(&args)?;
        Ok(())
    }

    /// Starts the broker and waits until it listens.
    ///
    /// # Errors
    /// When it does not come up, with its log.
    pub fn start_broker(&mut self) -> Result<()> {
        let mut command = self.hawser_command(&["broker", "serve", "--listen", "[::]:7443", "--dir"])?;
        command.arg(self.broker_dir());
        let mut process = Process::start(&self.broker_host, "broker", command, &self.logs())?;
        wait_for("the broker to listen", Duration::from_secs(20), || {
            anyhow::ensure!(process.is_running(), "it ended: {}", process.log());
            let listeners = self.broker_host.run(|| fs::read_to_string("/proc/thread-self/net/tcp6"))?;
            let port = format!(":{:04X} ", 7443);
            listeners.contains(&port).then_some(()).with_context(|| format!("not yet; log: {}", process.log()))
        })?;
        self.broker = Some(process);
        Ok(())
    }

    /// The running broker.
    ///
    /// # Errors
    /// When none runs.
    pub fn broker(&self) -> Result<&Process> {
        self.broker.as_ref().context("No broker runs")
    }

    /// Takes the running broker, to kill or stop it.
    ///
    /// # Errors
    /// When none runs.
    pub fn take_broker(&mut self) -> Result<Process> {
        self.broker.take().context("No broker runs")
    }

    /// Adds a site: its LAN, nodes and manifests; nothing runs yet.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_site(&self, options: SiteOptions) -> Result<Site> {
        Site::new(self, options)
    }

    /// A token for `cluster`.
    ///
    /// # Errors
    /// With what `hawser token create` said.
    pub fn token(&self, cluster: &str, more: &[&str]) -> Result<String> {
        let mut args = vec!["token", "create", "--cluster", cluster];
        args.extend(more);
        Ok(self.hawser(&args)?.trim().to_owned())
    }

    fn capture_wan(&mut self) {
        if let Ok(capture) = capture(self.wan.ns(), "br0", &self.logs()) {
            self.captures.push(capture);
        }
    }
}

/// Records the first bytes of each packet of a device into a ring of two files of 16 MB.
pub(crate) fn capture(ns: &Netns, device: &str, logs: &Path) -> Result<Process> {
    let mut command = Command::new("tcpdump");
    // Whole handshakes and small data messages, which a scenario sends again; no more, to fit the ring.
    command.args(["-i", device, "-s", "256", "-U", "-C", "16", "-W", "2", "-Z", "root", "-w"]);
    let file = format!("{}.pcap", ns.name());
    command.arg(logs.join(&file));
    let process = Process::start(ns, "tcpdump", command, logs)?;
    // The file is made once it listens: whatever comes later is in it.
    wait_for("tcpdump to listen", Duration::from_secs(5), || {
        logs.join(format!("{file}0")).exists().then_some(()).with_context(|| process.log())
    })?;
    Ok(process)
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit code; −1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Standard output of a command that must have succeeded.
    ///
    /// # Errors
    /// With its exit code and all it said.
    pub fn success(self) -> Result<String> {
        anyhow::ensure!(self.code == 0, "exit code {}: {}{}", self.code, self.stdout, self.stderr);
        Ok(self.stdout)
    }
}

fn run(host: &Netns, mut command: Command, input: Option<&str>) -> Result<Outcome> {
    use std::io::Write as _;
    use std::process::Stdio;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.unwrap_or_default().to_owned();
    host.run(move || {
        let mut child = command.spawn()?;
        // A command that does not read its input closes it early; that is its right.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output()?;
        Ok(Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    })
}

pub(crate) fn path_str(path: &Path) -> Result<&str> {
    path.to_str().context("Paths of the testbed are UTF-8")
}

impl Drop for Lab {
    /// Keeps logs and captures of a test that did not pass, and says where.
    #[expect(clippy::print_stderr, reason = "the place must reach the test's output")]
    fn drop(&mut self) {
        if !self.passed.get()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("logs, captures and manifests are kept in {}", dir.keep().display());
        }
    }
}
