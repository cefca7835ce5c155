//! One network namespace and the thread that lives in it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace. Its thread runs jobs in it; processes started there die with it.
pub struct Netns {
    name: String,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    fd: OwnedFd,
    tid: i32,
}

impl Netns {
    /// Makes a namespace with `lo` up, forwarding on in both families, no duplicate address detection, and a private view of
    /// mounts. `resolv_conf`, where given, is its `/etc/resolv.conf`.
    ///
    /// # Errors
    /// Without root, or when the kernel refuses.
    pub fn new(name: &str, resolv_conf: Option<&Path>) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, opened) = mpsc::channel();
        let resolv_conf = resolv_conf.map(Path::to_owned);
        let thread = thread::Builder::new().name(format!("ns {name}")).spawn(move || {
            let entered = enter(resolv_conf.as_deref());
            let failed = entered.is_err();
            if ready.send(entered).is_err() || failed {
                return;
            }
            while let Ok(job) = queue.recv() {
                job();
            }
        })?;
        let (fd, tid) = opened.recv().context("The namespace's thread ended")??;
        let ns = Self { name: name.to_owned(), jobs: Some(jobs), thread: Some(thread), fd, tid };
        ns.ip("link set lo up")?;
        for (key, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv6/conf/all/accept_dad", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/dad_transmits", "0"),
        ] {
            ns.sysctl(key, value)?;
        }
        Ok(ns)
    }

    /// Its name, for messages and logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path that `nsenter --net=` and `ip … netns` take, while this process lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd()))
    }

    /// The command that gives a shell in it, while this process lives.
    #[must_use]
    pub fn shell(&self) -> String {
        format!("nsenter --target {} --net --mount", self.tid)
    }

    /// Runs `job` on the namespace's thread and waits for it.
    ///
    /// # Panics
    /// When `job` panics.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job: Job = Box::new(move || {
            let _ = done.send(std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)));
        });
        self.jobs.as_ref().expect("jobs end with the namespace").send(job).expect("the thread catches panics");
        match result.recv().expect("the thread answers every job") {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Writes `/proc/sys/net/<key>`.
    ///
    /// # Errors
    /// When the kernel has no such setting or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let (path, value) = (Path::new("/proc/sys/net").join(key), value.to_owned());
        self.run(move || fs::write(&path, value).with_context(|| format!("Failed to write {}", path.display())))
    }

    /// Runs an `ip` command line, e.g. `link set lo up`.
    ///
    /// # Errors
    /// With what `ip` said.
    pub fn ip(&self, line: &str) -> Result<String> {
        self.output("ip", &line.split_whitespace().collect::<Vec<_>>(), None)
    }

    /// Loads an nft script.
    ///
    /// # Errors
    /// With what `nft` said.
    pub fn nft(&self, script: &str) -> Result<String> {
        self.output("nft", &["-f", "-"], Some(script))
    }

    /// Packets that the queue of one of its devices had no room for: whoever reads it is too slow, or the machine too busy.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn queue_overflows(&self, device: &str) -> Result<u64> {
        Ok(self.device(device, "statistics/tx_dropped")?.parse()?)
    }

    /// What the kernel says of one of its devices, e.g. `address` or `statistics/rx_packets`.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn device(&self, device: &str, what: &str) -> Result<String> {
        let text = self.output("cat", &[&format!("/sys/class/net/{device}/{what}")], None)?;
        Ok(text.trim().to_owned())
    }

    /// Runs a program to its end and gives its standard output.
    ///
    /// # Errors
    /// When it can't be started or fails, with what it said.
    pub fn output(&self, program: &str, args: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = input.map(str::to_owned);
        let shown = format!("{program} {}", args.join(" "));
        let name = self.name.clone();
        self.run(move || {
            let mut child = command.spawn().with_context(|| format!("Failed to start {shown}"))?;
            let mut stdin = child.stdin.take().context("No standard input")?;
            stdin.write_all(input.unwrap_or_default().as_bytes())?;
            drop(stdin);
            let output = child.wait_with_output()?;
            let error = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{shown} on {name}: {} {}", output.status, error.trim());
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves the calling thread into new network and mount namespaces.
fn enter(resolv_conf: Option<&Path>) -> Result<(OwnedFd, i32)> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("Failed to make a namespace; the testbed needs root")?;
    let none: Option<&Path> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("Failed to make mounts private")?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).context("Failed to mount /sys")?;
    if let Some(resolv_conf) = resolv_conf {
        if !Path::new("/etc/resolv.conf").exists() {
            bail!("/etc/resolv.conf does not exist; create an empty one");
        }
        mount(Some(resolv_conf), "/etc/resolv.conf", none, MsFlags::MS_BIND, none)
            .context("Failed to mount resolv.conf")?;
    }
    Ok((File::open("/proc/thread-self/ns/net")?.into(), nix::unistd::gettid().as_raw()))
}
