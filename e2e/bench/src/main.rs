//! `hawser-bench`: measures Hawser's data plane beside others on this machine; see the library's head.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tables are this program's output, progress goes beside it"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum as _};
use hawser_bench::bed::tool;
use hawser_bench::plain::program;
use hawser_bench::runner::{Plan, run};
use hawser_bench::samples::Measure;
use hawser_bench::subject::Subject;
use hawser_bench::{goals, hawser, plot, table};
use hawser_e2e::machine::CpuTime;
use hawser_e2e::report::Report;
use hawser_testbed::process::binary;

/// Hawser's data plane beside wireguard-go, gotatun, boringtun-cli and the bare wire: rates, CPU time, latency, memory.
///
/// Needs root; everything happens in network namespaces of its own and is gone at the end. Only a whole run of at least five
/// rounds of five seconds writes target/report/bench.json and docs/bench.svg; any other writes bench-partial.json and
/// bench-partial.svg beside it.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Only these measures; cpu comes with tcp1, rss with tcp8. May be repeated, or a list with commas.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<Measure>,
    /// Only these subjects between two hosts. May be repeated, or a list with commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    subject: Vec<Subject>,
    /// Another build of hawser-gateway to measure beside this one, as other-hawser-1 and -2.
    #[arg(long, value_name = "PATH")]
    other: Option<PathBuf>,
    /// Length of each measurement.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often each subject has its turn; three times as often with one TCP flow, four times with idle round trips.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// One round of one second: shows that everything works, not how well.
    #[arg(long)]
    quick: bool,
}

const FULL: Plan = Plan { time: Duration::from_secs(5), trial: Duration::from_secs(2), rounds: 5 };

fn main() -> ExitCode {
    match measure(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<bool> {
    let plan = match args.quick {
        true => Plan { time: Duration::from_secs(1), trial: Duration::from_millis(500), rounds: 1 },
        false => Plan { time: Duration::from_secs(args.seconds), trial: FULL.trial, rounds: args.rounds },
    };
    let all = Measure::value_variants();
    let measures = if args.only.is_empty() { all } else { &args.only };
    let mut subjects = if args.subject.is_empty() { Subject::ALL.to_vec() } else { args.subject.clone() };
    if let Some(path) = &args.other {
        hawser::OTHER.get_or_init(|| path.clone());
        subjects.extend(Subject::OTHER.iter().filter(|_| args.subject.is_empty()));
    }
    let whole = all.iter().all(|m| measures.contains(m))
        && subjects == Subject::ALL
        && plan.time >= FULL.time
        && plan.rounds >= FULL.rounds;
    let machine = machine()?;
    println!("{machine}");
    for line in versions()? {
        println!("  {line}");
    }
    warn_if_busy()?;

    let mut root = tempfile::Builder::new().prefix("hawser-bench-").tempdir()?;
    let start = Instant::now();
    let samples = run(measures, &subjects, plan, root.path(), &mut |text| {
        eprintln!("[{:6.1} s] {text}", start.elapsed().as_secs_f64());
    });
    if samples.as_ref().map_or(true, |s| measures.iter().any(|m| s.failure(*m).is_some())) {
        root.disable_cleanup(true);
        eprintln!("bench: sites and logs are kept in {}", root.path().display());
    }
    let samples = samples?;

    let name = if whole { "bench" } else { "bench-partial" };
    let mut report = Report::new(name);
    goals::rows(&samples, measures).into_iter().for_each(|row| report.add(row));
    let written = report.write()?;
    for table in
        [table::figures(&samples, &subjects), table::others(&samples, &subjects), table::results(&samples, measures)]
    {
        println!("\n{table}");
    }
    println!();
    for &measure in measures {
        if let Some(why) = samples.failure(measure) {
            println!("not measured: {measure:?}: {why}");
        }
    }
    let caption = format!("{machine}; {} rounds and more of {} s", plan.rounds, plan.time.as_secs());
    let drawing = if whole { Path::new("docs/bench.svg").to_owned() } else { written.with_extension("svg") };
    fs::write(&drawing, plot::plot(&samples, &caption))
        .with_context(|| format!("Failed to write {}", drawing.display()))?;
    println!("{} and {} after {:.0} s", written.display(), drawing.display(), start.elapsed().as_secs_f64());
    if !whole {
        println!("This was not a whole run: its figures show that it works, and no more.");
    }
    Ok(report.passes())
}

/// The machine in a line.
fn machine() -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("unknown CPU");
    let day = Command::new("date").args(["--utc", "+%Y-%m-%d"]).output()?;
    Ok(format!("{}: {cores} cores of {model}, Linux {}", String::from_utf8_lossy(&day.stdout).trim(), kernel.trim()))
}

/// The module that a Go program was built from: what wireguard-go says of itself is the last release's number.
fn module(path: &Path) -> Result<String> {
    let output = Command::new("go").args(["version", "-m"]).arg(path).output().context("Failed to start go")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("mod\t"));
    let words = line.with_context(|| format!("{} was not built from a module", path.display()))?;
    Ok(words.split('\t').take(2).collect::<Vec<_>>().join(" "))
}

/// What is compared: a missing program is an error before anything is measured.
fn versions() -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for name in ["hawser-gateway", "hawser-route-agent", "hawser-bench-crowd"] {
        let path = binary(name)?;
        ensure!(path.components().all(|c| c.as_os_str() != "debug"), "{} is not a release build", path.display());
        lines.push(version(&path, name)?);
    }
    for subject in [Subject::WireguardGo, Subject::Gotatun, Subject::Boringtun] {
        let name = program(subject)?;
        lines.push(version(&tool(name)?, name)?);
        if subject == Subject::WireguardGo {
            lines.push(format!("{name}: module {}", module(&tool(name)?)?));
        }
    }
    lines.push(version(Path::new("iperf3"), "iperf3")?);
    Ok(lines)
}

fn version(path: &Path, name: &str) -> Result<String> {
    let output = Command::new(path).arg("--version").output().with_context(|| format!("Failed to start {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().unwrap_or_default();
    Ok(format!("{name}: {first}"))
}

/// Other work on the machine makes figures of nothing.
fn warn_if_busy() -> Result<()> {
    let before = CpuTime::now()?;
    std::thread::sleep(Duration::from_secs(1));
    let share = CpuTime::now()?.busy_since(&before);
    if share > 0.05 {
        eprintln!("bench: the machine is {:.0} % busy with something else; figures will not mean much", share * 100.0);
    }
    Ok(())
}
