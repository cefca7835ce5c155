//! The operator's command line. It keeps no state of its own: what it shows comes from a site's directory, its gateways'
//! admin sockets and the broker; what it changes goes to the same places.
//!
//! - [`args`]: commands, flags, their help.
//! - [`command`]: what each command does.
//! - [`status`]: one screen about a site: collected, judged (pure), printed.
//! - [`drill`]: what a fault costs, measured.
//! - [`exit`]: exit codes, and how errors of all kinds become one.
//! - [`output`]: data on stdout; [`progress`]: all else on stderr.
//!
//! The other halves: `libs/broker-client` (the broker), `libs/local-api-directory` (a site), `hawser-broker` (`hawser
//! broker` runs the same code as the process of that name).

pub mod args;
pub mod command;
pub mod drill;
pub mod duration;
pub mod exit;
pub mod output;
pub mod progress;
pub mod site;
pub mod status;

use std::ffi::OsString;

use clap::Parser;
use clap::error::ErrorKind;
use hawser_telemetry::LogArgs;

pub use args::Args;
use args::{BrokerCommand, Command, DrainCommand, DrillCommand, RotateCommand, TokenCommand};
pub use exit::{Exit, Failure};
use output::Output;

/// Runs one command line and says how it ended.
pub async fn main(argv: Vec<OsString>) -> Exit {
    let args = match Args::try_parse_from(&argv) {
        Ok(args) => args,
        Err(error) => return usage(&error, &argv),
    };
    let output = args.output;
    match run(args).await {
        Ok(exit) => exit,
        Err(error) => {
            let failure = Failure::of(&error);
            output::failure(output, &failure);
            failure.exit
        }
    }
}

/// Runs one command.
///
/// # Errors
/// What kept it from being done; [`Failure::of`] says which exit code that is.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let Args { output, command } = args;
    match &command {
        Command::Broker(BrokerCommand::Serve(serve)) => serve.log.init(),
        // What a command finds wrong it says itself.
        _ => LogArgs { log_filter: std::env::var("HAWSER_LOG").unwrap_or("error".into()), ..LogArgs::default() }.init(),
    }
    match command {
        Command::Broker(BrokerCommand::Init(args)) => command::broker::init(output, &args),
        Command::Broker(BrokerCommand::Serve(args)) => command::broker::serve(args).await,
        Command::Broker(BrokerCommand::Backup(args)) => command::broker::backup(output, &args).await,
        Command::Broker(BrokerCommand::Restore(args)) => command::broker::restore(output, &args),
        Command::Token(TokenCommand::Create(args)) => command::token::create(output, args).await,
        Command::Token(TokenCommand::List(args)) => command::token::list(output, args).await,
        Command::Token(TokenCommand::Revoke(args)) => command::token::revoke(output, args).await,
        Command::Join(args) => command::join::run(output, args).await,
        Command::Leave(args) => command::leave::run(output, args).await,
        Command::Export(args) => command::export::export(output, args).await,
        Command::Unexport(args) => command::export::unexport(output, args).await,
        Command::Status(args) => command::status::run(output, args).await,
        Command::Drain(DrainCommand::Gateway(args)) => command::drain::gateway(output, args).await,
        Command::Rotate(RotateCommand::Keys(args)) => command::rotate::keys(output, args).await,
        Command::Drill(DrillCommand::Echo(args)) => command::drill::echoing(output, args).await,
        Command::Drill(DrillCommand::Watch(args)) => command::drill::watching(output, args).await,
        Command::Revoke(args) => command::revoke::run(output, args).await,
    }
}

/// Help and version are data; anything else is a usage error.
fn usage(error: &clap::Error, argv: &[OsString]) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return Exit::Ok;
    }
    match Output::guess(argv) {
        Output::Table => {
            let _ = error.print();
        }
        Output::Json => {
            output::failure(Output::Json, &Failure::new(Exit::Usage, error.render().to_string().trim_end()));
        }
    }
    Exit::Usage
}
