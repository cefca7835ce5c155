//! `hawser status`.

use crate::args::StatusArgs;
use crate::exit::Exit;
use crate::output::{self, Output};
use crate::site::Site;
use crate::status::model::Verdict;
use crate::status::{assess, collect, screen};

/// `hawser status`.
///
/// # Errors
/// When the site's directory can't be read.
pub async fn run(output: Output, args: StatusArgs) -> anyhow::Result<Exit> {
    let StatusArgs { site, state, paths } = args;
    let site = Site::open(&site).await?;
    let status = assess(&collect::collect(&site, &state).await?);
    let mut text = screen::screen(&status);
    if paths && !status.paths.is_empty() {
        text += &format!("\n\n{}", screen::paths(&status));
    }
    output::data(output, &status, &text);
    Ok(match status.verdict {
        Verdict::Healthy => Exit::Ok,
        Verdict::Degraded | Verdict::NotJoined | Verdict::Removed => Exit::Degraded,
    })
}
