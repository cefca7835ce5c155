//! `hawser-drills`: causes every fault and says what each costs; see the library's head.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tables are this program's output, progress goes beside it"
)]

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use comfy_table::Table;
use hawser_drills::fault::Fault;
use hawser_drills::outcome::{HEAD, Outcome};
use hawser_drills::runner::Plan;
use hawser_drills::{faults, peers, plot};
use hawser_e2e::report::Report;

/// Causes faults on two sites with two gateways each, and measures what they cost users.
///
/// Needs root and two cores; everything happens in network namespaces of its own and is gone at the end. Only a whole run (every
/// row, 20 runs, full length) writes target/report/drills.json and docs/drills.svg; any other writes drills-partial.json and
/// drills-partial.svg beside it.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Only these rows.
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<String>,
    /// How often each row without a duration is run.
    #[arg(long, value_name = "N", default_value_t = Plan::RUNS, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Minutes that rows with a duration last at most, in place of their own 5 and 10: for trying them out, e.g. 0.2.
    #[arg(long, value_name = "MINUTES", value_parser = minutes)]
    minutes: Option<Duration>,
    /// Print the rows and how long they take, and end.
    #[arg(long)]
    list: bool,
}

fn minutes(text: &str) -> Result<Duration, String> {
    let number = text.parse::<f64>().ok().filter(|m| (0.05..=600.0).contains(m));
    number
        .map(|m| Duration::from_secs_f64(60.0 * m))
        .ok_or_else(|| format!("{text:?} is not between 0.05 and 600 minutes"))
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("drills: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    let plan = Plan { rows: choose(args)?, runs: args.runs, longest: args.minutes };
    if args.list {
        let line = |fault: &&Fault| println!("{:16} {:5} s  {}", fault.id, plan.estimate(fault).as_secs(), fault.title);
        plan.rows.iter().for_each(line);
    }
    let start = Instant::now();
    eprintln!("{} rows, about {:.0} minutes", plan.rows.len(), plan.total().as_secs_f64() / 60.0);
    if args.list {
        return Ok(true);
    }
    let outcomes = plan.run(&|outcome| {
        eprintln!("[{:6.1} s] {}", start.elapsed().as_secs_f64(), outcome.cells()[..5].join(" | "));
        if outcome.costs.len() > 1 && !outcome.passes() {
            eprintln!("  {}", outcome.runs());
        }
        doubts(outcome);
    })?;
    let mut report = Report::new(if plan.is_whole() { "drills" } else { "drills-partial" });
    outcomes.iter().for_each(|outcome| outcome.report(&mut report));
    let path = report.write()?;
    println!("{}\n\nBeside them, what others need:\n\n{}\n", table(&outcomes), peers::table());
    let plot = if plan.is_whole() { Path::new("docs/drills.svg").to_owned() } else { path.with_extension("svg") };
    fs::write(&plot, plot::histogram(&outcomes)).with_context(|| format!("Failed to write {}", plot.display()))?;
    println!("{} and {} after {:.0} s", path.display(), plot.display(), start.elapsed().as_secs_f64());
    if !plan.is_whole() {
        println!("This was not a whole run: the worst of a few is not the worst of {}.", Plan::RUNS);
    }
    Ok(outcomes.iter().all(Outcome::passes))
}

fn choose(args: &Args) -> Result<Vec<&'static Fault>> {
    if let Some(unknown) = args.only.iter().find(|id| faults::all().all(|f| f.id != **id)) {
        bail!("There is no row {unknown}; --list prints them");
    }
    Ok(faults::all().filter(|f| args.only.is_empty() || args.only.iter().any(|id| id == f.id)).collect())
}

/// A host that takes more of a virtual machine's CPU time than this, in percent, is worth telling.
const MUCH_STOLEN: f64 = 5.0;

/// What makes figures doubtful: the machine was too busy, or its host was.
fn doubts(outcome: &Outcome) {
    for (run, cost) in outcome.costs.iter().enumerate().filter(|(_, c)| c.overflows + c.full_queues > 0) {
        eprintln!(
            "  run {}: the machine was busy: {} packets had no room in gateways' queues, {} none in the measurement's own",
            run + 1,
            cost.full_queues,
            cost.overflows
        );
    }
    if outcome.stolen_percent() > MUCH_STOLEN {
        eprintln!("  the machine's host took up to {:.0} % of its CPU time (steal)", outcome.stolen_percent());
    }
}

fn table(outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(HEAD);
    table.add_rows(outcomes.iter().map(Outcome::cells));
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}
