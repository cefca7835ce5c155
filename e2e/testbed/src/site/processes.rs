//! A site's processes: commands run on its nodes, programs started, signalled and ended.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::Site;
use crate::lab::{Outcome, path_str};
use crate::process::binary;
use crate::{Lab, Process};

impl Site {
    /// Joins the cluster set, from the first gateway.
    ///
    /// # Errors
    /// With what `hawser join` said.
    pub fn join(&self, lab: &Lab, token: &str) -> Result<()> {
        let args = ["join", "--site", path_str(&self.dir)?, "--token-file", "-", "--wait", "0s"];
        lab.hawser_on(&self.node(1).ns, &args, Some(token))?.success()?;
        Ok(())
    }

    /// Runs `hawser ARGS --site DIR` on a node.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn hawser(&self, lab: &Lab, node: u8, args: &[&str]) -> Result<Outcome> {
        let mut all = args.to_vec();
        all.extend(["--site", path_str(&self.dir)?]);
        lab.hawser_on(&self.node(node).ns, &all, None)
    }

    /// Runs `hawser status` with the figures of all gateways.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn status(&self, lab: &Lab, more: &[&str]) -> Result<Outcome> {
        let mut args = vec!["status"];
        for node in self.gateways() {
            args.extend(["--state", path_str(&node.state)?]);
        }
        args.extend(more);
        self.hawser(lab, 1, &args)
    }

    /// Starts a process of the site on a node: `hawser-agent`, `hawser-gateway` or `hawser-route-agent`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&mut self, node: u8, program: &'static str) -> Result<()> {
        let mut command = Command::new(binary(program)?);
        let lanes = self.options.lanes;
        let (dir, logs) = (self.dir.clone(), self.logs.clone());
        let node = &mut self.nodes[usize::from(node) - 1];
        command.arg("--site").arg(dir).args(["--node", &node.name]).arg("--state").arg(&node.state);
        command.args(["--log-filter", "info,hawser=debug"]);
        if let (Some(lanes), "hawser-gateway") = (lanes, program) {
            command.args(["--lanes", &lanes.to_string()]);
        }
        let process = Process::start(&node.ns, program, command, &logs)?;
        node.processes.insert(program, process);
        Ok(())
    }

    /// Starts everything: agents and gateways on gateway nodes, route agents everywhere.
    ///
    /// # Errors
    /// When a process can't be started.
    pub fn start_all(&mut self) -> Result<()> {
        for number in 1..=self.options.gateways + self.options.workers {
            self.start(number, "hawser-route-agent")?;
            if number <= self.options.gateways {
                self.start(number, "hawser-gateway")?;
                self.start(number, "hawser-agent")?;
            }
        }
        Ok(())
    }

    /// Takes a running process, to kill or stop it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn take(&mut self, node: u8, program: &'static str) -> Result<Process> {
        let node = &mut self.nodes[usize::from(node) - 1];
        node.processes.remove(program).with_context(|| format!("{program} does not run on {}", node.name))
    }

    /// Kills a process without notice.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, node: u8, program: &'static str) -> Result<()> {
        self.take(node, program)?.kill()
    }

    /// Sends a signal to a process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, node: u8, program: &'static str, signal: Signal) -> Result<()> {
        let node = self.node(node);
        node.processes.get(program).with_context(|| format!("{program} does not run on {}", node.name))?.signal(signal)
    }

    /// A running process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&self, node: u8, program: &'static str) -> Result<&Process> {
        let node = self.node(node);
        node.processes.get(program).with_context(|| format!("{program} does not run on {}", node.name))
    }

    /// The log of a process, running or not.
    #[must_use]
    pub fn log(&self, node: u8, program: &str) -> String {
        fs::read_to_string(self.logs.join(format!("{}-{program}.log", self.node(node).name))).unwrap_or_default()
    }

    /// Ends every process of the site that runs.
    pub fn kill_all(&mut self) {
        for node in &mut self.nodes {
            node.processes.clear();
        }
    }
}
