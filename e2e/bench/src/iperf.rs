//! `iperf3`: a server per bed, a client per measurement.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hawser_testbed::{Netns, Process, wait_for};
use serde_json::Value;

use crate::process::{cpu_time, cpu_time_of_ended};

const PORT: u16 = 5201;
const TRIES: u32 = 3;
/// The kernel's default, whatever this host is set to: others answer to delays of the machine as much as of the tunnel. Set
/// for each connection, as a host may refuse it as the default of a namespace.
const CONGESTION_CONTROL: &str = "cubic";

/// What a TCP measurement gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tcp {
    /// Received, in Gbit/s of payload.
    pub rate: f64,
    /// Received altogether, in Gbit.
    pub amount: f64,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// CPU time of client and server.
    pub cpu: Duration,
}

/// A server that waits for one client after the other.
pub struct Server {
    process: Process,
    address: IpAddr,
}

impl Server {
    /// Starts it on `host` and waits until it listens.
    ///
    /// # Errors
    /// When `iperf3` is missing or does not come up.
    pub fn start(host: &Netns, address: IpAddr, logs: &Path) -> Result<Self> {
        let mut command = Command::new("iperf3");
        command.args(["--server", "--port", &PORT.to_string(), "--bind", &address.to_string()]);
        let mut process = Process::start(host, "iperf3", command, logs)?;
        wait_for("iperf3 to listen", Duration::from_secs(10), || {
            anyhow::ensure!(process.is_running(), "it ended: {}", process.log());
            let read = |file: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
            let listeners = host.run(move || Ok::<_, std::io::Error>(read("tcp")? + &read("tcp6")?))?;
            listeners.contains(&format!(":{PORT:04X} 00000000")).then_some(()).context("not yet")
        })?;
        Ok(Self { process, address })
    }

    /// Sends by TCP from `host` for a time, by so many flows at once.
    ///
    /// # Errors
    /// With what `iperf3` said.
    pub fn tcp(&self, host: &Netns, from: IpAddr, flows: u32, time: Duration) -> Result<Tcp> {
        let used = || anyhow::Ok(cpu_time(self.process.pid())? + cpu_time_of_ended()?);
        let mut tries = 0;
        loop {
            let before = used()?;
            tries += 1;
            match run(host, &self.command(from, flows, time)) {
                Ok(report) => {
                    let (rate, amount) = parse(&report)?;
                    let retransmits = report["end"]["sum_sent"]["retransmits"].as_u64().unwrap_or_default();
                    return Ok(Tcp { rate, amount, retransmits, cpu: used()?.saturating_sub(before) });
                }
                // A server that still clears up after the last client says that it is busy.
                Err(_) if tries < TRIES => thread::sleep(Duration::from_millis(500)),
                Err(error) => return Err(error),
            }
        }
    }

    /// The client's command line.
    fn command(&self, from: IpAddr, flows: u32, time: Duration) -> Vec<String> {
        // A client whose connection is dead would wait for ever.
        let limit = time.as_secs() + 15;
        let line = format!(
            "timeout --signal=KILL {limit} iperf3 --json --client {} --bind {from} --port {PORT} --time {} --parallel {flows} --connect-timeout 3000 --congestion {CONGESTION_CONTROL}",
            self.address,
            time.as_secs().max(1),
        );
        line.split(' ').map(str::to_owned).collect()
    }
}

fn run(host: &Netns, line: &[String]) -> Result<Value> {
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]);
    let output = host.run(move || command.output()).context("Failed to start iperf3")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text).with_context(|| {
        format!("iperf3 gave no report ({}): {}", output.status, String::from_utf8_lossy(&output.stderr))
    })?;
    match report["error"].as_str() {
        Some(error) => bail!("iperf3: {error}"),
        None => Ok(report),
    }
}

/// Rate in Gbit/s and amount in Gbit.
fn parse(report: &Value) -> Result<(f64, f64)> {
    let sum = &report["end"]["sum_received"];
    let (rate, bytes) = (sum["bits_per_second"].as_f64(), sum["bytes"].as_f64());
    let (rate, bytes) = rate.zip(bytes).with_context(|| format!("no sum_received in {report}"))?;
    anyhow::ensure!(bytes > 0.0, "iperf3 moved nothing");
    Ok((rate / 1e9, bytes * 8.0 / 1e9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_was_received() {
        let report = json!({"end": {"sum_received": {"bytes": 1_250_000_000_u64, "bits_per_second": 2e9}}});
        let (rate, amount) = parse(&report).unwrap();
        assert!((rate - 2.0).abs() < 1e-9 && (amount - 10.0).abs() < 1e-9, "{rate} {amount}");
        assert!(parse(&json!({"end": {}})).is_err());
        assert!(parse(&json!({"end": {"sum_received": {"bytes": 0, "bits_per_second": 0}}})).is_err());
    }
}
