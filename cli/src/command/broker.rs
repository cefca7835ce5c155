//! `hawser broker`: the same code as `hawser-broker`.

use hawser_broker::{BackupArgs, RestoreArgs, Restored, Saved};
use hawser_telemetry::Shutdown;
use serde_json::json;

use crate::args::BrokerServeArgs;
use crate::command::token::time;
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

/// `hawser broker backup`.
///
/// # Errors
/// What `hawser_broker::backup` returns.
pub async fn backup(output: Output, args: &BackupArgs) -> anyhow::Result<Exit> {
    let saved = hawser_broker::backup(args).await?;
    let (file, Saved { set, revision, members, .. }) = (args.out.display().to_string(), &saved);
    let document = json!({
        "file": file, "clusterSet": set, "rosterRevision": revision, "members": members, "made": time(saved.made),
    });
    let text = format!("{set}, roster revision {revision}, {members} members, is backed up in {file}");
    output::data(output, &document, &text);
    if output == Output::Table {
        note("the file holds the CA's key: keep it as you keep a root key");
    }
    Ok(Exit::Ok)
}

/// `hawser broker restore`.
///
/// # Errors
/// What `hawser_broker::restore` returns.
pub fn restore(output: Output, args: &RestoreArgs) -> anyhow::Result<Exit> {
    let Restored { saved, void_tokens, replaced, admin_dir } = hawser_broker::restore(args)?;
    let (replaced, admin_dir) = (replaced.map(|p| p.display().to_string()), admin_dir.map(|p| p.display().to_string()));
    let (made, Saved { set, revision, members, .. }) = (time(saved.made), &saved);
    let document = json!({
        "clusterSet": set, "rosterRevision": revision, "members": members, "made": made, "voidTokens": void_tokens,
        "replaced": replaced, "adminDir": admin_dir,
    });
    let text = format!("{set}, roster revision {revision}, {members} members, is restored as it was at {made}");
    output::data(output, &document, &text);
    if output == Output::Table {
        if let Some(replaced) = replaced {
            note(&format!(
                "what was there before is in {replaced}; remove it when all is well: it may hold a CA's key"
            ));
        }
        if void_tokens > 0 {
            note(&format!("{void_tokens} join tokens may have been used since and are void; make new ones"));
        }
        note(&format!("next: hawser broker serve --dir {}", args.dir.display()));
        note("clusters revoked since are out again once a member reports it; to be sure: hawser revoke CLUSTER");
    }
    Ok(Exit::Ok)
}
