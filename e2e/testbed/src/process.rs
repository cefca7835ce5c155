//! A program on a host, with its log.

#![expect(unsafe_code, reason = "a child asks the kernel to be killed with the thread that started it")]

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Netns, wait_for};

/// A running program. Dropping it kills it.
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `command` on `host`; its output goes to `<logs>/<host>-<name>.log`, appended.
    ///
    /// # Errors
    /// When the program or its log can't be opened.
    pub fn start(host: &Netns, name: &str, mut command: Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{}-{name}.log", host.name()));
        let out = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        die_with_parent(&mut command);
        let shown = format!("{command:?}");
        let child = host.run(move || command.spawn()).with_context(|| format!("Failed to start {shown}"))?;
        Ok(Self { name: format!("{} on {}", name, host.name()), log, child })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("Failed to send {signal} to {}", self.name))
    }

    /// Kills it without notice and waits for its end.
    ///
    /// # Errors
    /// When it had ended before.
    pub fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} had ended before: {status}", self.name);
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end and waits.
    ///
    /// # Errors
    /// When it does not end within 15 s.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(Duration::from_secs(15))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// After `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        wait_for(&what, limit, || self.child.try_wait()?.context("it runs"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn die_with_parent(command: &mut Command) {
    let set = || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        Ok(())
    };
    // SAFETY: runs in the child between fork and exec; prctl is async-signal-safe and touches no memory of ours.
    unsafe { command.pre_exec(set) };
}

/// Ctrl-C and SIGTERM, kept for later: made before any thread, so that all threads leave them alone.
pub struct Interrupt(nix::sys::signal::SigSet);

impl Interrupt {
    /// Keeps the signals from ending this process.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn keep() -> Result<Self> {
        let mut signals = nix::sys::signal::SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block()?;
        Ok(Self(signals))
    }

    /// Blocks until one of them comes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn wait(&self) -> Result<()> {
        self.0.wait()?;
        Ok(())
    }
}

/// The folder with the built programs: `HAWSER_BIN_DIR`, or where this program's own build is.
///
/// # Errors
/// When a program is missing, with the command that builds it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let dir = match std::env::var_os("HAWSER_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let exe = std::env::current_exe()?;
            let dir = exe.parent().context("A program has a folder")?;
            if dir.ends_with("deps") { dir.parent().context("deps has a parent")?.to_owned() } else { dir.to_owned() }
        }
    };
    let path = dir.join(name);
    if !path.exists() {
        bail!("{} is not built; run: cargo build --workspace --bins", path.display());
    }
    Ok(path)
}
