//! The `hawser` process.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    hawser_cli::main(std::env::args_os().collect()).await.into()
}
