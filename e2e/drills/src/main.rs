//! `hawser-drills`: causes every fault and says what each costs; see the crate's head.

#![expect(clippy::print_stdout, reason = "the table is this program's output")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use comfy_table::Table;
use hawser_drills::fault::{Fault, Kind};
use hawser_drills::outcome::{HEAD, Outcome};
use hawser_drills::run::once;
use hawser_drills::stage::Stage;
use hawser_drills::{faults, plot};
use hawser_e2e::report::Report;

/// Runs of a row in which the time until packets are spread over all paths again is measured: each waits for a hold-down.
const EVEN_RUNS: u32 = 2;
/// A run beside its fault: settling, packets before and after, the reset.
const OVERHEAD: Duration = Duration::from_millis(3_500);

/// Causes faults and measures what they cost. Needs root; everything happens in network namespaces of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Only these rows.
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<String>,
    /// How often each row without a duration is run.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Seconds that rows with a duration last, in place of their own: for trying them out.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Print the rows and end.
    #[arg(long)]
    list: bool,
    /// Where the plot goes; without: docs/drills.svg if every row was run as it is meant to be, else the report's folder.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    let chosen = choose(args)?;
    if args.list {
        chosen.iter().for_each(|fault| println!("{:16} {:70} {}", fault.id, fault.title, estimate(fault, args)));
        return Ok(true);
    }
    let start = Instant::now();
    let mut outcomes = repeated(&chosen, args);
    outcomes.extend(side_by_side(&chosen, args));
    for fault in chosen.iter().filter(|f| matches!(f.kind, Kind::OnceAlone(_))) {
        outcomes.push(alone(fault, args));
    }
    outcomes.sort_by_key(|o| faults::all().position(|f| f.id == o.fault.id));
    let mut report = Report::new("drills");
    outcomes.iter().for_each(|outcome| outcome.report(&mut report));
    let path = report.write()?;
    println!("\n{}", table(&outcomes));
    let plot = plot_path(args, &path);
    fs::write(&plot, plot::histogram(&outcomes)).with_context(|| format!("Failed to write {}", plot.display()))?;
    println!("\nAfter {:.0?}: {}, {}", start.elapsed(), path.display(), plot.display());
    Ok(outcomes.iter().all(Outcome::passes))
}

fn choose(args: &Args) -> Result<Vec<&'static Fault>> {
    if let Some(unknown) = args.only.iter().find(|id| faults::all().all(|f| f.id != **id)) {
        bail!("There is no row {unknown}; --list prints them");
    }
    Ok(faults::all().filter(|f| args.only.is_empty() || args.only.iter().any(|id| id == f.id)).collect())
}

/// How long a row takes, about.
fn estimate(fault: &Fault, args: &Args) -> String {
    let length = match fault.kind {
        Kind::Repeated(length) => {
            let even = if fault.even { Duration::from_secs(8) * EVEN_RUNS.min(args.runs) } else { Duration::ZERO };
            (length + fault.after.unwrap_or_default() + OVERHEAD) * args.runs + even
        }
        Kind::Once(length) | Kind::OnceAlone(length) => args.seconds.map_or(length, Duration::from_secs),
    };
    format!("about {} s", length.as_secs())
}

/// Rows that are repeated share a stage; after an error the next row gets a new one.
fn repeated(chosen: &[&'static Fault], args: &Args) -> Vec<Outcome> {
    let mut stage: Option<Stage> = None;
    let mut outcomes = Vec::new();
    for fault in chosen.iter().filter(|f| matches!(f.kind, Kind::Repeated(_))) {
        let mut outcome = Outcome { fault, costs: Vec::new(), error: None };
        let result = repeat(&mut stage, fault, args.runs, &mut outcome);
        if let Err(error) = result {
            outcome.error = Some(format!("{error:#}"));
            // Its logs are kept.
            stage = None;
        }
        say(&outcome);
        outcomes.push(outcome);
    }
    if let Some(stage) = stage {
        stage.rope.lab.pass();
    }
    outcomes
}

fn repeat(stage: &mut Option<Stage>, fault: &Fault, runs: u32, outcome: &mut Outcome) -> Result<()> {
    let stage = match stage {
        Some(stage) => stage,
        None => stage.insert(Stage::new("drills").context("Failed to set the stage")?),
    };
    for run in 0..runs {
        let even = fault.even && run < EVEN_RUNS;
        let cost = once(stage, fault, run, fault.kind.length(), even).with_context(|| format!("run {}", run + 1))?;
        outcome.costs.push(cost);
    }
    Ok(())
}

/// Rows with a duration, each on a stage of its own, at the same time.
fn side_by_side(chosen: &[&'static Fault], args: &Args) -> Vec<Outcome> {
    let long = chosen.iter().copied().filter(|f| matches!(f.kind, Kind::Once(_)));
    thread::scope(|scope| {
        let running: Vec<_> = long.map(|fault| scope.spawn(move || alone(fault, args))).collect();
        running.into_iter().filter_map(|row| row.join().ok()).collect()
    })
}

fn alone(fault: &'static Fault, args: &Args) -> Outcome {
    let length = args.seconds.map_or(fault.kind.length(), Duration::from_secs);
    let result = Stage::new(fault.id).and_then(|mut stage| {
        let cost = once(&mut stage, fault, 0, length, false)?;
        stage.rope.lab.pass();
        Ok(cost)
    });
    let (costs, error) = match result {
        Ok(cost) => (vec![cost], None),
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    };
    let outcome = Outcome { fault, costs, error };
    say(&outcome);
    outcome
}

fn say(outcome: &Outcome) {
    println!("{}", outcome.cells()[..5].join(" | "));
    for (run, cost) in outcome.costs.iter().enumerate().filter(|(_, cost)| cost.overflows > 0) {
        println!("  run {}: {} packets had no room in the measurement's own sockets", run + 1, cost.overflows);
    }
}

fn table(outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(HEAD);
    table.add_rows(outcomes.iter().map(Outcome::cells));
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Only a whole run is worth a place in the documentation.
fn plot_path(args: &Args, report: &Path) -> PathBuf {
    let whole = args.only.is_empty() && args.runs >= 20 && args.seconds.is_none();
    let default = if whole { PathBuf::from("docs/drills.svg") } else { report.with_file_name("drills.svg") };
    args.plot.clone().unwrap_or(default)
}
