//! `hawser-demo`: tells the story on this machine; see the crate's `story`.

#![expect(clippy::print_stdout, reason = "the story is this program's output")]

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use hawser_e2e::report::Report;
use hawser_e2e::story::{self, Narrator, Stage};
use hawser_testbed::process::Interrupt;

/// Two sites, one broker, an exported service reached by name through WireGuard, a gateway killed on the way.
///
/// Needs root; everything happens in network namespaces of its own and is gone at the end.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Leave everything running at the end, print how to get a shell on each host, and wait for Ctrl-C.
    #[arg(long, env = "KEEP", num_args = 0..=1, default_missing_value = "1", default_value = "0", value_parser = clap::builder::BoolishValueParser::new())]
    keep: bool,
}

struct Printer {
    start: Instant,
    step: u32,
}

impl Narrator for Printer {
    fn step(&mut self, text: &str) {
        self.step += 1;
        println!("\n[{:5.1} s] {}. {text}", self.start.elapsed().as_secs_f64(), self.step);
    }

    fn shows(&mut self, text: &str) {
        for line in text.lines() {
            println!("          {line}");
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("\nFAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    let interrupt = args.keep.then(Interrupt::keep).transpose()?;
    let mut printer = Printer { start: Instant::now(), step: 0 };
    let mut report = Report::new("demo");
    let stage = story::tell(&mut printer, &mut report)?;
    let path = report.write()?;
    println!("\nResults ({}):", path.display());
    for row in report.rows() {
        let verdict = if row.pass { "ok" } else { "MISSED" };
        println!("  {verdict:6} {} = {:.0} {} (goal {})", row.id, row.value, row.unit, row.goal);
    }
    if let Some(interrupt) = interrupt {
        keep(&stage, &interrupt)?;
    }
    stage.rope.pass()?;
    Ok(report.passes())
}

fn keep(stage: &Stage, interrupt: &Interrupt) -> Result<()> {
    stage.rope.export(&stage.rope.west)?;
    println!("\nEverything runs on until Ctrl-C. A shell on each host:");
    let rope = &stage.rope;
    println!("  {:12} {}", "broker", rope.lab.broker_host().shell());
    for node in rope.west.nodes.iter().chain(&rope.east.nodes) {
        println!("  {:12} {}", node.name, node.ns.shell());
    }
    for workload in [&stage.web.workload, &stage.client] {
        println!("  {:12} {}", workload.ns.name(), workload.ns.shell());
    }
    println!("Try, from {}: curl http://web.shop.svc.clusterset.local/", stage.client.ns.name());
    let states = rope.east.gateways().map(|node| format!("--state {}", node.state.display()));
    let states = states.collect::<Vec<_>>().join(" ");
    println!("Try, anywhere: target/debug/hawser status --site {} {states}", rope.east.dir.display());
    println!("Manifests, state and logs: {}", rope.lab.dir().display());
    interrupt.wait()
}
