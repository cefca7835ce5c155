//! `hawser broker`: the same code as `hawser-broker`.

use hawser_telemetry::Shutdown;
use serde_json::json;

use crate::args::BrokerServeArgs;
use crate::exit::Exit;
use crate::output::{self, Output};
use crate::progress::note;

/// `hawser broker init`.
///
/// # Errors
/// What `hawser_broker::init` returns.
pub fn init(output: Output, args: &hawser_broker::InitArgs) -> anyhow::Result<Exit> {
    let done = hawser_broker::init(args)?;
    let admin = done.admin_dir.display().to_string();
    let document = json!({ "clusterSet": done.set, "adminDir": admin, "caPin": done.ca_pin.to_string() });
    output::data(output, &document, &format!("cluster set {} begins; its administrator's identity: {admin}", done.set));
    if output == Output::Table {
        note(&format!("next: hawser broker serve --dir {}", args.dir.display()));
        note(&format!("      hawser token create --cluster ID --admin-dir {admin}"));
    }
    Ok(Exit::Ok)
}

/// `hawser broker serve`.
///
/// # Errors
/// What `hawser_broker::serve` returns.
pub async fn serve(args: BrokerServeArgs) -> anyhow::Result<Exit> {
    let BrokerServeArgs { serve, log: _ } = args;
    hawser_broker::serve(serve, Shutdown::on_signals()?).await?;
    Ok(Exit::Ok)
}
