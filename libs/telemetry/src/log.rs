//! What is logged, and how it looks. Logs go to stderr; stdout belongs to data.
//!
//! Levels: error = the process or a part of it has halted; warn = somebody should look; info = a change of state that an
//! operator cares about; debug = detail; trace = per packet.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Flags about logs, to be flattened into a process's own.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Logs")]
pub struct LogArgs {
    /// What to log: a level, or directives such as `info,hawser_gateway=debug`.
    #[arg(long, env = "HAWSER_LOG", default_value = "info", value_name = "FILTER", value_parser = filter)]
    pub log_filter: String,
    /// How to log it.
    #[arg(long, env = "HAWSER_LOG_FORMAT", default_value = "human", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

impl Default for LogArgs {
    fn default() -> Self {
        Self { log_filter: "info".to_owned(), log_format: LogFormat::Human }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line of text each, coloured on a terminal.
    Human,
    /// One JSON object per line.
    Json,
}

impl LogArgs {
    /// Starts logging for the whole process. Where logging has already begun (two processes in one test), that stays.
    pub fn init(&self) {
        let filter = self.log_filter.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let all = tracing_subscriber::registry().with(filter);
        let started = match self.log_format {
            LogFormat::Human => all.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
            LogFormat::Json => all.with(lines.json().flatten_event(true)).try_init(),
        };
        if started.is_err() {
            tracing::debug!("logging was already set up");
        }
    }
}

fn filter(text: &str) -> Result<String, String> {
    match text.parse::<Targets>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            Err(format!("{error}; write a level such as `debug`, or directives such as `info,hawser_gateway=debug`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        log: LogArgs,
    }

    #[test]
    fn a_bad_filter_is_a_usage_error() {
        let error = Cli::try_parse_from(["x", "--log-filter", "hawser=loud"]).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("info,hawser_gateway=debug"), "{error}");
    }

    #[test]
    fn flags_are_read() {
        let cli = Cli::try_parse_from(["x", "--log-filter", "warn,hyper=off", "--log-format", "json"]).unwrap();
        assert_eq!(cli.log.log_filter, "warn,hyper=off");
        assert_eq!(cli.log.log_format, LogFormat::Json);
        cli.log.init();
        cli.log.init();
    }
}
